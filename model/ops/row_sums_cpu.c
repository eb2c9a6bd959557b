/* Row sums on the CPU; mathematics in row_sums.h. Bound by reading dy (and x) once. A strip of
 * columns at a time keeps the sums in the first-level cache; blocks of rows keep a sum over tens of
 * thousands of tokens from losing digits. */
#include "model/ops/row_sums.h"

#include <string.h>

#include "model/ops/cpu.h"

enum { STRIP = 256, ROWS = 128 };

static void add_into(float *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void norm_row(float *restrict dw, const float *restrict dy, const float *restrict x,
                     float mean, float rstd, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dw[i] += dy[i] * ((x[i] - mean) * rstd);
}

fz_status fz_cpu_column_sums(float *db, const float *dy, int64_t N, int64_t C, fz_queue *queue)
{
    (void)queue;
    memset(db, 0, (size_t)C * sizeof *db);
    for (int64_t r0 = 0; r0 < N; r0 += ROWS) {
        const int64_t end = r0 + ROWS < N ? r0 + ROWS : N;
        for (int64_t c = 0; c < C; c += STRIP) {
            const int64_t n = C - c < STRIP ? C - c : STRIP;
            float sums[STRIP] = {0.0f};
            for (int64_t r = r0; r < end; r++)
                add_into(sums, dy + r * C + c, n);
            add_into(db + c, sums, n);
        }
    }
    return FZ_OK;
}

fz_status fz_cpu_layernorm_weight_sums(float *dw, float *db, const float *dy, const float *x,
                                       const float *mean, const float *rstd, int64_t N, int64_t C,
                                       fz_queue *queue)
{
    FZ_TRY(fz_cpu_column_sums(db, dy, N, C, queue));
    memset(dw, 0, (size_t)C * sizeof *dw);
    for (int64_t r0 = 0; r0 < N; r0 += ROWS) {
        const int64_t end = r0 + ROWS < N ? r0 + ROWS : N;
        for (int64_t c = 0; c < C; c += STRIP) {
            const int64_t n = C - c < STRIP ? C - c : STRIP;
            float sums[STRIP] = {0.0f};
            for (int64_t r = r0; r < end; r++)
                norm_row(sums, dy + r * C + c, x + r * C + c, mean[r], rstd[r], n);
            add_into(dw + c, sums, n);
        }
    }
    return FZ_OK;
}
