/* A layer of BART's encoder or decoder as its forward and backward passes see it. Internal to
 * bart*.c. */
#ifndef FZ_MODEL_BLOCKS_BART_LAYER_H
#define FZ_MODEL_BLOCKS_BART_LAYER_H

#include "model/blocks/attention_part.h"
#include "model/blocks/bart.h"
#include "model/blocks/kv_cache.h"

/* Dropout sites of a layer, after block->site. */
enum {
    FZ_BART_SITE_SELF_P,
    FZ_BART_SITE_SELF_O,
    FZ_BART_SITE_CROSS_P,
    FZ_BART_SITE_CROSS_O,
    FZ_BART_SITE_FFN_A,
    FZ_BART_SITE_FFN_O
};

/* An attention sub-layer with the norm behind it. */
typedef struct fz_bart_att {
    int first_use;
    bool cross;
    uint32_t site_p, site_o;
    int64_t n_kv, kv_width; /* rows and width of what keys and values are made from */
    int64_t max_q_len, max_kv_len;
} fz_bart_att;

typedef struct fz_bart_layer {
    const fz_block *block;
    const fz_program *program;
    const fz_ops *ops;
    fz_shards shards;
    int64_t n_samples, N, C;
    int64_t heads, head_dim, ffn; /* of one shard */
    fz_bart_att self, cross;
    int ffn_use;
    bool decoder, keeps;
    const fz_decode_sizes *decode; /* NULL: not a step of generation */
} fz_bart_layer;

/* sum: input of the norm, (N, C); out: the norm's output. */
typedef struct fz_bart_att_saved {
    float *q, *k, *v, *o, *lse, *sum, *mean, *rstd, *out;
} fz_bart_att_saved;

typedef struct fz_bart_ffn_saved {
    float *h, *a, *sum, *mean, *rstd, *out;
} fz_bart_ffn_saved;

typedef struct fz_bart_layer_saved {
    const float *in, *enc;
    fz_bart_att_saved self, cross;
    fz_bart_ffn_saved ffn;
} fz_bart_layer_saved;

/* What the matrices' gradients are made from; dr: of the row-split product's result. */
typedef struct fz_bart_att_kept {
    float *dr, *dq, *dk, *dv;
} fz_bart_att_kept;

typedef struct fz_bart_ffn_kept {
    float *dr, *dh;
} fz_bart_ffn_kept;

typedef struct fz_bart_layer_kept {
    fz_bart_att_kept self, cross;
    fz_bart_ffn_kept ffn;
} fz_bart_layer_kept;

typedef struct fz_bart_scratch {
    float *rest, *root; /* of folds */
    float *d_o;         /* gradient of o, all pieces */
    float *bias, *norm;
    void *attention;
    fz_kv_cache cache; /* generation */
} fz_bart_scratch;

fz_bart_layer fz_bart_describe_exec(const fz_block *block, const fz_exec *x);
/* Whether a gradient must come out of the sub-layer above. */
bool fz_bart_needs_self(const fz_bart_layer *l);
bool fz_bart_needs_cross(const fz_bart_layer *l);
void *fz_bart_take_attention_work(const fz_bart_layer *l, fz_arena *work);
fz_rows fz_bart_rows_of(const fz_bart_layer *l, const fz_exec *x);
fz_dropout fz_bart_dropout_of(const fz_bart_layer *l, const fz_exec *x, double p, uint32_t site);
/* Columns of the hidden layer are numbered over all shards, so the masks do not depend on S held.
 */
fz_dropout fz_bart_hidden_dropout(const fz_bart_layer *l, const fz_exec *x, int64_t j);
fz_attention_part fz_bart_part_of(const fz_bart_layer *l, const fz_exec *x, const fz_bart_att *a,
                                  const fz_bart_att_saved *s, const fz_bart_scratch *t);

/* Backward passes and their memory, for bart.c's table and count of bytes. */
void fz_bart_count_backward(const fz_bart_layer *l, fz_arena *keep, fz_arena *work);
fz_status fz_bart_backward_input(const fz_block *block, fz_exec *x);
fz_status fz_bart_backward_weight(const fz_block *block, fz_exec *x);

#endif
