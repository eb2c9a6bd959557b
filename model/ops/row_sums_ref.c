#include "model/ops/row_sums.h"

void fz_column_sums_ref(double *db, const double *dy, int64_t N, int64_t C)
{
    for (int64_t c = 0; c < C; c++) {
        db[c] = 0.0;
        for (int64_t r = 0; r < N; r++)
            db[c] += dy[r * C + c];
    }
}

void fz_layernorm_weight_sums_ref(double *dw, double *db, const double *dy, const double *x,
                                  const double *mean, const double *rstd, int64_t N, int64_t C)
{
    for (int64_t c = 0; c < C; c++) {
        dw[c] = db[c] = 0.0;
        for (int64_t r = 0; r < N; r++) {
            dw[c] += dy[r * C + c] * (x[r * C + c] - mean[r]) * rstd[r];
            db[c] += dy[r * C + c];
        }
    }
}
