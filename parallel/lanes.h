/* Lanes: which micro-batches they run, which data rank runs them, and the tree that adds their
 * gradients (design.md 5). Pure arithmetic. Local.
 *
 * A data rank keeps the sums of its finished lanes on a stack of tree nodes; the node of a finished
 * lane is folded with its siblings at once, so that few buffers serve many lanes. What is left
 * after the last lane are the roots that the rank brings to the ordered sum.
 */
#ifndef FZ_PARALLEL_LANES_H
#define FZ_PARALLEL_LANES_H

#include "core/tree.h"

/* First micro-batch of lane k (k = K: M). */
static inline int64_t fz_lane_first_micro(int64_t n_micro, int64_t n_lanes, int64_t lane)
{
    return lane * n_micro / n_lanes;
}
/* First lane of data rank r (r = d: K). */
static inline int64_t fz_rank_first_lane(int64_t n_lanes, int64_t n_ranks, int64_t rank)
{
    return rank * n_lanes / n_ranks;
}

typedef struct fz_lane_stack {
    fz_tree_stack tree;
    bool taken[FZ_TREE_DEPTH]; /* buffers that hold something */
    int n_buffers;             /* most taken at once */
    fz_tree_add_fn add;        /* borrowed; NULL: only count */
    void *context;
} fz_lane_stack;

void fz_lane_stack_init(fz_lane_stack *stack, fz_tree_add_fn add, void *context);
/* A buffer for the next lane to add into. */
int fz_lane_stack_take(fz_lane_stack *stack);
/* The lane is finished; buffer -1: it was empty. */
void fz_lane_stack_push(fz_lane_stack *stack, int64_t lane, int buffer);

/* What data rank `rank` brings after a step of n_micro micro-batches: the stack with its roots and
 * the number of buffers it took. */
void fz_lane_stack_simulate(fz_lane_stack *stack, int64_t n_micro, int64_t n_lanes, int64_t n_ranks,
                            int64_t rank);

#endif
