#include "tests/support/unit.h"

#include <math.h>

#include "core/rng.h"

/* Known-answer vectors of the authors' Random123 distribution (kat_vectors, philox4x32 10). */
static void philox_gives_the_published_answers(void **state)
{
    static const struct {
        fz_philox counter;
        uint32_t key0, key1;
        fz_philox expected;
    } known[] = {
        {{{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
        {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
         0xffffffff,
         0xffffffff,
         {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
        {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
         0xa4093822,
         0x299f31d0,
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const fz_philox got = fz_philox4x32(known[i].counter, known[i].key0, known[i].key1);
        assert_memory_equal(&got, &known[i].expected, sizeof got);
    }
}

static void normal_numbers_do_not_depend_on_where_a_range_is_cut(void **state)
{
    float whole[64], part[64];
    (void)state;
    fz_rng_normal(whole, 12345, 100, 64);
    for (int64_t cut = 0; cut <= 64; cut++) {
        fz_rng_normal(part, 12345, 100, cut);
        fz_rng_normal(part + cut, 12345, 100 + cut, 64 - cut);
        assert_memory_equal(part, whole, sizeof whole);
    }
}

static void normal_numbers_have_mean_zero_and_variance_one(void **state)
{
    enum { N = 1 << 16 };
    static float x[N];
    double mean = 0.0, square = 0.0, fourth = 0.0;
    (void)state;
    fz_rng_normal(x, fz_hash_text("decoder.embed"), 0, N);
    for (int i = 0; i < N; i++) {
        const double v = (double)x[i];
        assert_true(isfinite(v));
        mean += v / N;
        square += v * v / N;
        fourth += v * v * v * v / N;
    }
    assert_true(fabs(mean) < 0.02 && fabs(square - 1.0) < 0.03 && fabs(fourth - 3.0) < 0.2);
}

static void units_never_are_zero_and_reach_one(void **state)
{
    (void)state;
    assert_true(fz_rng_unit(0) == 0x1p-24f);
    assert_true(fz_rng_unit(0xffffffffu) == 1.0f);
    assert_true(fz_rng_unit(0x80000000u) > 0.5f);
}

static void numbers_below_n_cover_it_and_stay_below(void **state)
{
    (void)state;
    assert_int_equal(fz_rng_below(0, 7), 0);
    assert_int_equal(fz_rng_below(0xffffffffu, 7), 6);
    assert_int_equal(fz_rng_below(0x80000000u, 2), 1);
    assert_int_equal(fz_rng_below(0x7fffffffu, 2), 0);
}

static void keys_differ_in_seed_and_site(void **state)
{
    uint32_t a[2], b[2], c[2];
    (void)state;
    fz_rng_key(a, 1, 0);
    fz_rng_key(b, 0, 1);
    fz_rng_key(c, 0, 0);
    assert_memory_not_equal(b, c, sizeof b);
    fz_rng_key(c, UINT64_C(1) << 40, 0);
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    assert_true(fz_hash_text("a") != fz_hash_text("b"));
    assert_true(fz_hash_text("") == fz_mix64(UINT64_C(0xCBF29CE484222325)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(normal_numbers_do_not_depend_on_where_a_range_is_cut),
        cmocka_unit_test(normal_numbers_have_mean_zero_and_variance_one),
        cmocka_unit_test(units_never_are_zero_and_reach_one),
        cmocka_unit_test(numbers_below_n_cover_it_and_stay_below),
        cmocka_unit_test(keys_differ_in_seed_and_site),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
