#include "model/blocks/bart.h"

#include <math.h>

#include "core/assert.h"
#include "model/blocks/attention_part.h"
#include "model/blocks/linear.h"

static const float LAYERNORM_EPS = 1e-5f;

/* Dropout sites of a layer, after block->site. */
enum { SITE_SELF_P, SITE_SELF_O, SITE_CROSS_P, SITE_CROSS_O, SITE_FFN_A, SITE_FFN_O };

/* An attention sub-layer with the norm behind it. */
typedef struct att {
    int first_use;
    bool cross;
    uint32_t site_p, site_o;
    int64_t n_kv, kv_width; /* rows and width of what keys and values are made from */
    int64_t max_kv_len;
} att;

typedef struct layer {
    const fz_block *block;
    const fz_program *program;
    const fz_ops *ops;
    fz_shards shards;
    int64_t n_samples, N, C, max_len;
    int64_t heads, head_dim, ffn; /* of one shard */
    att self, cross;
    int ffn_use;
    bool decoder;
} layer;

/* sum: input of the norm, (N, C); out: the norm's output. */
typedef struct att_saved {
    float *q, *k, *v, *o, *lse, *sum, *mean, *rstd, *out;
} att_saved;

typedef struct ffn_saved {
    float *h, *a, *sum, *mean, *rstd, *out;
} ffn_saved;

typedef struct layer_saved {
    const float *in, *enc;
    att_saved self, cross;
    ffn_saved ffn;
} layer_saved;

/* What the matrices' gradients are made from; dr: of the row-split product's result. */
typedef struct att_kept {
    float *dr, *dq, *dk, *dv;
} att_kept;

typedef struct ffn_kept {
    float *dr, *dh;
} ffn_kept;

typedef struct layer_kept {
    att_kept self, cross;
    ffn_kept ffn;
} layer_kept;

typedef struct scratch {
    float *rest, *root; /* of folds */
    float *d_o;         /* gradient of o, all pieces */
    float *bias, *norm;
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
    const bool decoder = block->reads_enc;
    layer l = {.block = block,
               .program = program,
               .ops = ops,
               .shards = shards,
               .n_samples = sizes->n_samples,
               .decoder = decoder,
               .C = block->out_width};
    l.N = decoder ? sizes->n_dec : sizes->n_enc;
    l.max_len = decoder ? sizes->max_dec_len : sizes->max_enc_len;
    l.heads = (decoder ? c->dec_heads : c->enc_heads) / shards.n;
    l.head_dim = decoder ? c->dec_head_dim : c->enc_width / c->enc_heads;
    l.ffn = (decoder ? c->dec_ffn : c->enc_ffn) / shards.n;
    l.self = (att){.first_use = 0,
                   .site_p = SITE_SELF_P,
                   .site_o = SITE_SELF_O,
                   .n_kv = l.N,
                   .kv_width = l.C,
                   .max_kv_len = l.max_len};
    l.cross = (att){.first_use = FZ_ATT_USES,
                    .cross = true,
                    .site_p = SITE_CROSS_P,
                    .site_o = SITE_CROSS_O,
                    .n_kv = sizes->n_enc,
                    .kv_width = c->enc_width,
                    .max_kv_len = sizes->max_enc_len};
    l.ffn_use = decoder ? 2 * FZ_ATT_USES : FZ_ATT_USES;
    FZ_ASSERT(block->n_uses == l.ffn_use + FZ_FFN_USES);
    return l;
}

static layer describe_exec(const fz_block *block, const fz_exec *x)
{
    return describe(block, x->program, x->ops, &x->batch->sizes, x->shards);
}

static bool att_trains(const layer *l, const att *a)
{
    return fz_uses_train(l->program, l->block, a->first_use, FZ_ATT_USES);
}

/* Whether a gradient must come out of the sub-layer above. */
static bool needs_self(const layer *l)
{
    return l->block->wants_input_grad || att_trains(l, &l->self);
}

static bool needs_cross(const layer *l)
{
    return l->decoder && (needs_self(l) || l->block->wants_enc_grad || att_trains(l, &l->cross));
}

static att_saved take_att(const layer *l, const att *a, fz_arena *arena)
{
    const int64_t width = l->heads * l->head_dim * l->shards.count;
    return (att_saved){
        .q = fz_arena_floats(arena, l->N * width),
        .k = fz_arena_floats(arena, a->n_kv * width),
        .v = fz_arena_floats(arena, a->n_kv * width),
        .o = fz_arena_floats(arena, l->N * width),
        .lse = fz_arena_floats(arena, l->N * l->heads * l->shards.count),
        .sum = fz_arena_floats(arena, l->N * l->C),
        .mean = fz_arena_floats(arena, l->N),
        .rstd = fz_arena_floats(arena, l->N),
        .out = fz_arena_floats(arena, l->N * l->C),
    };
}

static layer_saved *take_record(const layer *l, fz_arena *save)
{
    return fz_block_keeps(l->block) ? fz_arena_take(save, sizeof(layer_saved)) : NULL;
}

static layer_saved take_saved(const layer *l, fz_arena *save, fz_arena *work)
{
    const int64_t hidden = l->N * l->ffn * l->shards.count;
    const bool keeps = fz_block_keeps(l->block);
    fz_arena *arena = fz_choose(keeps, save, work);
    layer_saved s = {.self = take_att(l, &l->self, arena)};
    if (l->decoder) s.cross = take_att(l, &l->cross, arena);
    const bool needs_a = keeps && fz_use_trains(l->program, l->block, l->ffn_use + FZ_FFN_FC2_W);
    s.ffn = (ffn_saved){
        .h = fz_arena_floats(arena, hidden),
        .a = fz_arena_floats(fz_choose(needs_a, save, work), hidden),
        .sum = fz_arena_floats(arena, l->N * l->C),
        .mean = fz_arena_floats(arena, l->N),
        .rstd = fz_arena_floats(arena, l->N),
        .out = fz_arena_floats(save, l->N * l->C),
    };
    return s;
}

static void *take_attention_work(const layer *l, fz_arena *work)
{
    size_t most = l->ops->attention_work(l->max_len, l->max_len, l->head_dim);
    if (l->decoder) {
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
    const int64_t width = l->heads * l->head_dim * l->shards.count;
    const int u = a->first_use;
    const fz_program *p = l->program;
    const fz_block *b = l->block;
    return (att_kept){
        .dr = fz_arena_floats(fz_choose(fz_use_trains(p, b, u + FZ_ATT_O_W), keep, work),
                              l->N * l->C),
        .dq = fz_arena_floats(fz_choose(fz_use_trains(p, b, u + FZ_ATT_Q_W), keep, work),
                              l->N * width),
        .dk = fz_arena_floats(fz_choose(fz_use_trains(p, b, u + FZ_ATT_K_W), keep, work),
                              a->n_kv * width),
        .dv = fz_arena_floats(fz_choose(fz_use_trains(p, b, u + FZ_ATT_V_W), keep, work),
                              a->n_kv * width),
    };
}

static layer_kept *take_kept_record(const layer *l, fz_arena *keep)
{
    return l->block->trains ? fz_arena_take(keep, sizeof(layer_kept)) : NULL;
}

static layer_kept take_kept(const layer *l, fz_arena *keep, fz_arena *work)
{
    const fz_program *p = l->program;
    const fz_block *b = l->block;
    layer_kept k = {0};
    k.ffn = (ffn_kept){
        .dr = fz_arena_floats(fz_choose(fz_use_trains(p, b, l->ffn_use + FZ_FFN_FC2_W), keep, work),
                              l->N * l->C),
        .dh = fz_arena_floats(fz_choose(fz_use_trains(p, b, l->ffn_use + FZ_FFN_FC1_W), keep, work),
                              l->N * l->ffn * l->shards.count),
    };
    if (needs_cross(l)) k.cross = take_att_kept(l, &l->cross, keep, work);
    if (needs_self(l)) k.self = take_att_kept(l, &l->self, keep, work);
    return k;
}

static scratch take_backward(const layer *l, fz_arena *work)
{
    const int64_t width = l->heads * l->head_dim;
    const int64_t enc = l->block->wants_enc_grad ? l->cross.n_kv * l->cross.kv_width : 0;
    const int64_t slot = max64(l->N * l->C, enc);
    scratch t = {.rest = fz_arena_floats(work, fz_fold_rest(l->shards.count) * slot),
                 .root = fz_arena_floats(work, slot),
                 .d_o = fz_arena_floats(work, l->N * width * l->shards.count)};
    if (l->block->trains) {
        t.bias = fz_arena_floats(work, l->shards.n * max64(l->C, max64(l->ffn, width)));
        t.norm = fz_arena_floats(work, (2 * l->shards.n + 1) * l->C);
    }
    t.attention = take_attention_work(l, work);
    return t;
}

/* ---- shared pieces ---- */

static fz_rows rows_of(const layer *l, const fz_exec *x)
{
    return (fz_rows){.n_seq = l->n_samples,
                     .start = l->decoder ? x->batch->dec_start : x->batch->enc_start,
                     .sample_n = x->batch->sample_n};
}

static fz_dropout dropout_of(const layer *l, const fz_exec *x, double p, uint32_t site)
{
    const bool active = x->training && l->block->dropout_active;
    return (fz_dropout){.p = active ? p : 0.0, .seed = x->seed, .site = l->block->site + site};
}

static fz_attention_part part_of(const layer *l, const fz_exec *x, const att *a, const att_saved *s,
                                 void *work)
{
    const fz_model_config *c = &l->program->config;
    const fz_dropout drop = dropout_of(l, x, c->attn_dropout, a->site_p);
    const int32_t *start = rows_of(l, x).start;
    return (fz_attention_part){
        .heads = l->heads,
        .kv_heads = l->heads,
        .head_dim = l->head_dim,
        .n_q = l->N,
        .n_kv = a->n_kv,
        .q_start = start,
        .kv_start = a->cross ? x->batch->enc_start : start,
        .max_q_len = l->max_len,
        .max_kv_len = a->max_kv_len,
        .scale = 1.0f / sqrtf((float)l->head_dim),
        .causal = l->decoder && !a->cross,
        .dropout = drop.p,
        .site = drop.site,
        .q = s->q,
        .k = s->k,
        .v = s->v,
        .o = s->o,
        .lse = s->lse,
        .work = work,
    };
}

/* d of the norm's output becomes d of its input; first: use of the norm's weight. */
static fz_status norm_backward(const layer *l, fz_exec *x, int first, const float *sum,
                               const float *mean, const float *rstd, const scratch *t, float *d)
{
    FZ_TRY(fz_layernorm_grads(x, fz_grad(l->block, x, first), fz_grad(l->block, x, first + 1), d,
                              sum, mean, rstd, l->N, l->C, t->norm));
    return x->ops->layernorm_backward_input(d, d, sum, mean, rstd, fz_weight(l->block, x, first),
                                            l->N, l->C, x->queue);
}

static fz_status bias_backward(const layer *l, fz_exec *x, int use, const float *dr,
                               const scratch *t)
{
    float *db = fz_grad(l->block, x, use);
    if (!db) return FZ_OK;
    return x->ops->bias_backward(db, dr, l->N, l->C, l->C, l->shards.n, t->bias, x->queue);
}

/* ---- forward ---- */

static fz_status att_forward(const layer *l, fz_exec *x, const att *a, const att_saved *s,
                             const scratch *t, const float *in, const float *kv_in)
{
    const fz_block *b = l->block;
    const int u = a->first_use;
    const int64_t width = l->heads * l->head_dim;
    const fz_attention_part part = part_of(l, x, a, s, t->attention);
    const fz_fold fold = {.root = s->sum, .rest = t->rest, .n = l->N * l->C};
    const fz_rows rows = rows_of(l, x);
    const fz_dropout drop = dropout_of(l, x, l->program->config.dropout, a->site_o);

    FZ_TRY(fz_column_forward(x, s->q, in, fz_weight(b, x, u + FZ_ATT_Q_W),
                             fz_weight(b, x, u + FZ_ATT_Q_B), l->N, l->C, width));
    FZ_TRY(fz_column_forward(x, s->k, kv_in, fz_weight(b, x, u + FZ_ATT_K_W),
                             fz_weight(b, x, u + FZ_ATT_K_B), a->n_kv, a->kv_width, width));
    FZ_TRY(fz_column_forward(x, s->v, kv_in, fz_weight(b, x, u + FZ_ATT_V_W),
                             fz_weight(b, x, u + FZ_ATT_V_B), a->n_kv, a->kv_width, width));
    FZ_TRY(fz_attention_part_forward(x, &part));
    FZ_TRY(fz_row_forward(x, &fold, s->o, fz_weight(b, x, u + FZ_ATT_O_W), l->N, l->C, width));
    FZ_TRY(x->ops->dropout_residual(s->sum, in, s->sum, fz_weight(b, x, u + FZ_ATT_O_B), &rows,
                                    l->C, &drop, x->queue));
    return x->ops->layernorm_forward(
        s->out, s->mean, s->rstd, s->sum, fz_weight(b, x, u + FZ_ATT_NORM_W),
        fz_weight(b, x, u + FZ_ATT_NORM_B), l->N, l->C, LAYERNORM_EPS, x->queue);
}

/* Columns of the hidden layer are numbered over all shards, so the masks do not depend on S held.
 */
static fz_dropout hidden_dropout(const layer *l, const fz_exec *x, int64_t j)
{
    fz_dropout drop = dropout_of(l, x, l->program->config.act_dropout, SITE_FFN_A);
    drop.first_column = (l->shards.first + j) * l->ffn;
    return drop;
}

static fz_status ffn_forward(const layer *l, fz_exec *x, const ffn_saved *s, const scratch *t,
                             const float *in)
{
    const fz_block *b = l->block;
    const int u = l->ffn_use;
    const fz_fold fold = {.root = s->sum, .rest = t->rest, .n = l->N * l->C};
    const fz_rows rows = rows_of(l, x);
    const fz_dropout drop = dropout_of(l, x, l->program->config.dropout, SITE_FFN_O);

    FZ_TRY(fz_column_forward(x, s->h, in, fz_weight(b, x, u + FZ_FFN_FC1_W), NULL, l->N, l->C,
                             l->ffn));
    for (int64_t j = 0; j < l->shards.count; j++) {
        const fz_dropout hidden = hidden_dropout(l, x, j);
        const int64_t at = j * l->N * l->ffn;
        FZ_TRY(x->ops->gelu_forward(s->a + at, s->h + at,
                                    fz_weight(b, x, u + FZ_FFN_FC1_B) + j * l->ffn, &rows, l->ffn,
                                    &hidden, x->queue));
    }
    FZ_TRY(fz_row_forward(x, &fold, s->a, fz_weight(b, x, u + FZ_FFN_FC2_W), l->N, l->C, l->ffn));
    FZ_TRY(x->ops->dropout_residual(s->sum, in, s->sum, fz_weight(b, x, u + FZ_FFN_FC2_B), &rows,
                                    l->C, &drop, x->queue));
    return x->ops->layernorm_forward(
        s->out, s->mean, s->rstd, s->sum, fz_weight(b, x, u + FZ_FFN_NORM_W),
        fz_weight(b, x, u + FZ_FFN_NORM_B), l->N, l->C, LAYERNORM_EPS, x->queue);
}

static fz_status forward(const fz_block *block, fz_exec *x)
{
    const layer l = describe_exec(block, x);
    layer_saved *record = take_record(&l, x->save);
    layer_saved s = take_saved(&l, x->save, x->work);
    const scratch t = take_forward(&l, x->work);

    s.in = x->stream[block->writes];
    s.enc = x->stream[FZ_STREAM_ENC];
    FZ_TRY(att_forward(&l, x, &l.self, &s.self, &t, s.in, s.in));
    if (l.decoder) FZ_TRY(att_forward(&l, x, &l.cross, &s.cross, &t, s.self.out, s.enc));
    FZ_TRY(ffn_forward(&l, x, &s.ffn, &t, l.decoder ? s.cross.out : s.self.out));
    if (record) *record = s;
    x->saved = record;
    x->stream[block->writes] = s.ffn.out;
    return FZ_OK;
}

/* ---- backward ---- */

/* want_dx: d goes on to what the feed-forward part read. */
static fz_status ffn_backward(const layer *l, fz_exec *x, const ffn_saved *s, const ffn_kept *k,
                              const scratch *t, bool want_dx, float *d)
{
    const fz_block *b = l->block;
    const int u = l->ffn_use;
    const fz_rows rows = rows_of(l, x);
    const fz_dropout drop = dropout_of(l, x, l->program->config.dropout, SITE_FFN_O);
    const fz_fold fold = {.root = t->root, .rest = t->rest, .n = l->N * l->C};
    const fz_column_term term = {
        .dy = k->dh, .w = fz_weight(b, x, u + FZ_FFN_FC1_W), .out = l->ffn};

    FZ_TRY(norm_backward(l, x, u + FZ_FFN_NORM_W, s->sum, s->mean, s->rstd, t, d));
    FZ_TRY(x->ops->dropout(k->dr, d, NULL, &rows, l->C, &drop, x->queue));
    FZ_TRY(bias_backward(l, x, u + FZ_FFN_FC2_B, k->dr, t));
    if (!want_dx && !fz_uses_train(l->program, b, u + FZ_FFN_FC1_W, 2)) return FZ_OK;
    FZ_TRY(fz_row_backward_input(x, k->dh, k->dr, fz_weight(b, x, u + FZ_FFN_FC2_W), l->N, l->C,
                                 l->ffn));
    for (int64_t j = 0; j < l->shards.count; j++) {
        const fz_dropout hidden = hidden_dropout(l, x, j);
        float *dh = k->dh + j * l->N * l->ffn;
        FZ_TRY(x->ops->gelu_backward(dh, dh, s->h + j * l->N * l->ffn, &rows, l->ffn, &hidden,
                                     x->queue));
    }
    FZ_TRY(
        fz_column_backward_bias(x, fz_grad(b, x, u + FZ_FFN_FC1_B), k->dh, l->N, l->ffn, t->bias));
    if (!want_dx) return FZ_OK;
    FZ_TRY(fz_column_backward_input(x, &fold, &term, 1, l->N, l->C));
    return x->ops->add(d, t->root, l->N * l->C, x->queue);
}

/* Gradients of q, k, v go back to what they were made from: d for self-attention, d and d(enc)
 * for cross-attention. */
static fz_status att_backward_streams(const layer *l, fz_exec *x, const att *a, const att_kept *k,
                                      const scratch *t, bool want_dx, float *d)
{
    const fz_block *b = l->block;
    const int u = a->first_use;
    const int64_t width = l->heads * l->head_dim;
    const fz_column_term terms[3] = {
        {.dy = k->dq, .w = fz_weight(b, x, u + FZ_ATT_Q_W), .out = width},
        {.dy = k->dk, .w = fz_weight(b, x, u + FZ_ATT_K_W), .out = width},
        {.dy = k->dv, .w = fz_weight(b, x, u + FZ_ATT_V_W), .out = width},
    };
    if (want_dx) {
        const fz_fold fold = {.root = t->root, .rest = t->rest, .n = l->N * l->C};
        FZ_TRY(fz_column_backward_input(x, &fold, terms, a->cross ? 1 : 3, l->N, l->C));
        FZ_TRY(x->ops->add(d, t->root, fold.n, x->queue));
    }
    if (a->cross && b->wants_enc_grad) {
        const fz_fold fold = {.root = t->root, .rest = t->rest, .n = a->n_kv * a->kv_width};
        FZ_TRY(fz_column_backward_input(x, &fold, terms + 1, 2, a->n_kv, a->kv_width));
        FZ_TRY(x->ops->add(x->dstream[FZ_STREAM_ENC], t->root, fold.n, x->queue));
    }
    return FZ_OK;
}

static fz_status att_backward(const layer *l, fz_exec *x, const att *a, const att_saved *s,
                              const att_kept *k, const scratch *t, bool want_dx, float *d)
{
    const fz_block *b = l->block;
    const int u = a->first_use;
    const int64_t width = l->heads * l->head_dim;
    const fz_rows rows = rows_of(l, x);
    const fz_dropout drop = dropout_of(l, x, l->program->config.dropout, a->site_o);
    const fz_attention_part part = part_of(l, x, a, s, t->attention);
    const bool want_enc = a->cross && b->wants_enc_grad;

    FZ_TRY(norm_backward(l, x, u + FZ_ATT_NORM_W, s->sum, s->mean, s->rstd, t, d));
    FZ_TRY(x->ops->dropout(k->dr, d, NULL, &rows, l->C, &drop, x->queue));
    FZ_TRY(bias_backward(l, x, u + FZ_ATT_O_B, k->dr, t));
    if (!want_dx && !want_enc && !fz_uses_train(l->program, b, u, FZ_ATT_O_W)) return FZ_OK;
    FZ_TRY(fz_row_backward_input(x, t->d_o, k->dr, fz_weight(b, x, u + FZ_ATT_O_W), l->N, l->C,
                                 width));
    FZ_TRY(fz_attention_part_backward(x, &part, t->d_o, k->dq, k->dk, k->dv));
    FZ_TRY(fz_column_backward_bias(x, fz_grad(b, x, u + FZ_ATT_Q_B), k->dq, l->N, width, t->bias));
    FZ_TRY(
        fz_column_backward_bias(x, fz_grad(b, x, u + FZ_ATT_K_B), k->dk, a->n_kv, width, t->bias));
    FZ_TRY(
        fz_column_backward_bias(x, fz_grad(b, x, u + FZ_ATT_V_B), k->dv, a->n_kv, width, t->bias));
    return att_backward_streams(l, x, a, k, t, want_dx, d);
}

static fz_status backward_input(const fz_block *block, fz_exec *x)
{
    const layer l = describe_exec(block, x);
    const layer_saved *s = x->saved;
    layer_kept *record = take_kept_record(&l, x->keep);
    const layer_kept k = take_kept(&l, x->keep, x->work);
    const scratch t = take_backward(&l, x->work);
    const bool self = needs_self(&l), cross = needs_cross(&l);
    float *d = x->dstream[block->writes];

    FZ_TRY(ffn_backward(&l, x, &s->ffn, &k.ffn, &t, self || cross, d));
    if (cross) FZ_TRY(att_backward(&l, x, &l.cross, &s->cross, &k.cross, &t, self, d));
    if (self)
        FZ_TRY(att_backward(&l, x, &l.self, &s->self, &k.self, &t, block->wants_input_grad, d));
    if (record) *record = k;
    x->kept = record;
    return FZ_OK;
}

static fz_status att_backward_weight(const layer *l, fz_exec *x, const att *a, const att_saved *s,
                                     const att_kept *k, const float *in, const float *kv_in)
{
    const fz_block *b = l->block;
    const int u = a->first_use;
    const int64_t width = l->heads * l->head_dim;
    FZ_TRY(
        fz_row_backward_weight(x, fz_grad(b, x, u + FZ_ATT_O_W), k->dr, s->o, l->N, l->C, width));
    FZ_TRY(
        fz_column_backward_weight(x, fz_grad(b, x, u + FZ_ATT_Q_W), k->dq, in, l->N, l->C, width));
    FZ_TRY(fz_column_backward_weight(x, fz_grad(b, x, u + FZ_ATT_K_W), k->dk, kv_in, a->n_kv,
                                     a->kv_width, width));
    return fz_column_backward_weight(x, fz_grad(b, x, u + FZ_ATT_V_W), k->dv, kv_in, a->n_kv,
                                     a->kv_width, width);
}

static fz_status backward_weight(const fz_block *block, fz_exec *x)
{
    const layer l = describe_exec(block, x);
    const layer_saved *s = x->saved;
    const layer_kept *k = x->kept;
    const int u = l.ffn_use;
    const float *ffn_in = l.decoder ? s->cross.out : s->self.out;

    if (!k) return FZ_OK;
    FZ_TRY(fz_row_backward_weight(x, fz_grad(block, x, u + FZ_FFN_FC2_W), k->ffn.dr, s->ffn.a, l.N,
                                  l.C, l.ffn));
    FZ_TRY(fz_column_backward_weight(x, fz_grad(block, x, u + FZ_FFN_FC1_W), k->ffn.dh, ffn_in, l.N,
                                     l.C, l.ffn));
    if (needs_cross(&l))
        FZ_TRY(att_backward_weight(&l, x, &l.cross, &s->cross, &k->cross, s->self.out, s->enc));
    if (needs_self(&l))
        FZ_TRY(att_backward_weight(&l, x, &l.self, &s->self, &k->self, s->in, s->in));
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

static void count_att(const layer *l, fz_flops *f, const att *a, bool below)
{
    const int u = a->first_use;
    const int64_t width = l->heads * l->head_dim;
    const bool kv_below = a->cross ? l->block->wants_enc_grad : below;
    const bool inner = below || kv_below || fz_uses_train(l->program, l->block, u, FZ_ATT_O_W);
    const fz_attention_part part = {
        .heads = l->heads, .head_dim = l->head_dim, .n_q = l->N, .n_kv = a->n_kv};
    const double n = fz_attention_part_flops(&part, l->n_samples, l->shards.count);
    fz_count_linear(l->program, l->block, l->shards, f, u + FZ_ATT_Q_W, l->N, l->C, width, below);
    fz_count_linear(l->program, l->block, l->shards, f, u + FZ_ATT_K_W, a->n_kv, a->kv_width, width,
                    kv_below);
    fz_count_linear(l->program, l->block, l->shards, f, u + FZ_ATT_V_W, a->n_kv, a->kv_width, width,
                    kv_below);
    fz_count_linear(l->program, l->block, l->shards, f, u + FZ_ATT_O_W, l->N, l->C, width, inner);
    f->forward += n;
    if (inner) f->backward_input += 2.0 * n;
}

static void flops(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_flops *out)
{
    const layer l = describe(block, program, &fz_ops_cpu, sizes, shards);
    const bool self = needs_self(&l), cross = needs_cross(&l);
    const bool hidden = self || cross || fz_uses_train(program, block, l.ffn_use + FZ_FFN_FC1_W, 2);
    fz_flops f = {0};
    count_att(&l, &f, &l.self, block->wants_input_grad);
    if (l.decoder) count_att(&l, &f, &l.cross, self);
    fz_count_linear(program, block, shards, &f, l.ffn_use + FZ_FFN_FC1_W, l.N, l.C, l.ffn,
                    self || cross);
    fz_count_linear(program, block, shards, &f, l.ffn_use + FZ_FFN_FC2_W, l.N, l.C, l.ffn, hidden);
    if (!fz_block_keeps(block)) f.backward_input = 0.0;
    *out = f;
}

#define LAYER_KIND(text)                                                                           \
    {                                                                                              \
        .name = text, .forward = forward, .backward_input = backward_input,                        \
        .backward_weight = backward_weight, .bytes = bytes, .flops = flops                         \
    }

const fz_block_kind fz_block_encoder_layer = LAYER_KIND("encoder.layer");
const fz_block_kind fz_block_bart_decoder_layer = LAYER_KIND("decoder.layer");
