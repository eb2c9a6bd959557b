/* The bits of the ordered sum against the fixed tree, walked by recursion in one process. */
#include <string.h>

#include "tests/support/ranks.h"

#include "core/memory.h"
#include "core/rng.h"
#include "dist/group_mpi.h"
#include "dist/ordered_sum.h"

enum { MAX_LEAVES = 64, MAX_RANKS = 16, GUARD = 16 };

typedef struct test_case {
    uint64_t seed;
    int n_leaves;
    int64_t n;
    bool is_empty[MAX_LEAVES];
    int cut[MAX_RANKS + 1]; /* rank r brings leaves [cut[r], cut[r+1]) */
    bool is_folded;         /* as maximal subtrees, or leaf by leaf */
} test_case;

static uint64_t draw(uint64_t *seed, uint64_t below)
{
    *seed = fz_mix64(*seed + 1);
    return *seed % below;
}

/* Magnitudes over many powers of two: any other order of additions gives other bits. */
static float leaf_value(const test_case *c, int leaf, int64_t i)
{
    const uint64_t h = fz_mix64(c->seed ^ ((uint64_t)leaf << 40) ^ (uint64_t)i);
    const float unit = (float)(h >> 40) * 0x1p-24f - 0.5f;
    return unit * (float)(1u << (h % 20));
}

static bool tree_value(const test_case *c, int level, int index, int64_t i, float *value)
{
    float left, right;

    if (level == 0) {
        *value = leaf_value(c, index, i);
        return !c->is_empty[index];
    }
    const bool has_left = tree_value(c, level - 1, 2 * index, i, &left);
    const bool has_right = tree_value(c, level - 1, 2 * index + 1, i, &right);
    *value = has_left && has_right ? left + right : has_left ? left : right;
    return has_left || has_right;
}

typedef struct rows {
    float *data;
    int64_t n;
} rows;

static void add_rows(void *context, int left, int right)
{
    const rows *r = context;
    fz_tree_add(r->data + left * r->n, r->data + right * r->n, r->n);
}

/* The nodes one rank brings; their values stay in buffers (row = leaf), where nodes say. */
static int nodes_of_rank(const test_case *c, int rank, float *buffers, fz_tree_node *nodes)
{
    fz_tree_stack stack = {.n = 0};
    rows context = {.data = buffers, .n = buffers ? c->n : 0};
    int n_nodes = 0;

    for (int leaf = c->cut[rank]; leaf < c->cut[rank + 1]; leaf++) {
        const fz_tree_node node = {
            .level = 0, .index = leaf, .buffer = c->is_empty[leaf] ? -1 : leaf};
        for (int64_t i = 0; buffers && i < c->n; i++)
            buffers[leaf * c->n + i] = leaf_value(c, leaf, i);
        if (c->is_folded)
            fz_tree_push(&stack, node, add_rows, &context);
        else
            nodes[n_nodes++] = node;
    }
    for (int k = 0; k < stack.n; k++)
        nodes[n_nodes++] = stack.node[k];
    return n_nodes;
}

static bool sum_is_right(const test_case *c, const float *out)
{
    int wrong = 0;

    for (int64_t i = 0; i < c->n; i++) {
        float expected;
        if (!tree_value(c, fz_log2(c->n_leaves), 0, i, &expected)) expected = 0.0f;
        wrong |= memcmp(&expected, &out[i], sizeof expected) != 0;
    }
    return !wrong;
}

static void check_case(const test_case *c, bool is_in_place)
{
    fz_tree_node nodes[MAX_LEAVES], own[MAX_LEAVES];
    int n_nodes[MAX_RANKS], n_all = 0, n_roots = 0;
    float *roots[MAX_LEAVES], *buffers, *out;
    char *work;
    fz_ordered_sum *sum = NULL;

    assert_int_equal(FZ_NEW(&buffers, c->n_leaves * c->n), FZ_OK);
    assert_int_equal(FZ_NEW(&out, c->n), FZ_OK);
    for (int r = 0; r < world.size; r++) {
        n_nodes[r] = nodes_of_rank(c, r, NULL, nodes + n_all);
        n_all += n_nodes[r];
    }
    const int n_own = nodes_of_rank(c, world.rank, buffers, own);
    for (int k = 0; k < n_own; k++)
        if (own[k].buffer >= 0) roots[n_roots++] = buffers + own[k].buffer * c->n;
    float *target = is_in_place && n_roots > 0 ? roots[0] : out;

    const size_t bytes = fz_ordered_sum_work_bytes(world.group, n_nodes, c->n);
    assert_int_equal(FZ_NEW(&work, bytes + GUARD), FZ_OK);
    memset(work + bytes, 0x5a, GUARD);
    assert_all_ranks(fz_ordered_sum_create(world.group, n_nodes, nodes, c->n, &sum) == FZ_OK);
    const int64_t n_before = fz_memory_get().n_total;
    for (int again = 0; again < (is_in_place ? 1 : 2); again++) {
        assert_all_ranks(fz_ordered_sum_run(sum, target, roots, c->n, work) == FZ_OK);
        assert_all_ranks(sum_is_right(c, target));
    }
    assert_all_ranks(fz_memory_get().n_total == n_before);
    int is_guard_hurt = 0;
    for (int k = 0; k < GUARD; k++)
        is_guard_hurt |= work[bytes + (size_t)k] != 0x5a;
    assert_all_ranks(!is_guard_hurt);
    fz_ordered_sum_destroy(&sum);
    fz_free(&work);
    fz_free(&out);
    fz_free(&buffers);
}

static test_case random_case(uint64_t seed, int64_t n)
{
    test_case c = {.seed = fz_mix64(seed), .n = n};

    c.n_leaves = 1 << draw(&seed, 7);
    c.is_folded = draw(&seed, 2);
    const uint64_t emptiness = draw(&seed, 4); /* of 4 leaves so many are empty */
    for (int leaf = 0; leaf < c.n_leaves; leaf++)
        c.is_empty[leaf] = draw(&seed, 4) < emptiness;
    for (int r = 1; r < world.size; r++)
        c.cut[r] = (int)draw(&seed, (uint64_t)c.n_leaves + 1);
    c.cut[world.size] = c.n_leaves;
    for (int r = 1; r < world.size; r++) /* sort the cuts */
        for (int k = r; k > 1 && c.cut[k] < c.cut[k - 1]; k--) {
            const int swap = c.cut[k];
            c.cut[k] = c.cut[k - 1];
            c.cut[k - 1] = swap;
        }
    return c;
}

static void any_nodes_of_any_ranks_give_the_bits_of_the_tree(void **state)
{
    const int64_t lengths[] = {1, 3, 257, 4099};

    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        const test_case c = random_case(seed, lengths[seed % 4]);
        check_case(&c, seed % 8 < 4);
    }
}

/* Lanes over data-parallel ranks: floor(rK/d) .. floor((r+1)K/d), every subset of lanes empty. */
static void lanes_with_empty_ones_give_the_bits_of_the_tree(void **state)
{
    (void)state;
    for (unsigned empty = 0; empty < 256; empty += 5) {
        test_case c = {.seed = empty, .n = 33, .n_leaves = 8, .is_folded = true};
        for (int lane = 0; lane < 8; lane++)
            c.is_empty[lane] = (empty >> lane) & 1;
        for (int r = 0; r <= world.size; r++)
            c.cut[r] = r * 8 / world.size;
        check_case(&c, false);
    }
}

static void long_sums_are_exchanged_in_pieces(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 104; seed++) {
        const test_case c = random_case(seed, 50001);
        check_case(&c, seed % 2);
        fz_mpi_set_cut_bytes(4096);
        check_case(&c, false);
        fz_mpi_set_cut_bytes(INT64_C(1) << 30);
    }
}

static void a_shorter_run_than_planned_works(void **state)
{
    fz_tree_node nodes[MAX_RANKS];
    int n_nodes[MAX_RANKS];
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, *root = x, out[8] = {0}, work[64];
    fz_ordered_sum *sum = NULL;

    (void)state;
    if (!fz_is_power_of_two(world.size)) return;
    for (int r = 0; r < world.size; r++) {
        nodes[r] = (fz_tree_node){.level = 2, .index = r};
        n_nodes[r] = 1;
    }
    assert_all_ranks(fz_ordered_sum_create(world.group, n_nodes, nodes, 8, &sum) == FZ_OK);
    assert_all_ranks(fz_ordered_sum_run(sum, out, &root, 5, work) == FZ_OK);
    assert_all_ranks(out[4] == 5.0f * (float)world.size && out[5] == 0.0f);
    assert_all_ranks(fz_ordered_sum_run(sum, out, &root, 0, work) == FZ_OK);
    fz_ordered_sum_destroy(&sum);
}

static void nodes_that_do_not_tile_are_refused(void **state)
{
    fz_tree_node nodes[MAX_RANKS + 1];
    int n_nodes[MAX_RANKS];
    fz_ordered_sum *sum = NULL;

    (void)state;
    for (int r = 0; r < world.size; r++) {
        nodes[r] = (fz_tree_node){.level = 0, .index = r + 1};
        n_nodes[r] = 1;
    }
    assert_all_ranks(fz_ordered_sum_create(world.group, n_nodes, nodes, 8, &sum) == FZ_ERR_ARG);
    for (int r = 0; r < world.size + 1; r++)
        nodes[r] = (fz_tree_node){.level = 0, .index = r};
    if (fz_is_power_of_two(world.size)) n_nodes[0] = 2; /* then the number of leaves is not one */
    if (world.size == 1) nodes[2 - 1].index = 5;
    assert_all_ranks(fz_ordered_sum_create(world.group, n_nodes, nodes, 8, &sum) == FZ_ERR_ARG);
    assert_all_ranks(sum == NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_nodes_of_any_ranks_give_the_bits_of_the_tree),
        cmocka_unit_test(lanes_with_empty_ones_give_the_bits_of_the_tree),
        cmocka_unit_test(long_sums_are_exchanged_in_pieces),
        cmocka_unit_test(a_shorter_run_than_planned_works),
        cmocka_unit_test(nodes_that_do_not_tile_are_refused),
    };
    run_on_all_ranks(tests);
}
