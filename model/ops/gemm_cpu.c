/* The matrix product on the CPU: CBLAS; the mathematics is in gemm.h. 2 m n k flops. */
#include "model/ops/gemm.h"

#include <cblas.h>
#include <limits.h>

#include "core/assert.h"
#include "model/ops/cpu.h"

static void scale_rows(float *c, int64_t m, int64_t n, int64_t ldc, float beta)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            c[i * ldc + j] = beta == 0.0f ? 0.0f : beta * c[i * ldc + j];
}

fz_status fz_cpu_gemm(const fz_gemm_args *args, fz_queue *queue)
{
    (void)queue;
    const int64_t m = args->m, n = args->n, k = args->k;
    FZ_ASSERT(m >= 0 && n >= 0 && k >= 0);
    if (m == 0 || n == 0) return FZ_OK;
    FZ_ASSERT(args->ldc >= n);
    if (k == 0) {
        scale_rows(args->c, m, n, args->ldc, args->beta);
        return FZ_OK;
    }
    FZ_ASSERT(args->lda >= (args->trans_a ? m : k) && args->ldb >= (args->trans_b ? k : n));
    FZ_CHECK(m <= INT_MAX && n <= INT_MAX && k <= INT_MAX && args->lda <= INT_MAX &&
                 args->ldb <= INT_MAX && args->ldc <= INT_MAX,
             FZ_ERR_ARG, "gemm: m %lld, n %lld, k %lld or a row stride is beyond the BLAS's int",
             (long long)m, (long long)n, (long long)k);
    cblas_sgemm(CblasRowMajor, args->trans_a ? CblasTrans : CblasNoTrans,
                args->trans_b ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, args->alpha,
                args->a, (int)args->lda, args->b, (int)args->ldb, args->beta, args->c,
                (int)args->ldc);
    return FZ_OK;
}
