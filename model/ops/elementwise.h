/* Element-wise ops and the bias.
 *
 *   zero y = 0      copy y = x      add y += x      scale y *= factor            n elements
 *   bias_add        y[r,c] += b[c]
 *   bias_backward   db[c] += sum_r dy[r,c]
 *
 * Shapes of the bias ops: y, dy (N,C) with row stride ld; b, db (C). The sum over r is a sum over
 * tokens (segments.h).
 */
#ifndef FZ_MODEL_OPS_ELEMENTWISE_H
#define FZ_MODEL_OPS_ELEMENTWISE_H

#include "model/ops/ops.h"

void fz_zero_ref(double *y, int64_t n);
void fz_copy_ref(double *y, const double *x, int64_t n);
void fz_add_ref(double *y, const double *x, int64_t n);
void fz_scale_ref(double *y, double factor, int64_t n);
void fz_bias_add_ref(double *y, const double *b, int64_t N, int64_t C, int64_t ld);
void fz_bias_backward_ref(double *db, const double *dy, int64_t N, int64_t C, int64_t ld);

#endif
