/* Channel attention on the CPU; mathematics and shapes in channel_attention.h. Products of shape
 * 32 x 32 x n per image and group, by the BLAS: their shape depends on n alone. 128 n C flops
 * forward, 256 n C backward. */
#include "model/ops/channel_attention.h"

#include <math.h>

#include "model/ops/cpu.h"
#include "model/ops/math.h"
#include "model/ops/rows.h"

enum { G = FZ_CHANNEL_GROUP, TOKENS = 128 };

size_t fz_cpu_channel_attention_work(int64_t C)
{
    (void)C;
    return (size_t)(G * G) * sizeof(float); /* dS of one group */
}

/* (G,G) = alpha * x^T y over n tokens: products over a stretch of them at a time, added in double.
 * One sum in fp32 over the tens of thousands of a large map would lose digits. */
static fz_status over_tokens(float *c, const float *x, int64_t ldx, const float *y, int64_t ldy,
                             int64_t n, float alpha, fz_queue *queue)
{
    double sum[G * G] = {0.0};
    fz_gemm_args args = {
        .c = c, .trans_a = true, .m = G, .n = G, .lda = ldx, .ldb = ldy, .ldc = G, .alpha = 1.0f};

    for (int64_t t = 0; t < n; t += TOKENS) {
        args.a = x + t * ldx;
        args.b = y + t * ldy;
        args.k = n - t < TOKENS ? n - t : TOKENS;
        FZ_TRY(fz_cpu_gemm(&args, queue));
        for (int i = 0; i < G * G; i++)
            sum[i] += (double)c[i];
    }
    for (int i = 0; i < G * G; i++)
        c[i] = (float)(sum[i] * (double)alpha);
    return FZ_OK;
}

/* (n,G) = alpha * x op(m), m (G,G). */
static fz_status times_group(float *c, int64_t ldc, const float *x, int64_t ldx, const float *m,
                             bool trans_m, int64_t n, float alpha, fz_queue *queue)
{
    const fz_gemm_args args = {.c = c,
                               .a = x,
                               .b = m,
                               .trans_b = trans_m,
                               .m = n,
                               .n = G,
                               .k = G,
                               .lda = ldx,
                               .ldb = G,
                               .ldc = ldc,
                               .alpha = alpha};
    return fz_cpu_gemm(&args, queue);
}

static void softmax_row(float *a)
{
    float max[FZ_LANES], sum[FZ_LANES] = {0.0f};

    for (int j = 0; j < FZ_LANES; j++)
        max[j] = a[j];
    FZ_FOR_LANES(G, c, j, max[j] = max[j] > a[c + j] ? max[j] : a[c + j]);
    const float top = fz_max_lanes(max);
    for (int j = 0; j < G; j++)
        a[j] = fz_expf(a[j] - top);
    FZ_FOR_LANES(G, c, j, sum[j] += a[c + j]);
    const float inverse = 1.0f / fz_sum_lanes(sum);
    for (int j = 0; j < G; j++)
        a[j] *= inverse;
}

/* dA in, dS = A (dA - sum_j A dA) out. */
static void softmax_row_backward(float *d, const float *a)
{
    float sum[FZ_LANES] = {0.0f};

    FZ_FOR_LANES(G, c, j, sum[j] += a[c + j] * d[c + j]);
    const float mean = fz_sum_lanes(sum);
    for (int j = 0; j < G; j++)
        d[j] = a[j] * (d[j] - mean);
}

fz_status fz_cpu_channel_attention_forward(const fz_channel_attention_args *args, fz_queue *queue)
{
    const int64_t n = args->n_tokens, C = args->C, ld = 3 * C;
    const float scale = (float)(1.0 / sqrt((double)n));

    for (int64_t m = 0; m < args->n_images * (C / G); m++) {
        const int64_t image = m / (C / G), c0 = m % (C / G) * G;
        const float *q = args->qkv + image * n * ld + c0;
        float *a = args->a + m * G * G;

        FZ_TRY(over_tokens(a, q, ld, q + C, ld, n, scale, queue));
        for (int64_t i = 0; i < G; i++)
            softmax_row(a + i * G);
        FZ_TRY(
            times_group(args->o + image * n * C + c0, C, q + 2 * C, ld, a, true, n, 1.0f, queue));
    }
    return FZ_OK;
}

fz_status fz_cpu_channel_attention_backward(const fz_channel_attention_args *args, fz_queue *queue)
{
    const int64_t n = args->n_tokens, C = args->C, ld = 3 * C;
    const float scale = (float)(1.0 / sqrt((double)n));
    float *d = args->work;

    for (int64_t m = 0; m < args->n_images * (C / G); m++) {
        const int64_t image = m / (C / G), c0 = m % (C / G) * G;
        const float *q = args->qkv + image * n * ld + c0;
        const float *dout = args->dout + image * n * C + c0;
        const float *a = args->a + m * G * G;
        float *dq = args->dqkv + image * n * ld + c0;

        FZ_TRY(over_tokens(d, dout, C, q + 2 * C, ld, n, 1.0f, queue));
        for (int64_t i = 0; i < G; i++)
            softmax_row_backward(d + i * G, a + i * G);
        FZ_TRY(times_group(dq, ld, q + C, ld, d, true, n, scale, queue));
        FZ_TRY(times_group(dq + C, ld, q, ld, d, false, n, scale, queue));
        FZ_TRY(times_group(dq + 2 * C, ld, dout, C, a, false, n, 1.0f, queue));
    }
    return FZ_OK;
}
