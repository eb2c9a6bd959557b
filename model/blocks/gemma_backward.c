/* Backward passes of the Gemma layers; the forward pass is in gemma.c. */
#include "model/blocks/gemma_layer.h"
#include "model/blocks/linear.h"

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- layout ---- */

static fz_gemma_att_kept take_att_kept(const fz_gemma_layer *l, const fz_gemma_att *a,
                                       fz_arena *keep, fz_arena *work)
{
    const int64_t count = l->shards.count;
    const int u = a->first_use;
    return (fz_gemma_att_kept){
        .dr = fz_arena_floats(fz_choose(fz_gemma_trains(l, u + FZ_GEMMA_O_W, 1), keep, work),
                              l->N * l->C),
        .dq = fz_arena_floats(fz_choose(fz_gemma_trains(l, u + FZ_GEMMA_Q_W, 1), keep, work),
                              l->N * fz_gemma_q_width(l) * count),
        .dk = fz_arena_floats(fz_choose(fz_gemma_trains(l, u + FZ_GEMMA_K_W, 1), keep, work),
                              a->n_kv * fz_gemma_kv_out(l) * count),
        .dv = fz_arena_floats(fz_choose(fz_gemma_trains(l, u + FZ_GEMMA_V_W, 1), keep, work),
                              a->n_kv * fz_gemma_kv_out(l) * count),
    };
}

static fz_gemma_layer_kept *take_kept_record(const fz_gemma_layer *l, fz_arena *keep)
{
    return l->block->trains ? fz_arena_take(keep, sizeof(fz_gemma_layer_kept)) : NULL;
}

static fz_gemma_layer_kept take_kept(const fz_gemma_layer *l, fz_arena *keep, fz_arena *work)
{
    const int64_t hidden = l->N * l->ffn * l->shards.count;
    fz_gemma_layer_kept k = {
        .dr = fz_arena_floats(fz_choose(fz_gemma_trains(l, FZ_GEMMA_DOWN, 1), keep, work),
                              l->N * l->C),
        .dgate =
            fz_arena_floats(fz_choose(fz_gemma_trains(l, FZ_GEMMA_GATE, 1), keep, work), hidden),
        .dup = fz_arena_floats(fz_choose(fz_gemma_trains(l, FZ_GEMMA_UP, 1), keep, work), hidden),
    };
    if (fz_gemma_needs_cross(l)) k.cross = take_att_kept(l, &l->cross, keep, work);
    if (fz_gemma_needs_self(l)) k.self = take_att_kept(l, &l->self, keep, work);
    return k;
}

static fz_gemma_scratch take_backward(const fz_gemma_layer *l, fz_arena *work)
{
    const int64_t enc = l->block->wants_enc_grad ? l->cross.n_kv * l->cross.kv_width : 0;
    const int64_t slot = max64(l->N * l->C, enc);
    fz_gemma_scratch t = {.rest = fz_arena_floats(work, fz_fold_rest(l->shards.count) * slot),
                          .root = fz_arena_floats(work, slot),
                          .inner = fz_arena_floats(work, l->N * max64(l->ffn, fz_gemma_q_width(l)) *
                                                             l->shards.count)};
    if (l->block->trains) t.norm = fz_arena_floats(work, l->shards.n * (l->C + 1));
    t.attention = fz_gemma_take_attention_work(l, work);
    return t;
}

void fz_gemma_count_backward(const fz_gemma_layer *l, fz_arena *keep, fz_arena *work)
{
    take_kept_record(l, keep);
    take_kept(l, keep, work);
    take_backward(l, work);
}

/* ---- backward ---- */

/* Weight gradients of one norm; those of the gate with it. */
static fz_status norm_grads(const fz_gemma_layer *l, fz_exec *x, int norm_use, int gate_use,
                            const float *dy, const float *in, const float *r,
                            const fz_gemma_scratch *t)
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
static fz_status norm_into_stream(const fz_gemma_layer *l, fz_exec *x, int norm_use,
                                  const float *in, const float *r, const fz_gemma_scratch *t,
                                  bool want_dx, float *d)
{
    FZ_TRY(norm_grads(l, x, norm_use, -1, t->root, in, r, t));
    if (!want_dx) return FZ_OK;
    return x->ops->rmsnorm_backward_input(d, t->root, in, r, fz_weight(l->block, x, norm_use), NULL,
                                          true, l->N, l->C, x->queue);
}

static fz_status ffn_backward(const fz_gemma_layer *l, fz_exec *x, const fz_gemma_layer_saved *s,
                              const fz_gemma_layer_kept *k, const fz_gemma_scratch *t, bool want_dx,
                              float *d)
{
    const fz_block *b = l->block;
    const bool want_dn = want_dx || fz_gemma_trains(l, FZ_GEMMA_NORM_PRE_FF, 1);
    const fz_fold fold = {.root = t->root, .rest = t->rest, .n = l->N * l->C};
    const fz_column_term terms[2] = {
        {.dy = k->dgate, .w = fz_weight(b, x, FZ_GEMMA_GATE), .out = l->ffn},
        {.dy = k->dup, .w = fz_weight(b, x, FZ_GEMMA_UP), .out = l->ffn},
    };

    FZ_TRY(norm_grads(l, x, FZ_GEMMA_NORM_POST_FF, -1, d, s->sum, s->r, t));
    FZ_TRY(x->ops->rmsnorm_backward_input(k->dr, d, s->sum, s->r,
                                          fz_weight(b, x, FZ_GEMMA_NORM_POST_FF), NULL, false, l->N,
                                          l->C, x->queue));
    if (!want_dn && !fz_gemma_trains(l, FZ_GEMMA_GATE, 2)) return FZ_OK;
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
static fz_status att_backward_inner(const fz_gemma_layer *l, fz_exec *x, const fz_gemma_att *a,
                                    const fz_gemma_att_saved *s, const fz_gemma_att_kept *k,
                                    const fz_gemma_scratch *t, bool inner, const float *d)
{
    const fz_block *b = l->block;
    const fz_attention_part part = fz_gemma_part_of(l, x, a, s, t);
    FZ_TRY(norm_grads(l, x, a->norm_use, a->gate_use, d, s->sum, s->r, t));
    FZ_TRY(x->ops->rmsnorm_backward_input(k->dr, d, s->sum, s->r, fz_weight(b, x, a->norm_use),
                                          fz_gemma_gate_of(l, x, a), false, l->N, l->C, x->queue));
    if (!inner) return FZ_OK;
    FZ_TRY(fz_row_backward_input(x, t->inner, k->dr, fz_weight(b, x, a->first_use + FZ_GEMMA_O_W),
                                 l->N, l->C, fz_gemma_q_width(l)));
    FZ_TRY(fz_attention_part_backward(x, &part, t->inner, k->dq, k->dk, k->dv));
    return a->cross ? FZ_OK : fz_gemma_rope(l, x, k->dq, k->dk, true);
}

static fz_status cross_backward(const fz_gemma_layer *l, fz_exec *x, const fz_gemma_layer_saved *s,
                                const fz_gemma_layer_kept *k, const fz_gemma_scratch *t,
                                bool want_dx, float *d)
{
    const fz_block *b = l->block;
    const fz_gemma_att *a = &l->cross;
    const bool inner = want_dx || b->wants_enc_grad || fz_gemma_trains(l, FZ_GEMMA_CROSS_Q, 3);
    const fz_column_term q = {
        .dy = k->cross.dq, .w = fz_weight(b, x, FZ_GEMMA_CROSS_Q), .out = fz_gemma_q_width(l)};
    const fz_column_term kv[2] = {
        {.dy = k->cross.dk, .w = fz_weight(b, x, FZ_GEMMA_CROSS_K), .out = fz_gemma_kv_out(l)},
        {.dy = k->cross.dv, .w = fz_weight(b, x, FZ_GEMMA_CROSS_V), .out = fz_gemma_kv_out(l)},
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

static fz_status self_backward(const fz_gemma_layer *l, fz_exec *x, const fz_gemma_layer_saved *s,
                               const fz_gemma_layer_kept *k, const fz_gemma_scratch *t, float *d)
{
    const fz_block *b = l->block;
    const bool want_dx = b->wants_input_grad;
    const bool want_dn = want_dx || fz_gemma_trains(l, FZ_GEMMA_NORM_IN, 1);
    const fz_fold fold = {.root = t->root, .rest = t->rest, .n = l->N * l->C};
    const fz_column_term terms[3] = {
        {.dy = k->self.dq, .w = fz_weight(b, x, FZ_GEMMA_Q), .out = fz_gemma_q_width(l)},
        {.dy = k->self.dk, .w = fz_weight(b, x, FZ_GEMMA_K), .out = fz_gemma_kv_out(l)},
        {.dy = k->self.dv, .w = fz_weight(b, x, FZ_GEMMA_V), .out = fz_gemma_kv_out(l)},
    };

    FZ_TRY(att_backward_inner(l, x, &l->self, &s->self, &k->self, t,
                              want_dn || fz_gemma_trains(l, FZ_GEMMA_Q, 3), d));
    if (!want_dn) return FZ_OK;
    FZ_TRY(fz_column_backward_input(x, &fold, terms, 3, l->N, l->C));
    return norm_into_stream(l, x, FZ_GEMMA_NORM_IN, s->in, s->r_in, t, want_dx, d);
}

fz_status fz_gemma_backward_input(const fz_block *block, fz_exec *x)
{
    const fz_gemma_layer l = fz_gemma_describe_exec(block, x);
    const fz_gemma_layer_saved *s = x->saved;
    fz_gemma_layer_kept *record = take_kept_record(&l, x->keep);
    const fz_gemma_layer_kept k = take_kept(&l, x->keep, x->work);
    const fz_gemma_scratch t = take_backward(&l, x->work);
    const bool self = fz_gemma_needs_self(&l), cross = fz_gemma_needs_cross(&l);
    float *d = x->dstream[FZ_STREAM_DEC];

    FZ_TRY(ffn_backward(&l, x, s, &k, &t, self || cross, d));
    if (cross) FZ_TRY(cross_backward(&l, x, s, &k, &t, self, d));
    if (self) FZ_TRY(self_backward(&l, x, s, &k, &t, d));
    if (record) *record = k;
    x->kept = record;
    return FZ_OK;
}

static fz_status att_backward_weight(const fz_gemma_layer *l, fz_exec *x, const fz_gemma_att *a,
                                     const fz_gemma_att_saved *s, const fz_gemma_att_kept *k,
                                     const float *in, const float *kv_in)
{
    const fz_block *b = l->block;
    const int u = a->first_use;
    FZ_TRY(fz_row_backward_weight(x, fz_grad(b, x, u + FZ_GEMMA_O_W), k->dr, s->o, l->N, l->C,
                                  fz_gemma_q_width(l)));
    FZ_TRY(fz_column_backward_weight(x, fz_grad(b, x, u + FZ_GEMMA_Q_W), k->dq, in, l->N, l->C,
                                     fz_gemma_q_width(l)));
    FZ_TRY(fz_column_backward_weight(x, fz_grad(b, x, u + FZ_GEMMA_K_W), k->dk, kv_in, a->n_kv,
                                     a->kv_width, fz_gemma_kv_out(l)));
    return fz_column_backward_weight(x, fz_grad(b, x, u + FZ_GEMMA_V_W), k->dv, kv_in, a->n_kv,
                                     a->kv_width, fz_gemma_kv_out(l));
}

fz_status fz_gemma_backward_weight(const fz_block *block, fz_exec *x)
{
    const fz_gemma_layer l = fz_gemma_describe_exec(block, x);
    const fz_gemma_layer_saved *s = x->saved;
    const fz_gemma_layer_kept *k = x->kept;

    if (!k) return FZ_OK;
    FZ_TRY(
        fz_row_backward_weight(x, fz_grad(block, x, FZ_GEMMA_DOWN), k->dr, s->h, l.N, l.C, l.ffn));
    FZ_TRY(fz_column_backward_weight(x, fz_grad(block, x, FZ_GEMMA_GATE), k->dgate, s->n_ff, l.N,
                                     l.C, l.ffn));
    FZ_TRY(fz_column_backward_weight(x, fz_grad(block, x, FZ_GEMMA_UP), k->dup, s->n_ff, l.N, l.C,
                                     l.ffn));
    if (fz_gemma_needs_cross(&l))
        FZ_TRY(att_backward_weight(&l, x, &l.cross, &s->cross, &k->cross, s->self.out, s->enc));
    if (fz_gemma_needs_self(&l))
        FZ_TRY(att_backward_weight(&l, x, &l.self, &s->self, &k->self, s->n_in, s->n_in));
    return FZ_OK;
}
