#include "model/ops/gemm.h"

void fz_gemm_ref(double *c, const double *a, const double *b, const fz_gemm_args *args)
{
    for (int64_t i = 0; i < args->m; i++)
        for (int64_t j = 0; j < args->n; j++) {
            double sum = 0.0;
            for (int64_t l = 0; l < args->k; l++) {
                const double a_il = args->trans_a ? a[l * args->lda + i] : a[i * args->lda + l];
                const double b_lj = args->trans_b ? b[j * args->ldb + l] : b[l * args->ldb + j];
                sum += a_il * b_lj;
            }
            double *c_ij = &c[i * args->ldc + j];
            *c_ij =
                (double)args->alpha * sum + (args->beta == 0.0f ? 0.0 : (double)args->beta * *c_ij);
        }
}
