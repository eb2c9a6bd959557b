/* Element-wise ops on the CPU; the mathematics is in elementwise.h.
 *
 * Memory-bound, bytes moved: zero 4n, copy 8n, add 12n, scale 8n, bias_add 8 N C, bias_backward
 * 4 N C (+ 8 S C). */
#include "model/ops/elementwise.h"

#include <string.h>

#include "core/tree.h"
#include "model/ops/cpu.h"
#include "model/ops/segments.h"

fz_status fz_cpu_zero(float *y, int64_t n, fz_queue *queue)
{
    (void)queue;
    if (n > 0) memset(y, 0, (size_t)n * sizeof *y);
    return FZ_OK;
}

fz_status fz_cpu_copy(float *y, const float *x, int64_t n, fz_queue *queue)
{
    (void)queue;
    if (n > 0) memcpy(y, x, (size_t)n * sizeof *y);
    return FZ_OK;
}

fz_status fz_cpu_add(float *restrict y, const float *restrict x, int64_t n, fz_queue *queue)
{
    (void)queue;
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
    return FZ_OK;
}

fz_status fz_cpu_scale(float *y, float factor, int64_t n, fz_queue *queue)
{
    (void)queue;
    for (int64_t i = 0; i < n; i++)
        y[i] *= factor;
    return FZ_OK;
}

fz_status fz_cpu_bias_add(float *restrict y, const float *restrict b, int64_t N, int64_t C,
                          int64_t ld, fz_queue *queue)
{
    (void)queue;
    for (int64_t r = 0; r < N; r++) {
        float *restrict y_r = y + r * ld;
        for (int64_t c = 0; c < C; c++)
            y_r[c] += b[c];
    }
    return FZ_OK;
}

/* Rows in order; four at a time, so that the sum is read and written once for four rows. */
static void sum_rows(float *restrict sum, const float *restrict dy, int64_t n, int64_t C,
                     int64_t ld)
{
    memset(sum, 0, (size_t)C * sizeof *sum);
    int64_t r = 0;
    for (; r + 4 <= n; r += 4) {
        const float *restrict y0 = dy + r * ld, *restrict y1 = y0 + ld;
        const float *restrict y2 = y1 + ld, *restrict y3 = y2 + ld;
        for (int64_t c = 0; c < C; c++)
            sum[c] = (((sum[c] + y0[c]) + y1[c]) + y2[c]) + y3[c];
    }
    for (; r < n; r++)
        for (int64_t c = 0; c < C; c++)
            sum[c] += dy[r * ld + c];
}

fz_status fz_cpu_bias_backward(float *db, const float *dy, int64_t N, int64_t C, int64_t ld,
                               int64_t S, float *work, fz_queue *queue)
{
    (void)queue;
    if (C == 0) return FZ_OK;
    for (int64_t s = 0; s < S; s++) {
        const int64_t first = fz_segment_first(N, S, s);
        sum_rows(work + s * C, dy + first * ld, fz_segment_first(N, S, s + 1) - first, C, ld);
    }
    fz_tree_sum_rows(work, S, C);
    fz_tree_add(db, work, C);
    return FZ_OK;
}
