#include "model/ops/layernorm.h"

#include <math.h>

void fz_layernorm_forward_ref(double *y, double *mean, double *rstd, const double *x,
                              const double *w, const double *b, int64_t N, int64_t C, double eps)
{
    for (int64_t r = 0; r < N && C > 0; r++) {
        const double *x_r = x + r * C;
        double sum = 0.0, square = 0.0;
        for (int64_t c = 0; c < C; c++)
            sum += x_r[c];
        mean[r] = sum / (double)C;
        for (int64_t c = 0; c < C; c++)
            square += (x_r[c] - mean[r]) * (x_r[c] - mean[r]);
        rstd[r] = 1.0 / sqrt(square / (double)C + eps);
        for (int64_t c = 0; c < C; c++)
            y[r * C + c] = (x_r[c] - mean[r]) * rstd[r] * w[c] + b[c];
    }
}

void fz_layernorm_backward_input_ref(double *dx, const double *dy, const double *x,
                                     const double *mean, const double *rstd, const double *w,
                                     int64_t N, int64_t C)
{
    for (int64_t r = 0; r < N && C > 0; r++) {
        double sum = 0.0, dot = 0.0;
        for (int64_t c = 0; c < C; c++) {
            const double g = dy[r * C + c] * w[c];
            sum += g;
            dot += g * (x[r * C + c] - mean[r]) * rstd[r];
        }
        for (int64_t c = 0; c < C; c++) {
            const double xhat = (x[r * C + c] - mean[r]) * rstd[r];
            dx[r * C + c] =
                rstd[r] * (dy[r * C + c] * w[c] - sum / (double)C - xhat * dot / (double)C);
        }
    }
}

void fz_layernorm_backward_weight_ref(double *dw, double *db, const double *dy, const double *x,
                                      const double *mean, const double *rstd, int64_t N, int64_t C)
{
    for (int64_t r = 0; r < N; r++)
        for (int64_t c = 0; c < C; c++) {
            dw[c] += dy[r * C + c] * (x[r * C + c] - mean[r]) * rstd[r];
            db[c] += dy[r * C + c];
        }
}
