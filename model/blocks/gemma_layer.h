/* A layer of the Gemma decoder as its forward and backward passes see it. Internal to gemma*.c. */
#ifndef FZ_MODEL_BLOCKS_GEMMA_LAYER_H
#define FZ_MODEL_BLOCKS_GEMMA_LAYER_H

#include "model/blocks/attention_part.h"
#include "model/blocks/gemma.h"
#include "model/blocks/kv_cache.h"

#define FZ_GEMMA_NORM_EPS 1e-6f

/* Offsets of an attention's uses from its query weight. */
enum { FZ_GEMMA_Q_W, FZ_GEMMA_K_W, FZ_GEMMA_V_W, FZ_GEMMA_O_W };

typedef struct fz_gemma_att {
    int first_use; /* Q_W */
    int norm_use;  /* of the norm behind */
    int gate_use;  /* -1: none */
    bool cross;
    int64_t n_kv, kv_width; /* rows and width of what keys and values are made from */
    int64_t max_q_len, max_kv_len;
} fz_gemma_att;

typedef struct fz_gemma_layer {
    const fz_block *block;
    const fz_program *program;
    const fz_ops *ops;
    fz_shards shards;
    int64_t n_samples, N, C;
    int64_t heads, kv_heads, head_dim, ffn; /* of one shard */
    fz_gemma_att self, cross;
    bool has_cross, keeps;
    const fz_decode_sizes *decode; /* NULL: not a step of generation */
} fz_gemma_layer;

/* sum (N, C): the row-split product's result; r (N): its norm's factor; out: the residual stream
 * behind. */
typedef struct fz_gemma_att_saved {
    float *q, *k, *v, *o, *lse, *sum, *r, *out;
} fz_gemma_att_saved;

typedef struct fz_gemma_layer_saved {
    const float *in, *enc;
    float *n_in, *r_in; /* norm before self-attention */
    fz_gemma_att_saved self, cross;
    float *n_ff, *r_ff; /* norm before the feed-forward part */
    float *gate, *up, *h, *sum, *r, *out;
} fz_gemma_layer_saved;

typedef struct fz_gemma_att_kept {
    float *dr, *dq, *dk, *dv;
} fz_gemma_att_kept;

typedef struct fz_gemma_layer_kept {
    fz_gemma_att_kept self, cross;
    float *dr, *dgate, *dup;
} fz_gemma_layer_kept;

typedef struct fz_gemma_scratch {
    float *rest, *root;
    float *inner; /* gradient of o or of the hidden layer, all pieces */
    float *norm;
    void *attention;
    fz_kv_cache cache; /* generation */
} fz_gemma_scratch;

static inline int64_t fz_gemma_q_width(const fz_gemma_layer *l)
{
    return l->heads * l->head_dim;
}
static inline int64_t fz_gemma_kv_out(const fz_gemma_layer *l)
{
    return l->kv_heads * l->head_dim;
}

fz_gemma_layer fz_gemma_describe_exec(const fz_block *block, const fz_exec *x);
/* Whether any of uses [first, first + n) trains. */
bool fz_gemma_trains(const fz_gemma_layer *l, int first, int n);
/* Whether a gradient must come out of the sub-layer above. */
bool fz_gemma_needs_self(const fz_gemma_layer *l);
bool fz_gemma_needs_cross(const fz_gemma_layer *l);
void *fz_gemma_take_attention_work(const fz_gemma_layer *l, fz_arena *work);
fz_attention_part fz_gemma_part_of(const fz_gemma_layer *l, const fz_exec *x, const fz_gemma_att *a,
                                   const fz_gemma_att_saved *s, const fz_gemma_scratch *t);
/* Rotates all pieces of queries and keys, or rotates their gradients back. */
fz_status fz_gemma_rope(const fz_gemma_layer *l, fz_exec *x, float *q, float *k, bool inverse);
const float *fz_gemma_gate_of(const fz_gemma_layer *l, const fz_exec *x, const fz_gemma_att *a);

/* Backward passes and their memory, for gemma.c's table and count of bytes. */
void fz_gemma_count_backward(const fz_gemma_layer *l, fz_arena *keep, fz_arena *work);
fz_status fz_gemma_backward_input(const fz_block *block, fz_exec *x);
fz_status fz_gemma_backward_weight(const fz_block *block, fz_exec *x);

#endif
