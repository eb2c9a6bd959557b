/* RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4) with Gemma's factor (1 + w), and the
 * gated residual of Florenz' cross-attention.
 *
 *   r[n] = 1/sqrt(sum_c x[n,c]^2 / C + eps)       rms(x; w)[n,c] = x[n,c] * r[n] * (1 + w[c])
 *   residual   y = x + f * rms(a; w),   f = tanh(gate[0]), or 1 without a gate
 *   backward   g[n,c] = dy[n,c] * (1 + w[c])
 *              dx[n,c] = or += f * r[n] * (g[n,c] - x[n,c] * r[n]^2 * sum_c g[n,:] x[n,:] / C)
 *              dw[c]   += sum_n f * dy[n,c] * x[n,c] * r[n]
 *              dgate   += (1 - f^2) * sum_n sum_c dy[n,c] * x[n,c] * r[n] * (1 + w[c])
 *
 * Shapes: x, a, y, dx, dy (N,C); w, dw (C); r (N); gate, dgate (1) or NULL. eps is not in the
 * paper: it keeps a row of zeros finite. The sums over n are sums over tokens (segments.h).
 */
#ifndef FZ_MODEL_OPS_RMSNORM_H
#define FZ_MODEL_OPS_RMSNORM_H

#include "model/ops/ops.h"

void fz_rmsnorm_forward_ref(double *y, double *r, const double *x, const double *w, int64_t N,
                            int64_t C, double eps);
void fz_rmsnorm_residual_forward_ref(double *y, double *r, const double *x, const double *a,
                                     const double *w, const double *gate, int64_t N, int64_t C,
                                     double eps);
void fz_rmsnorm_backward_input_ref(double *dx, const double *dy, const double *x, const double *r,
                                   const double *w, const double *gate, bool accumulate, int64_t N,
                                   int64_t C);
void fz_rmsnorm_backward_weight_ref(double *dw, double *dgate, const double *dy, const double *x,
                                    const double *r, const double *w, const double *gate, int64_t N,
                                    int64_t C);

#endif
