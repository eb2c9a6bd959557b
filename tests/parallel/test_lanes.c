/* Who runs which micro-batches, and the roots that data ranks bring. */
#include "tests/support/unit.h"

#include "core/memory.h"
#include "core/rng.h"
#include "parallel/balance.h"
#include "parallel/lanes.h"

static const int64_t micro_counts[] = {1, 3, 5, 6, 8, 16, 33};
enum { N_COUNTS = sizeof micro_counts / sizeof micro_counts[0], MAX_LANES = 16 };

static void lanes_and_micro_batches_tile_for_every_number_of_ranks(void **state)
{
    (void)state;
    for (int64_t K = 1; K <= MAX_LANES; K *= 2)
        for (int64_t d = 1; d <= K; d++)
            for (int i = 0; i < N_COUNTS; i++) {
                const int64_t M = micro_counts[i];
                assert_int_equal(fz_rank_first_lane(K, d, 0), 0);
                assert_int_equal(fz_rank_first_lane(K, d, d), K);
                assert_int_equal(fz_lane_first_micro(M, K, 0), 0);
                assert_int_equal(fz_lane_first_micro(M, K, K), M);
                for (int64_t r = 0; r < d; r++)
                    assert_true(fz_rank_first_lane(K, d, r) < fz_rank_first_lane(K, d, r + 1));
                for (int64_t k = 0; k < K; k++)
                    assert_true(fz_lane_first_micro(M, K, k) <= fz_lane_first_micro(M, K, k + 1));
            }
}

/* Any tiling would do for one run; these cuts are what a checkpoint's next run relies on. */
static void lanes_and_ranks_begin_where_the_design_says(void **state)
{
    static const int64_t micro[] = {0, 1, 2, 3, 5}, rank[] = {0, 2, 5, 8};
    (void)state;
    for (int64_t k = 0; k <= 4; k++)
        assert_int_equal(fz_lane_first_micro(5, 4, k), micro[k]);
    for (int64_t r = 0; r <= 3; r++)
        assert_int_equal(fz_rank_first_lane(8, 3, r), rank[r]);
}

static void roots_tile_the_lanes_and_few_buffers_serve(void **state)
{
    (void)state;
    for (int64_t K = 1; K <= MAX_LANES; K *= 2)
        for (int64_t d = 1; d <= K; d++)
            for (int i = 0; i < N_COUNTS; i++) {
                int64_t next = 0;
                for (int64_t r = 0; r < d; r++) {
                    fz_lane_stack stack;
                    fz_lane_stack_simulate(&stack, micro_counts[i], K, d, r);
                    for (int n = 0; n < stack.tree.n; n++) {
                        const fz_tree_node node = stack.tree.node[n];
                        assert_int_equal(node.index << node.level, next);
                        next += INT64_C(1) << node.level;
                    }
                    int log2_up = 0;
                    while ((INT64_C(1) << log2_up) * d < K)
                        log2_up++;
                    const int most =
                        K % d == 0 && fz_is_power_of_two(d) ? log2_up + 1 : 2 * log2_up;
                    assert_true(stack.n_buffers <= (most > 0 ? most : 1));
                }
                assert_int_equal(next, K);
            }
}

typedef struct adds {
    double value[FZ_TREE_DEPTH];
    int n;
} adds;

static void add_values(void *context, int left, int right)
{
    adds *a = context;
    a->value[left] += a->value[right];
    a->n++;
}

static void a_stack_adds_every_lane_once_and_reuses_buffers(void **state)
{
    enum { K = 16 };
    adds a = {.n = 0};
    fz_lane_stack stack;
    (void)state;

    fz_lane_stack_init(&stack, add_values, &a);
    for (int64_t k = 0; k < K; k++) {
        if (k % 5 == 3) {
            fz_lane_stack_push(&stack, k, -1);
            continue;
        }
        const int buffer = fz_lane_stack_take(&stack);
        a.value[buffer] = (double)(1 << k);
        fz_lane_stack_push(&stack, k, buffer);
    }
    assert_int_equal(stack.tree.n, 1);
    const int expected = 0xffff & ~(1 << 3 | 1 << 8 | 1 << 13);
    assert_int_equal((int)a.value[stack.tree.node[0].buffer], expected);
    assert_int_equal(a.n, K - 3 - 1);
    assert_true(stack.n_buffers <= 5);
}

/* Smallest possible largest cost, by trying every cut. */
static double try_all_cuts(const double *cost, int n, int stages)
{
    double best = -1, sum = 0;

    if (stages == 1) {
        for (int i = 0; i < n; i++)
            sum += cost[i];
        return sum;
    }
    for (int first = 1; first <= n - stages + 1; first++) {
        sum += cost[first - 1];
        const double rest = try_all_cuts(cost + first, n - first, stages - 1);
        const double largest = sum > rest ? sum : rest;
        if (best < 0 || largest < best) best = largest;
    }
    return best;
}

static void cuts_are_as_good_as_trying_all(void **state)
{
    enum { MOST = 9 };
    double cost[MOST];
    int cut[MOST + 1];
    (void)state;

    for (uint64_t seed = 0; seed < 40; seed++)
        for (int n = 1; n <= MOST; n++)
            for (int p = 1; p <= n; p++) {
                double largest = 0;
                for (int i = 0; i < n; i++)
                    cost[i] = (double)(fz_mix64(seed * 100 + (uint64_t)i) % 50);
                assert_int_equal(fz_balance_cuts(cost, n, p, cut), FZ_OK);
                assert_int_equal(cut[0], 0);
                assert_int_equal(cut[p], n);
                for (int s = 0; s < p; s++) {
                    double sum = 0;
                    assert_true(cut[s] < cut[s + 1]);
                    for (int b = cut[s]; b < cut[s + 1]; b++)
                        sum += cost[b];
                    if (sum > largest) largest = sum;
                }
                const double best = try_all_cuts(cost, n, p);
                assert_true(largest <= best && largest >= best);
            }
    assert_int_equal(fz_memory_get().n_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_and_micro_batches_tile_for_every_number_of_ranks),
        cmocka_unit_test(lanes_and_ranks_begin_where_the_design_says),
        cmocka_unit_test(roots_tile_the_lanes_and_few_buffers_serve),
        cmocka_unit_test(a_stack_adds_every_lane_once_and_reuses_buffers),
        cmocka_unit_test(cuts_are_as_good_as_trying_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
