/* F16 and BF16 against a computation in double that knows nothing of bits but the fields. */
#include "tests/support/unit.h"

#include <math.h>

#include "checkpoint/safetensors.h"
#include "core/memory.h"

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* A format of that many exponent and fraction bits, sign in front. */
typedef struct format {
    int exponent_bits, fraction_bits;
} format;
static const format F16 = {5, 10}, BF16 = {8, 7};

static double value_of(format f, uint32_t h)
{
    const int bias = (1 << (f.exponent_bits - 1)) - 1;
    const int exponent = (int)(h >> f.fraction_bits & ((1u << f.exponent_bits) - 1));
    const double fraction = (double)(h & ((1u << f.fraction_bits) - 1));
    const double sign = h >> 15 ? -1.0 : 1.0;

    if (exponent == (1 << f.exponent_bits) - 1)
        return fraction > 0 ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias - f.fraction_bits);
    return sign * ldexp(fraction + ldexp(1.0, f.fraction_bits), exponent - bias - f.fraction_bits);
}

/* The format's number that is nearest to x, ties to the even fraction. */
static uint32_t nearest(format f, float x)
{
    const int bias = (1 << (f.exponent_bits - 1)) - 1;
    const uint32_t sign = signbit(x) ? 0x8000u : 0;
    const uint32_t infinity = ((1u << f.exponent_bits) - 1) << f.fraction_bits;
    const double a = fabs((double)x);
    int exponent = 0;

    if (a == 0) return sign;
    if (isinf(a)) return sign | infinity;
    frexp(a, &exponent);
    exponent = exponent - 1 < 1 - bias ? 1 - bias : exponent - 1; /* a = 1.xxx * 2^exponent */
    const double in_last_places = rint(ldexp(a, f.fraction_bits - exponent));
    /* A fraction that became 2 carries into the exponent by itself. */
    const uint32_t h =
        (uint32_t)in_last_places + ((uint32_t)(exponent + bias - 1) << f.fraction_bits);
    return sign | (h > infinity ? infinity : h);
}

static void every_half_is_widened_exactly(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const uint16_t x = (uint16_t)h;
        float f16, bf16;
        fz_widen_f16(&f16, &x, 1);
        fz_widen_bf16(&bf16, &x, 1);
        if (isnan(value_of(F16, h)))
            assert_true(isnan(f16));
        else
            assert_int_equal(bits_of(f16), bits_of((float)value_of(F16, h)));
        if (isnan(value_of(BF16, h)))
            assert_true(isnan(bf16));
        else
            assert_int_equal(bits_of(bf16), bits_of((float)value_of(BF16, h)));
    }
}

static void check(float x)
{
    uint16_t f16, bf16;

    fz_narrow_f16(&f16, &x, 1);
    fz_narrow_bf16(&bf16, &x, 1);
    if (isnan(x)) {
        assert_true(isnan(value_of(F16, f16)) && isnan(value_of(BF16, bf16)));
        assert_int_equal(f16 >> 15, signbit(x) != 0);
        return;
    }
    if (f16 != nearest(F16, x))
        fail_msg("f16 of %a is %04x, not %04x", (double)x, f16, nearest(F16, x));
    if (bf16 != nearest(BF16, x))
        fail_msg("bf16 of %a is %04x, not %04x", (double)x, bf16, nearest(BF16, x));
}

/* Every number, the middle to the next one, and the floats beside both. */
static void every_half_and_every_tie_is_rounded_to_even(void **state)
{
    const format formats[2] = {F16, BF16};
    (void)state;

    for (int f = 0; f < 2; f++)
        for (uint32_t h = 0; h < 0x8000; h++) {
            const double here = value_of(formats[f], h), next = value_of(formats[f], h + 1);
            if (isnan(here)) continue;
            const float x = (float)here;
            /* Behind the largest number as if there were one more. */
            const double step =
                isfinite(next) ? next - here : here - value_of(formats[f], h - (h > 0));
            const float middle = isinf(here) ? x : (float)(here + step / 2);
            const float list[] = {x,
                                  middle,
                                  nextafterf(x, INFINITY),
                                  nextafterf(x, -INFINITY),
                                  nextafterf(middle, INFINITY),
                                  nextafterf(middle, -INFINITY)};
            for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
                check(list[i]);
                check(-list[i]);
            }
        }
}

static void floats_of_all_exponents_are_rounded_to_nearest(void **state)
{
    uint32_t fraction = 12345;
    (void)state;

    for (uint32_t high = 0; high < 1u << 9; high++)
        for (int i = 0; i < 500; i++) {
            fraction = fraction * 1664525u + 1013904223u;
            check(float_of(high << 23 | fraction >> 9));
        }
}

static void what_was_a_half_comes_back(void **state)
{
    static uint16_t x[0x10000], back[0x10000];
    static float wide[0x10000];
    (void)state;

    for (uint32_t h = 0; h < 0x10000; h++)
        x[h] = (uint16_t)h;
    fz_widen_f16(wide, x, 0x10000);
    fz_narrow_f16(back, wide, 0x10000);
    for (uint32_t h = 0; h < 0x10000; h++)
        assert_int_equal(back[h], isnan(wide[h]) ? h | 0x200u : h);
    fz_widen_bf16(wide, x, 0x10000);
    fz_narrow_bf16(back, wide, 0x10000);
    for (uint32_t h = 0; h < 0x10000; h++)
        assert_int_equal(back[h], isnan(wide[h]) ? h | 0x40u : h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_is_widened_exactly),
        cmocka_unit_test(every_half_and_every_tie_is_rounded_to_even),
        cmocka_unit_test(floats_of_all_exponents_are_rounded_to_nearest),
        cmocka_unit_test(what_was_a_half_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
