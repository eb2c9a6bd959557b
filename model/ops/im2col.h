/* Patches of an image as rows of a matrix, so that a dense convolution is one product.
 *
 *   Ho = (H + 2 pad - k) / stride + 1 (rounded down), Wo likewise
 *   im2col   out[b, oy, ox, (c*k + ky)*k + kx] = x[b, oy*stride - pad + ky, ox*stride - pad + kx,
 * c] and 0 where that pixel lies outside col2im   the transpose: dx[pixel] = sum over the patches
 * that hold it
 *
 * Shapes: x, dx (B,H,W,C); out, dcol (B,Ho,Wo,C*k*k): the order of a stored [out,in,kh,kw] weight,
 * so y = out W^T with W read as (out, in*kh*kw). Both write all of their destination.
 * Below: the reference in double precision; the CPU's is fz_cpu_im2col, fz_cpu_col2im in cpu.h.
 */
#ifndef FZ_MODEL_OPS_IM2COL_H
#define FZ_MODEL_OPS_IM2COL_H

#include <stdint.h>

static inline int64_t fz_im2col_side(int64_t H, int64_t k, int64_t stride, int64_t pad)
{
    return (H + 2 * pad - k) / stride + 1;
}

void fz_im2col_ref(double *out, const double *x, int64_t B, int64_t H, int64_t W, int64_t C,
                   int64_t k, int64_t stride, int64_t pad);
void fz_col2im_ref(double *dx, const double *dcol, int64_t B, int64_t H, int64_t W, int64_t C,
                   int64_t k, int64_t stride, int64_t pad);

#endif
