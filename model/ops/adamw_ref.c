#include "model/ops/adamw.h"

#include <math.h>

void fz_adamw_ref(double *w, double *m, double *v, const double *g, const fz_adamw_args *args)
{
    const double lr = (double)args->lr, beta1 = (double)args->beta1, beta2 = (double)args->beta2;
    for (int64_t i = 0; i < args->n; i++) {
        const double g_i = (double)args->grad_scale * g[i];
        m[i] = beta1 * m[i] + (1.0 - beta1) * g_i;
        v[i] = beta2 * v[i] + (1.0 - beta2) * g_i * g_i;
        const double root = sqrt(v[i] / (double)args->correction2);
        w[i] = w[i] - lr * (double)args->weight_decay * w[i] -
               lr * (m[i] / (double)args->correction1) / (root + (double)args->eps);
    }
}

void fz_sumsq_chunks_ref(double *sums, const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (i % FZ_SUMSQ_CHUNK == 0) sums[i / FZ_SUMSQ_CHUNK] = 0.0;
        sums[i / FZ_SUMSQ_CHUNK] += x[i] * x[i];
    }
}
