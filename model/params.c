#include "model/params.h"

#include <string.h>

#include "core/assert.h"
#include "core/rng.h"

int64_t fz_param_elements(const fz_param *param)
{
    int64_t n = 1;
    for (int a = 0; a < param->ndim; a++)
        n *= param->shape[a];
    return n;
}

int64_t fz_param_pieces(const fz_param *param, int64_t n_shards)
{
    return param->cut == FZ_CUT_NONE ? 1 : n_shards;
}

/* Rows of one logical piece, and elements behind each row. */
static int64_t piece_rows(const fz_param *param, int64_t n_shards)
{
    switch (param->cut) {
    case FZ_CUT_ROWS:
        return param->shape[0] / n_shards;
    case FZ_CUT_HEADS:
        return param->shape[0] * param->replicas / n_shards;
    case FZ_CUT_VOCAB:
        return (param->shape[0] + n_shards - 1) / n_shards;
    case FZ_CUT_NONE:
    case FZ_CUT_COLS:
        break;
    }
    return param->shape[0];
}

int64_t fz_param_piece_elements(const fz_param *param, int64_t n_shards)
{
    if (param->cut == FZ_CUT_NONE) return fz_param_elements(param);
    if (param->cut == FZ_CUT_COLS) return fz_param_elements(param) / n_shards;
    return fz_param_elements(param) / param->shape[0] * piece_rows(param, n_shards);
}

void fz_param_piece_box(const fz_param *param, int64_t n_shards, int64_t shard,
                        int64_t lo[FZ_MAX_AXES], int64_t hi[FZ_MAX_AXES])
{
    for (int a = 0; a < FZ_MAX_AXES; a++) {
        lo[a] = 0;
        hi[a] = a < param->ndim ? param->shape[a] : 1;
    }
    if (param->cut == FZ_CUT_NONE) return;
    if (param->cut == FZ_CUT_COLS) {
        lo[1] = shard * (param->shape[1] / n_shards);
        hi[1] = lo[1] + param->shape[1] / n_shards;
        return;
    }
    const int64_t rows = piece_rows(param, n_shards);
    lo[0] = shard / param->replicas * rows;
    hi[0] = lo[0] + rows;
    if (lo[0] > param->shape[0]) lo[0] = param->shape[0];
    if (hi[0] > param->shape[0]) hi[0] = param->shape[0];
}

/* Elements i0 .. i0+n-1 of the logical tensor. */
static void init_run(const fz_param *param, uint64_t key, int64_t i0, int64_t n, float *out)
{
    if (param->init == FZ_INIT_ZERO || param->init == FZ_INIT_ONE) {
        for (int64_t i = 0; i < n; i++)
            out[i] = param->init == FZ_INIT_ONE ? 1.0f : 0.0f;
        return;
    }
    fz_rng_normal(out, key, i0, n);
    for (int64_t i = 0; i < n; i++)
        out[i] *= param->std;
    if (param->init != FZ_INIT_EMBEDDING) return;
    const int64_t width = param->shape[1];
    for (int64_t c = 0; c < width; c++) {
        const int64_t i = param->pad_row * width + c - i0;
        if (i >= 0 && i < n) out[i] = 0.0f;
    }
}

void fz_param_init_piece(const fz_param *param, int64_t n_shards, int64_t shard, uint64_t seed,
                         float *out)
{
    const uint64_t key = fz_mix64(seed + fz_hash_text(param->name));
    const int64_t n = fz_param_piece_elements(param, n_shards);
    int64_t lo[FZ_MAX_AXES], hi[FZ_MAX_AXES];
    fz_param_piece_box(param, n_shards, shard, lo, hi);

    if (param->cut == FZ_CUT_COLS) {
        const int64_t cols = hi[1] - lo[1];
        for (int64_t r = 0; r < param->shape[0]; r++)
            init_run(param, key, r * param->shape[1] + lo[1], cols, out + r * cols);
        return;
    }
    const int64_t per_row = fz_param_elements(param) / param->shape[0];
    const int64_t held = (hi[0] - lo[0]) * per_row;
    FZ_ASSERT(held <= n);
    init_run(param, key, lo[0] * per_row, held, out);
    memset(out + held, 0, (size_t)(n - held) * sizeof *out); /* vocabulary padding */
}
