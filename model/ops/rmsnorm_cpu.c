/* RMSNorm on the CPU; the mathematics is in rmsnorm.h.
 * A row stays in the first-level cache, so memory moves 8 N C bytes forward, 12 N C with the
 * residual and for the input's gradient, 8 N C for the weights'. */
#include "model/ops/rmsnorm.h"

#include <math.h>
#include <string.h>

#include "core/tree.h"
#include "model/ops/cpu.h"
#include "model/ops/math.h"
#include "model/ops/rows.h"
#include "model/ops/segments.h"

static float inverse_rms(const float *x, int64_t C, float eps)
{
    float square[FZ_LANES] = {0};
    FZ_FOR_LANES(C, c, j, square[j] += x[c + j] * x[c + j]);
    return 1.0f / sqrtf(fz_sum_lanes(square) * (1.0f / (float)C) + eps);
}

static float gate_factor(const float *gate)
{
    return gate ? fz_tanhf(gate[0]) : 1.0f;
}

fz_status fz_cpu_rmsnorm_forward(float *restrict y, float *restrict r, const float *restrict x,
                                 const float *restrict w, int64_t N, int64_t C, float eps,
                                 fz_queue *queue)
{
    (void)queue;
    for (int64_t n = 0; n < N && C > 0; n++) {
        const float *restrict x_n = x + n * C;
        float *restrict y_n = y + n * C;
        const float r_n = inverse_rms(x_n, C, eps);
        for (int64_t c = 0; c < C; c++)
            y_n[c] = (x_n[c] * r_n) * (1.0f + w[c]);
        r[n] = r_n;
    }
    return FZ_OK;
}

fz_status fz_cpu_rmsnorm_residual_forward(float *y, float *r, const float *x, const float *a,
                                          const float *w, const float *gate, int64_t N, int64_t C,
                                          float eps, fz_queue *queue)
{
    (void)queue;
    const float factor = gate_factor(gate);
    for (int64_t n = 0; n < N && C > 0; n++) {
        const float *x_n = x + n * C, *a_n = a + n * C;
        float *y_n = y + n * C;
        const float r_n = inverse_rms(a_n, C, eps);
        FZ_ELEMENTWISE
        for (int64_t c = 0; c < C; c++)
            y_n[c] = x_n[c] + factor * ((a_n[c] * r_n) * (1.0f + w[c]));
        r[n] = r_n;
    }
    return FZ_OK;
}

fz_status fz_cpu_rmsnorm_backward_input(float *dx, const float *dy, const float *x, const float *r,
                                        const float *w, const float *gate, bool accumulate,
                                        int64_t N, int64_t C, fz_queue *queue)
{
    (void)queue;
    const float factor = gate_factor(gate);
    for (int64_t n = 0; n < N && C > 0; n++) {
        const float *x_n = x + n * C, *dy_n = dy + n * C;
        float *dx_n = dx + n * C;
        const float r_n = r[n], scale = factor * r_n;
        float dot[FZ_LANES] = {0};

        FZ_FOR_LANES(C, c, j, dot[j] += (dy_n[c + j] * (1.0f + w[c + j])) * x_n[c + j]);
        const float k = fz_sum_lanes(dot) * (1.0f / (float)C) * (r_n * r_n);
        if (accumulate) {
            FZ_ELEMENTWISE
            for (int64_t c = 0; c < C; c++)
                dx_n[c] += scale * (dy_n[c] * (1.0f + w[c]) - x_n[c] * k);
        } else {
            FZ_ELEMENTWISE
            for (int64_t c = 0; c < C; c++)
                dx_n[c] = scale * (dy_n[c] * (1.0f + w[c]) - x_n[c] * k);
        }
    }
    return FZ_OK;
}

/* dw = sum over rows in order; two rows at a time share the loads of the sum. */
static void sum_rows(float *restrict dw, const float *restrict dy, const float *restrict x,
                     const float *restrict r, float factor, int64_t N, int64_t C)
{
    memset(dw, 0, (size_t)C * sizeof *dw);
    int64_t n = 0;
    for (; n + 2 <= N; n += 2) {
        const float *restrict x0 = x + n * C, *restrict x1 = x0 + C;
        const float *restrict y0 = dy + n * C, *restrict y1 = y0 + C;
        const float s0 = factor * r[n], s1 = factor * r[n + 1];
        for (int64_t c = 0; c < C; c++)
            dw[c] = (dw[c] + y0[c] * (x0[c] * s0)) + y1[c] * (x1[c] * s1);
    }
    if (n < N) {
        const float s0 = factor * r[n];
        for (int64_t c = 0; c < C; c++)
            dw[c] += dy[n * C + c] * (x[n * C + c] * s0);
    }
}

static float sum_all(const float *dy, const float *x, const float *r, const float *w, int64_t N,
                     int64_t C)
{
    float total = 0.0f;
    for (int64_t n = 0; n < N; n++) {
        const float *x_n = x + n * C, *dy_n = dy + n * C;
        const float r_n = r[n];
        float dot[FZ_LANES] = {0};
        FZ_FOR_LANES(C, c, j, dot[j] += dy_n[c + j] * ((x_n[c + j] * r_n) * (1.0f + w[c + j])));
        total += fz_sum_lanes(dot);
    }
    return total;
}

fz_status fz_cpu_rmsnorm_backward_weight(float *dw, float *dgate, const float *dy, const float *x,
                                         const float *r, const float *w, const float *gate,
                                         int64_t N, int64_t C, int64_t S, float *work,
                                         fz_queue *queue)
{
    (void)queue;
    if (C == 0) return FZ_OK;
    const float factor = gate_factor(gate);
    float *work_gate = work + S * C;
    for (int64_t s = 0; s < S; s++) {
        const int64_t n = fz_segment_first(N, S, s), end = fz_segment_first(N, S, s + 1);
        if (dw) sum_rows(work + s * C, dy + n * C, x + n * C, r + n, factor, end - n, C);
        if (gate && dgate) work_gate[s] = sum_all(dy + n * C, x + n * C, r + n, w, end - n, C);
    }
    if (dw) {
        fz_tree_sum_rows(work, S, C);
        fz_tree_add(dw, work, C);
    }
    if (gate && dgate) {
        fz_tree_sum_rows(work_gate, S, 1);
        dgate[0] += (1.0f - factor * factor) * work_gate[0];
    }
    return FZ_OK;
}
