/* LayerNorm on the CPU; the mathematics is in layernorm.h.
 * A row stays in the first-level cache, so memory moves 8 N C bytes forward, 12 N C for the input's
 * gradient, 8 N C for the weights'. */
#include "model/ops/layernorm.h"

#include <math.h>
#include <string.h>

#include "core/tree.h"
#include "model/ops/cpu.h"
#include "model/ops/rows.h"
#include "model/ops/segments.h"

fz_status fz_cpu_layernorm_forward(float *restrict y, float *restrict mean, float *restrict rstd,
                                   const float *restrict x, const float *restrict w,
                                   const float *restrict b, int64_t N, int64_t C, float eps,
                                   fz_queue *queue)
{
    (void)queue;
    if (C == 0) return FZ_OK;
    const float inv_C = 1.0f / (float)C;
    for (int64_t r = 0; r < N; r++) {
        const float *restrict x_r = x + r * C;
        float *restrict y_r = y + r * C;
        float sum[FZ_LANES] = {0}, square[FZ_LANES] = {0};

        FZ_FOR_LANES(C, c, j, sum[j] += x_r[c + j]);
        const float m = fz_sum_lanes(sum) * inv_C;
        FZ_FOR_LANES(C, c, j, const float d = x_r[c + j] - m; square[j] += d * d);
        const float scale = 1.0f / sqrtf(fz_sum_lanes(square) * inv_C + eps);
        for (int64_t c = 0; c < C; c++)
            y_r[c] = ((x_r[c] - m) * scale) * w[c] + b[c];
        mean[r] = m;
        rstd[r] = scale;
    }
    return FZ_OK;
}

fz_status fz_cpu_layernorm_backward_input(float *dx, const float *dy, const float *x,
                                          const float *mean, const float *rstd, const float *w,
                                          int64_t N, int64_t C, fz_queue *queue)
{
    (void)queue;
    if (C == 0) return FZ_OK;
    const float inv_C = 1.0f / (float)C;
    for (int64_t r = 0; r < N; r++) {
        const float *x_r = x + r * C, *dy_r = dy + r * C;
        float *dx_r = dx + r * C;
        const float m = mean[r], scale = rstd[r];
        float sum[FZ_LANES] = {0}, dot[FZ_LANES] = {0};

        FZ_FOR_LANES(C, c, j, sum[j] += dy_r[c + j] * w[c + j]);
        FZ_FOR_LANES(C, c, j, dot[j] += (dy_r[c + j] * w[c + j]) * ((x_r[c + j] - m) * scale));
        const float a = fz_sum_lanes(sum) * inv_C, k = fz_sum_lanes(dot) * inv_C;
        FZ_ELEMENTWISE
        for (int64_t c = 0; c < C; c++)
            dx_r[c] = scale * ((dy_r[c] * w[c] - a) - ((x_r[c] - m) * scale) * k);
    }
    return FZ_OK;
}

/* dw, db = sums over rows in order; two rows at a time share the loads of the sums. */
static void sum_rows(float *restrict dw, float *restrict db, const float *restrict dy,
                     const float *restrict x, const float *restrict mean,
                     const float *restrict rstd, int64_t n, int64_t C)
{
    memset(dw, 0, (size_t)C * sizeof *dw);
    memset(db, 0, (size_t)C * sizeof *db);
    int64_t r = 0;
    for (; r + 2 <= n; r += 2) {
        const float *restrict x0 = x + r * C, *restrict x1 = x0 + C;
        const float *restrict y0 = dy + r * C, *restrict y1 = y0 + C;
        const float m0 = mean[r], m1 = mean[r + 1], s0 = rstd[r], s1 = rstd[r + 1];
        for (int64_t c = 0; c < C; c++) {
            dw[c] = (dw[c] + y0[c] * ((x0[c] - m0) * s0)) + y1[c] * ((x1[c] - m1) * s1);
            db[c] = (db[c] + y0[c]) + y1[c];
        }
    }
    for (; r < n; r++)
        for (int64_t c = 0; c < C; c++) {
            dw[c] += dy[r * C + c] * ((x[r * C + c] - mean[r]) * rstd[r]);
            db[c] += dy[r * C + c];
        }
}

fz_status fz_cpu_layernorm_backward_weight(float *dw, float *db, const float *dy, const float *x,
                                           const float *mean, const float *rstd, int64_t N,
                                           int64_t C, int64_t S, float *work, fz_queue *queue)
{
    (void)queue;
    if (C == 0) return FZ_OK;
    for (int64_t s = 0; s < S; s++) {
        const int64_t r = fz_segment_first(N, S, s);
        sum_rows(work + s * C, work + (S + s) * C, dy + r * C, x + r * C, mean + r, rstd + r,
                 fz_segment_first(N, S, s + 1) - r, C);
    }
    fz_tree_sum_rows(work, S, C);
    fz_tree_sum_rows(work + S * C, S, C);
    fz_tree_add(dw, work, C);
    fz_tree_add(db, work + S * C, C);
    return FZ_OK;
}
