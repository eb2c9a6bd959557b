#include "model/ops/im2col.h"

void fz_im2col_ref(double *out, const double *x, int64_t B, int64_t H, int64_t W, int64_t C,
                   int64_t k, int64_t stride, int64_t pad)
{
    const int64_t Ho = fz_im2col_side(H, k, stride, pad), Wo = fz_im2col_side(W, k, stride, pad);

    for (int64_t p = 0; p < B * Ho * Wo; p++) {
        const int64_t b = p / (Ho * Wo), oy = p / Wo % Ho, ox = p % Wo;
        for (int64_t e = 0; e < C * k * k; e++) {
            const int64_t c = e / (k * k);
            const int64_t iy = oy * stride - pad + e / k % k, ix = ox * stride - pad + e % k;
            const int is_inside = iy >= 0 && iy < H && ix >= 0 && ix < W;
            out[p * C * k * k + e] = is_inside ? x[((b * H + iy) * W + ix) * C + c] : 0.0;
        }
    }
}

void fz_col2im_ref(double *dx, const double *dcol, int64_t B, int64_t H, int64_t W, int64_t C,
                   int64_t k, int64_t stride, int64_t pad)
{
    const int64_t Ho = fz_im2col_side(H, k, stride, pad), Wo = fz_im2col_side(W, k, stride, pad);

    for (int64_t i = 0; i < B * H * W * C; i++)
        dx[i] = 0.0;
    for (int64_t p = 0; p < B * Ho * Wo; p++) {
        const int64_t b = p / (Ho * Wo), oy = p / Wo % Ho, ox = p % Wo;
        for (int64_t e = 0; e < C * k * k; e++) {
            const int64_t c = e / (k * k);
            const int64_t iy = oy * stride - pad + e / k % k, ix = ox * stride - pad + e % k;
            if (iy >= 0 && iy < H && ix >= 0 && ix < W)
                dx[((b * H + iy) * W + ix) * C + c] += dcol[p * C * k * k + e];
        }
    }
}
