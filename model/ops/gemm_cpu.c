/* The matrix product on the CPU: CBLAS; the mathematics is in gemm.h. 2 m n k flops. */
#include "model/ops/gemm.h"

#include <cblas.h>
#include <limits.h>
#include <string.h>

#include "core/assert.h"
#include "model/ops/cpu.h"

static fz_product_watch *watcher;

void fz_ops_cpu_watch(fz_product_watch *watch)
{
    watcher = watch;
}

/* Up to so many rows are products with vectors, one by one: for a product of matrices the BLAS
 * first copies all of b into an order of its own, which takes 5 times as long as one vector needs.
 * It is what a token of generation costs. */
enum { NARROW = 4 };

static void narrow_product(float *c, int64_t ldc, const float *a, int64_t lda, const float *b,
                           int64_t ldb, int64_t m, int64_t n, int64_t k, float alpha, float beta)
{
    for (int64_t i = 0; i < m; i++) {
        /* Not every BLAS forgets a not-a-number in c where beta is 0. */
        if (beta == 0.0f) memset(c + i * ldc, 0, (size_t)n * sizeof *c);
        cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)n, (int)k, alpha, b, (int)ldb, a + i * lda, 1,
                    beta, c + i * ldc, 1);
    }
}

void fz_cpu_product(float *c, int64_t ldc, const float *a, int64_t lda, bool trans_a,
                    const float *b, int64_t ldb, bool trans_b, int64_t m, int64_t n, int64_t k,
                    float alpha, float beta)
{
    if (watcher) watcher(false, m, n, k);
    if (m <= NARROW && !trans_a && trans_b)
        narrow_product(c, ldc, a, lda, b, ldb, m, n, k, alpha, beta);
    else
        cblas_sgemm(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans,
                    trans_b ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha, a, (int)lda,
                    b, (int)ldb, beta, c, (int)ldc);
    if (watcher) watcher(true, m, n, k);
}

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
    fz_cpu_product(args->c, args->ldc, args->a, args->lda, args->trans_a, args->b, args->ldb,
                   args->trans_b, m, n, k, args->alpha, args->beta);
    return FZ_OK;
}
