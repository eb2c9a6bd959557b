/* The best columns on the CPU; the order is in top_k.h. 4 N V bytes read; a stretch of columns
 * whose largest does not reach the k-th best so far is left after one vectorised pass over it. */
#include "model/ops/top_k.h"

#include <math.h>

#include "core/assert.h"
#include "model/ops/cpu.h"
#include "model/ops/rows.h"

enum { STRETCH = 64 };

static bool is_better(fz_top x, fz_top y)
{
    return x.value > y.value || (x.value == y.value && x.id < y.id);
}

static void insert(fz_top *best, int64_t k, fz_top x)
{
    int64_t i = k - 1;
    if (!is_better(x, best[i])) return;
    for (; i > 0 && is_better(x, best[i - 1]); i--)
        best[i] = best[i - 1];
    best[i] = x;
}

static float largest(const float *z, int64_t n)
{
    float max[FZ_LANES];
    for (int j = 0; j < FZ_LANES; j++)
        max[j] = -INFINITY;
    FZ_FOR_LANES(n, c, j, max[j] = z[c + j] > max[j] ? z[c + j] : max[j]);
    return fz_max_lanes(max);
}

static void scan_row(fz_top *best, const float *z, int64_t n, int64_t first, int64_t k)
{
    for (int64_t i = 0; i < k; i++)
        best[i] = (fz_top){.id = -1, .value = -INFINITY};
    for (int64_t c = 0; c < n; c += STRETCH) {
        const int64_t width = n - c < STRETCH ? n - c : STRETCH;
        if (!(largest(z + c, width) > best[k - 1].value)) continue;
        for (int64_t j = c; j < c + width; j++) /* ids rise: an equal later one is not better */
            if (z[j] > best[k - 1].value)
                insert(best, k, (fz_top){.id = (int32_t)(first + j), .value = z[j]});
    }
}

fz_status fz_cpu_top_k(fz_top *top, float *z, int64_t N, int64_t V, int64_t first, int64_t n_valid,
                       int64_t k, const int32_t *banned, const int32_t *banned_start,
                       fz_queue *queue)
{
    (void)queue;
    FZ_ASSERT(n_valid >= 0 && n_valid <= V);
    for (int64_t r = 0; r < N && k > 0; r++) {
        float *z_r = z + r * V;
        const int64_t from = banned_start ? banned_start[r] : 0;
        const int64_t to = banned_start ? banned_start[r + 1] : 0;
        for (int64_t i = from; i < to; i++) {
            const int64_t column = banned[i] - first;
            if (column >= 0 && column < n_valid) z_r[column] = -INFINITY;
        }
        scan_row(top + r * k, z_r, n_valid, first, k);
    }
    return FZ_OK;
}

fz_status fz_cpu_top_merge(fz_top *best, const fz_top *other, int64_t N, int64_t k, fz_queue *queue)
{
    (void)queue;
    for (int64_t i = 0; i < N * k; i++)
        if (other[i].id >= 0) insert(best + i / k * k, k, other[i]);
    return FZ_OK;
}
