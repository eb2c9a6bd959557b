/* Sums over all rows of a piece of images: the tree leaves of vision's biases and norms (design 5:
 * the tree there is over images, not over token segments).
 *
 *   column_sums            db[c] = sum_r dy[r,c]
 *   layernorm_weight_sums  dw[c] = sum_r dy[r,c] (x[r,c] - mean[r]) rstd[r],   db[c] = sum_r
 * dy[r,c]
 *
 * Shapes: dy, x (N,C); mean, rstd (N). Outputs are written; N = 0 writes zeros. The order is fixed
 * by N: blocks of rows are summed in order, then the blocks in order.
 * Below: the reference in double precision; the CPU's are in cpu.h.
 */
#ifndef FZ_MODEL_OPS_ROW_SUMS_H
#define FZ_MODEL_OPS_ROW_SUMS_H

#include <stdint.h>

void fz_column_sums_ref(double *db, const double *dy, int64_t N, int64_t C);
void fz_layernorm_weight_sums_ref(double *dw, double *db, const double *dy, const double *x,
                                  const double *mean, const double *rstd, int64_t N, int64_t C);

#endif
