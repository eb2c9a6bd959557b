/* The plan: which rank owns which blocks, shards, lanes and pieces, and what it needs in memory.
 * Pure arithmetic, Local: every rank computes everybody's; florenz plan prints it.
 *
 *   cuts      contiguous slices of the program, balanced by the blocks' cost (largest stage
 *             minimal), at any block
 *   shards    tensor rank i of t: shards [iS/t, (i+1)S/t)
 *   lanes     data rank r of d: lanes [floor(rK/d), floor((r+1)K/d)); lane k runs micro-batches
 *             [floor(kM/K), floor((k+1)M/K))
 */
#ifndef FZ_PARALLEL_PLAN_H
#define FZ_PARALLEL_PLAN_H

#include "model/program.h"
#include "parallel/config.h"

typedef struct fz_plan_bytes { /* of the one allocation, by purpose; to the byte */
    size_t weights, grads, moments;
    size_t save;    /* micro-batches in flight, stream buffers of the cuts included */
    size_t dstream; /* stream gradients */
    size_t keep, work, comm, other;
    size_t snapshot; /* for asynchronous checkpoints */
    size_t total;
} fz_plan_bytes;

typedef struct fz_rank_plan {
    fz_mesh_coord coord;
    int first_block, last_block; /* [first, last) */
    fz_shards shards;
    int64_t first_lane, n_lanes;
    int64_t first_micro, n_micro; /* of the step's M micro-batches */
    int64_t in_flight;    /* micro-batches saved at once; a stage without backward needs 2 */
    int64_t grad_buffers; /* lane accumulators incl. tree stack */
    fz_plan_bytes bytes;
    double flops_forward, flops_backward; /* of one step, matrix products, longest texts */
    int64_t n_weights, n_trainable;       /* elements held here */
} fz_rank_plan;

typedef struct fz_plan {
    const fz_program *program; /* borrowed */
    fz_train_config train;
    fz_layout_config layout;
    int64_t n_micro; /* M = global_batch / micro_batch */
    int n_stages;
    int *cut;     /* owned: n_stages + 1 block indices */
    double *cost; /* owned: n_stages, FLOPs of a micro-batch of average texts */
    double bubble;
    int *param_uses;     /* owned: 2 a parameter: its first and its second use; -1: none */
    int64_t *norm_first; /* owned: n_params + 1: number of each trained parameter's first logical
                            piece among the pieces of the global norm; the last is their count */
} fz_plan;

/* FZ_ERR_USAGE in the words of the config: "layout.tp: 3 does not divide 4 shards; use 1, 2 or 4"
 * for: tp not dividing S; pp > blocks; dp > lanes; batches that do not divide. */
fz_status fz_plan_create(const fz_program *program, const fz_train_config *train,
                         const fz_layout_config *layout, fz_plan **plan_p);
void fz_plan_destroy(fz_plan **plan);
fz_status fz_plan_rank(const fz_plan *plan, int rank, fz_rank_plan *rank_plan);

/* FLOPs of a training pass over a micro-batch of these sizes, on all its ranks together. */
double fz_plan_micro_flops(const fz_plan *plan, const fz_sizes *sizes);
/* The stage that runs a block. */
int fz_plan_stage_of(const fz_plan *plan, int block);
/* Whether anything flows back through a stage: a gradient of its weights or for a stage below. */
bool fz_plan_has_backward(const fz_plan *plan, int stage);
/* Pieces of a parameter that differ: S, S / replicas, or 1. */
int64_t fz_plan_logical_pieces(const fz_plan *plan, int param);
/* Of all ranks that hold a parameter's piece of that shard (0 for uncut ones), exactly one owns it:
 * it counts it in norms and digests and writes it into checkpoints. Spread over the data axis. */
bool fz_plan_owns(const fz_plan *plan, fz_mesh_coord coord, int param, int64_t shard);

#endif
