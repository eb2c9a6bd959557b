/* The elementary functions: their error in units in the last place over the range. */
#include <float.h>
#include <math.h>

#include "model/ops/math.h"
#include "model/ops/rows.h"
#include "tests/support/unit.h"

typedef struct range {
    const char *name;
    float (*ours)(float);
    double (*truth)(double);
    double low, high, bound; /* ulp */
} range;

static float our_exp(float x)
{
    return fz_expf(x);
}
static float our_log(float x)
{
    return fz_logf(x);
}
static float our_tanh(float x)
{
    return fz_tanhf(x);
}
static float our_erf(float x)
{
    return fz_erff(x);
}

static double worst_ulp(const range *r)
{
    double worst = 0.0;
    for (int i = 0; i <= 400000; i++) {
        const float x = (float)(r->low + (r->high - r->low) * i / 400000.0);
        const double want = r->truth((double)x);
        const float size = (float)fabs(want);
        const double ulp = (double)(nextafterf(size, INFINITY) - size);
        worst = fmax(worst, fabs((double)r->ours(x) - want) / ulp);
    }
    return worst;
}

static void functions_are_accurate_to_a_few_ulp(void **state)
{
    (void)state;
    const range ranges[] = {{"exp", our_exp, exp, -86.9, 88.0, 1.5},
                            {"exp near 0", our_exp, exp, -1e-3, 1e-3, 1.5},
                            {"tanh", our_tanh, tanh, -12.0, 12.0, 7.0},
                            {"tanh near 0", our_tanh, tanh, -1e-5, 1e-5, 3.0},
                            {"erf", our_erf, erf, -6.0, 6.0, 7.0},
                            {"erf near 0", our_erf, erf, -1e-5, 1e-5, 3.0},
                            {"log", our_log, log, 1.5, 1e6, 2.5},
                            {"log below 1", our_log, log, 1e-6, 0.7, 2.5},
                            {"log near 1", our_log, log, 0.99, 1.01, 3.0}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        const double worst = worst_ulp(&ranges[i]);
        print_message("%-12s %.2f ulp\n", ranges[i].name, worst);
        if (!(worst <= ranges[i].bound))
            fail_msg("%s: %.2f ulp, more than %.2f", ranges[i].name, worst, ranges[i].bound);
    }
}

static void ends_of_the_range_are_what_they_should_be(void **state)
{
    (void)state;
    assert_true(fz_expf(0.0f) == 1.0f && fz_expf(-INFINITY) == 0.0f && fz_expf(-200.0f) == 0.0f);
    assert_true(fz_expf(1000.0f) == fz_expf(88.0f));
    assert_true(fz_expf(-86.99f) >= FLT_MIN); /* no subnormal numbers */
    assert_true(fz_tanhf(0.0f) == 0.0f && fz_tanhf(INFINITY) == 1.0f && fz_tanhf(-30.0f) == -1.0f);
    assert_true(fz_erff(0.0f) == 0.0f && fz_erff(INFINITY) == 1.0f && fz_erff(-9.0f) == -1.0f);
    assert_true(fz_logf(1.0f) == 0.0f);
    assert_true(isnan(fz_expf(NAN)) && isnan(fz_tanhf(NAN)) && isnan(fz_erff(NAN)));
    for (int i = 0; i < 100000; i++) {
        const float x = 12.0f * (float)i / 100000.0f;
        assert_true(fz_tanhf(x) <= 1.0f && fz_erff(x) <= 1.0f);
        assert_true(fz_tanhf(-x) == -fz_tanhf(x) && fz_erff(-x) == -fz_erff(x));
    }
}

static void lanes_are_added_in_the_documented_order(void **state)
{
    (void)state;
    float x[37], lanes[FZ_LANES] = {0}, by_hand[FZ_LANES] = {0};
    for (int i = 0; i < 37; i++)
        x[i] = 1.0f / (float)(3 * i + 1);
    FZ_FOR_LANES(37, c, j, lanes[j] += x[c + j]);
    for (int i = 0; i < 37; i++)
        by_hand[i % 16] += x[i];
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            by_hand[j] += by_hand[j + half];
    assert_true(fz_sum_lanes(lanes) == by_hand[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_accurate_to_a_few_ulp),
        cmocka_unit_test(ends_of_the_range_are_what_they_should_be),
        cmocka_unit_test(lanes_are_added_in_the_documented_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
