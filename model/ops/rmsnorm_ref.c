#include "model/ops/rmsnorm.h"

#include <math.h>

static double gate_factor(const double *gate)
{
    return gate ? tanh(gate[0]) : 1.0;
}

static double inverse_rms(const double *x, int64_t C, double eps)
{
    double square = 0.0;
    for (int64_t c = 0; c < C; c++)
        square += x[c] * x[c];
    return 1.0 / sqrt(square / (double)C + eps);
}

void fz_rmsnorm_forward_ref(double *y, double *r, const double *x, const double *w, int64_t N,
                            int64_t C, double eps)
{
    for (int64_t n = 0; n < N && C > 0; n++) {
        r[n] = inverse_rms(x + n * C, C, eps);
        for (int64_t c = 0; c < C; c++)
            y[n * C + c] = x[n * C + c] * r[n] * (1.0 + w[c]);
    }
}

void fz_rmsnorm_residual_forward_ref(double *y, double *r, const double *x, const double *a,
                                     const double *w, const double *gate, int64_t N, int64_t C,
                                     double eps)
{
    for (int64_t n = 0; n < N && C > 0; n++) {
        r[n] = inverse_rms(a + n * C, C, eps);
        for (int64_t c = 0; c < C; c++)
            y[n * C + c] = x[n * C + c] + gate_factor(gate) * a[n * C + c] * r[n] * (1.0 + w[c]);
    }
}

void fz_rmsnorm_backward_input_ref(double *dx, const double *dy, const double *x, const double *r,
                                   const double *w, const double *gate, bool accumulate, int64_t N,
                                   int64_t C)
{
    for (int64_t n = 0; n < N && C > 0; n++) {
        double dot = 0.0;
        for (int64_t c = 0; c < C; c++)
            dot += dy[n * C + c] * (1.0 + w[c]) * x[n * C + c];
        for (int64_t c = 0; c < C; c++) {
            const int64_t i = n * C + c;
            const double d = gate_factor(gate) * r[n] *
                             (dy[i] * (1.0 + w[c]) - x[i] * r[n] * r[n] * dot / (double)C);
            dx[i] = accumulate ? dx[i] + d : d;
        }
    }
}

void fz_rmsnorm_backward_weight_ref(double *dw, double *dgate, const double *dy, const double *x,
                                    const double *r, const double *w, const double *gate, int64_t N,
                                    int64_t C)
{
    const double f = gate_factor(gate);
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++) {
            const int64_t i = n * C + c;
            if (dw) dw[c] += f * dy[i] * x[i] * r[n];
            if (gate && dgate) dgate[0] += (1.0 - f * f) * dy[i] * x[i] * r[n] * (1.0 + w[c]);
        }
}
