/* Windows on the CPU; layout in window.h. Copies of up to w*C floats at a time. */
#include "model/ops/window.h"

#include <string.h>

#include "model/ops/cpu.h"

/* Row ty of a window: `inside` tokens are pixels, the rest of its w tokens are padding. */
typedef struct window_row {
    int64_t token; /* first token in the window array */
    int64_t pixel; /* first pixel in the image array  */
    int64_t inside;
} window_row;

static window_row row_at(int64_t i, int64_t H, int64_t W, int64_t w)
{
    const int64_t Hw = (H + w - 1) / w, Ww = (W + w - 1) / w;
    const int64_t ty = i % w, wx = i / w % Ww, wy = i / (w * Ww) % Hw, b = i / (w * Ww * Hw);
    const int64_t iy = wy * w + ty, left = W - wx * w;
    window_row row = {.token = i * w, .pixel = (b * H + iy) * W + wx * w};

    if (iy < H) row.inside = left < w ? left : w;
    return row;
}

static int64_t n_rows(int64_t B, int64_t H, int64_t W, int64_t w)
{
    return B * ((H + w - 1) / w) * ((W + w - 1) / w) * w;
}

fz_status fz_cpu_window_split(float *out, const float *x, int64_t B, int64_t H, int64_t W,
                              int64_t C, int64_t window, fz_queue *queue)
{
    (void)queue;
    for (int64_t i = 0; i < n_rows(B, H, W, window); i++) {
        const window_row row = row_at(i, H, W, window);
        float *to = out + row.token * C;
        const int64_t n = row.inside * C;
        if (n > 0) memcpy(to, x + row.pixel * C, (size_t)n * sizeof *to);
        memset(to + n, 0, (size_t)(window * C - n) * sizeof *to);
    }
    return FZ_OK;
}

fz_status fz_cpu_window_merge(float *out, const float *x, int64_t B, int64_t H, int64_t W,
                              int64_t C, int64_t window, fz_queue *queue)
{
    (void)queue;
    for (int64_t i = 0; i < n_rows(B, H, W, window); i++) {
        const window_row row = row_at(i, H, W, window);
        if (row.inside > 0)
            memcpy(out + row.pixel * C, x + row.token * C, (size_t)(row.inside * C) * sizeof *out);
    }
    return FZ_OK;
}
