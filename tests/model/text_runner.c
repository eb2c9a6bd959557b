#include "tests/model/text_runner.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/assert.h"
#include "core/memory.h"
#include "core/rng.h"
#include "core/tree.h"
#include "model/blocks/bart.h"
#include "model/ops/ops.h"

static void must(fz_status status)
{
    if (status != FZ_OK) fprintf(stderr, "%s\n", fz_last_error()->text);
    FZ_ASSERT(status == FZ_OK);
}

float text_random(uint64_t seed, uint64_t i)
{
    const uint64_t bits = fz_mix64(seed * 0x9E3779B97F4A7C15u + i + 1);
    return (float)(int64_t)(bits >> 40) * 0x1p-23f - 1.0f;
}

int64_t text_piece(const text_model *model, int param)
{
    return fz_param_piece_elements(&model->program->params[param], model->program->n_shards);
}

int64_t text_pieces(const text_model *model, int param)
{
    return fz_param_pieces(&model->program->params[param], model->program->n_shards);
}

/* ---- the model ---- */

/* Replicas of a key/value head start equal; vocabulary padding is zero. */
static void fill_param(text_model *model, int i)
{
    const fz_param *param = &model->program->params[i];
    const int64_t S = model->program->n_shards, n = text_piece(model, i);
    const float at = param->init == FZ_INIT_ONE ? 1.0f : 0.0f;
    const float spread = param->ndim > 1 ? 0.25f : 0.4f;
    const bool is_gate = param->ndim == 1 && param->shape[0] == 1;

    must(fz_alloc((void **)&model->weights[i], (size_t)(text_pieces(model, i) * n) * sizeof(float),
                  "weights"));
    for (int64_t s = 0; s < text_pieces(model, i); s++) {
        int64_t lo[FZ_MAX_AXES], hi[FZ_MAX_AXES], held = 1;
        fz_param_piece_box(param, S, s, lo, hi);
        for (int a = 0; a < param->ndim; a++)
            held *= hi[a] - lo[a];
        for (int64_t e = 0; e < held; e++)
            model->weights[i][s * n + e] =
                is_gate ? 0.7f
                        : at + spread * text_random(model->seed + (uint64_t)i * 977 +
                                                        (uint64_t)(s / param->replicas) * 31,
                                                    (uint64_t)e);
    }
}

static void *array(int64_t n, size_t size)
{
    void *p = NULL;
    must(fz_alloc(&p, (size_t)n * size, "test array"));
    return p;
}

static void fill_batch(text_model *m, const text_sample *samples, int64_t B)
{
    const fz_model_config *c = &m->program->config;
    const int tokens = (int)fz_image_tokens(c);
    int32_t *enc_start = array(B + 1, sizeof(int32_t)), *dec_start = array(B + 1, sizeof(int32_t));
    int64_t *sample_n = array(B, sizeof(int64_t));
    fz_sizes *z = &m->batch.sizes;

    z->n_samples = B;
    for (int64_t b = 0; b < B; b++) {
        sample_n[b] = 100 + 7 * b;
        enc_start[b + 1] = enc_start[b] + tokens + samples[b].n_prompt;
        dec_start[b + 1] = dec_start[b] + samples[b].n_output;
        if (tokens + samples[b].n_prompt > z->max_enc_len)
            z->max_enc_len = tokens + samples[b].n_prompt;
        if (samples[b].n_output > z->max_dec_len) z->max_dec_len = samples[b].n_output;
    }
    z->n_enc = enc_start[B];
    z->n_dec = dec_start[B];
    int32_t *enc_ids = array(z->n_enc, sizeof(int32_t)), *ids = array(z->n_dec, sizeof(int32_t));
    int32_t *labels = array(z->n_dec, sizeof(int32_t));
    for (int64_t b = 0; b < B; b++)
        for (int32_t r = enc_start[b]; r < enc_start[b + 1]; r++)
            enc_ids[r] = r - enc_start[b] < tokens ? -1 : (int32_t)((r * 131 + 5) % c->enc_vocab);
    for (int32_t r = 0; r < z->n_dec; r++) {
        ids[r] = (int32_t)((r * 89 + 2) % c->dec_vocab);
        /* every fifth is not scored; among the others the last piece's last id */
        labels[r] =
            r % 5 == 4 ? FZ_NO_LABEL : (int32_t)(c->dec_vocab - 1 - (r * 61) % c->dec_vocab);
        m->batch.n_labels += labels[r] >= 0;
    }
    m->batch.sample_n = sample_n;
    m->batch.enc_start = enc_start;
    m->batch.enc_ids = enc_ids;
    m->batch.dec_start = dec_start;
    m->batch.dec_ids = ids;
    m->batch.labels = labels;
    m->batch.loss_scale = 1.0f;
    const int64_t n = B * tokens * c->enc_width;
    m->vision = array(n, sizeof(float));
    for (int64_t i = 0; i < n; i++)
        m->vision[i] = text_random(m->seed + 5, (uint64_t)i);
}

text_model *text_model_create(const fz_model_config *config, int64_t n_shards,
                              const text_sample *samples, int64_t n_samples, uint64_t seed)
{
    text_model *m = array(1, sizeof *m);
    m->seed = seed;
    fz_ops_cpu_start();
    must(fz_program_create(config, n_shards, &m->program));
    m->weights = array(m->program->n_params, sizeof(float *));
    for (int i = 0; i < m->program->n_params; i++)
        fill_param(m, i);
    while (m->program->blocks[m->first].kind != &fz_block_encoder_embed)
        m->first++;
    fill_batch(m, samples, n_samples);
    return m;
}

static void drop(const void *p)
{
    union {
        const void *read;
        void *owned;
    } u = {.read = p}; /* the batch's arrays are this file's own, seen through const */
    fz_free(&u.owned);
}

void text_model_destroy(text_model **model)
{
    text_model *m = *model;
    for (int i = 0; i < m->program->n_params; i++)
        fz_free(&m->weights[i]);
    fz_free(&m->weights);
    fz_free(&m->vision);
    drop(m->batch.sample_n);
    drop(m->batch.enc_start);
    drop(m->batch.enc_ids);
    drop(m->batch.dec_start);
    drop(m->batch.dec_ids);
    drop(m->batch.labels);
    fz_program_destroy(&m->program);
    fz_free(model);
}

fz_sizes text_sizes(const text_model *model, fz_shards shards)
{
    fz_sizes sizes = model->batch.sizes;
    const int64_t B = sizes.n_samples;
    sizes.n_local_images = fz_image_first(B, shards.n, shards.first + shards.count) -
                           fz_image_first(B, shards.n, shards.first);
    return sizes;
}

/* ---- one process ---- */

static int64_t local_pieces(const text_rank *rank, int param)
{
    return text_pieces(rank->model, param) == 1 ? 1 : rank->shards.count;
}

void text_rank_init(text_rank *rank, const text_model *model, fz_shards shards,
                    const fz_hooks *hooks)
{
    const fz_program *p = model->program;
    const fz_sizes sizes = text_sizes(model, shards);
    fz_block_bytes total = {0};

    *rank = (text_rank){.model = model, .shards = shards, .hooks = *hooks};
    rank->grads = array(p->n_uses, sizeof(float *));
    for (int u = 0; u < p->n_uses; u++) {
        const int param = p->uses[u].param;
        if (!p->params[param].trainable || p->uses[u].block < model->first) continue;
        rank->grads[u] = array(local_pieces(rank, param) * text_piece(model, param), sizeof(float));
    }
    rank->token_loss = array(sizes.n_dec, sizeof(float));
    rank->next_token = array(sizes.n_samples, sizeof(int32_t));
    rank->d_vision = array(sizes.n_local_images * fz_image_tokens(&p->config) * p->config.enc_width,
                           sizeof(float));
    rank->d_enc = array(sizes.n_enc * p->config.enc_width, sizeof(float));
    rank->work_seen = array(p->n_blocks, sizeof(size_t));
    for (int b = model->first; b < p->n_blocks; b++) {
        fz_block_bytes bytes;
        p->blocks[b].kind->bytes(&p->blocks[b], p, &sizes, shards, &bytes);
        total.save += bytes.save;
        total.keep += bytes.keep;
        if (bytes.work > total.work) total.work = bytes.work;
    }
    const size_t sizes_of[3] = {total.save, total.keep, total.work};
    fz_arena *arenas[3] = {&rank->save, &rank->keep, &rank->work};
    for (int i = 0; i < 3; i++) {
        rank->memory[i] = array((int64_t)sizes_of[i] + FZ_ALIGN, 1);
        /* not-a-numbers: whoever reads what nobody wrote is found out */
        memset(rank->memory[i], 0xff, sizes_of[i] + FZ_ALIGN);
        *arenas[i] = fz_arena_over(rank->memory[i], sizes_of[i]);
    }
}

void text_rank_reset(text_rank *rank)
{
    for (int u = 0; u < rank->model->program->n_uses; u++)
        fz_free(&rank->grads[u]);
    fz_free(&rank->grads);
    fz_free(&rank->token_loss);
    fz_free(&rank->next_token);
    fz_free(&rank->d_vision);
    fz_free(&rank->d_enc);
    fz_free(&rank->work_seen);
    for (int i = 0; i < 3; i++)
        fz_free(&rank->memory[i]);
}

/* What the passes of one block took, against what it said. */
typedef struct taken {
    size_t save, keep;
} taken;

static void see_work(text_rank *rank, int b)
{
    if (rank->work.used > rank->work_seen[b]) rank->work_seen[b] = rank->work.used;
    fz_arena_release(&rank->work, 0);
}

static void backward(text_rank *rank, fz_exec *x, void **saved, bool loss_only)
{
    const fz_program *p = rank->model->program;
    for (int b = p->n_blocks - 1; b >= rank->model->first; b--) {
        const fz_block *block = &p->blocks[b];
        fz_block_bytes bytes;
        if (!fz_block_keeps(block)) continue;
        const size_t keep = rank->keep.used;
        x->saved = saved[b];
        if (b == rank->model->first && rank->d_enc)
            memcpy(rank->d_enc, x->dstream[FZ_STREAM_ENC],
                   (size_t)(x->batch->sizes.n_enc * p->config.enc_width) * sizeof(float));
        must(block->kind->backward_input(block, x));
        see_work(rank, b);
        if (loss_only) return;
        must(block->kind->backward_weight(block, x));
        see_work(rank, b);
        block->kind->bytes(block, p, &x->batch->sizes, rank->shards, &bytes);
        rank->n_wrong_bytes += rank->keep.used - keep != bytes.keep;
    }
}

static void forward(text_rank *rank, fz_exec *x, void **saved)
{
    const fz_program *p = rank->model->program;
    for (int b = rank->model->first; b < p->n_blocks; b++) {
        const fz_block *block = &p->blocks[b];
        fz_block_bytes bytes;
        const size_t save = rank->save.used;
        x->saved = NULL;
        must(block->kind->forward(block, x));
        saved[b] = x->saved;
        see_work(rank, b);
        block->kind->bytes(block, p, &x->batch->sizes, rank->shards, &bytes);
        rank->n_wrong_bytes += rank->save.used - save != bytes.save;
        rank->n_wrong_bytes += rank->work_seen[b] > bytes.work;
    }
}

void text_rank_run(text_rank *rank, bool training, bool loss_only)
{
    const text_model *m = rank->model;
    const fz_program *p = m->program;
    const int64_t image = fz_image_tokens(&p->config) * p->config.enc_width;
    fz_microbatch batch = m->batch;
    batch.sizes = text_sizes(m, rank->shards);
    float **weights = array(p->n_params, sizeof(float *));
    void **saved = array(p->n_blocks, sizeof(void *));

    for (int i = 0; i < p->n_params; i++)
        weights[i] =
            m->weights[i] + (text_pieces(m, i) == 1 ? 0 : rank->shards.first) * text_piece(m, i);
    fz_exec x = {.program = p,
                 .ops = &fz_ops_cpu,
                 .hooks = &rank->hooks,
                 .shards = rank->shards,
                 .batch = &batch,
                 .seed = TEXT_SEED,
                 .training = training,
                 .weights = weights,
                 .grads = rank->grads,
                 .save = &rank->save,
                 .keep = &rank->keep,
                 .work = &rank->work,
                 .token_loss = rank->token_loss,
                 .loss_sum = &rank->loss_sum,
                 .next_token = training ? NULL : rank->next_token};
    x.stream[FZ_STREAM_VISION] =
        m->vision +
        fz_image_first(batch.sizes.n_samples, rank->shards.n, rank->shards.first) * image;
    x.dstream[FZ_STREAM_VISION] = rank->d_vision;
    x.dstream[FZ_STREAM_ENC] = array(batch.sizes.n_enc * p->config.enc_width, sizeof(float));
    x.dstream[FZ_STREAM_DEC] = array(batch.sizes.n_dec * p->config.dec_width, sizeof(float));
    forward(rank, &x, saved);
    if (training) backward(rank, &x, saved, loss_only);
    fz_arena_release(&rank->save, 0);
    fz_arena_release(&rank->keep, 0);
    fz_free(&x.dstream[FZ_STREAM_ENC]);
    fz_free(&x.dstream[FZ_STREAM_DEC]);
    fz_free(&weights);
    fz_free(&saved);
}

/* ---- several processes as threads ---- */

typedef struct team {
    int n;
    pthread_barrier_t barrier;
    const float **from;
    const fz_shards *shards;
    float *temp;
    int64_t room;
} team;

typedef struct member {
    team *team;
    int index;
    text_rank *rank;
    bool training;
} member;

static void meet(team *t)
{
    pthread_barrier_wait(&t->barrier);
}

static void collect(team *t, int64_t n)
{
    if (t->n * n > t->room) {
        fz_free(&t->temp);
        t->room = t->n * n;
        t->temp = array(t->room, sizeof(float));
    }
    for (int r = 0; r < t->n && n > 0; r++)
        memcpy(t->temp + r * n, t->from[r], (size_t)n * sizeof(float));
}

static fz_status join(void *context, float *x, int64_t n, bool is_max)
{
    member *m = context;
    team *t = m->team;
    t->from[m->index] = x;
    meet(t);
    if (m->index == 0) {
        collect(t, n);
        if (!is_max && n > 0) fz_tree_sum_rows(t->temp, t->n, n);
        for (int r = 1; is_max && r < t->n; r++)
            for (int64_t i = 0; i < n; i++)
                t->temp[i] = fmaxf(t->temp[i], t->temp[r * n + i]);
    }
    meet(t);
    if (n > 0) memcpy(x, t->temp, (size_t)n * sizeof(float));
    meet(t);
    return FZ_OK;
}

static fz_status join_sum(void *context, float *x, int64_t n)
{
    return join(context, x, n, false);
}

static fz_status join_max(void *context, float *x, int64_t n)
{
    return join(context, x, n, true);
}

static fz_status join_images(void *context, float *all, const float *mine, const int64_t *first,
                             int64_t per_image)
{
    member *m = context;
    team *t = m->team;
    t->from[m->index] = mine;
    meet(t);
    for (int r = 0; r < t->n; r++) {
        const int64_t from = first[t->shards[r].first];
        const int64_t n = first[t->shards[r].first + t->shards[r].count] - from;
        memcpy(all + from * per_image, t->from[r], (size_t)(n * per_image) * sizeof(float));
    }
    meet(t);
    return FZ_OK;
}

static fz_status join_bytes(void *context, void *all, const void *mine, size_t bytes)
{
    member *m = context;
    team *t = m->team;
    t->from[m->index] = mine;
    meet(t);
    for (int r = 0; r < t->n; r++)
        memcpy((char *)all + (size_t)r * bytes, t->from[r], bytes);
    meet(t);
    return FZ_OK;
}

static fz_status joined(void *context)
{
    (void)context;
    return FZ_OK;
}

static void *member_main(void *context)
{
    member *m = context;
    text_rank_run(m->rank, m->training, false);
    return NULL;
}

void text_ranks_run(text_rank *ranks, int n, bool training)
{
    team t = {.n = n};
    member *members = array(n, sizeof *members);
    pthread_t *threads = array(n, sizeof *threads);
    fz_shards *shards = array(n, sizeof *shards);

    t.from = array(n, sizeof *t.from);
    for (int r = 0; r < n; r++)
        shards[r] = ranks[r].shards;
    t.shards = shards;
    pthread_barrier_init(&t.barrier, NULL, (unsigned)n);
    for (int r = 0; r < n; r++) {
        members[r] = (member){.team = &t, .index = r, .rank = &ranks[r], .training = training};
        ranks[r].hooks = (fz_hooks){.context = &members[r],
                                    .sum_shards_start = join_sum,
                                    .sum_shards_wait = joined,
                                    .max_shards_start = join_max,
                                    .max_shards_wait = joined,
                                    .gather_images_start = join_images,
                                    .gather_images_wait = joined,
                                    .gather_shards_start = join_bytes,
                                    .gather_shards_wait = joined};
        FZ_ASSERT(pthread_create(&threads[r], NULL, member_main, &members[r]) == 0);
    }
    for (int r = 0; r < n; r++)
        pthread_join(threads[r], NULL);
    pthread_barrier_destroy(&t.barrier);
    fz_free(&t.temp);
    fz_free(&t.from);
    fz_free(&shards);
    fz_free(&threads);
    fz_free(&members);
}
