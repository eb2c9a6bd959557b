/* LayerNorm (Ba, Kiros & Hinton 2016, arXiv:1607.06450, eq. 4) over the columns of each row.
 *
 *   mean[r] = sum_c x[r,c] / C         rstd[r] = 1/sqrt(sum_c (x[r,c] - mean[r])^2 / C + eps)
 *   xhat[r,c] = (x[r,c] - mean[r]) * rstd[r]        y[r,c] = xhat[r,c] * w[c] + b[c]
 *   backward   g[r,c] = dy[r,c] * w[c]
 *              dx[r,c] = rstd[r] * (g[r,c] - sum_c g[r,:]/C - xhat[r,c] * sum_c g[r,:] xhat[r,:]/C)
 *              dw[c] += sum_r dy[r,c] * xhat[r,c]      db[c] += sum_r dy[r,c]
 *
 * Shapes: x, y, dx, dy (N,C); w, b, dw, db (C); mean, rstd (N). eps under the root (the usual
 * form) keeps a constant row finite. The sums over r are sums over tokens (segments.h).
 */
#ifndef FZ_MODEL_OPS_LAYERNORM_H
#define FZ_MODEL_OPS_LAYERNORM_H

#include "model/ops/ops.h"

void fz_layernorm_forward_ref(double *y, double *mean, double *rstd, const double *x,
                              const double *w, const double *b, int64_t N, int64_t C, double eps);
void fz_layernorm_backward_input_ref(double *dx, const double *dy, const double *x,
                                     const double *mean, const double *rstd, const double *w,
                                     int64_t N, int64_t C);
void fz_layernorm_backward_weight_ref(double *dw, double *db, const double *dy, const double *x,
                                      const double *mean, const double *rstd, int64_t N, int64_t C);

#endif
