/* Tensor parallelism: the places where a block meets the other shards (model/hooks.h), over the
 * tensor group. Sums have the bits of the tree over all shards.
 */
#ifndef FZ_PARALLEL_TENSOR_PARALLEL_H
#define FZ_PARALLEL_TENSOR_PARALLEL_H

#include "dist/ordered_sum.h"
#include "model/hooks.h"

typedef struct fz_tensor_parallel {
    const fz_group *group; /* borrowed */
    int64_t n_shards;
    void *work;          /* borrowed: the rank's communication buffer */
    fz_ordered_sum *sum; /* owned; NULL: one rank holds all shards */
    int64_t *counts;     /* owned: group size, for gathers */
    fz_hooks hooks;      /* what blocks get */
} fz_tensor_parallel;

/* An ordered sum of one leaf per rank of group (a power of two), chunks of FZ_COMM_CHUNK floats. */
fz_status fz_leaf_sum_create(const fz_group *group, fz_ordered_sum **sum_p);
/* x (n) in place, chunk by chunk. Collective over the group. */
fz_status fz_leaf_sum_run(const fz_ordered_sum *sum, float *x, int64_t n, void *work);

/* Local. */
fz_status fz_tensor_parallel_init(fz_tensor_parallel *tp, const fz_group *group, int64_t n_shards,
                                  void *work);
void fz_tensor_parallel_reset(fz_tensor_parallel *tp);

#endif
