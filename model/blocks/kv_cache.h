/* Keys and values that a decoder layer keeps between the steps of generation (docs/design/0006).
 * All functions are about the local shards; a piece belongs to one of them.
 *
 *   k, v              pieces (rows, max_tokens, width): of the tokens so far, row r's from place
 *                     r * max_tokens on
 *   cross_k, cross_v  pieces (n_enc, width): of the encoder's tokens, sample after sample
 */
#ifndef FZ_MODEL_BLOCKS_KV_CACHE_H
#define FZ_MODEL_BLOCKS_KV_CACHE_H

#include "model/blocks/attention_part.h"

typedef struct fz_kv_cache {
    fz_decode_sizes sizes;
    int64_t count, width; /* local shards; floats of a token in one of them */
    float *k, *v, *cross_k, *cross_v;
} fz_kv_cache;

static inline int64_t fz_decode_rows(const fz_decode_sizes *sizes)
{
    return sizes->n_samples * sizes->beams;
}

/* What a step's passes see: one token per row. Encoder tokens are the samples'. */
static inline fz_sizes fz_decode_step_sizes(const fz_decode_sizes *sizes)
{
    const int64_t rows = fz_decode_rows(sizes);
    return (fz_sizes){.n_samples = rows,
                      .n_enc = sizes->n_enc,
                      .n_dec = rows,
                      .max_enc_len = sizes->max_enc_len,
                      .max_dec_len = 1};
}

fz_kv_cache fz_kv_cache_take(fz_arena *arena, const fz_decode_sizes *sizes, int64_t count,
                             int64_t width, bool has_cross);
/* What fz_kv_cache_reorder moves rows through: rows of one sample and piece. */
float *fz_kv_cache_take_moved(fz_arena *work, const fz_decode_sizes *sizes, int64_t width);
/* Rows whose parent is another row get its keys and values. */
fz_status fz_kv_cache_reorder(const fz_exec *x, const fz_kv_cache *cache, float *moved);
/* This step's keys and values, pieces (rows, width), get their places. */
fz_status fz_kv_cache_append(const fz_exec *x, const fz_kv_cache *cache, const float *k,
                             const float *v);
/* Lets part, filled for one query per row, attend to the cache: cross-attention takes the rows of a
 * sample for one sequence of queries. */
void fz_kv_cache_attend(const fz_exec *x, const fz_kv_cache *cache, bool cross,
                        fz_attention_part *part);

#endif
