/* Gradients of pieces that are held more than once, after the sum over lanes:
 *
 *   replicas   key/value heads that several shards hold (FZ_CUT_HEADS): the tree over the shards'
 *              gradients, on one rank or over neighbours of the tensor group
 *   tied       a parameter with two uses: gradient of the first use + gradient of the second, over
 *              the pipeline where the uses are on two stages
 *
 * Every copy gets the same bits, so copies stay equal without ever being compared.
 */
#ifndef FZ_PARALLEL_COPIES_H
#define FZ_PARALLEL_COPIES_H

#include "dist/mesh.h"
#include "dist/ordered_sum.h"
#include "model/ops/ops.h"
#include "parallel/rank_memory.h"

enum { FZ_REPLICA_GROUPS = 16 };

typedef struct fz_copies {
    const fz_program *program;    /* borrowed */
    const fz_rank_memory *memory; /* borrowed */
    const fz_mesh *mesh;          /* borrowed */
    const fz_ops *ops;            /* borrowed */
    /* By log2 of their size: groups of neighbours that share a logical piece, and their sums. */
    fz_group *group[FZ_REPLICA_GROUPS];     /* owned */
    fz_ordered_sum *sum[FZ_REPLICA_GROUPS]; /* owned */
    int n_tied;
    int *tied; /* owned: held parameters with a use on another stage, in parameter order */
} fz_copies;

/* Collective over the tensor group. */
fz_status fz_copies_init(fz_copies *copies, const fz_plan *plan, const fz_rank_memory *memory,
                         const fz_mesh *mesh, const fz_ops *ops);
void fz_copies_reset(fz_copies *copies);
/* grads: the buffer with the sum over lanes; afterwards the gradient of a held parameter is that of
 * its first use here. Collective over the tensor and pipeline groups. */
fz_status fz_copies_sum(const fz_copies *copies, float *grads);

#endif
