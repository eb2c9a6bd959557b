/* Backward passes of the BART layers; the forward pass is in bart.c. */
#include "model/blocks/bart_layer.h"
#include "model/blocks/linear.h"

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- layout ---- */

static fz_bart_att_kept take_att_kept(const fz_bart_layer *l, const fz_bart_att *a, fz_arena *keep,
                                      fz_arena *work)
{
    const int64_t width = l->heads * l->head_dim * l->shards.count;
    const int u = a->first_use;
    const fz_program *p = l->program;
    const fz_block *b = l->block;
    return (fz_bart_att_kept){
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

static fz_bart_layer_kept *take_kept_record(const fz_bart_layer *l, fz_arena *keep)
{
    return l->block->trains ? fz_arena_take(keep, sizeof(fz_bart_layer_kept)) : NULL;
}

static fz_bart_layer_kept take_kept(const fz_bart_layer *l, fz_arena *keep, fz_arena *work)
{
    const fz_program *p = l->program;
    const fz_block *b = l->block;
    fz_bart_layer_kept k = {0};
    k.ffn = (fz_bart_ffn_kept){
        .dr = fz_arena_floats(fz_choose(fz_use_trains(p, b, l->ffn_use + FZ_FFN_FC2_W), keep, work),
                              l->N * l->C),
        .dh = fz_arena_floats(fz_choose(fz_use_trains(p, b, l->ffn_use + FZ_FFN_FC1_W), keep, work),
                              l->N * l->ffn * l->shards.count),
    };
    if (fz_bart_needs_cross(l)) k.cross = take_att_kept(l, &l->cross, keep, work);
    if (fz_bart_needs_self(l)) k.self = take_att_kept(l, &l->self, keep, work);
    return k;
}

static fz_bart_scratch take_backward(const fz_bart_layer *l, fz_arena *work)
{
    const int64_t width = l->heads * l->head_dim;
    const int64_t enc = l->block->wants_enc_grad ? l->cross.n_kv * l->cross.kv_width : 0;
    const int64_t slot = max64(l->N * l->C, enc);
    fz_bart_scratch t = {.rest = fz_arena_floats(work, fz_fold_rest(l->shards.count) * slot),
                         .root = fz_arena_floats(work, slot),
                         .d_o = fz_arena_floats(work, l->N * width * l->shards.count)};
    if (l->block->trains) {
        t.bias = fz_arena_floats(work, l->shards.n * max64(l->C, max64(l->ffn, width)));
        t.norm = fz_arena_floats(work, (2 * l->shards.n + 1) * l->C);
    }
    t.attention = fz_bart_take_attention_work(l, work);
    return t;
}

void fz_bart_count_backward(const fz_bart_layer *l, fz_arena *keep, fz_arena *work)
{
    take_kept_record(l, keep);
    take_kept(l, keep, work);
    take_backward(l, work);
}

/* ---- shared pieces ---- */

/* d of the norm's output becomes d of its input; first: use of the norm's weight. */
static fz_status norm_backward(const fz_bart_layer *l, fz_exec *x, int first, const float *sum,
                               const float *mean, const float *rstd, const fz_bart_scratch *t,
                               float *d)
{
    FZ_TRY(fz_layernorm_grads(x, fz_grad(l->block, x, first), fz_grad(l->block, x, first + 1), d,
                              sum, mean, rstd, l->N, l->C, t->norm));
    return x->ops->layernorm_backward_input(d, d, sum, mean, rstd, fz_weight(l->block, x, first),
                                            l->N, l->C, x->queue);
}

static fz_status bias_backward(const fz_bart_layer *l, fz_exec *x, int use, const float *dr,
                               const fz_bart_scratch *t)
{
    float *db = fz_grad(l->block, x, use);
    if (!db) return FZ_OK;
    return x->ops->bias_backward(db, dr, l->N, l->C, l->C, l->shards.n, t->bias, x->queue);
}

/* ---- backward ---- */

/* want_dx: d goes on to what the feed-forward part read. */
static fz_status ffn_backward(const fz_bart_layer *l, fz_exec *x, const fz_bart_ffn_saved *s,
                              const fz_bart_ffn_kept *k, const fz_bart_scratch *t, bool want_dx,
                              float *d)
{
    const fz_block *b = l->block;
    const int u = l->ffn_use;
    const fz_rows rows = fz_bart_rows_of(l, x);
    const fz_dropout drop =
        fz_bart_dropout_of(l, x, l->program->config.dropout, FZ_BART_SITE_FFN_O);
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
        const fz_dropout hidden = fz_bart_hidden_dropout(l, x, j);
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
static fz_status att_backward_streams(const fz_bart_layer *l, fz_exec *x, const fz_bart_att *a,
                                      const fz_bart_att_kept *k, const fz_bart_scratch *t,
                                      bool want_dx, float *d)
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

static fz_status att_backward(const fz_bart_layer *l, fz_exec *x, const fz_bart_att *a,
                              const fz_bart_att_saved *s, const fz_bart_att_kept *k,
                              const fz_bart_scratch *t, bool want_dx, float *d)
{
    const fz_block *b = l->block;
    const int u = a->first_use;
    const int64_t width = l->heads * l->head_dim;
    const fz_rows rows = fz_bart_rows_of(l, x);
    const fz_dropout drop = fz_bart_dropout_of(l, x, l->program->config.dropout, a->site_o);
    const fz_attention_part part = fz_bart_part_of(l, x, a, s, t);
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

fz_status fz_bart_backward_input(const fz_block *block, fz_exec *x)
{
    const fz_bart_layer l = fz_bart_describe_exec(block, x);
    const fz_bart_layer_saved *s = x->saved;
    fz_bart_layer_kept *record = take_kept_record(&l, x->keep);
    const fz_bart_layer_kept k = take_kept(&l, x->keep, x->work);
    const fz_bart_scratch t = take_backward(&l, x->work);
    const bool self = fz_bart_needs_self(&l), cross = fz_bart_needs_cross(&l);
    float *d = x->dstream[block->writes];

    FZ_TRY(ffn_backward(&l, x, &s->ffn, &k.ffn, &t, self || cross, d));
    if (cross) FZ_TRY(att_backward(&l, x, &l.cross, &s->cross, &k.cross, &t, self, d));
    if (self)
        FZ_TRY(att_backward(&l, x, &l.self, &s->self, &k.self, &t, block->wants_input_grad, d));
    if (record) *record = k;
    x->kept = record;
    return FZ_OK;
}

static fz_status att_backward_weight(const fz_bart_layer *l, fz_exec *x, const fz_bart_att *a,
                                     const fz_bart_att_saved *s, const fz_bart_att_kept *k,
                                     const float *in, const float *kv_in)
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

fz_status fz_bart_backward_weight(const fz_block *block, fz_exec *x)
{
    const fz_bart_layer l = fz_bart_describe_exec(block, x);
    const fz_bart_layer_saved *s = x->saved;
    const fz_bart_layer_kept *k = x->kept;
    const int u = l.ffn_use;
    const float *ffn_in = l.decoder ? s->cross.out : s->self.out;

    if (!k) return FZ_OK;
    FZ_TRY(fz_row_backward_weight(x, fz_grad(block, x, u + FZ_FFN_FC2_W), k->ffn.dr, s->ffn.a, l.N,
                                  l.C, l.ffn));
    FZ_TRY(fz_column_backward_weight(x, fz_grad(block, x, u + FZ_FFN_FC1_W), k->ffn.dh, ffn_in, l.N,
                                     l.C, l.ffn));
    if (fz_bart_needs_cross(&l))
        FZ_TRY(att_backward_weight(&l, x, &l.cross, &s->cross, &k->cross, s->self.out, s->enc));
    if (fz_bart_needs_self(&l))
        FZ_TRY(att_backward_weight(&l, x, &l.self, &s->self, &k->self, s->in, s->in));
    return FZ_OK;
}
