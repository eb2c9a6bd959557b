#include "model/blocks/bart.h"

#include <math.h>

#include "core/assert.h"
#include "model/blocks/bart_layer.h"
#include "model/blocks/linear.h"

static const float LAYERNORM_EPS = 1e-5f;

/* ---- sizes and layout ---- */

static fz_bart_layer describe(const fz_block *block, const fz_program *program, const fz_ops *ops,
                              const fz_sizes *sizes, fz_shards shards)
{
    const fz_model_config *c = &program->config;
    const bool decoder = block->reads_enc;
    fz_bart_layer l = {.block = block,
                       .program = program,
                       .ops = ops,
                       .shards = shards,
                       .n_samples = sizes->n_samples,
                       .decoder = decoder,
                       .keeps = fz_block_keeps(block),
                       .C = block->out_width};
    const int64_t max_len = decoder ? sizes->max_dec_len : sizes->max_enc_len;
    l.N = decoder ? sizes->n_dec : sizes->n_enc;
    l.heads = (decoder ? c->dec_heads : c->enc_heads) / shards.n;
    l.head_dim = decoder ? c->dec_head_dim : c->enc_width / c->enc_heads;
    l.ffn = (decoder ? c->dec_ffn : c->enc_ffn) / shards.n;
    l.self = (fz_bart_att){.first_use = 0,
                           .site_p = FZ_BART_SITE_SELF_P,
                           .site_o = FZ_BART_SITE_SELF_O,
                           .n_kv = l.N,
                           .kv_width = l.C,
                           .max_q_len = max_len,
                           .max_kv_len = max_len};
    l.cross = (fz_bart_att){.first_use = FZ_ATT_USES,
                            .cross = true,
                            .site_p = FZ_BART_SITE_CROSS_P,
                            .site_o = FZ_BART_SITE_CROSS_O,
                            .n_kv = sizes->n_enc,
                            .kv_width = c->enc_width,
                            .max_q_len = max_len,
                            .max_kv_len = sizes->max_enc_len};
    l.ffn_use = decoder ? 2 * FZ_ATT_USES : FZ_ATT_USES;
    FZ_ASSERT(block->n_uses == l.ffn_use + FZ_FFN_USES);
    return l;
}

/* A step of generation: keys and values of the encoder's tokens and of the tokens before are there.
 */
static fz_bart_layer describe_step(const fz_block *block, const fz_program *program,
                                   const fz_ops *ops, const fz_decode_sizes *decode,
                                   fz_shards shards)
{
    const fz_sizes sizes = fz_decode_step_sizes(decode);
    fz_bart_layer l = describe(block, program, ops, &sizes, shards);
    l.decode = decode;
    l.keeps = false;
    l.self.max_kv_len = decode->max_tokens;
    l.cross.n_kv = 0;
    l.cross.max_q_len = decode->beams;
    return l;
}

fz_bart_layer fz_bart_describe_exec(const fz_block *block, const fz_exec *x)
{
    if (x->decode) return describe_step(block, x->program, x->ops, &x->decode->sizes, x->shards);
    return describe(block, x->program, x->ops, &x->batch->sizes, x->shards);
}

static bool att_trains(const fz_bart_layer *l, const fz_bart_att *a)
{
    return fz_uses_train(l->program, l->block, a->first_use, FZ_ATT_USES);
}

bool fz_bart_needs_self(const fz_bart_layer *l)
{
    return l->block->wants_input_grad || att_trains(l, &l->self);
}

bool fz_bart_needs_cross(const fz_bart_layer *l)
{
    return l->decoder &&
           (fz_bart_needs_self(l) || l->block->wants_enc_grad || att_trains(l, &l->cross));
}

static fz_bart_att_saved take_att(const fz_bart_layer *l, const fz_bart_att *a, fz_arena *arena)
{
    const int64_t width = l->heads * l->head_dim * l->shards.count;
    return (fz_bart_att_saved){
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

static fz_bart_layer_saved *take_record(const fz_bart_layer *l, fz_arena *save)
{
    return l->keeps ? fz_arena_take(save, sizeof(fz_bart_layer_saved)) : NULL;
}

static fz_bart_layer_saved take_saved(const fz_bart_layer *l, fz_arena *save, fz_arena *work)
{
    const int64_t hidden = l->N * l->ffn * l->shards.count;
    fz_arena *arena = fz_choose(l->keeps, save, work);
    fz_bart_layer_saved s = {.self = take_att(l, &l->self, arena)};
    if (l->decoder) s.cross = take_att(l, &l->cross, arena);
    const bool needs_a = l->keeps && fz_use_trains(l->program, l->block, l->ffn_use + FZ_FFN_FC2_W);
    s.ffn = (fz_bart_ffn_saved){
        .h = fz_arena_floats(arena, hidden),
        .a = fz_arena_floats(fz_choose(needs_a, save, work), hidden),
        .sum = fz_arena_floats(arena, l->N * l->C),
        .mean = fz_arena_floats(arena, l->N),
        .rstd = fz_arena_floats(arena, l->N),
        .out = fz_arena_floats(save, l->N * l->C),
    };
    return s;
}

void *fz_bart_take_attention_work(const fz_bart_layer *l, fz_arena *work)
{
    const fz_bart_att *self = &l->self, *cross = &l->cross;
    size_t most = l->ops->attention_work(self->max_q_len, self->max_kv_len, l->head_dim);
    if (l->decoder) {
        const size_t bytes =
            l->ops->attention_work(cross->max_q_len, cross->max_kv_len, l->head_dim);
        if (bytes > most) most = bytes;
    }
    return fz_arena_take(work, most);
}

static fz_bart_scratch take_forward(const fz_bart_layer *l, fz_arena *work)
{
    return (fz_bart_scratch){.rest =
                                 fz_arena_floats(work, fz_fold_rest(l->shards.count) * l->N * l->C),
                             .attention = fz_bart_take_attention_work(l, work)};
}

static fz_kv_cache take_cache(const fz_bart_layer *l, fz_arena *cache)
{
    return fz_kv_cache_take(cache, l->decode, l->shards.count, l->heads * l->head_dim, true);
}

static float *take_moved(const fz_bart_layer *l, fz_arena *work)
{
    return fz_kv_cache_take_moved(work, l->decode, l->heads * l->head_dim);
}

/* ---- shared pieces ---- */

fz_rows fz_bart_rows_of(const fz_bart_layer *l, const fz_exec *x)
{
    return (fz_rows){.n_seq = l->n_samples,
                     .start = l->decoder ? x->batch->dec_start : x->batch->enc_start,
                     .sample_n = x->batch->sample_n,
                     .first = x->decode ? x->decode->position : 0};
}

fz_dropout fz_bart_dropout_of(const fz_bart_layer *l, const fz_exec *x, double p, uint32_t site)
{
    const bool active = x->training && l->block->dropout_active;
    return (fz_dropout){.p = active ? p : 0.0, .seed = x->seed, .site = l->block->site + site};
}

fz_attention_part fz_bart_part_of(const fz_bart_layer *l, const fz_exec *x, const fz_bart_att *a,
                                  const fz_bart_att_saved *s, const fz_bart_scratch *t)
{
    const fz_model_config *c = &l->program->config;
    const fz_dropout drop = fz_bart_dropout_of(l, x, c->attn_dropout, a->site_p);
    const int32_t *start = fz_bart_rows_of(l, x).start;
    fz_attention_part part = {
        .heads = l->heads,
        .kv_heads = l->heads,
        .head_dim = l->head_dim,
        .n_seq = l->n_samples,
        .n_q = l->N,
        .n_kv = a->n_kv,
        .q_start = start,
        .kv_start = a->cross ? x->batch->enc_start : start,
        .max_q_len = a->max_q_len,
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
        .work = t->attention,
    };
    if (l->decode) fz_kv_cache_attend(x, &t->cache, a->cross, &part);
    return part;
}

/* ---- forward ---- */

static fz_status keys_and_values(const fz_bart_layer *l, fz_exec *x, const fz_bart_att *a, float *k,
                                 float *v, const float *in, int64_t n)
{
    const fz_block *b = l->block;
    const int u = a->first_use;
    const int64_t width = l->heads * l->head_dim;

    FZ_TRY(fz_column_forward(x, k, in, fz_weight(b, x, u + FZ_ATT_K_W),
                             fz_weight(b, x, u + FZ_ATT_K_B), n, a->kv_width, width));
    return fz_column_forward(x, v, in, fz_weight(b, x, u + FZ_ATT_V_W),
                             fz_weight(b, x, u + FZ_ATT_V_B), n, a->kv_width, width);
}

static fz_status att_forward(const fz_bart_layer *l, fz_exec *x, const fz_bart_att *a,
                             const fz_bart_att_saved *s, const fz_bart_scratch *t, const float *in,
                             const float *kv_in)
{
    const fz_block *b = l->block;
    const int u = a->first_use;
    const int64_t width = l->heads * l->head_dim;
    const fz_attention_part part = fz_bart_part_of(l, x, a, s, t);
    const fz_fold fold = {.root = s->sum, .rest = t->rest, .n = l->N * l->C};
    const fz_rows rows = fz_bart_rows_of(l, x);
    const fz_dropout drop = fz_bart_dropout_of(l, x, l->program->config.dropout, a->site_o);

    FZ_TRY(fz_column_forward(x, s->q, in, fz_weight(b, x, u + FZ_ATT_Q_W),
                             fz_weight(b, x, u + FZ_ATT_Q_B), l->N, l->C, width));
    FZ_TRY(keys_and_values(l, x, a, s->k, s->v, kv_in, a->n_kv));
    if (l->decode && !a->cross) FZ_TRY(fz_kv_cache_append(x, &t->cache, s->k, s->v));
    FZ_TRY(fz_attention_part_forward(x, &part));
    FZ_TRY(fz_row_forward(x, &fold, s->o, fz_weight(b, x, u + FZ_ATT_O_W), l->N, l->C, width));
    FZ_TRY(x->ops->dropout_residual(s->sum, in, s->sum, fz_weight(b, x, u + FZ_ATT_O_B), &rows,
                                    l->C, &drop, x->queue));
    return x->ops->layernorm_forward(
        s->out, s->mean, s->rstd, s->sum, fz_weight(b, x, u + FZ_ATT_NORM_W),
        fz_weight(b, x, u + FZ_ATT_NORM_B), l->N, l->C, LAYERNORM_EPS, x->queue);
}

fz_dropout fz_bart_hidden_dropout(const fz_bart_layer *l, const fz_exec *x, int64_t j)
{
    fz_dropout drop = fz_bart_dropout_of(l, x, l->program->config.act_dropout, FZ_BART_SITE_FFN_A);
    drop.first_column = (l->shards.first + j) * l->ffn;
    return drop;
}

static fz_status ffn_forward(const fz_bart_layer *l, fz_exec *x, const fz_bart_ffn_saved *s,
                             const fz_bart_scratch *t, const float *in)
{
    const fz_block *b = l->block;
    const int u = l->ffn_use;
    const fz_fold fold = {.root = s->sum, .rest = t->rest, .n = l->N * l->C};
    const fz_rows rows = fz_bart_rows_of(l, x);
    const fz_dropout drop =
        fz_bart_dropout_of(l, x, l->program->config.dropout, FZ_BART_SITE_FFN_O);

    FZ_TRY(fz_column_forward(x, s->h, in, fz_weight(b, x, u + FZ_FFN_FC1_W), NULL, l->N, l->C,
                             l->ffn));
    for (int64_t j = 0; j < l->shards.count; j++) {
        const fz_dropout hidden = fz_bart_hidden_dropout(l, x, j);
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
    const fz_bart_layer l = fz_bart_describe_exec(block, x);
    fz_bart_layer_saved *record = take_record(&l, x->save);
    fz_bart_layer_saved s = take_saved(&l, x->save, x->work);
    fz_bart_scratch t = take_forward(&l, x->work);

    if (l.decode) {
        t.cache = take_cache(&l, x->cache);
        FZ_TRY(fz_kv_cache_reorder(x, &t.cache, take_moved(&l, x->work)));
    }
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

/* ---- generation ---- */

static fz_status cache_fill(const fz_block *block, fz_exec *x)
{
    const fz_bart_layer l = fz_bart_describe_exec(block, x);
    const fz_kv_cache cache = take_cache(&l, x->cache);
    return keys_and_values(&l, x, &l.cross, cache.cross_k, cache.cross_v, x->stream[FZ_STREAM_ENC],
                           cache.sizes.n_enc);
}

static void decode_bytes(const fz_block *block, const fz_program *program,
                         const fz_decode_sizes *sizes, fz_shards shards, fz_decode_bytes *out)
{
    const fz_bart_layer l = describe_step(block, program, &fz_ops_cpu, sizes, shards);
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
    const fz_bart_layer l = describe(block, program, &fz_ops_cpu, sizes, shards);
    fz_arena save = fz_arena_counting(), keep = fz_arena_counting();
    fz_arena forward_work = fz_arena_counting(), backward_work = fz_arena_counting();
    take_record(&l, &save);
    take_saved(&l, &save, &forward_work);
    take_forward(&l, &forward_work);
    if (l.keeps) fz_bart_count_backward(&l, &keep, &backward_work);
    *out = (fz_block_bytes){.save = save.peak,
                            .keep = keep.peak,
                            .work = forward_work.peak > backward_work.peak ? forward_work.peak
                                                                           : backward_work.peak};
}

static void count_att(const fz_bart_layer *l, fz_flops *f, const fz_bart_att *a, bool below)
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
    const fz_bart_layer l = describe(block, program, &fz_ops_cpu, sizes, shards);
    const bool self = fz_bart_needs_self(&l), cross = fz_bart_needs_cross(&l);
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

const fz_block_kind fz_block_encoder_layer = {
    .name = "encoder.layer",
    .forward = forward,
    .backward_input = fz_bart_backward_input,
    .backward_weight = fz_bart_backward_weight,
    .bytes = bytes,
    .flops = flops,
};

const fz_block_kind fz_block_bart_decoder_layer = {
    .name = "decoder.layer",
    .forward = forward,
    .backward_input = fz_bart_backward_input,
    .backward_weight = fz_bart_backward_weight,
    .bytes = bytes,
    .flops = flops,
    .decode_bytes = decode_bytes,
    .cache_fill = cache_fill,
};
