/* im2col and col2im on the CPU; mathematics and shapes in im2col.h. Bound by memory: a patch row of
 * C*k*k floats stays in the first-level cache while its k*k pixels are spread over it. */
#include "model/ops/im2col.h"

#include <string.h>

#include "model/ops/cpu.h"

/* One pixel of C channels into, or out of, every kk-th element of a patch row. */
static void spread(float *restrict row, const float *restrict pixel, int64_t C, int64_t kk)
{
    for (int64_t c = 0; c < C; c++)
        row[c * kk] = pixel[c];
}

static void spread_zeros(float *row, int64_t C, int64_t kk)
{
    for (int64_t c = 0; c < C; c++)
        row[c * kk] = 0.0f;
}

static void collect(float *restrict pixel, const float *restrict row, int64_t C, int64_t kk)
{
    for (int64_t c = 0; c < C; c++)
        pixel[c] += row[c * kk];
}

fz_status fz_cpu_im2col(float *out, const float *x, int64_t B, int64_t H, int64_t W, int64_t C,
                        int64_t k, int64_t stride, int64_t pad, fz_queue *queue)
{
    const int64_t Ho = fz_im2col_side(H, k, stride, pad), Wo = fz_im2col_side(W, k, stride, pad);
    const int64_t kk = k * k;

    (void)queue;
    for (int64_t p = 0; p < B * Ho * Wo; p++) {
        const int64_t b = p / (Ho * Wo), oy = p / Wo % Ho, ox = p % Wo;
        for (int64_t t = 0; t < kk; t++) {
            const int64_t iy = oy * stride - pad + t / k, ix = ox * stride - pad + t % k;
            float *row = out + p * C * kk + t;
            if (iy >= 0 && iy < H && ix >= 0 && ix < W)
                spread(row, x + ((b * H + iy) * W + ix) * C, C, kk);
            else
                spread_zeros(row, C, kk);
        }
    }
    return FZ_OK;
}

fz_status fz_cpu_col2im(float *dx, const float *dcol, int64_t B, int64_t H, int64_t W, int64_t C,
                        int64_t k, int64_t stride, int64_t pad, fz_queue *queue)
{
    const int64_t Ho = fz_im2col_side(H, k, stride, pad), Wo = fz_im2col_side(W, k, stride, pad);
    const int64_t kk = k * k;

    (void)queue;
    memset(dx, 0, (size_t)(B * H * W * C) * sizeof *dx);
    for (int64_t i = 0; i < B * H * W; i++) {
        const int64_t b = i / (H * W), iy = i / W % H, ix = i % W;
        for (int64_t t = 0; t < kk; t++) {
            /* the patch in which this pixel is tap t, if there is one */
            const int64_t ty = iy + pad - t / k, tx = ix + pad - t % k;
            if (ty < 0 || tx < 0 || ty % stride != 0 || tx % stride != 0) continue;
            const int64_t oy = ty / stride, ox = tx / stride;
            if (oy >= Ho || ox >= Wo) continue;
            collect(dx + i * C, dcol + ((b * Ho + oy) * Wo + ox) * C * kk + t, C, kk);
        }
    }
    return FZ_OK;
}
