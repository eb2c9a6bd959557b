#include "model/blocks/gemma.h"

#include <math.h>

#include "core/assert.h"
#include "model/blocks/attention_part.h"
#include "model/blocks/linear.h"

static const float RMSNORM_EPS = 1e-6f;

/* Offsets of an attention's uses from its query weight. */
enum { Q_W, K_W, V_W, O_W, QKVO_USES };

typedef struct att {
    int first_use; /* Q_W */
    int norm_use;  /* of the norm behind */
    int gate_use;  /* -1: none */
    bool cross;
    int64_t n_kv, kv_width, max_kv_len;
} att;

typedef struct layer {
    const fz_block *block;
    const fz_program *program;
    const fz_ops *ops;
    fz_shards shards;
    int64_t n_samples, N, C, max_len;
    int64_t heads, kv_heads, head_dim, ffn; /* of one shard */
    att self, cross;
    bool has_cross;
} layer;

/* sum (N, C): the row-split product's result; r (N): its norm's factor; out: the residual stream
 * behind. */
typedef struct att_saved {
    float *q, *k, *v, *o, *lse, *sum, *r, *out;
} att_saved;

typedef struct layer_saved {
    const float *in, *enc;
    float *n_in, *r_in; /* norm before self-attention */
    att_saved self, cross;
    float *n_ff, *r_ff; /* norm before the feed-forward part */
    float *gate, *up, *h, *sum, *r, *out;
} layer_saved;

typedef struct att_kept {
    float *dr, *dq, *dk, *dv;
} att_kept;

typedef struct layer_kept {
    att_kept self, cross;
    float *dr, *dgate, *dup;
} layer_kept;

typedef struct scratch {
    float *rest, *root;
    float *inner; /* gradient of o or of the hidden layer, all pieces */
    float *norm;
    void *attention;
} scratch;

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- sizes and layout ---- */

static layer describe(const fz_block *block, const fz_program *program, const fz_ops *ops,
                      const fz_sizes *sizes, fz_shards shards)
{
    const fz_model_config *c = &program->config;
    layer l = {.block = block,
               .program = program,
               .ops = ops,
               .shards = shards,
               .n_samples = sizes->n_samples,
               .N = sizes->n_dec,
               .C = c->dec_width,
               .max_len = sizes->max_dec_len,
               .head_dim = c->dec_head_dim};
    l.heads = c->dec_heads / shards.n;
    /* Fewer key/value heads than shards: each shard has its own copy of the one it needs. */
    l.kv_heads = c->dec_kv_heads < shards.n ? 1 : c->dec_kv_heads / shards.n;
    l.ffn = c->dec_ffn / shards.n;
    l.has_cross = block->n_uses == FZ_GEMMA_USES;
    FZ_ASSERT(l.has_cross || block->n_uses == FZ_GEMMA_PLAIN_USES);
    l.self = (att){.first_use = FZ_GEMMA_Q,
                   .norm_use = FZ_GEMMA_NORM_POST_ATTN,
                   .gate_use = -1,
                   .n_kv = l.N,
                   .kv_width = l.C,
                   .max_kv_len = l.max_len};
    l.cross = (att){.first_use = FZ_GEMMA_CROSS_Q,
                    .norm_use = FZ_GEMMA_CROSS_NORM,
                    .gate_use = FZ_GEMMA_CROSS_GATE,
                    .cross = true,
                    .n_kv = sizes->n_enc,
                    .kv_width = c->enc_width,
                    .max_kv_len = sizes->max_enc_len};
    return l;
}

static layer describe_exec(const fz_block *block, const fz_exec *x)
{
    return describe(block, x->program, x->ops, &x->batch->sizes, x->shards);
}

static bool trains(const layer *l, int first, int n)
{
    return fz_uses_train(l->program, l->block, first, n);
}

static bool needs_self(const layer *l)
{
    return l->block->wants_input_grad ||
           trains(l, FZ_GEMMA_NORM_IN, FZ_GEMMA_NORM_POST_ATTN + 1 - FZ_GEMMA_NORM_IN);
}

static bool needs_cross(const layer *l)
{
    return l->has_cross && (needs_self(l) || l->block->wants_enc_grad ||
                            trains(l, FZ_GEMMA_CROSS_Q, FZ_GEMMA_USES - FZ_GEMMA_CROSS_Q));
}

static int64_t q_width(const layer *l)
{
    return l->heads * l->head_dim;
}

static int64_t kv_out(const layer *l)
{
    return l->kv_heads * l->head_dim;
}

static att_saved take_att(const layer *l, const att *a, fz_arena *arena)
{
    const int64_t count = l->shards.count;
    return (att_saved){
        .q = fz_arena_floats(arena, l->N * q_width(l) * count),
        .k = fz_arena_floats(arena, a->n_kv * kv_out(l) * count),
        .v = fz_arena_floats(arena, a->n_kv * kv_out(l) * count),
        .o = fz_arena_floats(arena, l->N * q_width(l) * count),
        .lse = fz_arena_floats(arena, l->N * l->heads * count),
        .sum = fz_arena_floats(arena, l->N * l->C),
        .r = fz_arena_floats(arena, l->N),
        .out = fz_arena_floats(arena, l->N * l->C),
    };
}

static layer_saved *take_record(const layer *l, fz_arena *save)
{
    return fz_block_keeps(l->block) ? fz_arena_take(save, sizeof(layer_saved)) : NULL;
}

/* Normed inputs and the hidden layer are kept only where a weight gradient is made from them. */
static layer_saved take_saved(const layer *l, fz_arena *save, fz_arena *work)
{
    const bool keeps = fz_block_keeps(l->block);
    const int64_t hidden = l->N * l->ffn * l->shards.count;
    fz_arena *arena = fz_choose(keeps, save, work);
    layer_saved s = {
        .n_in =
            fz_arena_floats(fz_choose(keeps && trains(l, FZ_GEMMA_Q, 3), save, work), l->N * l->C),
        .r_in = fz_arena_floats(arena, l->N),
        .self = take_att(l, &l->self, arena),
    };
    if (l->has_cross) s.cross = take_att(l, &l->cross, arena);
    s.n_ff =
        fz_arena_floats(fz_choose(keeps && trains(l, FZ_GEMMA_GATE, 2), save, work), l->N * l->C);
    s.r_ff = fz_arena_floats(arena, l->N);
    s.gate = fz_arena_floats(arena, hidden);
    s.up = fz_arena_floats(arena, hidden);
    s.h = fz_arena_floats(fz_choose(keeps && trains(l, FZ_GEMMA_DOWN, 1), save, work), hidden);
    s.sum = fz_arena_floats(arena, l->N * l->C);
    s.r = fz_arena_floats(arena, l->N);
    s.out = fz_arena_floats(save, l->N * l->C);
    return s;
}

static void *take_attention_work(const layer *l, fz_arena *work)
{
    size_t most = l->ops->attention_work(l->max_len, l->max_len, l->head_dim);
    if (l->has_cross) {
        const size_t cross = l->ops->attention_work(l->max_len, l->cross.max_kv_len, l->head_dim);
        if (cross > most) most = cross;
    }
    return fz_arena_take(work, most);
}

static scratch take_forward(const layer *l, fz_arena *work)
{
    return (scratch){.rest = fz_arena_floats(work, fz_fold_rest(l->shards.count) * l->N * l->C),
                     .attention = take_attention_work(l, work)};
}

static att_kept take_att_kept(const layer *l, const att *a, fz_arena *keep, fz_arena *work)
{
    const int64_t count = l->shards.count;
    const int u = a->first_use;
    return (att_kept){
        .dr = fz_arena_floats(fz_choose(trains(l, u + O_W, 1), keep, work), l->N * l->C),
        .dq = fz_arena_floats(fz_choose(trains(l, u + Q_W, 1), keep, work),
                              l->N * q_width(l) * count),
        .dk = fz_arena_floats(fz_choose(trains(l, u + K_W, 1), keep, work),
                              a->n_kv * kv_out(l) * count),
        .dv = fz_arena_floats(fz_choose(trains(l, u + V_W, 1), keep, work),
                              a->n_kv * kv_out(l) * count),
    };
}

static layer_kept *take_kept_record(const layer *l, fz_arena *keep)
{
    return l->block->trains ? fz_arena_take(keep, sizeof(layer_kept)) : NULL;
}

static layer_kept take_kept(const layer *l, fz_arena *keep, fz_arena *work)
{
    const int64_t hidden = l->N * l->ffn * l->shards.count;
    layer_kept k = {
        .dr = fz_arena_floats(fz_choose(trains(l, FZ_GEMMA_DOWN, 1), keep, work), l->N * l->C),
        .dgate = fz_arena_floats(fz_choose(trains(l, FZ_GEMMA_GATE, 1), keep, work), hidden),
        .dup = fz_arena_floats(fz_choose(trains(l, FZ_GEMMA_UP, 1), keep, work), hidden),
    };
    if (needs_cross(l)) k.cross = take_att_kept(l, &l->cross, keep, work);
    if (needs_self(l)) k.self = take_att_kept(l, &l->self, keep, work);
    return k;
}

static scratch take_backward(const layer *l, fz_arena *work)
{
    const int64_t enc = l->block->wants_enc_grad ? l->cross.n_kv * l->cross.kv_width : 0;
    const int64_t slot = max64(l->N * l->C, enc);
    scratch t = {.rest = fz_arena_floats(work, fz_fold_rest(l->shards.count) * slot),
                 .root = fz_arena_floats(work, slot),
                 .inner =
                     fz_arena_floats(work, l->N * max64(l->ffn, q_width(l)) * l->shards.count)};
    if (l->block->trains) t.norm = fz_arena_floats(work, l->shards.n * (l->C + 1));
    t.attention = take_attention_work(l, work);
    return t;
}

/* ---- shared pieces ---- */

static fz_rows rows_of(const layer *l, const fz_exec *x)
{
    return (fz_rows){
        .n_seq = l->n_samples, .start = x->batch->dec_start, .sample_n = x->batch->sample_n};
}

static fz_attention_part part_of(const layer *l, const fz_exec *x, const att *a, const att_saved *s,
                                 void *work)
{
    const fz_model_config *c = &l->program->config;
    return (fz_attention_part){
        .heads = l->heads,
        .kv_heads = l->kv_heads,
        .head_dim = l->head_dim,
        .n_q = l->N,
        .n_kv = a->n_kv,
        .q_start = x->batch->dec_start,
        .kv_start = a->cross ? x->batch->enc_start : x->batch->dec_start,
        .max_q_len = l->max_len,
        .max_kv_len = a->max_kv_len,
        .scale = (float)(1.0 / sqrt(c->query_scalar)),
        .softcap = (float)c->attn_softcap,
        .causal = !a->cross,
        /* Even layers slide, odd ones see everything. */
        .window = !a->cross && l->block->layer % 2 == 0 ? c->sliding_window : 0,
        .q = s->q,
        .k = s->k,
        .v = s->v,
        .o = s->o,
        .lse = s->lse,
        .work = work,
    };
}

/* Rotates all pieces of queries and keys, or rotates their gradients back. */
static fz_status rope(const layer *l, fz_exec *x, float *q, float *k, bool inverse)
{
    const fz_rows rows = rows_of(l, x);
    const double theta = l->program->config.rope_theta;
    for (int64_t j = 0; j < l->shards.count; j++) {
        FZ_TRY(x->ops->rope(q + j * l->N * q_width(l), &rows, l->heads, l->head_dim, q_width(l),
                            theta, inverse, x->queue));
        FZ_TRY(x->ops->rope(k + j * l->N * kv_out(l), &rows, l->kv_heads, l->head_dim, kv_out(l),
                            theta, inverse, x->queue));
    }
    return FZ_OK;
}

static const float *gate_of(const layer *l, const fz_exec *x, const att *a)
{
    return a->gate_use < 0 ? NULL : fz_weight(l->block, x, a->gate_use);
}

/* ---- forward ---- */

/* in: what queries read and, for self-attention, keys and values too; residual: what is added to.
 */
static fz_status att_forward(const layer *l, fz_exec *x, const att *a, const att_saved *s,
                             const scratch *t, const float *in, const float *kv_in,
                             const float *residual)
{
    const fz_block *b = l->block;
    const int u = a->first_use;
    const fz_attention_part part = part_of(l, x, a, s, t->attention);
    const fz_fold fold = {.root = s->sum, .rest = t->rest, .n = l->N * l->C};

    FZ_TRY(fz_column_forward(x, s->q, in, fz_weight(b, x, u + Q_W), NULL, l->N, l->C, q_width(l)));
    FZ_TRY(fz_column_forward(x, s->k, kv_in, fz_weight(b, x, u + K_W), NULL, a->n_kv, a->kv_width,
                             kv_out(l)));
    FZ_TRY(fz_column_forward(x, s->v, kv_in, fz_weight(b, x, u + V_W), NULL, a->n_kv, a->kv_width,
                             kv_out(l)));
    if (!a->cross) FZ_TRY(rope(l, x, s->q, s->k, false));
    FZ_TRY(fz_attention_part_forward(x, &part));
    FZ_TRY(fz_row_forward(x, &fold, s->o, fz_weight(b, x, u + O_W), l->N, l->C, q_width(l)));
    return x->ops->rmsnorm_residual_forward(s->out, s->r, residual, s->sum,
                                            fz_weight(b, x, a->norm_use), gate_of(l, x, a), l->N,
                                            l->C, RMSNORM_EPS, x->queue);
}

static fz_status ffn_forward(const layer *l, fz_exec *x, const layer_saved *s, const scratch *t,
                             const float *in)
{
    const fz_block *b = l->block;
    const fz_fold fold = {.root = s->sum, .rest = t->rest, .n = l->N * l->C};

    FZ_TRY(x->ops->rmsnorm_forward(s->n_ff, s->r_ff, in, fz_weight(b, x, FZ_GEMMA_NORM_PRE_FF),
                                   l->N, l->C, RMSNORM_EPS, x->queue));
    FZ_TRY(fz_column_forward(x, s->gate, s->n_ff, fz_weight(b, x, FZ_GEMMA_GATE), NULL, l->N, l->C,
                             l->ffn));
    FZ_TRY(fz_column_forward(x, s->up, s->n_ff, fz_weight(b, x, FZ_GEMMA_UP), NULL, l->N, l->C,
                             l->ffn));
    FZ_TRY(x->ops->geglu_forward(s->h, s->gate, s->up, l->N * l->ffn * l->shards.count, x->queue));
    FZ_TRY(fz_row_forward(x, &fold, s->h, fz_weight(b, x, FZ_GEMMA_DOWN), l->N, l->C, l->ffn));
    return x->ops->rmsnorm_residual_forward(s->out, s->r, in, s->sum,
                                            fz_weight(b, x, FZ_GEMMA_NORM_POST_FF), NULL, l->N,
                                            l->C, RMSNORM_EPS, x->queue);
}

static fz_status forward(const fz_block *block, fz_exec *x)
{
    const layer l = describe_exec(block, x);
    layer_saved *record = take_record(&l, x->save);
    layer_saved s = take_saved(&l, x->save, x->work);
    const scratch t = take_forward(&l, x->work);
    const float *at_ffn = l.has_cross ? s.cross.out : s.self.out;

    s.in = x->stream[FZ_STREAM_DEC];
    s.enc = x->stream[FZ_STREAM_ENC];
    FZ_TRY(x->ops->rmsnorm_forward(s.n_in, s.r_in, s.in, fz_weight(block, x, FZ_GEMMA_NORM_IN), l.N,
                                   l.C, RMSNORM_EPS, x->queue));
    FZ_TRY(att_forward(&l, x, &l.self, &s.self, &t, s.n_in, s.n_in, s.in));
    /* The cross queries read the stream as it is, without a norm (model.md 6.2). */
    if (l.has_cross)
        FZ_TRY(att_forward(&l, x, &l.cross, &s.cross, &t, s.self.out, s.enc, s.self.out));
    FZ_TRY(ffn_forward(&l, x, &s, &t, at_ffn));
    if (record) *record = s;
    x->saved = record;
    x->stream[FZ_STREAM_DEC] = s.out;
    return FZ_OK;
}

/* ---- backward ---- */

/* Weight gradients of one norm; those of the gate with it. */
static fz_status norm_grads(const layer *l, fz_exec *x, int norm_use, int gate_use, const float *dy,
                            const float *in, const float *r, const scratch *t)
{
    const fz_block *b = l->block;
    float *dw = fz_grad(b, x, norm_use);
    float *dgate = gate_use < 0 ? NULL : fz_grad(b, x, gate_use);
    if (!dw && !dgate) return FZ_OK;
    return x->ops->rmsnorm_backward_weight(dw, dgate, dy, in, r, fz_weight(b, x, norm_use),
                                           gate_use < 0 ? NULL : fz_weight(b, x, gate_use), l->N,
                                           l->C, l->shards.n, t->norm, x->queue);
}

/* root holds the gradient of a norm's output: its weight's gradient, then d += that of its input.
 */
static fz_status norm_into_stream(const layer *l, fz_exec *x, int norm_use, const float *in,
                                  const float *r, const scratch *t, bool want_dx, float *d)
{
    FZ_TRY(norm_grads(l, x, norm_use, -1, t->root, in, r, t));
    if (!want_dx) return FZ_OK;
    return x->ops->rmsnorm_backward_input(d, t->root, in, r, fz_weight(l->block, x, norm_use), NULL,
                                          true, l->N, l->C, x->queue);
}

static fz_status ffn_backward(const layer *l, fz_exec *x, const layer_saved *s, const layer_kept *k,
                              const scratch *t, bool want_dx, float *d)
{
    const fz_block *b = l->block;
    const bool want_dn = want_dx || trains(l, FZ_GEMMA_NORM_PRE_FF, 1);
    const fz_fold fold = {.root = t->root, .rest = t->rest, .n = l->N * l->C};
    const fz_column_term terms[2] = {
        {.dy = k->dgate, .w = fz_weight(b, x, FZ_GEMMA_GATE), .out = l->ffn},
        {.dy = k->dup, .w = fz_weight(b, x, FZ_GEMMA_UP), .out = l->ffn},
    };

    FZ_TRY(norm_grads(l, x, FZ_GEMMA_NORM_POST_FF, -1, d, s->sum, s->r, t));
    FZ_TRY(x->ops->rmsnorm_backward_input(k->dr, d, s->sum, s->r,
                                          fz_weight(b, x, FZ_GEMMA_NORM_POST_FF), NULL, false, l->N,
                                          l->C, x->queue));
    if (!want_dn && !trains(l, FZ_GEMMA_GATE, 2)) return FZ_OK;
    FZ_TRY(fz_row_backward_input(x, t->inner, k->dr, fz_weight(b, x, FZ_GEMMA_DOWN), l->N, l->C,
                                 l->ffn));
    FZ_TRY(x->ops->geglu_backward(k->dgate, k->dup, t->inner, s->gate, s->up,
                                  l->N * l->ffn * l->shards.count, x->queue));
    if (!want_dn) return FZ_OK;
    FZ_TRY(fz_column_backward_input(x, &fold, terms, 2, l->N, l->C));
    return norm_into_stream(l, x, FZ_GEMMA_NORM_PRE_FF, l->has_cross ? s->cross.out : s->self.out,
                            s->r_ff, t, want_dx, d);
}

/* From d, the gradient of the stream behind the sub-layer, to those of q, k and v. */
static fz_status att_backward_inner(const layer *l, fz_exec *x, const att *a, const att_saved *s,
                                    const att_kept *k, const scratch *t, bool inner, const float *d)
{
    const fz_block *b = l->block;
    const fz_attention_part part = part_of(l, x, a, s, t->attention);
    FZ_TRY(norm_grads(l, x, a->norm_use, a->gate_use, d, s->sum, s->r, t));
    FZ_TRY(x->ops->rmsnorm_backward_input(k->dr, d, s->sum, s->r, fz_weight(b, x, a->norm_use),
                                          gate_of(l, x, a), false, l->N, l->C, x->queue));
    if (!inner) return FZ_OK;
    FZ_TRY(fz_row_backward_input(x, t->inner, k->dr, fz_weight(b, x, a->first_use + O_W), l->N,
                                 l->C, q_width(l)));
    FZ_TRY(fz_attention_part_backward(x, &part, t->inner, k->dq, k->dk, k->dv));
    return a->cross ? FZ_OK : rope(l, x, k->dq, k->dk, true);
}

static fz_status cross_backward(const layer *l, fz_exec *x, const layer_saved *s,
                                const layer_kept *k, const scratch *t, bool want_dx, float *d)
{
    const fz_block *b = l->block;
    const att *a = &l->cross;
    const bool inner = want_dx || b->wants_enc_grad || trains(l, FZ_GEMMA_CROSS_Q, 3);
    const fz_column_term q = {
        .dy = k->cross.dq, .w = fz_weight(b, x, FZ_GEMMA_CROSS_Q), .out = q_width(l)};
    const fz_column_term kv[2] = {
        {.dy = k->cross.dk, .w = fz_weight(b, x, FZ_GEMMA_CROSS_K), .out = kv_out(l)},
        {.dy = k->cross.dv, .w = fz_weight(b, x, FZ_GEMMA_CROSS_V), .out = kv_out(l)},
    };

    FZ_TRY(att_backward_inner(l, x, a, &s->cross, &k->cross, t, inner, d));
    if (want_dx) {
        const fz_fold fold = {.root = t->root, .rest = t->rest, .n = l->N * l->C};
        FZ_TRY(fz_column_backward_input(x, &fold, &q, 1, l->N, l->C));
        FZ_TRY(x->ops->add(d, t->root, fold.n, x->queue));
    }
    if (b->wants_enc_grad) {
        const fz_fold fold = {.root = t->root, .rest = t->rest, .n = a->n_kv * a->kv_width};
        FZ_TRY(fz_column_backward_input(x, &fold, kv, 2, a->n_kv, a->kv_width));
        FZ_TRY(x->ops->add(x->dstream[FZ_STREAM_ENC], t->root, fold.n, x->queue));
    }
    return FZ_OK;
}

static fz_status self_backward(const layer *l, fz_exec *x, const layer_saved *s,
                               const layer_kept *k, const scratch *t, float *d)
{
    const fz_block *b = l->block;
    const bool want_dx = b->wants_input_grad;
    const bool want_dn = want_dx || trains(l, FZ_GEMMA_NORM_IN, 1);
    const fz_fold fold = {.root = t->root, .rest = t->rest, .n = l->N * l->C};
    const fz_column_term terms[3] = {
        {.dy = k->self.dq, .w = fz_weight(b, x, FZ_GEMMA_Q), .out = q_width(l)},
        {.dy = k->self.dk, .w = fz_weight(b, x, FZ_GEMMA_K), .out = kv_out(l)},
        {.dy = k->self.dv, .w = fz_weight(b, x, FZ_GEMMA_V), .out = kv_out(l)},
    };

    FZ_TRY(att_backward_inner(l, x, &l->self, &s->self, &k->self, t,
                              want_dn || trains(l, FZ_GEMMA_Q, 3), d));
    if (!want_dn) return FZ_OK;
    FZ_TRY(fz_column_backward_input(x, &fold, terms, 3, l->N, l->C));
    return norm_into_stream(l, x, FZ_GEMMA_NORM_IN, s->in, s->r_in, t, want_dx, d);
}

static fz_status backward_input(const fz_block *block, fz_exec *x)
{
    const layer l = describe_exec(block, x);
    const layer_saved *s = x->saved;
    layer_kept *record = take_kept_record(&l, x->keep);
    const layer_kept k = take_kept(&l, x->keep, x->work);
    const scratch t = take_backward(&l, x->work);
    const bool self = needs_self(&l), cross = needs_cross(&l);
    float *d = x->dstream[FZ_STREAM_DEC];

    FZ_TRY(ffn_backward(&l, x, s, &k, &t, self || cross, d));
    if (cross) FZ_TRY(cross_backward(&l, x, s, &k, &t, self, d));
    if (self) FZ_TRY(self_backward(&l, x, s, &k, &t, d));
    if (record) *record = k;
    x->kept = record;
    return FZ_OK;
}

static fz_status att_backward_weight(const layer *l, fz_exec *x, const att *a, const att_saved *s,
                                     const att_kept *k, const float *in, const float *kv_in)
{
    const fz_block *b = l->block;
    const int u = a->first_use;
    FZ_TRY(fz_row_backward_weight(x, fz_grad(b, x, u + O_W), k->dr, s->o, l->N, l->C, q_width(l)));
    FZ_TRY(fz_column_backward_weight(x, fz_grad(b, x, u + Q_W), k->dq, in, l->N, l->C, q_width(l)));
    FZ_TRY(fz_column_backward_weight(x, fz_grad(b, x, u + K_W), k->dk, kv_in, a->n_kv, a->kv_width,
                                     kv_out(l)));
    return fz_column_backward_weight(x, fz_grad(b, x, u + V_W), k->dv, kv_in, a->n_kv, a->kv_width,
                                     kv_out(l));
}

static fz_status backward_weight(const fz_block *block, fz_exec *x)
{
    const layer l = describe_exec(block, x);
    const layer_saved *s = x->saved;
    const layer_kept *k = x->kept;

    if (!k) return FZ_OK;
    FZ_TRY(
        fz_row_backward_weight(x, fz_grad(block, x, FZ_GEMMA_DOWN), k->dr, s->h, l.N, l.C, l.ffn));
    FZ_TRY(fz_column_backward_weight(x, fz_grad(block, x, FZ_GEMMA_GATE), k->dgate, s->n_ff, l.N,
                                     l.C, l.ffn));
    FZ_TRY(fz_column_backward_weight(x, fz_grad(block, x, FZ_GEMMA_UP), k->dup, s->n_ff, l.N, l.C,
                                     l.ffn));
    if (needs_cross(&l))
        FZ_TRY(att_backward_weight(&l, x, &l.cross, &s->cross, &k->cross, s->self.out, s->enc));
    if (needs_self(&l))
        FZ_TRY(att_backward_weight(&l, x, &l.self, &s->self, &k->self, s->n_in, s->n_in));
    return FZ_OK;
}

/* ---- plan ---- */

static void bytes(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_block_bytes *out)
{
    const layer l = describe(block, program, &fz_ops_cpu, sizes, shards);
    fz_arena save = fz_arena_counting(), keep = fz_arena_counting();
    fz_arena forward_work = fz_arena_counting(), backward_work = fz_arena_counting();
    take_record(&l, &save);
    take_saved(&l, &save, &forward_work);
    take_forward(&l, &forward_work);
    if (fz_block_keeps(block)) {
        take_kept_record(&l, &keep);
        take_kept(&l, &keep, &backward_work);
        take_backward(&l, &backward_work);
    }
    *out = (fz_block_bytes){.save = save.peak,
                            .keep = keep.peak,
                            .work = forward_work.peak > backward_work.peak ? forward_work.peak
                                                                           : backward_work.peak};
}

static void count_att(const layer *l, fz_flops *f, const att *a, bool q_below, bool kv_below)
{
    const int u = a->first_use;
    const bool inner = q_below || kv_below || trains(l, u + Q_W, 3);
    const fz_attention_part part = {
        .heads = l->heads, .head_dim = l->head_dim, .n_q = l->N, .n_kv = a->n_kv};
    const double n = fz_attention_part_flops(&part, l->n_samples, l->shards.count);
    fz_count_linear(l->program, l->block, l->shards, f, u + Q_W, l->N, l->C, q_width(l), q_below);
    fz_count_linear(l->program, l->block, l->shards, f, u + K_W, a->n_kv, a->kv_width, kv_out(l),
                    kv_below);
    fz_count_linear(l->program, l->block, l->shards, f, u + V_W, a->n_kv, a->kv_width, kv_out(l),
                    kv_below);
    fz_count_linear(l->program, l->block, l->shards, f, u + O_W, l->N, l->C, q_width(l), inner);
    f->forward += n;
    if (inner) f->backward_input += 2.0 * n;
}

static void flops(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_flops *out)
{
    const layer l = describe(block, program, &fz_ops_cpu, sizes, shards);
    const bool self = needs_self(&l), cross = needs_cross(&l);
    const bool self_dn = block->wants_input_grad || trains(&l, FZ_GEMMA_NORM_IN, 1);
    const bool ffn_dn =
        fz_block_keeps(block) && (self || cross || trains(&l, FZ_GEMMA_NORM_PRE_FF, 1));
    const bool hidden = ffn_dn || trains(&l, FZ_GEMMA_GATE, 2);
    fz_flops f = {0};
    count_att(&l, &f, &l.self, self_dn, self_dn);
    if (l.has_cross) count_att(&l, &f, &l.cross, self, block->wants_enc_grad);
    fz_count_linear(program, block, shards, &f, FZ_GEMMA_GATE, l.N, l.C, l.ffn, ffn_dn);
    fz_count_linear(program, block, shards, &f, FZ_GEMMA_UP, l.N, l.C, l.ffn, ffn_dn);
    fz_count_linear(program, block, shards, &f, FZ_GEMMA_DOWN, l.N, l.C, l.ffn, hidden);
    *out = f;
}

const fz_block_kind fz_block_gemma_decoder_layer = {
    .name = "decoder.layer",
    .forward = forward,
    .backward_input = backward_input,
    .backward_weight = backward_weight,
    .bytes = bytes,
    .flops = flops,
};
