#include "model/ops/gelu.h"

#include <math.h>

#include "model/ops/dropout.h"

static double normal_below(double h)
{
    return 0.5 * (1.0 + erf(h / sqrt(2.0)));
}

static double normal_density(double h)
{
    return exp(-0.5 * h * h) / sqrt(2.0 * acos(-1.0));
}

void fz_gelu_forward_ref(double *y, double *h, const double *bias, const fz_rows *rows, int64_t C,
                         const fz_dropout *drop)
{
    for (int64_t b = 0; b < rows->n_seq; b++)
        for (int64_t r = rows->start[b]; r < rows->start[b + 1]; r++)
            for (int64_t c = 0; c < C; c++) {
                const int64_t i = r * C + c;
                if (bias) h[i] += bias[c];
                y[i] = h[i] * normal_below(h[i]) *
                       fz_dropout_factor_ref(drop, rows->sample_n[b], r - rows->start[b],
                                             drop->first_column + c);
            }
}

void fz_gelu_backward_ref(double *dh, const double *dy, const double *h, const fz_rows *rows,
                          int64_t C, const fz_dropout *drop)
{
    for (int64_t b = 0; b < rows->n_seq; b++)
        for (int64_t r = rows->start[b]; r < rows->start[b + 1]; r++)
            for (int64_t c = 0; c < C; c++) {
                const int64_t i = r * C + c;
                dh[i] = dy[i] *
                        fz_dropout_factor_ref(drop, rows->sample_n[b], r - rows->start[b],
                                              drop->first_column + c) *
                        (normal_below(h[i]) + h[i] * normal_density(h[i]));
            }
}
