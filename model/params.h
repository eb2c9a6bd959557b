/* A parameter: a logical tensor, how it starts, and how it is cut into shards. */
#ifndef FZ_MODEL_PARAMS_H
#define FZ_MODEL_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/state_view.h"

typedef enum fz_cut {
    FZ_CUT_NONE,  /* one piece, every tensor rank holds it; its gradient is equal on all of them
                     by construction                                                             */
    FZ_CUT_ROWS,  /* S pieces of rows (axis 0)                                                   */
    FZ_CUT_COLS,  /* S pieces of columns (axis 1), each stored contiguously as (rows, cols/S)    */
    FZ_CUT_HEADS, /* rows by key/value head where heads < S: logical pieces = S / replicas, shard s
                     holds piece s / replicas; gradients are kept per shard and summed over the
                     replicas (tree) after the lanes                                             */
    FZ_CUT_VOCAB, /* rows, padded in memory to pieces of ceil(V/S) rows; padding is zero, has no
                     gradient and is never in a file                                             */
} fz_cut;

typedef enum fz_init {
    FZ_INIT_ZERO,
    FZ_INIT_ONE,
    FZ_INIT_NORMAL,    /* N(0, std^2) */
    FZ_INIT_EMBEDDING, /* normal; row pad_row is zero */
} fz_init;

typedef struct fz_param {
    char name[FZ_NAME_BYTES]; /* F layout of model.md 7 */
    int ndim;
    int64_t shape[FZ_MAX_AXES]; /* logical */
    fz_cut cut;
    int replicas; /* FZ_CUT_HEADS: shards per logical piece; else 1 */
    fz_init init;
    float std;
    int64_t pad_row; /* FZ_INIT_EMBEDDING */
    bool trainable;
    bool decay;
    bool by_images; /* vision: the gradient is a tree over image shards per micro-batch */
} fz_param;

/* Elements of the logical tensor. */
int64_t fz_param_elements(const fz_param *param);
/* Pieces in memory: 1 for FZ_CUT_NONE, else n_shards. */
int64_t fz_param_pieces(const fz_param *param, int64_t n_shards);
/* Elements of one piece in memory (vocabulary padding included). Equal for all pieces. */
int64_t fz_param_piece_elements(const fz_param *param, int64_t n_shards);
/* Box [lo, hi) of the logical tensor that shard's piece holds (padding excluded, may be empty). */
void fz_param_piece_box(const fz_param *param, int64_t n_shards, int64_t shard,
                        int64_t lo[FZ_MAX_AXES], int64_t hi[FZ_MAX_AXES]);
/* Initial values of one piece, keyed by (seed, name, logical element). out: piece elements. */
void fz_param_init_piece(const fz_param *param, int64_t n_shards, int64_t shard, uint64_t seed,
                         float *out);

#endif
