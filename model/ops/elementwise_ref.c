#include "model/ops/elementwise.h"

void fz_zero_ref(double *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = 0.0;
}

void fz_copy_ref(double *y, const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i];
}

void fz_add_ref(double *y, const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

void fz_scale_ref(double *y, double factor, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] *= factor;
}

void fz_bias_add_ref(double *y, const double *b, int64_t N, int64_t C, int64_t ld)
{
    for (int64_t r = 0; r < N; r++)
        for (int64_t c = 0; c < C; c++)
            y[r * ld + c] += b[c];
}

void fz_bias_backward_ref(double *db, const double *dy, int64_t N, int64_t C, int64_t ld)
{
    for (int64_t r = 0; r < N; r++)
        for (int64_t c = 0; c < C; c++)
            db[c] += dy[r * ld + c];
}
