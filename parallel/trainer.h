/* The trainer: all memory of a rank, taken once, and the step.
 */
#ifndef FZ_PARALLEL_TRAINER_H
#define FZ_PARALLEL_TRAINER_H

#include "core/state_view.h"
#include "dist/mesh.h"
#include "model/ops/ops.h"
#include "parallel/plan.h"

typedef struct fz_trainer fz_trainer;

typedef struct fz_step_result {
    int64_t step;    /* optimizer steps done, this one included */
    float loss;      /* mean over loss batches of token means */
    float grad_norm; /* before clipping */
    float lr;
    int64_t n_tokens; /* enc + dec tokens of the global batch */
    int64_t n_labels;
    double seconds;
    double flops; /* of the step over all ranks, tokens that were there */
} fz_step_result;

/* One allocation of rank_plan.bytes.total bytes; groups and hooks. Of a program that is
 * forward_only (model/config.h) without gradients, moments and what is saved for them: every call
 * but fz_trainer_step. Collective over the world. */
fz_status fz_trainer_create(const fz_plan *plan, const fz_mesh *mesh, const fz_ops *ops,
                            fz_trainer **trainer_p);
void fz_trainer_destroy(fz_trainer **trainer);

/* Bytes of the allocation that were really handed out (must equal the plan's total). Local. */
size_t fz_trainer_bytes(const fz_trainer *trainer);
/* Weights from the initialiser, moments zero, step 0. Local. */
void fz_trainer_init(fz_trainer *trainer);
/* Views of everything a checkpoint holds; borrowed, stable. Local. */
const fz_state *fz_trainer_state(const fz_trainer *trainer);
/* Room for a copy of what this rank writes into checkpoints, part of the one allocation; NULL where
 * the layout plans none. Local. */
void *fz_trainer_snapshot(const fz_trainer *trainer, size_t *bytes);
/* call is made in every step when its sums are done, before weights and moments change; NULL: none.
 * Local. */
void fz_trainer_set_before_update(fz_trainer *trainer, void (*call)(void *context), void *context);
int64_t fz_trainer_step_count(const fz_trainer *trainer); /* optimizer steps done. Local. */
void fz_trainer_set_step_count(fz_trainer *trainer, int64_t step); /* after a load. Local. */
/* The step after which the moments began at zero, if not 0: AdamW's bias corrections count from
 * there. After a load. Local. */
void fz_trainer_set_moments_start(fz_trainer *trainer, int64_t step);

/* What the loader must provide here. Local. */
typedef struct fz_trainer_needs {
    int64_t first_micro, n_micro;
    int64_t first_shard, n_local_shards, n_shards; /* whose images */
    bool pixels;                                   /* first stage only */
} fz_trainer_needs;
fz_trainer_needs fz_trainer_get_needs(const fz_trainer *trainer);

/* One optimizer step on this rank's part of the global batch (n_micro micro-batches of its lanes).
 * batch->micro[].loss_scale is set here. A loss or gradient norm that is not finite is
 * FZ_ERR_FORMAT on every rank, before anything is updated. Collective over the world. */
fz_status fz_trainer_step(fz_trainer *trainer, fz_step_batch *batch, fz_step_result *result);

/* Forward only over the same kind of batch (micro-batches may have fewer samples or none):
 * sample_loss (global_batch) gets the summed token loss of each sample and sample_labels its
 * number of labels, by position in the global batch, on every rank; zero where there is none.
 * Dropout off. Collective over the world. */
fz_status fz_trainer_eval(fz_trainer *trainer, fz_step_batch *batch, double *sample_loss,
                          double *sample_labels);

/* Greedy next token of each sample of one micro-batch (micro_batch samples at most): next
 * (n_samples), on every rank. Only for tp*pp layouts with dp 1. Collective over the world. */
fz_status fz_trainer_next_tokens(fz_trainer *trainer, fz_microbatch *batch, int32_t *next);

/* Digest of all parameters: layout-invariant (core/checksum.h), tied and replicated copies once.
 * Collective over the world. */
fz_status fz_trainer_digest(const fz_trainer *trainer, uint64_t *digest);

#endif
