/* AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2, with the decay multiplied by the
 * learning rate as is usual) and the sums of squares of the gradient norm.
 *
 *   g' = grad_scale * g        m = b1 m + (1 - b1) g'        v = b2 v + (1 - b2) g'^2
 *   w  = w - lr * weight_decay * w - lr * (m / c1) / (sqrt(v / c2) + eps),   c_i = 1 - b_i^t
 *
 *   sums[i] = sum of x[j]^2 over chunk i: elements 1024 i .. 1024 i + 1023 (the last may be short)
 *
 * w, m, v, g: n elements each, w, m, v in place.
 */
#ifndef FZ_MODEL_OPS_ADAMW_H
#define FZ_MODEL_OPS_ADAMW_H

#include "model/ops/ops.h"

enum { FZ_SUMSQ_CHUNK = 1024 };

/* The numbers are taken from args, its arrays are not read. */
void fz_adamw_ref(double *w, double *m, double *v, const double *g, const fz_adamw_args *args);
void fz_sumsq_chunks_ref(double *sums, const double *x, int64_t n);

#endif
