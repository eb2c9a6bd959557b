/* The matrix product.
 *
 *   c[i,j] = alpha * sum_l op(a)[i,l] * op(b)[l,j] + beta * c[i,j]      beta 0 never reads c
 *
 * op(a) (m,k) is stored as (m,k), or as (k,m) with trans_a; op(b) (k,n) likewise; row strides lda,
 * ldb, ldc. k = 0 is c = beta * c. The order of the sum over l is the library's: it depends on the
 * shape, not on the values or the rest of the array (design.md 5).
 */
#ifndef FZ_MODEL_OPS_GEMM_H
#define FZ_MODEL_OPS_GEMM_H

#include "model/ops/ops.h"

/* Sizes and factors are taken from args, its arrays are not read. */
void fz_gemm_ref(double *c, const double *a, const double *b, const fz_gemm_args *args);

#endif
