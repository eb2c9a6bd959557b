#include "tests/support/unit.h"

#include "core/rng.h"
#include "core/tree.h"

enum { N = 32 };
static float leaf[N];
static bool is_empty[N];

/* The definition: node = left + right in fp32; a node with one empty child is the other child. */
static bool defined(int level, int64_t index, float *sum)
{
    if (level == 0) {
        *sum = leaf[index];
        return !is_empty[index];
    }
    float left, right;
    const bool has_left = defined(level - 1, 2 * index, &left);
    const bool has_right = defined(level - 1, 2 * index + 1, &right);
    *sum = has_left && has_right ? left + right : has_left ? left : right;
    return has_left || has_right;
}

static void fill(uint64_t empties)
{
    fz_rng_normal(leaf, 99, 0, N);
    for (int i = 0; i < N; i++) {
        leaf[i] *= i % 3 ? 1000.0f : 0.001f; /* so that the order shows in the bits */
        is_empty[i] = (empties >> i) & 1;
    }
}

static void fold_gives_the_bits_of_the_definition(void **state)
{
    (void)state;
    fill(0);
    for (int64_t n = 1; n <= N; n *= 2) {
        float slot[8], expected;
        for (int64_t i = 0; i < n; i++) {
            int top = fz_fold_slot(i);
            assert_true(top < fz_fold_slots(n));
            slot[top] = leaf[i];
            for (int adds = fz_fold_adds(i); adds > 0; adds--, top--)
                fz_tree_add(&slot[top - 1], &slot[top], 1);
        }
        defined(fz_log2(n), 0, &expected);
        assert_memory_equal(&slot[0], &expected, sizeof expected);
    }
}

static void rows_are_summed_as_defined(void **state)
{
    (void)state;
    fill(0);
    for (int64_t n = 1; n <= N; n *= 2) {
        float rows[N][3], expected;
        for (int64_t i = 0; i < n; i++)
            for (int c = 0; c < 3; c++)
                rows[i][c] = leaf[i];
        fz_tree_sum_rows(&rows[0][0], n, 3);
        defined(fz_log2(n), 0, &expected);
        for (int c = 0; c < 3; c++)
            assert_memory_equal(&rows[0][c], &expected, sizeof expected);
    }
}

static float buffer[N];
static bool in_use[N];
static void add_buffers(void *context, int left, int right)
{
    (void)context;
    assert_true(in_use[left] && in_use[right]);
    buffer[left] += buffer[right];
    in_use[right] = false;
}

/* What a rank runs over lanes [lo, hi): leaves the roots of its maximal complete subtrees. */
static void push_range(fz_tree_stack *stack, int lo, int hi)
{
    for (int i = lo; i < hi; i++) {
        buffer[i] = leaf[i];
        in_use[i] = !is_empty[i];
        fz_tree_push(stack, (fz_tree_node){.index = i, .buffer = is_empty[i] ? -1 : i}, add_buffers,
                     NULL);
    }
}

static void check_stack(const fz_tree_stack *stack, int lo, int hi)
{
    int64_t at = lo;
    for (int i = 0; i < stack->n; i++) {
        const fz_tree_node *node = &stack->node[i];
        float expected;
        assert_true(node->index << node->level == at);
        at = (node->index + 1) << node->level;
        assert_int_equal(defined(node->level, node->index, &expected), node->buffer >= 0);
        if (node->buffer >= 0)
            assert_memory_equal(&buffer[node->buffer], &expected, sizeof expected);
    }
    assert_int_equal(at, hi);
    if (hi > lo) assert_true(stack->n <= 2 * 5);
}

static void the_stack_leaves_maximal_subtrees_for_every_range(void **state)
{
    const uint64_t empties[] = {0, 0x1, 0x80000000, 0xaaaaaaaa, 0x00ff0f31, 0xffffffff};
    (void)state;
    for (size_t e = 0; e < sizeof empties / sizeof *empties; e++) {
        fill(empties[e]);
        for (int lo = 0; lo <= N; lo++)
            for (int hi = lo; hi <= N; hi++) {
                fz_tree_stack stack = {.n = 0};
                push_range(&stack, lo, hi);
                check_stack(&stack, lo, hi);
            }
    }
}

static void subtrees_of_all_ranks_combine_to_the_root(void **state)
{
    (void)state;
    fill(0x00ff0f31);
    for (int ranks = 1; ranks <= N; ranks++) {
        fz_tree_stack all = {.n = 0};
        for (int r = 0; r < ranks; r++) {
            fz_tree_stack mine = {.n = 0};
            push_range(&mine, r * N / ranks, (r + 1) * N / ranks);
            for (int i = 0; i < mine.n; i++)
                fz_tree_push(&all, mine.node[i], add_buffers, NULL);
        }
        assert_int_equal(all.n, 1);
        check_stack(&all, 0, N);
    }
}

static void powers_and_slots_are_right(void **state)
{
    (void)state;
    assert_true(fz_is_power_of_two(1) && fz_is_power_of_two(64));
    assert_false(fz_is_power_of_two(0) || fz_is_power_of_two(-4) || fz_is_power_of_two(6));
    assert_int_equal(fz_log2(1), 0);
    assert_int_equal(fz_log2(INT64_C(1) << 40), 40);
    assert_int_equal(fz_fold_slots(8), 4);
    assert_int_equal(fz_fold_slot(6), 2);
    assert_int_equal(fz_fold_adds(7), 3);
    assert_int_equal(fz_fold_adds(6), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fold_gives_the_bits_of_the_definition),
        cmocka_unit_test(rows_are_summed_as_defined),
        cmocka_unit_test(the_stack_leaves_maximal_subtrees_for_every_range),
        cmocka_unit_test(subtrees_of_all_ranks_combine_to_the_root),
        cmocka_unit_test(powers_and_slots_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
