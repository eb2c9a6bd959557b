/* The projector's tokens on the CPU; mathematics in image_tokens.h. Bound by memory. */
#include "model/ops/image_tokens.h"

#include <string.h>

#include "model/ops/cpu.h"

static void add_into(float *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

fz_status fz_cpu_image_tokens_forward(float *y, const float *x, const float *row, const float *col,
                                      int64_t B, int64_t side, int64_t C, fz_queue *queue)
{
    const int64_t n = side * side, half = C / 2;
    const float inverse = 1.0f / (float)n;

    (void)queue;
    for (int64_t b = 0; b < B; b++) {
        float *mean = y + b * (1 + n) * C;
        memset(mean, 0, (size_t)C * sizeof *mean);
        for (int64_t p = 0; p < n; p++) {
            const float *in = x + (b * n + p) * C;
            const float *left = col + p % side * half, *right = row + p / side * half;
            float *out = mean + (1 + p) * C;
            for (int64_t c = 0; c < half; c++)
                out[c] = in[c] + left[c];
            for (int64_t c = 0; c < half; c++)
                out[half + c] = in[half + c] + right[c];
            for (int64_t c = 1; c < C; c += 2)
                out[c] += 1.0f; /* the sinusoid at frame 0 */
            add_into(mean, out, C);
        }
        for (int64_t c = 0; c < C; c++)
            mean[c] *= inverse;
    }
    return FZ_OK;
}

fz_status fz_cpu_image_tokens_backward(float *dx, const float *dy, int64_t B, int64_t side,
                                       int64_t C, fz_queue *queue)
{
    const int64_t n = side * side;
    const float inverse = 1.0f / (float)n;

    (void)queue;
    for (int64_t r = 0; r < B * n; r++) {
        const float *mean = dy + r / n * (1 + n) * C, *in = mean + (1 + r % n) * C;
        float *out = dx + r * C;
        for (int64_t c = 0; c < C; c++)
            out[c] = in[c] + mean[c] * inverse;
    }
    return FZ_OK;
}

fz_status fz_cpu_image_positions_backward(float *drow, float *dcol, const float *dx, int64_t B,
                                          int64_t side, int64_t C, fz_queue *queue)
{
    const int64_t n = side * side, half = C / 2;

    (void)queue;
    memset(drow, 0, (size_t)(FZ_IMAGE_POSITIONS * half) * sizeof *drow);
    memset(dcol, 0, (size_t)(FZ_IMAGE_POSITIONS * half) * sizeof *dcol);
    for (int64_t r = 0; r < B * n; r++) {
        const int64_t p = r % n;
        add_into(dcol + p % side * half, dx + r * C, half);
        add_into(drow + p / side * half, dx + r * C + half, half);
    }
    return FZ_OK;
}
