#include "dist/ordered_sum.h"

#include <string.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/memory.h"
#include "dist/group_mpi.h"
#include "dist/wait_mpi.h"

/* Below this many floats in all roots together, one gather of everything and a redundant sum beat
 * two exchanges of pieces: latency counts, not bytes. */
enum { SMALL_FLOATS = 16384 };

typedef struct add_step {
    int left, right; /* values[left] += values[right] */
} add_step;

struct fz_ordered_sum {
    const fz_group *group; /* borrowed */
    int n_values;          /* non-empty nodes of all ranks, numbered left to right */
    int total;             /* the value that holds the sum at the end; -1: all are empty */
    int n_adds;
    int64_t max_n;
    int *first;            /* owned: [size+1] first value of each rank */
    add_step *adds;        /* owned: [n_values-1] in tree order */
    float **value;         /* owned: [n_values] where each lies during a run */
    int64_t *counts;       /* owned: [size] for the gathers */
    MPI_Request *requests; /* owned */
};

/* planning */

static void plan_add(void *context, int left, int right)
{
    fz_ordered_sum *sum = context;
    sum->adds[sum->n_adds++] = (add_step){.left = left, .right = right};
}

static fz_status plan_adds(fz_ordered_sum *sum, const int *n_nodes, const fz_tree_node *nodes)
{
    fz_tree_stack stack = {.n = 0};
    int64_t next_leaf = 0;
    int value = 0, i = 0;

    for (int r = 0; r < sum->group->size; r++) {
        sum->first[r] = value;
        for (int end = i + n_nodes[r]; i < end; i++) {
            fz_tree_node node = nodes[i];
            FZ_CHECK(node.level >= 0 && node.level < FZ_TREE_DEPTH - 2 &&
                         node.index << node.level == next_leaf,
                     FZ_ERR_ARG, "node %d (level %d, index %lld) does not begin at leaf %lld", i,
                     node.level, (long long)node.index, (long long)next_leaf);
            next_leaf += INT64_C(1) << node.level;
            node.buffer = node.buffer < 0 ? -1 : value++;
            fz_tree_push(&stack, node, plan_add, sum);
        }
    }
    sum->first[sum->group->size] = value;
    FZ_CHECK(stack.n == 1 && fz_is_power_of_two(next_leaf), FZ_ERR_ARG,
             "the nodes tile %lld leaves, which is not a power of two", (long long)next_leaf);
    sum->total = stack.node[0].buffer;
    return FZ_OK;
}

fz_status fz_ordered_sum_create(const fz_group *group, const int *n_nodes,
                                const fz_tree_node *nodes, int64_t max_n, fz_ordered_sum **sum_p)
{
    fz_ordered_sum *sum = NULL;
    int n_all = 0;

    for (int r = 0; r < group->size; r++)
        n_all += n_nodes[r];
    FZ_TRY(FZ_NEW(&sum, 1));
    sum->group = group;
    sum->max_n = max_n;
    fz_status status = FZ_NEW(&sum->first, group->size + 1);
    if (status == FZ_OK) status = FZ_NEW(&sum->adds, n_all);
    if (status == FZ_OK) status = FZ_NEW(&sum->value, n_all);
    if (status == FZ_OK) status = FZ_NEW(&sum->counts, group->size);
    if (status == FZ_OK) status = plan_adds(sum, n_nodes, nodes);
    if (status == FZ_OK) {
        /* Mine to every other rank, theirs to me. */
        sum->n_values = sum->first[group->size];
        const int mine = sum->first[group->rank + 1] - sum->first[group->rank];
        status = FZ_NEW(&sum->requests, mine * (group->size - 1) + sum->n_values - mine);
    }
    if (status != FZ_OK)
        fz_ordered_sum_destroy(&sum);
    else
        *sum_p = sum;
    return status;
}

void fz_ordered_sum_destroy(fz_ordered_sum **sum)
{
    if (!*sum) return;
    fz_free(&(*sum)->first);
    fz_free(&(*sum)->adds);
    fz_free(&(*sum)->value);
    fz_free(&(*sum)->counts);
    fz_free(&(*sum)->requests);
    fz_free(sum);
}

static int64_t piece_start(int64_t n, int rank, int size)
{
    return n / size * rank + (n % size < rank ? n % size : rank);
}

size_t fz_ordered_sum_work_bytes(const fz_group *group, const int *n_nodes, int64_t max_n)
{
    int64_t n_all = 0;

    for (int r = 0; r < group->size; r++)
        n_all += n_nodes[r];
    const int64_t small = n_all * max_n < SMALL_FLOATS ? n_all * max_n : SMALL_FLOATS;
    const int64_t pieces = n_all * ((max_n + group->size - 1) / group->size);
    return (size_t)(small > pieces ? small : pieces) * sizeof(float);
}

/* running */

static void add_values(const fz_ordered_sum *sum, int64_t n)
{
    for (int i = 0; i < sum->n_adds; i++)
        fz_tree_add(sum->value[sum->adds[i].left], sum->value[sum->adds[i].right], n);
}

static fz_status run_small(const fz_ordered_sum *sum, float *out, float *const *roots, int64_t n,
                           float *work)
{
    const fz_group *group = sum->group;
    const int mine = sum->first[group->rank];
    const size_t bytes = (size_t)n * sizeof(float);

    for (int r = 0; r < group->size; r++)
        sum->counts[r] = (sum->first[r + 1] - sum->first[r]) * n;
    for (int v = 0; v < sum->n_values; v++)
        sum->value[v] = work + v * n;
    for (int v = mine; v < sum->first[group->rank + 1]; v++)
        memcpy(sum->value[v], roots[v - mine], bytes);
    FZ_TRY(fz_allgatherv_float(group, work + mine * n, sum->counts, work));
    add_values(sum, n);
    memcpy(out, sum->value[sum->total], bytes);
    return FZ_OK;
}

/* Everyone gets its piece of all values into work; the own ones are copied, so that roots stay. */
static fz_status exchange_pieces(const fz_ordered_sum *sum, float *const *roots, int64_t n,
                                 float *work)
{
    const fz_group *group = sum->group;
    const int mine = sum->first[group->rank], mine_end = sum->first[group->rank + 1];
    const int64_t start = piece_start(n, group->rank, group->size);
    const int64_t length = piece_start(n, group->rank + 1, group->size) - start;
    int n_requests = 0;

    for (int v = 0; v < sum->n_values; v++)
        sum->value[v] = work + v * length;
    /* The next rank first: all ranks starting with rank 0 would queue there. */
    for (int k = 1; k < group->size; k++) {
        const int from = (group->rank - k + group->size) % group->size;
        for (int v = sum->first[from]; v < sum->first[from + 1]; v++)
            FZ_TRY(fz_mpi_irecv(group, sum->value[v], (size_t)length * sizeof(float), from,
                                FZ_TAG_ORDERED_SUM, &sum->requests[n_requests++]));
    }
    for (int k = 1; k < group->size; k++) {
        const int to = (group->rank + k) % group->size;
        const int64_t there = piece_start(n, to, group->size);
        const int64_t to_length = piece_start(n, to + 1, group->size) - there;
        for (int v = mine; v < mine_end; v++)
            FZ_TRY(fz_mpi_isend(group, roots[v - mine] + there, (size_t)to_length * sizeof(float),
                                to, FZ_TAG_ORDERED_SUM, &sum->requests[n_requests++]));
    }
    for (int v = mine; v < mine_end; v++)
        memcpy(sum->value[v], roots[v - mine] + start, (size_t)length * sizeof(float));
    return fz_mpi_check(fz_mpi_waitall(n_requests, sum->requests), "exchange of an ordered sum");
}

static fz_status run_pieces(const fz_ordered_sum *sum, float *out, float *const *roots, int64_t n,
                            float *work)
{
    const fz_group *group = sum->group;
    const int64_t start = piece_start(n, group->rank, group->size);

    for (int r = 0; r < group->size; r++)
        sum->counts[r] = piece_start(n, r + 1, group->size) - piece_start(n, r, group->size);
    fz_span_begin("ordered sum", FZ_SHARE_COMM);
    const fz_status status = exchange_pieces(sum, roots, n, work);
    fz_span_end();
    FZ_TRY(status);
    add_values(sum, sum->counts[group->rank]);
    memcpy(out + start, sum->value[sum->total], (size_t)sum->counts[group->rank] * sizeof(float));
    return fz_allgatherv_float(group, out + start, sum->counts, out);
}

fz_status fz_ordered_sum_run(const fz_ordered_sum *sum, float *out, float *const *roots, int64_t n,
                             void *work)
{
    FZ_ASSERT(n >= 0 && n <= sum->max_n);
    if (n == 0) return FZ_OK;
    if (sum->total < 0) {
        memset(out, 0, (size_t)n * sizeof *out);
        return FZ_OK;
    }
    if (sum->group->size == 1 && sum->n_values == 1) {
        if (out != roots[0]) memcpy(out, roots[0], (size_t)n * sizeof *out);
        return FZ_OK;
    }
    if (sum->n_values * n <= SMALL_FLOATS) return run_small(sum, out, roots, n, work);
    return run_pieces(sum, out, roots, n, work);
}
