#include "model/blocks/gemma.h"

#include <math.h>

#include "core/assert.h"
#include "model/blocks/gemma_layer.h"
#include "model/blocks/linear.h"

/* ---- sizes and layout ---- */

static fz_gemma_layer describe(const fz_block *block, const fz_program *program, const fz_ops *ops,
                               const fz_sizes *sizes, fz_shards shards)
{
    const fz_model_config *c = &program->config;
    fz_gemma_layer l = {.block = block,
                        .program = program,
                        .ops = ops,
                        .shards = shards,
                        .n_samples = sizes->n_samples,
                        .N = sizes->n_dec,
                        .C = c->dec_width,
                        .keeps = fz_block_keeps(block),
                        .head_dim = c->dec_head_dim};
    l.heads = c->dec_heads / shards.n;
    /* Fewer key/value heads than shards: each shard has its own copy of the one it needs. */
    l.kv_heads = c->dec_kv_heads < shards.n ? 1 : c->dec_kv_heads / shards.n;
    l.ffn = c->dec_ffn / shards.n;
    l.has_cross = block->n_uses == FZ_GEMMA_USES;
    FZ_ASSERT(l.has_cross || block->n_uses == FZ_GEMMA_PLAIN_USES);
    l.self = (fz_gemma_att){.first_use = FZ_GEMMA_Q,
                            .norm_use = FZ_GEMMA_NORM_POST_ATTN,
                            .gate_use = -1,
                            .n_kv = l.N,
                            .kv_width = l.C,
                            .max_q_len = sizes->max_dec_len,
                            .max_kv_len = sizes->max_dec_len};
    l.cross = (fz_gemma_att){.first_use = FZ_GEMMA_CROSS_Q,
                             .norm_use = FZ_GEMMA_CROSS_NORM,
                             .gate_use = FZ_GEMMA_CROSS_GATE,
                             .cross = true,
                             .n_kv = sizes->n_enc,
                             .kv_width = c->enc_width,
                             .max_q_len = sizes->max_dec_len,
                             .max_kv_len = sizes->max_enc_len};
    return l;
}

/* A step of generation: keys and values of the encoder's tokens and of the tokens before are there.
 */
static fz_gemma_layer describe_step(const fz_block *block, const fz_program *program,
                                    const fz_ops *ops, const fz_decode_sizes *decode,
                                    fz_shards shards)
{
    const fz_sizes sizes = fz_decode_step_sizes(decode);
    fz_gemma_layer l = describe(block, program, ops, &sizes, shards);
    l.decode = decode;
    l.keeps = false;
    l.self.max_kv_len = decode->max_tokens;
    l.cross.n_kv = 0;
    l.cross.max_q_len = decode->beams;
    return l;
}

fz_gemma_layer fz_gemma_describe_exec(const fz_block *block, const fz_exec *x)
{
    if (x->decode) return describe_step(block, x->program, x->ops, &x->decode->sizes, x->shards);
    return describe(block, x->program, x->ops, &x->batch->sizes, x->shards);
}

bool fz_gemma_trains(const fz_gemma_layer *l, int first, int n)
{
    return fz_uses_train(l->program, l->block, first, n);
}

bool fz_gemma_needs_self(const fz_gemma_layer *l)
{
    return l->block->wants_input_grad ||
           fz_gemma_trains(l, FZ_GEMMA_NORM_IN, FZ_GEMMA_NORM_POST_ATTN + 1 - FZ_GEMMA_NORM_IN);
}

bool fz_gemma_needs_cross(const fz_gemma_layer *l)
{
    return l->has_cross && (fz_gemma_needs_self(l) || l->block->wants_enc_grad ||
                            fz_gemma_trains(l, FZ_GEMMA_CROSS_Q, FZ_GEMMA_USES - FZ_GEMMA_CROSS_Q));
}

static fz_gemma_att_saved take_att(const fz_gemma_layer *l, const fz_gemma_att *a, fz_arena *arena)
{
    const int64_t count = l->shards.count;
    return (fz_gemma_att_saved){
        .q = fz_arena_floats(arena, l->N * fz_gemma_q_width(l) * count),
        .k = fz_arena_floats(arena, a->n_kv * fz_gemma_kv_out(l) * count),
        .v = fz_arena_floats(arena, a->n_kv * fz_gemma_kv_out(l) * count),
        .o = fz_arena_floats(arena, l->N * fz_gemma_q_width(l) * count),
        .lse = fz_arena_floats(arena, l->N * l->heads * count),
        .sum = fz_arena_floats(arena, l->N * l->C),
        .r = fz_arena_floats(arena, l->N),
        .out = fz_arena_floats(arena, l->N * l->C),
    };
}

static fz_gemma_layer_saved *take_record(const fz_gemma_layer *l, fz_arena *save)
{
    return l->keeps ? fz_arena_take(save, sizeof(fz_gemma_layer_saved)) : NULL;
}

/* Normed inputs and the hidden layer are kept only where a weight gradient is made from them. */
static fz_gemma_layer_saved take_saved(const fz_gemma_layer *l, fz_arena *save, fz_arena *work)
{
    const bool keeps = l->keeps;
    const int64_t hidden = l->N * l->ffn * l->shards.count;
    fz_arena *arena = fz_choose(keeps, save, work);
    fz_gemma_layer_saved s = {
        .n_in = fz_arena_floats(fz_choose(keeps && fz_gemma_trains(l, FZ_GEMMA_Q, 3), save, work),
                                l->N * l->C),
        .r_in = fz_arena_floats(arena, l->N),
        .self = take_att(l, &l->self, arena),
    };
    if (l->has_cross) s.cross = take_att(l, &l->cross, arena);
    s.n_ff = fz_arena_floats(fz_choose(keeps && fz_gemma_trains(l, FZ_GEMMA_GATE, 2), save, work),
                             l->N * l->C);
    s.r_ff = fz_arena_floats(arena, l->N);
    s.gate = fz_arena_floats(arena, hidden);
    s.up = fz_arena_floats(arena, hidden);
    s.h = fz_arena_floats(fz_choose(keeps && fz_gemma_trains(l, FZ_GEMMA_DOWN, 1), save, work),
                          hidden);
    s.sum = fz_arena_floats(arena, l->N * l->C);
    s.r = fz_arena_floats(arena, l->N);
    s.out = fz_arena_floats(save, l->N * l->C);
    return s;
}

void *fz_gemma_take_attention_work(const fz_gemma_layer *l, fz_arena *work)
{
    const fz_gemma_att *self = &l->self, *cross = &l->cross;
    size_t most = l->ops->attention_work(self->max_q_len, self->max_kv_len, l->head_dim);
    if (l->has_cross) {
        const size_t bytes =
            l->ops->attention_work(cross->max_q_len, cross->max_kv_len, l->head_dim);
        if (bytes > most) most = bytes;
    }
    return fz_arena_take(work, most);
}

static fz_gemma_scratch take_forward(const fz_gemma_layer *l, fz_arena *work)
{
    return (fz_gemma_scratch){
        .rest = fz_arena_floats(work, fz_fold_rest(l->shards.count) * l->N * l->C),
        .attention = fz_gemma_take_attention_work(l, work)};
}

static fz_kv_cache take_cache(const fz_gemma_layer *l, fz_arena *cache)
{
    return fz_kv_cache_take(cache, l->decode, l->shards.count, fz_gemma_kv_out(l), l->has_cross);
}

static float *take_moved(const fz_gemma_layer *l, fz_arena *work)
{
    return fz_kv_cache_take_moved(work, l->decode, fz_gemma_kv_out(l));
}

/* ---- shared pieces ---- */

static fz_rows rows_of(const fz_gemma_layer *l, const fz_exec *x)
{
    return (fz_rows){.n_seq = l->n_samples,
                     .start = x->batch->dec_start,
                     .sample_n = x->batch->sample_n,
                     .first = x->decode ? x->decode->position : 0};
}

fz_attention_part fz_gemma_part_of(const fz_gemma_layer *l, const fz_exec *x, const fz_gemma_att *a,
                                   const fz_gemma_att_saved *s, const fz_gemma_scratch *t)
{
    const fz_model_config *c = &l->program->config;
    fz_attention_part part = {
        .heads = l->heads,
        .kv_heads = l->kv_heads,
        .head_dim = l->head_dim,
        .n_seq = l->n_samples,
        .n_q = l->N,
        .n_kv = a->n_kv,
        .q_start = x->batch->dec_start,
        .kv_start = a->cross ? x->batch->enc_start : x->batch->dec_start,
        .max_q_len = a->max_q_len,
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
        .work = t->attention,
    };
    if (l->decode) fz_kv_cache_attend(x, &t->cache, a->cross, &part);
    return part;
}

fz_status fz_gemma_rope(const fz_gemma_layer *l, fz_exec *x, float *q, float *k, bool inverse)
{
    const fz_rows rows = rows_of(l, x);
    const double theta = l->program->config.rope_theta;
    for (int64_t j = 0; j < l->shards.count; j++) {
        FZ_TRY(x->ops->rope(q + j * l->N * fz_gemma_q_width(l), &rows, l->heads, l->head_dim,
                            fz_gemma_q_width(l), theta, inverse, x->queue));
        FZ_TRY(x->ops->rope(k + j * l->N * fz_gemma_kv_out(l), &rows, l->kv_heads, l->head_dim,
                            fz_gemma_kv_out(l), theta, inverse, x->queue));
    }
    return FZ_OK;
}

const float *fz_gemma_gate_of(const fz_gemma_layer *l, const fz_exec *x, const fz_gemma_att *a)
{
    return a->gate_use < 0 ? NULL : fz_weight(l->block, x, a->gate_use);
}

/* ---- forward ---- */

static fz_status keys_and_values(const fz_gemma_layer *l, fz_exec *x, const fz_gemma_att *a,
                                 float *k, float *v, const float *in, int64_t n)
{
    const fz_block *b = l->block;
    const int u = a->first_use;
    const int64_t out = fz_gemma_kv_out(l);

    FZ_TRY(
        fz_column_forward(x, k, in, fz_weight(b, x, u + FZ_GEMMA_K_W), NULL, n, a->kv_width, out));
    return fz_column_forward(x, v, in, fz_weight(b, x, u + FZ_GEMMA_V_W), NULL, n, a->kv_width,
                             out);
}

/* in: what queries read and, for self-attention, keys and values too; residual: what is added to.
 */
static fz_status att_forward(const fz_gemma_layer *l, fz_exec *x, const fz_gemma_att *a,
                             const fz_gemma_att_saved *s, const fz_gemma_scratch *t,
                             const float *in, const float *kv_in, const float *residual)
{
    const fz_block *b = l->block;
    const int u = a->first_use;
    const fz_attention_part part = fz_gemma_part_of(l, x, a, s, t);
    const fz_fold fold = {.root = s->sum, .rest = t->rest, .n = l->N * l->C};

    FZ_TRY(fz_column_forward(x, s->q, in, fz_weight(b, x, u + FZ_GEMMA_Q_W), NULL, l->N, l->C,
                             fz_gemma_q_width(l)));
    FZ_TRY(keys_and_values(l, x, a, s->k, s->v, kv_in, a->n_kv));
    if (!a->cross) FZ_TRY(fz_gemma_rope(l, x, s->q, s->k, false));
    if (l->decode && !a->cross) FZ_TRY(fz_kv_cache_append(x, &t->cache, s->k, s->v));
    FZ_TRY(fz_attention_part_forward(x, &part));
    FZ_TRY(fz_row_forward(x, &fold, s->o, fz_weight(b, x, u + FZ_GEMMA_O_W), l->N, l->C,
                          fz_gemma_q_width(l)));
    return x->ops->rmsnorm_residual_forward(s->out, s->r, residual, s->sum,
                                            fz_weight(b, x, a->norm_use), fz_gemma_gate_of(l, x, a),
                                            l->N, l->C, FZ_GEMMA_NORM_EPS, x->queue);
}

static fz_status ffn_forward(const fz_gemma_layer *l, fz_exec *x, const fz_gemma_layer_saved *s,
                             const fz_gemma_scratch *t, const float *in)
{
    const fz_block *b = l->block;
    const fz_fold fold = {.root = s->sum, .rest = t->rest, .n = l->N * l->C};

    FZ_TRY(x->ops->rmsnorm_forward(s->n_ff, s->r_ff, in, fz_weight(b, x, FZ_GEMMA_NORM_PRE_FF),
                                   l->N, l->C, FZ_GEMMA_NORM_EPS, x->queue));
    FZ_TRY(fz_column_forward(x, s->gate, s->n_ff, fz_weight(b, x, FZ_GEMMA_GATE), NULL, l->N, l->C,
                             l->ffn));
    FZ_TRY(fz_column_forward(x, s->up, s->n_ff, fz_weight(b, x, FZ_GEMMA_UP), NULL, l->N, l->C,
                             l->ffn));
    FZ_TRY(x->ops->geglu_forward(s->h, s->gate, s->up, l->N * l->ffn * l->shards.count, x->queue));
    FZ_TRY(fz_row_forward(x, &fold, s->h, fz_weight(b, x, FZ_GEMMA_DOWN), l->N, l->C, l->ffn));
    return x->ops->rmsnorm_residual_forward(s->out, s->r, in, s->sum,
                                            fz_weight(b, x, FZ_GEMMA_NORM_POST_FF), NULL, l->N,
                                            l->C, FZ_GEMMA_NORM_EPS, x->queue);
}

static fz_status forward(const fz_block *block, fz_exec *x)
{
    const fz_gemma_layer l = fz_gemma_describe_exec(block, x);
    fz_gemma_layer_saved *record = take_record(&l, x->save);
    fz_gemma_layer_saved s = take_saved(&l, x->save, x->work);
    fz_gemma_scratch t = take_forward(&l, x->work);
    const float *at_ffn = l.has_cross ? s.cross.out : s.self.out;

    if (l.decode) {
        t.cache = take_cache(&l, x->cache);
        FZ_TRY(fz_kv_cache_reorder(x, &t.cache, take_moved(&l, x->work)));
    }
    s.in = x->stream[FZ_STREAM_DEC];
    s.enc = x->stream[FZ_STREAM_ENC];
    FZ_TRY(x->ops->rmsnorm_forward(s.n_in, s.r_in, s.in, fz_weight(block, x, FZ_GEMMA_NORM_IN), l.N,
                                   l.C, FZ_GEMMA_NORM_EPS, x->queue));
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

/* ---- generation ---- */

static fz_status cache_fill(const fz_block *block, fz_exec *x)
{
    const fz_gemma_layer l = fz_gemma_describe_exec(block, x);
    const fz_kv_cache cache = take_cache(&l, x->cache);
    if (!l.has_cross) return FZ_OK;
    return keys_and_values(&l, x, &l.cross, cache.cross_k, cache.cross_v, x->stream[FZ_STREAM_ENC],
                           cache.sizes.n_enc);
}

static void decode_bytes(const fz_block *block, const fz_program *program,
                         const fz_decode_sizes *sizes, fz_shards shards, fz_decode_bytes *out)
{
    const fz_gemma_layer l = describe_step(block, program, &fz_ops_cpu, sizes, shards);
    fz_arena cache = fz_arena_counting(), save = fz_arena_counting(), work = fz_arena_counting();
    take_saved(&l, &save, &work);
    take_forward(&l, &work);
    take_cache(&l, &cache);
    take_moved(&l, &work);
    *out = (fz_decode_bytes){.cache = cache.peak, .save = save.peak, .work = work.peak};
}

/* ---- plan ---- */

static void bytes(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_block_bytes *out)
{
    const fz_gemma_layer l = describe(block, program, &fz_ops_cpu, sizes, shards);
    fz_arena save = fz_arena_counting(), keep = fz_arena_counting();
    fz_arena forward_work = fz_arena_counting(), backward_work = fz_arena_counting();
    take_record(&l, &save);
    take_saved(&l, &save, &forward_work);
    take_forward(&l, &forward_work);
    if (l.keeps) fz_gemma_count_backward(&l, &keep, &backward_work);
    *out = (fz_block_bytes){.save = save.peak,
                            .keep = keep.peak,
                            .work = forward_work.peak > backward_work.peak ? forward_work.peak
                                                                           : backward_work.peak};
}

static void count_att(const fz_gemma_layer *l, fz_flops *f, const fz_gemma_att *a, bool q_below,
                      bool kv_below)
{
    const int u = a->first_use;
    const bool inner = q_below || kv_below || fz_gemma_trains(l, u + FZ_GEMMA_Q_W, 3);
    const fz_attention_part part = {
        .heads = l->heads, .head_dim = l->head_dim, .n_q = l->N, .n_kv = a->n_kv};
    const double n = fz_attention_part_flops(&part, l->n_samples, l->shards.count);
    fz_count_linear(l->program, l->block, l->shards, f, u + FZ_GEMMA_Q_W, l->N, l->C,
                    fz_gemma_q_width(l), q_below);
    fz_count_linear(l->program, l->block, l->shards, f, u + FZ_GEMMA_K_W, a->n_kv, a->kv_width,
                    fz_gemma_kv_out(l), kv_below);
    fz_count_linear(l->program, l->block, l->shards, f, u + FZ_GEMMA_V_W, a->n_kv, a->kv_width,
                    fz_gemma_kv_out(l), kv_below);
    fz_count_linear(l->program, l->block, l->shards, f, u + FZ_GEMMA_O_W, l->N, l->C,
                    fz_gemma_q_width(l), inner);
    f->forward += n;
    if (inner) f->backward_input += 2.0 * n;
}

static void flops(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_flops *out)
{
    const fz_gemma_layer l = describe(block, program, &fz_ops_cpu, sizes, shards);
    const bool self = fz_gemma_needs_self(&l), cross = fz_gemma_needs_cross(&l);
    const bool self_dn = block->wants_input_grad || fz_gemma_trains(&l, FZ_GEMMA_NORM_IN, 1);
    const bool ffn_dn =
        fz_block_keeps(block) && (self || cross || fz_gemma_trains(&l, FZ_GEMMA_NORM_PRE_FF, 1));
    const bool hidden = ffn_dn || fz_gemma_trains(&l, FZ_GEMMA_GATE, 2);
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
    .backward_input = fz_gemma_backward_input,
    .backward_weight = fz_gemma_backward_weight,
    .bytes = bytes,
    .flops = flops,
    .decode_bytes = decode_bytes,
    .cache_fill = cache_fill,
};
