#include "model/ops/window.h"

/* Row of the window array in which pixel (iy, ix) of the padded image b lies. */
static int64_t token(int64_t b, int64_t iy, int64_t ix, int64_t H, int64_t W, int64_t w)
{
    const int64_t Hw = (H + w - 1) / w, Ww = (W + w - 1) / w;
    const int64_t window = (b * Hw + iy / w) * Ww + ix / w;
    return window * w * w + iy % w * w + ix % w;
}

void fz_window_split_ref(double *out, const double *x, int64_t B, int64_t H, int64_t W, int64_t C,
                         int64_t window)
{
    const int64_t Hp = (H + window - 1) / window * window, Wp = (W + window - 1) / window * window;

    for (int64_t p = 0; p < B * Hp * Wp; p++) {
        const int64_t b = p / (Hp * Wp), iy = p / Wp % Hp, ix = p % Wp;
        for (int64_t c = 0; c < C; c++)
            out[token(b, iy, ix, H, W, window) * C + c] =
                iy < H && ix < W ? x[((b * H + iy) * W + ix) * C + c] : 0.0;
    }
}

void fz_window_merge_ref(double *out, const double *x, int64_t B, int64_t H, int64_t W, int64_t C,
                         int64_t window)
{
    for (int64_t p = 0; p < B * H * W; p++) {
        const int64_t b = p / (H * W), iy = p / W % H, ix = p % W;
        for (int64_t c = 0; c < C; c++)
            out[p * C + c] = x[token(b, iy, ix, H, W, window) * C + c];
    }
}
