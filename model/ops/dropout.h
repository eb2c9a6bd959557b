/* Inverted dropout (Srivastava et al. 2014, JMLR 15, section 10) and stochastic depth (Huang et
 * al. 2016, arXiv:1603.09382, eq. 2, scaled while training).
 *
 *   factor f[r,c] = 0 where bits(seed, site, n, token, column) < t, else 65536 / (65536 - t),
 *                   t = round(p 65536)
 *   dropout             y = (x + bias) * f
 *   dropout_residual    y = x + (r + bias) * f
 *   drop_path_residual  y = x + (r + bias) * f_i     f_i: one factor for sample i
 *   drop_path           dr = dy * f_i
 *
 * Each is its own backward in r (d(x + bias) = dy * f), so nothing is saved. Shapes: x, r, y
 * (N,C); bias (C) or NULL; rows give token and n of each row. The bits are those of core/rng.h:
 * Philox block column / 8, key fz_rng_key(seed, site), half column % 8 (low before high).
 */
#ifndef FZ_MODEL_OPS_DROPOUT_H
#define FZ_MODEL_OPS_DROPOUT_H

#include "model/ops/ops.h"

/* round(p * 65536): what 16 bits are compared with. */
static inline uint32_t fz_drop_threshold(double p)
{
    return (uint32_t)(p * 65536.0 + 0.5);
}

/* One element's factor, straight from the definition. column is global. */
double fz_dropout_factor_ref(const fz_dropout *drop, int64_t sample_n, int64_t token,
                             int64_t column);
void fz_dropout_ref(double *y, const double *x, const double *bias, const fz_rows *rows, int64_t C,
                    const fz_dropout *drop);
void fz_dropout_residual_ref(double *y, const double *x, const double *r, const double *bias,
                             const fz_rows *rows, int64_t C, const fz_dropout *drop);
void fz_drop_path_residual_ref(double *y, const double *x, const double *r, const double *bias,
                               int64_t n_samples, int64_t rows_per_sample, int64_t C,
                               const int64_t *sample_n, const fz_dropout *drop);
void fz_drop_path_ref(double *dr, const double *dy, int64_t n_samples, int64_t rows_per_sample,
                      int64_t C, const int64_t *sample_n, const fz_dropout *drop);

#endif
