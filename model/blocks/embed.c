/* The three blocks that start a text stream: encoder.embed and decoder.embed of both families.
 * Their gradients (look-ups, positions, norm) are formed in backward_input, which has d(out) in
 * hand: adding rows costs less than keeping a copy of them. */
#include <math.h>

#include "core/assert.h"
#include "model/blocks/bart.h"
#include "model/blocks/gemma.h"
#include "model/blocks/kv_cache.h"
#include "model/blocks/linear.h"

static const float LAYERNORM_EPS = 1e-5f;
enum { POSITION_OFFSET = 2, MAX_SHARDS = 1024 };

typedef struct embed {
    const fz_block *block;
    const fz_program *program;
    fz_stream stream;
    bool images; /* image tokens in front of each sample's ids */
    bool norm;   /* positions, LayerNorm, dropout: BART */
    bool keeps;
    int64_t N, C, B, n_local_images, tokens_per_image;
    int64_t n_prompt; /* rows that are looked up */
    int64_t max_len, piece_rows;
    fz_shards shards;
    float scale;
} embed;

typedef struct embed_saved { /* sum: before the norm, (N, C); mean, rstd (N) */
    float *sum, *mean, *rstd, *out;
} embed_saved;

typedef struct embed_scratch {
    float *prompt; /* (n_prompt, C): what crosses ranks is the looked-up rows alone */
    float *images; /* of all shards, where some are elsewhere */
    float *norm_work, *position_work;
} embed_scratch;

static embed describe(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                      fz_shards shards)
{
    const fz_model_config *c = &program->config;
    embed e = {.block = block,
               .program = program,
               .stream = block->writes,
               .shards = shards,
               .C = block->out_width,
               .B = sizes->n_samples,
               .keeps = fz_block_keeps(block),
               .scale = 1.0f};
    e.images = block->kind == &fz_block_encoder_embed;
    e.norm = block->kind != &fz_block_gemma_decoder_embed;
    e.N = e.images ? sizes->n_enc : sizes->n_dec;
    e.max_len = e.images ? sizes->max_enc_len : sizes->max_dec_len;
    e.n_local_images = sizes->n_local_images;
    e.tokens_per_image = e.images ? fz_image_tokens(c) : 0;
    e.n_prompt = e.N - e.B * e.tokens_per_image;
    FZ_ASSERT(e.n_prompt >= 0);
    const int64_t vocab = fz_use_param(program, block, FZ_EMBED_TABLE)->shape[0];
    e.piece_rows = (vocab + shards.n - 1) / shards.n;
    if (!e.norm) e.scale = sqrtf((float)e.C); /* Gemma; fp32 on every backend (design.md 8) */
    return e;
}

static embed describe_exec(const fz_block *block, const fz_exec *x)
{
    embed e = describe(block, x->program, &x->batch->sizes, x->shards);
    if (x->decode) e.keeps = false;
    return e;
}

static embed_saved take_saved(const embed *e, fz_arena *save, fz_arena *work)
{
    embed_saved s = {.out = fz_arena_floats(save, e->N * e->C)};
    fz_arena *arena = fz_choose(e->keeps, save, work);
    if (e->norm) {
        s.sum = fz_arena_floats(arena, e->N * e->C);
        s.mean = fz_arena_floats(arena, e->N);
        s.rstd = fz_arena_floats(arena, e->N);
    }
    return s;
}

static embed_saved *take_record(const embed *e, fz_arena *save)
{
    if (!e->norm || !e->keeps) return NULL;
    return fz_arena_take(save, sizeof(embed_saved));
}

static embed_scratch take_forward(const embed *e, fz_arena *work)
{
    embed_scratch t = {0};
    if (!e->images) return t;
    t.prompt = fz_arena_floats(work, e->n_prompt * e->C);
    if (e->shards.count < e->shards.n)
        t.images = fz_arena_floats(work, e->B * e->tokens_per_image * e->C);
    return t;
}

static embed_scratch take_backward(const embed *e, fz_arena *work)
{
    embed_scratch t = {0};
    if (!e->norm) return t;
    if (fz_uses_train(e->program, e->block, FZ_EMBED_NORM_W, 2))
        t.norm_work = fz_arena_floats(work, (2 * e->shards.n + 1) * e->C);
    if (fz_use_trains(e->program, e->block, FZ_EMBED_POS))
        t.position_work = fz_arena_floats(work, e->shards.n * e->max_len * e->C);
    return t;
}

static fz_rows rows_of(const embed *e, const fz_exec *x)
{
    return (fz_rows){.n_seq = e->B,
                     .start = e->images ? x->batch->enc_start : x->batch->dec_start,
                     .sample_n = x->batch->sample_n,
                     .first = x->decode ? x->decode->position : 0};
}

static fz_dropout dropout_of(const embed *e, const fz_exec *x)
{
    const bool active = x->training && e->block->dropout_active;
    return (fz_dropout){
        .p = active ? e->program->config.dropout : 0.0, .seed = x->seed, .site = e->block->site};
}

static fz_status gather_images(const embed *e, fz_exec *x, float *all)
{
    int64_t first[MAX_SHARDS + 1];
    FZ_ASSERT(e->shards.n <= MAX_SHARDS);
    for (int64_t s = 0; s <= e->shards.n; s++)
        first[s] = fz_image_first(e->B, e->shards.n, s);
    FZ_TRY(x->hooks->gather_images_start(x->hooks->context, all, x->stream[FZ_STREAM_VISION], first,
                                         e->tokens_per_image * e->C));
    return x->hooks->gather_images_wait(x->hooks->context);
}

/* Looked-up rows of all samples, close together, then each sample's images and its share of them.
 */
static fz_status join_images_and_ids(const embed *e, fz_exec *x, const embed_scratch *t, float *y)
{
    const float *table = fz_weight(e->block, x, FZ_EMBED_TABLE);
    const int32_t *start = x->batch->enc_start;
    const float *all = x->stream[FZ_STREAM_VISION];
    int64_t done = 0;

    if (e->shards.count < e->shards.n) {
        FZ_TRY(gather_images(e, x, t->images));
        all = t->images;
    }
    for (int64_t b = 0; b < e->B; b++) {
        const int64_t from = start[b] + e->tokens_per_image, n = start[b + 1] - from;
        FZ_TRY(fz_lookup_local(x, t->prompt + done * e->C, table, x->batch->enc_ids + from, n, e->C,
                               e->piece_rows, e->scale));
        done += n;
    }
    FZ_TRY(fz_sum_shards(x->hooks, t->prompt, e->n_prompt * e->C));
    done = 0;
    for (int64_t b = 0; b < e->B; b++) {
        const int64_t from = start[b] + e->tokens_per_image, n = start[b + 1] - from;
        const int64_t image = e->tokens_per_image * e->C;
        FZ_TRY(x->ops->copy(y + start[b] * e->C, all + b * image, image, x->queue));
        FZ_TRY(x->ops->copy(y + from * e->C, t->prompt + done * e->C, n * e->C, x->queue));
        done += n;
    }
    return FZ_OK;
}

static fz_status forward(const fz_block *block, fz_exec *x)
{
    const embed e = describe_exec(block, x);
    embed_saved *record = take_record(&e, x->save);
    const embed_saved s = take_saved(&e, x->save, x->work);
    const embed_scratch t = take_forward(&e, x->work);
    float *y = e.norm ? s.sum : s.out;

    if (e.images) {
        FZ_TRY(join_images_and_ids(&e, x, &t, y));
    } else {
        FZ_TRY(fz_lookup_local(x, y, fz_weight(block, x, FZ_EMBED_TABLE), x->batch->dec_ids, e.N,
                               e.C, e.piece_rows, e.scale));
        FZ_TRY(fz_sum_shards(x->hooks, y, e.N * e.C));
    }
    if (e.norm) {
        const fz_rows rows = rows_of(&e, x);
        const fz_dropout drop = dropout_of(&e, x);
        FZ_TRY(x->ops->position_forward(y, fz_weight(block, x, FZ_EMBED_POS), &rows, e.C,
                                        POSITION_OFFSET, x->queue));
        FZ_TRY(x->ops->layernorm_forward(
            s.out, s.mean, s.rstd, y, fz_weight(block, x, FZ_EMBED_NORM_W),
            fz_weight(block, x, FZ_EMBED_NORM_B), e.N, e.C, LAYERNORM_EPS, x->queue));
        FZ_TRY(x->ops->dropout(s.out, s.out, NULL, &rows, e.C, &drop, x->queue));
    }
    if (record) *record = s;
    x->saved = record;
    x->stream[e.stream] = s.out;
    return FZ_OK;
}

/* d becomes the gradient of the sum before the norm. */
static fz_status backward_norm(const embed *e, fz_exec *x, float *d)
{
    const fz_block *block = e->block;
    const embed_saved *s = x->saved;
    const embed_scratch t = take_backward(e, x->work);
    const fz_rows rows = rows_of(e, x);
    const fz_dropout drop = dropout_of(e, x);
    float *dw = fz_grad(block, x, FZ_EMBED_NORM_W), *db = fz_grad(block, x, FZ_EMBED_NORM_B);
    float *dpos = fz_grad(block, x, FZ_EMBED_POS);

    FZ_TRY(x->ops->dropout(d, d, NULL, &rows, e->C, &drop, x->queue));
    FZ_TRY(fz_layernorm_grads(x, dw, db, d, s->sum, s->mean, s->rstd, e->N, e->C, t.norm_work));
    FZ_TRY(x->ops->layernorm_backward_input(d, d, s->sum, s->mean, s->rstd,
                                            fz_weight(block, x, FZ_EMBED_NORM_W), e->N, e->C,
                                            x->queue));
    if (dpos)
        FZ_TRY(x->ops->position_backward(dpos, d, &rows, e->C, POSITION_OFFSET, e->max_len,
                                         e->shards.n, t.position_work, x->queue));
    return FZ_OK;
}

static fz_status backward_input(const fz_block *block, fz_exec *x)
{
    const embed e = describe_exec(block, x);
    float *d = x->dstream[e.stream];

    x->kept = NULL;
    if (e.norm) FZ_TRY(backward_norm(&e, x, d));
    /* Image tokens have id -1, which no piece holds. The pad row is not trained by look-ups. */
    FZ_TRY(fz_lookup_backward(x, fz_grad(block, x, FZ_EMBED_TABLE), d,
                              e.images ? x->batch->enc_ids : x->batch->dec_ids, e.N, e.C,
                              e.piece_rows, e.scale,
                              (int32_t)fz_use_param(x->program, block, FZ_EMBED_TABLE)->pad_row));
    if (!e.images || !block->wants_input_grad) return FZ_OK;
    const int64_t image = e.tokens_per_image * e.C;
    const int64_t first = fz_image_first(e.B, e.shards.n, e.shards.first);
    for (int64_t i = 0; i < e.n_local_images; i++)
        FZ_TRY(x->ops->copy(x->dstream[FZ_STREAM_VISION] + i * image,
                            d + x->batch->enc_start[first + i] * e.C, image, x->queue));
    return FZ_OK;
}

static fz_status backward_weight(const fz_block *block, fz_exec *x)
{
    (void)block; /* backward_input did it */
    (void)x;
    return FZ_OK;
}

static void bytes(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_block_bytes *out)
{
    const embed e = describe(block, program, sizes, shards);
    fz_arena save = fz_arena_counting(), forward_work = fz_arena_counting();
    fz_arena backward_work = fz_arena_counting();
    take_record(&e, &save);
    take_saved(&e, &save, &forward_work);
    take_forward(&e, &forward_work);
    if (e.keeps) take_backward(&e, &backward_work);
    *out = (fz_block_bytes){.save = save.peak,
                            .work = forward_work.peak > backward_work.peak ? forward_work.peak
                                                                           : backward_work.peak};
}

static void decode_bytes(const fz_block *block, const fz_program *program,
                         const fz_decode_sizes *decode, fz_shards shards, fz_decode_bytes *out)
{
    const fz_sizes sizes = fz_decode_step_sizes(decode);
    embed e = describe(block, program, &sizes, shards);
    fz_arena save = fz_arena_counting(), work = fz_arena_counting();
    e.keeps = false;
    take_saved(&e, &save, &work);
    take_forward(&e, &work);
    *out = (fz_decode_bytes){.save = save.peak, .work = work.peak};
}

static void flops(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_flops *out)
{
    (void)block; /* rows are copied and added: no products */
    (void)program;
    (void)sizes;
    (void)shards;
    *out = (fz_flops){0};
}

#define EMBED_KIND(text, step)                                                                     \
    {                                                                                              \
        .name = text, .forward = forward, .backward_input = backward_input,                        \
        .backward_weight = backward_weight, .bytes = bytes, .flops = flops, .decode_bytes = step   \
    }

const fz_block_kind fz_block_encoder_embed = EMBED_KIND("encoder.embed", NULL);
const fz_block_kind fz_block_bart_decoder_embed = EMBED_KIND("decoder.embed", decode_bytes);
const fz_block_kind fz_block_gemma_decoder_embed = EMBED_KIND("decoder.embed", decode_bytes);
