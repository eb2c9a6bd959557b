/* Depthwise 3x3 convolution with padding 1, as the residual branch x + DW(x) (model.md 2.2).
 *
 *   forward          y[p,c]  = x[p,c] + b[c] + sum_k w[c,k] x[p + o_k, c]
 *   backward_input   dx[p,c] = dy[p,c] + sum_k w[c,k] dy[p - o_k, c]
 *   backward_weight  dw[c,k] = sum_p dy[p,c] x[p + o_k, c],   db[c] = sum_p dy[p,c]
 *
 * with k = 3 ky + kx, o_k = (ky-1, kx-1), pixels outside the image zero. Shapes: x, y (B,H,W,C);
 * w [C,1,3,3]; b (C). dw and db are written, summed over images, then rows, then columns.
 * Below: the reference in double precision; the CPU's are fz_cpu_depthwise_* in cpu.h.
 */
#ifndef FZ_MODEL_OPS_DEPTHWISE_H
#define FZ_MODEL_OPS_DEPTHWISE_H

#include <stdint.h>

void fz_depthwise_residual_forward_ref(double *y, const double *x, const double *w, const double *b,
                                       int64_t B, int64_t H, int64_t W, int64_t C);
void fz_depthwise_residual_backward_input_ref(double *dx, const double *dy, const double *w,
                                              int64_t B, int64_t H, int64_t W, int64_t C);
void fz_depthwise_backward_weight_ref(double *dw, double *db, const double *dy, const double *x,
                                      int64_t B, int64_t H, int64_t W, int64_t C);

#endif
