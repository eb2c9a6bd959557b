#include "model/ops/dropout.h"

#include "core/rng.h"

double fz_dropout_factor_ref(const fz_dropout *drop, int64_t sample_n, int64_t token,
                             int64_t column)
{
    uint32_t key[2];

    if (!drop || drop->p == 0.0) return 1.0;
    fz_rng_key(key, drop->seed, drop->site);
    const fz_philox counter = {{(uint32_t)(column / 8), (uint32_t)token, (uint32_t)sample_n,
                                (uint32_t)((uint64_t)sample_n >> 32)}};
    const fz_philox random = fz_philox4x32(counter, key[0], key[1]);
    const uint32_t word = random.v[column % 8 / 2];
    const uint32_t bits = column % 2 == 0 ? word & 0xFFFFu : word >> 16;
    const uint32_t threshold = fz_drop_threshold(drop->p);
    return bits < threshold ? 0.0 : 65536.0 / (65536.0 - (double)threshold);
}

void fz_dropout_ref(double *y, const double *x, const double *bias, const fz_rows *rows, int64_t C,
                    const fz_dropout *drop)
{
    for (int64_t b = 0; b < rows->n_seq; b++)
        for (int64_t r = rows->start[b]; r < rows->start[b + 1]; r++)
            for (int64_t c = 0; c < C; c++)
                y[r * C + c] = (x[r * C + c] + (bias ? bias[c] : 0.0)) *
                               fz_dropout_factor_ref(drop, rows->sample_n[b], r - rows->start[b],
                                                     drop->first_column + c);
}

void fz_dropout_residual_ref(double *y, const double *x, const double *r, const double *bias,
                             const fz_rows *rows, int64_t C, const fz_dropout *drop)
{
    for (int64_t b = 0; b < rows->n_seq; b++)
        for (int64_t row = rows->start[b]; row < rows->start[b + 1]; row++)
            for (int64_t c = 0; c < C; c++) {
                const int64_t i = row * C + c;
                y[i] =
                    x[i] + (r[i] + (bias ? bias[c] : 0.0)) *
                               fz_dropout_factor_ref(drop, rows->sample_n[b], row - rows->start[b],
                                                     drop->first_column + c);
            }
}

void fz_drop_path_residual_ref(double *y, const double *x, const double *r, const double *bias,
                               int64_t n_samples, int64_t rows_per_sample, int64_t C,
                               const int64_t *sample_n, const fz_dropout *drop)
{
    for (int64_t i = 0; i < n_samples; i++) {
        const double factor = fz_dropout_factor_ref(drop, sample_n[i], 0, 0);
        for (int64_t row = i * rows_per_sample; row < (i + 1) * rows_per_sample; row++)
            for (int64_t c = 0; c < C; c++)
                y[row * C + c] =
                    x[row * C + c] + (r[row * C + c] + (bias ? bias[c] : 0.0)) * factor;
    }
}

void fz_drop_path_ref(double *dr, const double *dy, int64_t n_samples, int64_t rows_per_sample,
                      int64_t C, const int64_t *sample_n, const fz_dropout *drop)
{
    for (int64_t i = 0; i < n_samples; i++) {
        const double factor = fz_dropout_factor_ref(drop, sample_n[i], 0, 0);
        for (int64_t j = i * rows_per_sample * C; j < (i + 1) * rows_per_sample * C; j++)
            dr[j] = dy[j] * factor;
    }
}
