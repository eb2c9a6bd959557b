/* AdamW on the CPU; the mathematics is in adamw.h. 28 bytes moved a parameter (w, m, v read and
 * written, g read), 14 flops of which one root and two divisions; sumsq_chunks 4 bytes. */
#include "model/ops/adamw.h"

#include <math.h>

#include "model/ops/cpu.h"
#include "model/ops/rows.h"

fz_status fz_cpu_adamw(const fz_adamw_args *args, fz_queue *queue)
{
    (void)queue;
    float *restrict w = args->w, *restrict m = args->m, *restrict v = args->v;
    const float *restrict g = args->g;
    const float scale = args->grad_scale, eps = args->eps;
    const float beta1 = args->beta1, beta2 = args->beta2;
    const float rest1 = 1.0f - beta1, rest2 = 1.0f - beta2;
    const float rate = args->lr / args->correction1, inverse2 = 1.0f / args->correction2;
    const float decay = args->lr * args->weight_decay;

    for (int64_t i = 0; i < args->n; i++) {
        const float g_i = scale * g[i];
        const float m_i = beta1 * m[i] + rest1 * g_i;
        const float v_i = beta2 * v[i] + rest2 * (g_i * g_i);
        m[i] = m_i;
        v[i] = v_i;
        w[i] = (w[i] - decay * w[i]) - rate * m_i / (sqrtf(v_i * inverse2) + eps);
    }
    return FZ_OK;
}

fz_status fz_cpu_sumsq_chunks(double *sums, const float *x, int64_t n, fz_queue *queue)
{
    (void)queue;
    for (int64_t first = 0; first < n; first += FZ_SUMSQ_CHUNK) {
        const int64_t count = n - first < FZ_SUMSQ_CHUNK ? n - first : (int64_t)FZ_SUMSQ_CHUNK;
        const float *x_i = x + first;
        double s[FZ_LANES] = {0};
        FZ_FOR_LANES(count, c, j, s[j] += (double)x_i[c + j] * (double)x_i[c + j]);
        for (int half = FZ_LANES / 2; half > 0; half /= 2)
            for (int j = 0; j < half; j++)
                s[j] += s[j + half];
        sums[first / FZ_SUMSQ_CHUNK] = s[0];
    }
    return FZ_OK;
}
