#include "parallel/generator.h"

#include <math.h>
#include <string.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/memory.h"
#include "parallel/trainer_parts.h"

enum { TAG_STEP = 32 };

struct fz_generator {
    fz_trainer *trainer; /* borrowed */
    fz_decode_sizes most;
    int first, last; /* this stage's blocks of decoder and head: [first, last) */
    bool receives, sends;
    bool started;

    void *base; /* owned: the one allocation; everything below points into it */
    size_t bytes;
    fz_arena *caches; /* by block from the stage's first one */
    fz_arena save[2]; /* outputs by parity of the block */
    fz_arena work;
    float *received; /* (rows, dec_width): DEC from the stage below */
    int64_t *sample_n;
    int32_t *enc_start, *dec_start, *labels, *sample_start, *cache_start;

    fz_exec exec;
    fz_decode decode; /* of the batch and its current step */
    fz_microbatch batch;
};

/* ---- memory ---- */

static fz_arena take_arena(fz_arena *arena, size_t bytes)
{
    void *base = fz_arena_take(arena, bytes);
    return base ? fz_arena_over(base, fz_align_up(bytes)) : fz_arena_counting();
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void lay_out_blocks(fz_generator *g, fz_arena *arena)
{
    const fz_rank_plan *rp = &g->trainer->rp;
    const fz_program *program = g->trainer->plan->program;
    size_t save[2] = {0, 0}, work = 0;

    g->caches =
        fz_arena_take(arena, (size_t)(rp->last_block - rp->first_block) * sizeof *g->caches);
    for (int b = g->first; b < g->last; b++) {
        const fz_block *block = &program->blocks[b];
        fz_decode_bytes bytes = {0};
        block->kind->decode_bytes(block, program, &g->most, rp->shards, &bytes);
        const fz_arena cache = take_arena(arena, bytes.cache);
        if (g->caches) g->caches[b - rp->first_block] = cache;
        save[b & 1] = larger(save[b & 1], bytes.save);
        work = larger(work, bytes.work);
    }
    for (int i = 0; i < 2; i++)
        g->save[i] = take_arena(arena, save[i]);
    g->work = take_arena(arena, work);
}

/* Over a counting arena and over the allocation: the same both times. */
static void lay_out(fz_generator *g, fz_arena *arena)
{
    const int64_t B = g->most.n_samples, rows = B * g->most.beams;

    lay_out_blocks(g, arena);
    g->received = fz_arena_floats(
        arena, g->receives ? rows * g->trainer->plan->program->config.dec_width : 0);
    g->sample_n = fz_arena_take(arena, (size_t)rows * sizeof *g->sample_n);
    g->enc_start = fz_arena_ints(arena, B + 1);
    g->sample_start = fz_arena_ints(arena, B + 1);
    g->dec_start = fz_arena_ints(arena, rows + 1);
    g->cache_start = fz_arena_ints(arena, rows + 1);
    g->labels = fz_arena_ints(arena, rows);
}

/* ---- create ---- */

static fz_status check_sizes(const fz_trainer *t, const fz_generator_sizes *s)
{
    const fz_model_config *c = &t->plan->program->config;
    const int64_t micro_batch = t->plan->train.micro_batch;

    FZ_CHECK(s->n_samples >= 1 && s->n_samples <= micro_batch, FZ_ERR_ARG,
             "generation of %lld samples at once: use 1 to train.micro_batch, %lld",
             (long long)s->n_samples, (long long)micro_batch);
    FZ_CHECK(s->beams >= 1 && s->max_tokens >= 1 && s->n_candidates >= 1, FZ_ERR_ARG,
             "generation with %lld beams, %lld tokens, %lld candidates: use 1 or more of each",
             (long long)s->beams, (long long)s->max_tokens, (long long)s->n_candidates);
    /* The table's first two rows are not positions (model.md 4.2). */
    FZ_CHECK(c->family != FZ_DECODER_BART || s->max_tokens <= c->dec_positions - 2, FZ_ERR_USAGE,
             "generation of %lld tokens: the decoder of %s has %lld positions",
             (long long)s->max_tokens, c->variant, (long long)c->dec_positions - 2);
    FZ_CHECK(s->max_tokens <= INT32_MAX / s->beams / s->n_samples, FZ_ERR_USAGE,
             "generation of %lld tokens by %lld beams of %lld samples: more than %d in all; use "
             "fewer samples at once",
             (long long)s->max_tokens, (long long)s->beams, (long long)s->n_samples, INT32_MAX);
    return FZ_OK;
}

static int first_decoder_block(const fz_program *program)
{
    int b = 0;
    while (program->blocks[b].writes != FZ_STREAM_DEC)
        b++;
    return b;
}

static void describe(fz_generator *g, fz_trainer *t, const fz_generator_sizes *sizes)
{
    const fz_program *program = t->plan->program;
    const fz_sizes batch = fz_program_max_sizes(program, sizes->n_samples, t->rp.shards);
    const int decoder = first_decoder_block(program);

    g->trainer = t;
    g->most = (fz_decode_sizes){.n_samples = sizes->n_samples,
                                .beams = sizes->beams,
                                .max_tokens = sizes->max_tokens,
                                .n_candidates = sizes->n_candidates,
                                .n_enc = batch.n_enc,
                                .max_enc_len = batch.max_enc_len};
    g->first = decoder > t->rp.first_block ? decoder : t->rp.first_block;
    g->last = t->rp.last_block;
    g->receives = t->rp.first_block > decoder;
    g->sends = g->first < g->last && g->last < program->n_blocks;
}

fz_status fz_generator_create(fz_trainer *trainer, const fz_generator_sizes *sizes,
                              fz_generator **generator_p)
{
    fz_generator *g = NULL;
    fz_arena counting = fz_arena_counting();

    FZ_TRY(check_sizes(trainer, sizes));
    FZ_TRY(FZ_NEW(&g, 1));
    describe(g, trainer, sizes);
    lay_out(g, &counting);
    g->bytes = counting.used;
    const fz_status status = fz_alloc(&g->base, g->bytes, "the caches of generation");
    if (status != FZ_OK) {
        fz_generator_destroy(&g);
        return status;
    }
    fz_arena arena = fz_arena_over(g->base, g->bytes);
    lay_out(g, &arena);
    FZ_ASSERT(arena.used == g->bytes);
    g->exec = trainer->pipeline.exec;
    g->exec.training = false;
    g->exec.work = &g->work;
    g->exec.token_loss = NULL;
    g->exec.loss_sum = NULL;
    g->exec.next_token = NULL;
    *generator_p = g;
    return FZ_OK;
}

void fz_generator_destroy(fz_generator **generator)
{
    if (!*generator) return;
    fz_free(&(*generator)->base);
    fz_free(generator);
}

size_t fz_generator_bytes(const fz_generator *generator)
{
    return generator->bytes;
}

/* ---- a batch ---- */

static void set_batch(fz_generator *g, const fz_microbatch *batch, int64_t beams)
{
    const int64_t B = batch->sizes.n_samples, rows = B * beams;

    g->decode = (fz_decode){
        .sizes = g->most, .sample_start = g->sample_start, .cache_start = g->cache_start};
    g->decode.sizes.n_samples = B;
    g->decode.sizes.beams = beams;
    g->decode.sizes.n_enc = batch->sizes.n_enc;
    g->decode.sizes.max_enc_len = batch->sizes.max_enc_len;
    memcpy(g->enc_start, batch->enc_start, (size_t)(B + 1) * sizeof *g->enc_start);
    for (int64_t s = 0; s <= B; s++)
        g->sample_start[s] = (int32_t)(s * beams);
    for (int64_t r = 0; r <= rows; r++) {
        g->dec_start[r] = (int32_t)r;
        g->cache_start[r] = (int32_t)(r * g->most.max_tokens);
    }
    for (int64_t r = 0; r < rows; r++)
        g->labels[r] = FZ_NO_LABEL;
    g->batch = (fz_microbatch){.sizes = {.n_samples = rows,
                                         .n_enc = batch->sizes.n_enc,
                                         .n_dec = rows,
                                         .max_enc_len = batch->sizes.max_enc_len,
                                         .max_dec_len = 1},
                               .sample_n = g->sample_n,
                               .enc_start = g->enc_start,
                               .dec_start = g->dec_start,
                               .labels = g->labels};
}

fz_status fz_generator_start(fz_generator *generator, const fz_microbatch *batch, int64_t beams)
{
    fz_generator *g = generator;
    fz_microbatch micro = *batch;
    const fz_pipeline_run run = {
        .micro = &micro, .n_micro = 1, .decode = &g->decode, .caches = g->caches};

    FZ_CHECK(batch->sizes.n_samples <= g->most.n_samples && beams >= 1 && beams <= g->most.beams,
             FZ_ERR_ARG,
             "generation of %lld samples with %lld beams; there is room for %lld and %lld",
             (long long)batch->sizes.n_samples, (long long)beams, (long long)g->most.n_samples,
             (long long)g->most.beams);
    FZ_ASSERT(batch->sizes.n_enc <= g->most.n_enc);
    FZ_ASSERT(batch->sizes.max_enc_len <= g->most.max_enc_len);
    set_batch(g, batch, beams);
    g->started = true;
    /* Nothing of the decoder runs or travels yet. */
    micro.sizes.n_dec = micro.sizes.max_dec_len = 0;
    return fz_pipeline_play(&g->trainer->pipeline, &run);
}

/* ---- a step ---- */

static fz_status check_step(const fz_generator *g, const fz_generator_step *step)
{
    const fz_decode_sizes *s = &g->decode.sizes;
    const int64_t V = g->trainer->plan->program->config.dec_vocab;

    FZ_CHECK(g->started, FZ_ERR_ARG, "generation steps before a batch is started");
    FZ_CHECK(g->decode.position < s->max_tokens, FZ_ERR_ARG,
             "generation steps beyond the %lld tokens there is room for", (long long)s->max_tokens);
    for (int64_t r = 0; r < s->n_samples * s->beams; r++) {
        FZ_CHECK(step->ids[r] >= 0 && step->ids[r] < V, FZ_ERR_ARG,
                 "row %lld gets id %d; ids of the decoder are 0 to %lld", (long long)r,
                 step->ids[r], (long long)V - 1);
        FZ_CHECK(!step->parent ||
                     (step->parent[r] >= 0 && step->parent[r] / s->beams == r / s->beams),
                 FZ_ERR_ARG, "row %lld goes on with row %d, which is another sample's",
                 (long long)r, step->parent[r]);
    }
    return FZ_OK;
}

static fz_status run_block(fz_generator *g, int b)
{
    fz_exec *x = &g->exec;
    const fz_block *block = &x->program->blocks[b];

    x->save = &g->save[b & 1];
    x->cache = &g->caches[b - g->trainer->rp.first_block];
    fz_arena_release(x->save, 0);
    fz_arena_release(x->cache, 0);
    fz_arena_release(x->work, 0);
    fz_span_begin(block->name, FZ_SHARE_COMPUTE);
    const fz_status status = block->kind->forward(block, x);
    fz_span_end();
    return status;
}

/* DEC from below, through this stage's blocks, and on. */
static fz_status run_stage(fz_generator *g)
{
    const fz_trainer *t = g->trainer;
    const fz_group *group = t->mesh->pipeline;
    const size_t bytes =
        (size_t)(g->batch.sizes.n_dec * g->exec.program->config.dec_width) * sizeof(float);
    fz_request request = {{0}};

    if (g->receives && bytes > 0) {
        FZ_TRY(fz_recv_start(group, g->received, bytes, t->rp.coord.pp - 1, TAG_STEP, &request));
        FZ_TRY(fz_request_wait(&request));
    }
    g->exec.stream[FZ_STREAM_DEC] = g->received;
    for (int b = g->first; b < g->last; b++)
        FZ_TRY(run_block(g, b));
    if (!g->sends || bytes == 0) return FZ_OK;
    FZ_TRY(fz_send_start(group, g->exec.stream[FZ_STREAM_DEC], bytes, t->rp.coord.pp + 1, TAG_STEP,
                         &request));
    return fz_request_wait(&request);
}

fz_status fz_generator_next(fz_generator *generator, const fz_generator_step *step,
                            fz_candidate *candidates)
{
    fz_generator *g = generator;
    const fz_mesh *mesh = g->trainer->mesh;

    FZ_TRY(check_step(g, step));
    const int64_t n = g->batch.sizes.n_dec * g->decode.sizes.n_candidates;
    g->batch.dec_ids = step->ids;
    g->decode.parent = step->parent;
    g->decode.banned = step->banned;
    g->decode.banned_start = step->banned ? step->banned_start : NULL;
    g->decode.candidates = candidates;
    g->exec.batch = &g->batch;
    g->exec.decode = &g->decode;
    FZ_TRY(run_stage(g));
    FZ_TRY(fz_broadcast(mesh->pipeline, candidates, (size_t)n * sizeof *candidates,
                        mesh->shape.pp - 1));
    g->decode.position++;
    for (int64_t i = 0; i < n; i++)
        FZ_CHECK(!isnan(candidates[i].log_prob), FZ_ERR_FORMAT,
                 "generation: the logits of row %lld are not finite; the weights may be damaged",
                 (long long)(i / g->decode.sizes.n_candidates));
    return FZ_OK;
}
