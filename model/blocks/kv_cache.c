#include "model/blocks/kv_cache.h"

fz_kv_cache fz_kv_cache_take(fz_arena *arena, const fz_decode_sizes *sizes, int64_t count,
                             int64_t width, bool has_cross)
{
    const int64_t own = count * fz_decode_rows(sizes) * sizes->max_tokens * width;
    const int64_t cross = has_cross ? count * sizes->n_enc * width : 0;
    return (fz_kv_cache){.sizes = *sizes,
                         .count = count,
                         .width = width,
                         .k = fz_arena_floats(arena, own),
                         .v = fz_arena_floats(arena, own),
                         .cross_k = fz_arena_floats(arena, cross),
                         .cross_v = fz_arena_floats(arena, cross)};
}

float *fz_kv_cache_take_moved(fz_arena *work, const fz_decode_sizes *sizes, int64_t width)
{
    return fz_arena_floats(work, sizes->beams * sizes->max_tokens * width);
}

/* Rows [first, first + beams) of one piece of keys or values. All sources are read before any row
 * is written: a row may be both. */
static fz_status reorder_sample(const fz_exec *x, const fz_kv_cache *cache, float *piece,
                                int64_t first, float *moved)
{
    const int32_t *parent = x->decode->parent;
    const int64_t row = cache->sizes.max_tokens * cache->width;
    const int64_t n = x->decode->position * cache->width; /* floats there are */

    for (int64_t b = 0; b < cache->sizes.beams; b++)
        if (parent[first + b] != first + b)
            FZ_TRY(x->ops->copy(moved + b * n, piece + parent[first + b] * row, n, x->queue));
    for (int64_t b = 0; b < cache->sizes.beams; b++)
        if (parent[first + b] != first + b)
            FZ_TRY(x->ops->copy(piece + (first + b) * row, moved + b * n, n, x->queue));
    return FZ_OK;
}

fz_status fz_kv_cache_reorder(const fz_exec *x, const fz_kv_cache *cache, float *moved)
{
    const int64_t beams = cache->sizes.beams, rows = fz_decode_rows(&cache->sizes);
    const int64_t piece = rows * cache->sizes.max_tokens * cache->width;

    if (!x->decode->parent) return FZ_OK;
    for (int64_t j = 0; j < cache->count; j++)
        for (int64_t first = 0; first < rows; first += beams) {
            FZ_TRY(reorder_sample(x, cache, cache->k + j * piece, first, moved));
            FZ_TRY(reorder_sample(x, cache, cache->v + j * piece, first, moved));
        }
    return FZ_OK;
}

fz_status fz_kv_cache_append(const fz_exec *x, const fz_kv_cache *cache, const float *k,
                             const float *v)
{
    const int64_t width = cache->width, n = cache->count * fz_decode_rows(&cache->sizes);

    for (int64_t i = 0; i < n;
         i++) { /* pieces and their rows lie in the same order on both sides */
        const int64_t at = (i * cache->sizes.max_tokens + x->decode->position) * width;
        FZ_TRY(x->ops->copy(cache->k + at, k + i * width, width, x->queue));
        FZ_TRY(x->ops->copy(cache->v + at, v + i * width, width, x->queue));
    }
    return FZ_OK;
}

void fz_kv_cache_attend(const fz_exec *x, const fz_kv_cache *cache, bool cross,
                        fz_attention_part *part)
{
    if (cross) {
        part->n_seq = cache->sizes.n_samples;
        part->q_start = x->decode->sample_start;
        part->kv_start = x->batch->enc_start;
        part->n_kv = cache->sizes.n_enc;
        part->k = cache->cross_k;
        part->v = cache->cross_v;
        return;
    }
    part->kv_start = x->decode->cache_start;
    part->n_kv = fz_decode_rows(&cache->sizes) * cache->sizes.max_tokens;
    part->q_first = x->decode->position;
    part->k = cache->k;
    part->v = cache->v;
}
