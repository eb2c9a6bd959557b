#include "model/ops/top_k.h"

#include <math.h>

static bool is_banned(int64_t id, const int32_t *banned, const int32_t *banned_start, int64_t r)
{
    if (!banned_start) return false;
    for (int32_t i = banned_start[r]; i < banned_start[r + 1]; i++)
        if (banned[i] == id) return true;
    return false;
}

static bool is_taken(int64_t id, const fz_top *top, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (top[i].id == id) return true;
    return false;
}

void fz_top_k_ref(fz_top *top, const float *z, int64_t N, int64_t V, int64_t first, int64_t n_valid,
                  int64_t k, const int32_t *banned, const int32_t *banned_start)
{
    for (int64_t r = 0; r < N; r++)
        for (int64_t i = 0; i < k; i++) {
            fz_top best = {.id = -1, .value = -INFINITY};
            for (int64_t c = 0; c < n_valid; c++) {
                const float value = z[r * V + c];
                if (!(value > best.value) || is_taken(first + c, top + r * k, i) ||
                    is_banned(first + c, banned, banned_start, r))
                    continue;
                best = (fz_top){.id = (int32_t)(first + c), .value = value};
            }
            top[r * k + i] = best;
        }
}
