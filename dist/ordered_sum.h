/* The ordered sum: fp32 sums over ranks with the bits of one fixed tree (core/tree.h).
 *
 * Each rank brings the roots of complete subtrees over consecutive leaves. Ranks exchange pieces
 * (all-to-all), each adds its piece of all roots in tree order, then all gather the result. The
 * bits equal those of one rank that adds all leaves along the tree, for any number of ranks.
 *
 *   leaves   0 1 | 2 3 4 | 5 6 7          rank 0 brings {0,1}, rank 1 {2,3} {4}, rank 2 {5} {6,7}
 */
#ifndef FZ_DIST_ORDERED_SUM_H
#define FZ_DIST_ORDERED_SUM_H

#include "core/tree.h"
#include "dist/group.h"

typedef struct fz_ordered_sum fz_ordered_sum; /* who brings which nodes; the same on every rank */

/* nodes: of all ranks in rank order, n_nodes[rank] each; node.buffer -1 marks an empty one, other
 * values are ignored here. The nodes must tile the leaves left to right. At most max_n elements a
 * call; larger sums are the caller's loop. Local (the group is only remembered, borrowed). */
fz_status fz_ordered_sum_create(const fz_group *group, const int *n_nodes,
                                const fz_tree_node *nodes, int64_t max_n, fz_ordered_sum **sum_p);
void fz_ordered_sum_destroy(fz_ordered_sum **sum);

/* Scratch the caller passes to every call: bytes for max_n. Local. */
size_t fz_ordered_sum_work_bytes(const fz_group *group, const int *n_nodes, int64_t max_n);

/* roots[i]: this rank's i-th non-empty node, n floats each. out (n) gets the total on every rank;
 * out may be roots[0]. Collective over the group. */
fz_status fz_ordered_sum_run(const fz_ordered_sum *sum, float *out, float *const *roots, int64_t n,
                             void *work);

#endif
