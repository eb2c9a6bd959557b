/* The best columns of a row, whole and by shards. */
#include "model/ops/top_k.h"

#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "tests/support/unit.h"

enum { ROWS = 3, MAX_COLUMNS = 200, MAX_K = 9, FIRST = 1000 };

/* Few different values, so that many are equal; some not numbers, some minus infinity. */
static void fill(float *z, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        const uint64_t bits = fz_mix64(seed * 1000003 + (uint64_t)i);
        z[i] = (float)(bits % 23) - 11.0f;
        if (bits % 29 == 0) z[i] = NAN;
        if (bits % 31 == 0) z[i] = -INFINITY;
    }
}

static void assert_same(const fz_top *got, const fz_top *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (got[i].id != want[i].id || !(got[i].value == want[i].value))
            fail_msg("place %lld is id %d (%g), not %d (%g)", (long long)i, got[i].id,
                     (double)got[i].value, want[i].id, (double)want[i].value);
}

/* Row 0 bans nothing, row 1 every third column and ids of nobody, row 2 all. */
static void ban(int32_t *banned, int32_t start[ROWS + 1], int64_t n)
{
    int32_t at = 0;
    start[0] = start[1] = 0;
    for (int32_t c = 0; c < n; c += 3)
        banned[at++] = FIRST + c;
    banned[at++] = FIRST + (int32_t)n;
    banned[at++] = FIRST - 1;
    start[2] = at;
    for (int32_t c = 0; c < n; c++)
        banned[at++] = FIRST + c;
    start[3] = at;
}

static void the_cpu_agrees_with_the_reference(void **state)
{
    static const int64_t widths[] = {0, 1, 3, 16, 64, 65, 200}, ks[] = {1, 2, 4, MAX_K};
    static float z[ROWS * MAX_COLUMNS];
    static int32_t banned[2 * MAX_COLUMNS + 4];
    int32_t start[ROWS + 1];
    fz_top got[ROWS * MAX_K], want[ROWS * MAX_K];

    (void)state;
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (size_t i = 0; i < sizeof ks / sizeof *ks; i++)
            for (uint64_t seed = 0; seed < 20; seed++) {
                const int64_t V = widths[w], k = ks[i];
                const int64_t n_valid = V - (int64_t)(seed % 2) * (V / 5);
                fill(z, ROWS * V, seed);
                fz_top_k_ref(want, z, ROWS, V, FIRST, n_valid, k, NULL, NULL);
                assert_ok(fz_ops_cpu.top_k(got, z, ROWS, V, FIRST, n_valid, k, NULL, NULL, NULL));
                assert_same(got, want, ROWS * k);
                ban(banned, start, n_valid);
                fz_top_k_ref(want, z, ROWS, V, FIRST, n_valid, k, banned, start);
                assert_ok(
                    fz_ops_cpu.top_k(got, z, ROWS, V, FIRST, n_valid, k, banned, start, NULL));
                assert_same(got, want, ROWS * k);
                assert_int_equal(got[2 * k].id, -1);
            }
}

/* Four pieces of a row, merged from either end. */
static void pieces_merge_to_the_whole_in_any_order(void **state)
{
    enum { PIECES = 4, WIDTH = MAX_COLUMNS / PIECES, K = 7 };
    static float z[MAX_COLUMNS];
    fz_top piece[PIECES][K], want[K], got[K];

    (void)state;
    for (uint64_t seed = 50; seed < 80; seed++) {
        fill(z, MAX_COLUMNS, seed);
        fz_top_k_ref(want, z, 1, MAX_COLUMNS, 0, MAX_COLUMNS, K, NULL, NULL);
        for (int p = 0; p < PIECES; p++)
            assert_ok(fz_ops_cpu.top_k(piece[p], z + p * WIDTH, 1, WIDTH, p * WIDTH, WIDTH, K, NULL,
                                       NULL, NULL));
        for (int from_end = 0; from_end < 2; from_end++) {
            memcpy(got, piece[from_end ? PIECES - 1 : 0], sizeof got);
            for (int p = 1; p < PIECES; p++)
                assert_ok(
                    fz_ops_cpu.top_merge(got, piece[from_end ? PIECES - 1 - p : p], 1, K, NULL));
            assert_same(got, want, K);
        }
    }
}

static void values_by_hand(void **state)
{
    float z[] = {1, 5, 5, -2, 7, 0, 9 /* padding */};
    const int32_t banned[] = {14}, start[] = {0, 1};
    fz_top top[4];

    (void)state;
    fz_top_k_ref(top, z, 1, 7, 10, 6, 4, NULL, NULL);
    assert_same(top, (const fz_top[]){{14, 7}, {11, 5}, {12, 5}, {10, 1}}, 4);
    assert_ok(fz_ops_cpu.top_k(top, z, 1, 7, 10, 6, 4, banned, start, NULL));
    assert_same(top, (const fz_top[]){{11, 5}, {12, 5}, {10, 1}, {15, 0}}, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_by_hand),
        cmocka_unit_test(the_cpu_agrees_with_the_reference),
        cmocka_unit_test(pieces_merge_to_the_whole_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
