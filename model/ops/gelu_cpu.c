/* GELU on the CPU; the mathematics is in gelu.h.
 * About 30 flops an element forward, 50 backward, 12 N C bytes each; with dropout one Philox block
 * per 8 columns. */
#include "model/ops/gelu.h"

#include "model/ops/cpu.h"
#include "model/ops/dropout_row.h"
#include "model/ops/math.h"
#include "model/ops/rows.h"

static inline float normal_below(float h)
{
    return 0.5f + 0.5f * fz_erff(h * 0.70710678118654752f);
}

static inline float gelu_slope(float h)
{
    return normal_below(h) + h * (0.39894228040143268f * fz_expf(-0.5f * (h * h)));
}

/* f NULL: factor 1 */
static void forward_stretch(float *restrict y, float *restrict h, const float *restrict bias,
                            const float *restrict f, int64_t n)
{
    if (bias)
        for (int64_t c = 0; c < n; c++)
            h[c] += bias[c];
    if (f)
        for (int64_t c = 0; c < n; c++)
            y[c] = h[c] * normal_below(h[c]) * f[c];
    else
        for (int64_t c = 0; c < n; c++)
            y[c] = h[c] * normal_below(h[c]);
}

static void backward_stretch(float *dh, const float *dy, const float *h, const float *f, int64_t n)
{
    if (f) {
        FZ_ELEMENTWISE
        for (int64_t c = 0; c < n; c++)
            dh[c] = dy[c] * f[c] * gelu_slope(h[c]);
    } else {
        FZ_ELEMENTWISE
        for (int64_t c = 0; c < n; c++)
            dh[c] = dy[c] * gelu_slope(h[c]);
    }
}

fz_status fz_cpu_gelu_forward(float *y, float *h, const float *bias, const fz_rows *rows, int64_t C,
                              const fz_dropout *dropout, fz_queue *queue)
{
    (void)queue;
    const fz_drop drop = fz_drop_prepare(dropout);
    float buffer[FZ_DROP_BUFFER];

    for (int64_t b = 0; b < rows->n_seq; b++)
        for (int64_t row = rows->start[b]; row < rows->start[b + 1]; row++)
            for (int64_t c = 0; c < C; c += FZ_DROP_CHUNK) {
                const int64_t n = C - c < FZ_DROP_CHUNK ? C - c : (int64_t)FZ_DROP_CHUNK;
                const float *f = drop.active ? fz_drop_factors(buffer, &drop, rows->sample_n[b],
                                                               row - rows->start[b],
                                                               dropout->first_column + c, n)
                                             : NULL;
                forward_stretch(y + row * C + c, h + row * C + c, bias ? bias + c : NULL, f, n);
            }
    return FZ_OK;
}

fz_status fz_cpu_gelu_backward(float *dh, const float *dy, const float *h, const fz_rows *rows,
                               int64_t C, const fz_dropout *dropout, fz_queue *queue)
{
    (void)queue;
    const fz_drop drop = fz_drop_prepare(dropout);
    float buffer[FZ_DROP_BUFFER];

    if (!drop.active) {
        backward_stretch(dh, dy, h, NULL, (int64_t)rows->start[rows->n_seq] * C);
        return FZ_OK;
    }
    for (int64_t b = 0; b < rows->n_seq; b++)
        for (int64_t row = rows->start[b]; row < rows->start[b + 1]; row++)
            for (int64_t c = 0; c < C; c += FZ_DROP_CHUNK) {
                const int64_t n = C - c < FZ_DROP_CHUNK ? C - c : (int64_t)FZ_DROP_CHUNK;
                const int64_t i = row * C + c;
                const float *f =
                    fz_drop_factors(buffer, &drop, rows->sample_n[b], row - rows->start[b],
                                    dropout->first_column + c, n);
                backward_stretch(dh + i, dy + i, h + i, f, n);
            }
    return FZ_OK;
}
