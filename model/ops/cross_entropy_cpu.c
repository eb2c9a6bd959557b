/* Cross-entropy on the CPU; the mathematics is in cross_entropy.h.
 * Bytes moved: max 8 N V, sum 4 N V, backward 8 N V; about 20, 20 and 25 flops an element. */
#include "model/ops/cross_entropy.h"

#include <math.h>

#include "core/assert.h"
#include "model/ops/cpu.h"
#include "model/ops/math.h"
#include "model/ops/rows.h"

static float cap_and_max(float *z, int64_t n, float cap)
{
    float max[FZ_LANES];
    for (int j = 0; j < FZ_LANES; j++)
        max[j] = -INFINITY;
    if (cap > 0.0f) {
        const float inverse = 1.0f / cap;
        FZ_FOR_LANES(n, c, j, const float x = cap * fz_tanhf(z[c + j] * inverse); z[c + j] = x;
                     max[j] = x > max[j] ? x : max[j]);
    } else {
        FZ_FOR_LANES(n, c, j, max[j] = z[c + j] > max[j] ? z[c + j] : max[j]);
    }
    return fz_max_lanes(max);
}

fz_status fz_cpu_ce_max(float *z, float *max, float *target, const int32_t *labels, int64_t N,
                        int64_t V, int64_t first, int64_t n_valid, float cap, fz_queue *queue)
{
    (void)queue;
    FZ_ASSERT(n_valid >= 0 && n_valid <= V);
    for (int64_t r = 0; r < N; r++) {
        float *z_r = z + r * V;
        const int64_t label = labels[r] < 0 ? -1 : labels[r] - first;
        max[r] = cap_and_max(z_r, n_valid, cap);
        target[r] = label >= 0 && label < n_valid ? z_r[label] : 0.0f;
    }
    return FZ_OK;
}

fz_status fz_cpu_ce_sum(float *sum, const float *z, const float *max, int64_t N, int64_t V,
                        int64_t n_valid, fz_queue *queue)
{
    (void)queue;
    FZ_ASSERT(n_valid >= 0 && n_valid <= V);
    for (int64_t r = 0; r < N; r++) {
        const float *z_r = z + r * V;
        const float m = max[r];
        float s[FZ_LANES] = {0};
        FZ_FOR_LANES(n_valid, c, j, s[j] += fz_expf(z_r[c + j] - m));
        sum[r] = fz_sum_lanes(s);
    }
    return FZ_OK;
}

fz_status fz_cpu_ce_loss(float *loss, const float *sum, const float *max, const float *target,
                         const int32_t *labels, int64_t N, fz_queue *queue)
{
    (void)queue;
    for (int64_t r = 0; r < N; r++)
        loss[r] = labels[r] >= 0 ? fz_logf(sum[r]) + (max[r] - target[r]) : 0.0f;
    return FZ_OK;
}

static void backward_row(float *z, int64_t n, float max, float weight, float cap)
{
    if (cap > 0.0f) {
        const float inverse = 1.0f / cap;
        for (int64_t v = 0; v < n; v++) {
            const float t = z[v] * inverse;
            z[v] = (fz_expf(z[v] - max) * weight) * (1.0f - t * t);
        }
    } else {
        for (int64_t v = 0; v < n; v++)
            z[v] = fz_expf(z[v] - max) * weight;
    }
}

fz_status fz_cpu_ce_backward(float *z, const float *max, const float *sum, const int32_t *labels,
                             int64_t N, int64_t V, int64_t first, int64_t n_valid, float cap,
                             float factor, fz_queue *queue)
{
    (void)queue;
    FZ_ASSERT(n_valid >= 0 && n_valid <= V);
    for (int64_t r = 0; r < N; r++) {
        float *z_r = z + r * V;
        const int64_t label = labels[r] < 0 ? -1 : labels[r] - first;
        const bool mine = label >= 0 && label < n_valid;
        const float at_label = mine ? z_r[label] : 0.0f;
        const float weight = factor / sum[r];

        if (labels[r] >= 0) backward_row(z_r, n_valid, max[r], weight, cap);
        for (int64_t v = labels[r] >= 0 ? n_valid : 0; v < V; v++)
            z_r[v] = 0.0f;
        if (mine) {
            const float t = cap > 0.0f ? at_label * (1.0f / cap) : 0.0f;
            z_r[label] = (fz_expf(at_label - max[r]) * weight - factor) * (1.0f - t * t);
        }
    }
    return FZ_OK;
}
