/* GELU, exact form (Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2), with the bias before
 * and the dropout after it.
 *
 *   h = h + bias (in place, kept)     gelu(h) = h Phi(h),  Phi(h) = (1 + erf(h / sqrt 2)) / 2
 *   y = f * gelu(h)                   f: dropout factor (dropout.h)
 *   backward   dh = f * dy * (Phi(h) + h phi(h)),   phi(h) = exp(-h^2/2) / sqrt(2 pi)
 *
 * Shapes: y, h, dy, dh (N,C); bias (C) or NULL; rows give token and n of each row.
 */
#ifndef FZ_MODEL_OPS_GELU_H
#define FZ_MODEL_OPS_GELU_H

#include "model/ops/ops.h"

void fz_gelu_forward_ref(double *y, double *h, const double *bias, const fz_rows *rows, int64_t C,
                         const fz_dropout *drop);
void fz_gelu_backward_ref(double *dh, const double *dy, const double *h, const fz_rows *rows,
                          int64_t C, const fz_dropout *drop);

#endif
