/* The optimizer: learning rate, global norm, clipping, AdamW. Local.
 *
 *   lr(t), t from 0    t < warmup:  lr * (t+1) / warmup
 *                      cosine:      lr * (1 + cos(pi * x)) / 2,   x = (t-warmup) / (steps-warmup)
 *                      linear:      lr * (1 - x)
 *   norm               sqrt of the sum over pieces, in parameter and piece order, of the sum over
 *                      chunks of 1,024 elements of the piece; in double
 *   clipping           gradients times min(1, clip / (norm + 1e-6))
 */
#ifndef FZ_PARALLEL_OPTIMIZER_H
#define FZ_PARALLEL_OPTIMIZER_H

#include "model/ops/ops.h"
#include "parallel/rank_memory.h"

/* lr is 0 from train->steps on (cosine, linear). */
double fz_learning_rate(const fz_train_config *train, int64_t step);

/* parts (plan->norm_first[n_params], zero before): the sums of squares of the pieces that this rank
 * owns. grads: the summed gradient buffer. */
fz_status fz_norm_parts(const fz_plan *plan, const fz_rank_plan *rank_plan,
                        const fz_rank_memory *memory, const fz_ops *ops, const float *grads,
                        double *parts);
/* From the parts of all ranks. */
double fz_norm_total(const fz_plan *plan, const double *parts);
/* 1: no clipping. */
float fz_clip_factor(const fz_train_config *train, double norm);

/* One AdamW update of all trained pieces held here; step counts from 0. */
fz_status fz_optimizer_update(const fz_plan *plan, const fz_rank_memory *memory, const fz_ops *ops,
                              const float *grads, int64_t step, float lr, float grad_scale);

#endif
