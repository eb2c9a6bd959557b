/* The loss of a step: a token mean over each loss batch, then the mean over loss batches in global
 * order (design.md 5). A loss batch may straddle lanes and ranks, so the label counts of all
 * micro-batches are exchanged, as integers, before the first backward pass.
 */
#ifndef FZ_PARALLEL_LOSS_H
#define FZ_PARALLEL_LOSS_H

#include "dist/group.h"
#include "parallel/plan.h"
#include "parallel/trainer.h"

/* counts (n_micro + FZ_EXTRA_COUNTS): labels of every micro-batch; tokens, labels and FLOPs of the
 * step go into result with the same exchange. Collective over the data group. */
fz_status fz_loss_exchange_counts(const fz_plan *plan, const fz_step_batch *batch,
                                  const fz_group *data, int64_t *counts, fz_step_result *result);
/* loss_scale of this rank's micro-batches: 1 / (labels of the loss batch * loss batches), 0 where
 * a loss batch has no label. Local. */
void fz_loss_set_scales(const fz_plan *plan, const int64_t *counts, fz_step_batch *batch);
/* From the summed token losses of all micro-batches. A loss batch without labels counts as 0.
 * Local. */
float fz_loss_mean(const fz_plan *plan, const int64_t *counts, const double *sums);

#endif
