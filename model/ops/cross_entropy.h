/* Cross-entropy over soft-capped logits, cut by vocabulary shards (the split of Shoeybi et al.
 * 2019, arXiv:1909.08053, section 3; the cap of Gemma 2, arXiv:2408.00118, section 2).
 *
 *   z[r,v] = cap * tanh(u[r,v] / cap), or u without a cap
 *   max[r] = max_v z[r,v]      sum[r] = sum_v exp(z[r,v] - max[r])      over all shards
 *   loss[r] = log sum[r] + max[r] - z[r, label]                         0 where label < 0
 *   backward   du[r,v] = factor * (exp(z - max[r]) / sum[r] - [v = label]) * (1 - (z / cap)^2)
 *
 * One shard has V columns of z (N,V), the vocabulary's first .. first + V. n_valid of them, the
 * first ones (0 <= n_valid <= V), are real; the others are padding. The caller takes the maximum
 * of max and the tree sums of sum and target over shards between the calls. max, sum, target,
 * loss, labels (N). _max and _backward work in place on z.
 */
#ifndef FZ_MODEL_OPS_CROSS_ENTROPY_H
#define FZ_MODEL_OPS_CROSS_ENTROPY_H

#include "model/ops/ops.h"

void fz_ce_max_ref(double *z, double *max, double *target, const int32_t *labels, int64_t N,
                   int64_t V, int64_t first, int64_t n_valid, double cap);
void fz_ce_sum_ref(double *sum, const double *z, const double *max, int64_t N, int64_t V,
                   int64_t n_valid);
void fz_ce_loss_ref(double *loss, const double *sum, const double *max, const double *target,
                    const int32_t *labels, int64_t N);
void fz_ce_backward_ref(double *z, const double *max, const double *sum, const int32_t *labels,
                        int64_t N, int64_t V, int64_t first, int64_t n_valid, double cap,
                        double factor);

#endif
