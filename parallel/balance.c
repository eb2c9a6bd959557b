#include "parallel/balance.h"

#include "core/assert.h"
#include "core/memory.h"

/* best[s][b]: smallest possible largest cost when the first b blocks are cut into s stages;
 * from[s][b]: where the last of those stages begins. */
typedef struct table {
    int n_blocks;
    double *best; /* owned */
    int *from;    /* owned */
    double *sum;  /* owned: cost of the first b blocks */
} table;

static void fill_stage(const table *t, int stage)
{
    const int width = t->n_blocks + 1;
    double *best = t->best + stage * width;
    int *from = t->from + stage * width;

    for (int b = stage; b <= t->n_blocks; b++) {
        best[b] = -1.0;
        for (int start = stage - 1; start < b; start++) {
            const double before = stage == 1 ? 0.0 : best[start - width];
            const double last = t->sum[b] - t->sum[start];
            const double largest = last > before ? last : before;
            if (best[b] >= 0.0 && largest >= best[b]) continue;
            best[b] = largest;
            from[b] = start;
            if (stage == 1) break; /* one stage begins at block 0 */
        }
    }
}

fz_status fz_balance_cuts(const double *cost, int n_blocks, int n_stages, int *cut)
{
    FZ_ASSERT(n_stages >= 1 && n_stages <= n_blocks);
    table t = {.n_blocks = n_blocks};
    const int64_t width = n_blocks + 1;

    fz_status status = FZ_NEW(&t.best, width * (n_stages + 1));
    if (status == FZ_OK) status = FZ_NEW(&t.from, width * (n_stages + 1));
    if (status == FZ_OK) status = FZ_NEW(&t.sum, width);
    if (status == FZ_OK) {
        for (int b = 0; b < n_blocks; b++)
            t.sum[b + 1] = t.sum[b] + cost[b];
        for (int s = 1; s <= n_stages; s++)
            fill_stage(&t, s);
        cut[n_stages] = n_blocks;
        for (int s = n_stages; s > 0; s--)
            cut[s - 1] = t.from[s * width + cut[s]];
    }
    fz_free(&t.best);
    fz_free(&t.from);
    fz_free(&t.sum);
    return status;
}
