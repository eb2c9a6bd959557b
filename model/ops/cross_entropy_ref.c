#include "model/ops/cross_entropy.h"

#include <math.h>

void fz_ce_max_ref(double *z, double *max, double *target, const int32_t *labels, int64_t N,
                   int64_t V, int64_t first, int64_t n_valid, double cap)
{
    for (int64_t r = 0; r < N; r++) {
        max[r] = -(double)INFINITY;
        target[r] = 0.0;
        for (int64_t v = 0; v < n_valid; v++) {
            double *z_rv = &z[r * V + v];
            if (cap > 0.0) *z_rv = cap * tanh(*z_rv / cap);
            max[r] = fmax(max[r], *z_rv);
            if (labels[r] >= 0 && labels[r] == first + v) target[r] = *z_rv;
        }
    }
}

void fz_ce_sum_ref(double *sum, const double *z, const double *max, int64_t N, int64_t V,
                   int64_t n_valid)
{
    for (int64_t r = 0; r < N; r++) {
        sum[r] = 0.0;
        for (int64_t v = 0; v < n_valid; v++)
            sum[r] += exp(z[r * V + v] - max[r]);
    }
}

void fz_ce_loss_ref(double *loss, const double *sum, const double *max, const double *target,
                    const int32_t *labels, int64_t N)
{
    for (int64_t r = 0; r < N; r++)
        loss[r] = labels[r] >= 0 ? log(sum[r]) + max[r] - target[r] : 0.0;
}

void fz_ce_backward_ref(double *z, const double *max, const double *sum, const int32_t *labels,
                        int64_t N, int64_t V, int64_t first, int64_t n_valid, double cap,
                        double factor)
{
    for (int64_t r = 0; r < N; r++)
        for (int64_t v = 0; v < V; v++) {
            double *z_rv = &z[r * V + v];
            const double t = cap > 0.0 ? *z_rv / cap : 0.0;
            const double hit = labels[r] == first + v ? 1.0 : 0.0;
            *z_rv = labels[r] < 0 || v >= n_valid
                        ? 0.0
                        : factor * (exp(*z_rv - max[r]) / sum[r] - hit) * (1.0 - t * t);
        }
}
