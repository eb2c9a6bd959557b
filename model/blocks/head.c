#include "model/blocks/head.h"

#include <math.h>

#include "model/blocks/kv_cache.h"
#include "model/blocks/linear.h"
#include "model/ops/math.h"

static const float RMSNORM_EPS = 1e-6f;

typedef struct head {
    const fz_block *block;
    const fz_program *program;
    fz_shards shards;
    int64_t n_samples, N, C, V, piece;
    int64_t n_best, k; /* rows whose best k columns are asked for at once: samples in eval (1), a
                          chunk in a step of generation */
    bool norm;
    bool want_dn; /* the gradient of what the product reads is needed */
} head;

typedef struct head_saved {
    const float *in;
} head_saved;

/* One chunk of tokens; piece arrays hold all local shards. */
typedef struct scratch {
    float *normed, *r;  /* (chunk, C), (N): the final norm's output and factors */
    float *z;           /* pieces (chunk, piece): logits, later their gradient  */
    float *max;         /* (chunk): over all columns                            */
    float *piece_max;   /* (chunk)                                              */
    float *sums;        /* fold slots of (2, chunk): sum of exponentials, target */
    float *target;      /* pieces (chunk): the label's logit where it lies there */
    float *loss;        /* (chunk)                                              */
    fz_top *best;       /* (n_best, k): of the local shards, then of all        */
    fz_top *piece_best; /* (n_best, k): of one more shard                       */
    fz_top *all;        /* (processes, n_best, k); where some shards are elsewhere */
    float *rest, *norm; /* fold of the input gradient; work of the norm's weight */
} scratch;

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- sizes and layout ---- */

static head describe(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                     fz_shards shards)
{
    head h = {.block = block,
              .program = program,
              .shards = shards,
              .n_samples = sizes->n_samples,
              .N = sizes->n_dec,
              .C = program->config.dec_width,
              .V = program->config.dec_vocab,
              .n_best = sizes->n_samples,
              .k = 1,
              .norm = block->n_uses == FZ_HEAD_USES};
    h.piece = (h.V + shards.n - 1) / shards.n;
    h.want_dn = block->wants_input_grad || (h.norm && fz_use_trains(program, block, FZ_HEAD_NORM));
    return h;
}

/* A step of generation. */
static head describe_step(const fz_block *block, const fz_program *program,
                          const fz_decode_sizes *decode, fz_shards shards)
{
    const fz_sizes sizes = fz_decode_step_sizes(decode);
    head h = describe(block, program, &sizes, shards);
    h.n_best = min64(FZ_HEAD_CHUNK, h.N);
    h.k = decode->n_candidates;
    return h;
}

static head describe_exec(const fz_block *block, const fz_exec *x)
{
    if (x->decode) return describe_step(block, x->program, &x->decode->sizes, x->shards);
    return describe(block, x->program, &x->batch->sizes, x->shards);
}

static fz_top *take_best(const head *h, fz_arena *work, int64_t n)
{
    return fz_arena_take(work, (size_t)(n * h->n_best * h->k) * sizeof(fz_top));
}

static scratch take_scratch(const head *h, fz_arena *work, bool backward)
{
    const int64_t T = min64(FZ_HEAD_CHUNK, h->N), count = h->shards.count;
    scratch t = {
        .z = fz_arena_floats(work, count * T * h->piece),
        .max = fz_arena_floats(work, T),
        .piece_max = fz_arena_floats(work, T),
        .sums = fz_arena_floats(work, (fz_fold_rest(count) + 1) * 2 * T),
        .target = fz_arena_floats(work, count * T),
        .loss = fz_arena_floats(work, T),
    };
    if (h->norm) {
        t.normed = fz_arena_floats(work, T * h->C);
        t.r = fz_arena_floats(work, h->N);
    }
    if (!backward) {
        t.best = take_best(h, work, 1);
        t.piece_best = take_best(h, work, 1);
        if (count < h->shards.n) t.all = take_best(h, work, h->shards.n / count);
    }
    if (backward && h->want_dn) t.rest = fz_arena_floats(work, fz_fold_rest(count) * T * h->C);
    if (backward && h->norm) t.norm = fz_arena_floats(work, h->shards.n * (h->C + 1));
    return t;
}

/* ---- one chunk ---- */

/* Columns of local shard j that exist. */
static int64_t valid_columns(const head *h, int64_t j)
{
    const int64_t left = h->V - (h->shards.first + j) * h->piece;
    return left < 0 ? 0 : min64(left, h->piece);
}

/* What the product reads for rows [row, row + n). */
static fz_status normed_input(const head *h, fz_exec *x, const scratch *t, const float *in,
                              int64_t row, int64_t n, const float **normed_p)
{
    *normed_p = in + row * h->C;
    if (!h->norm) return FZ_OK;
    FZ_TRY(x->ops->rmsnorm_forward(t->normed, t->r + row, in + row * h->C,
                                   fz_weight(h->block, x, FZ_HEAD_NORM), n, h->C, RMSNORM_EPS,
                                   x->queue));
    *normed_p = t->normed;
    return FZ_OK;
}

/* Logits, their maximum over all shards, and in sums' first slot the sum of exponentials and the
 * target's logit. */
static fz_status score(const head *h, fz_exec *x, const scratch *t, const float *normed,
                       const int32_t *labels, int64_t n)
{
    const fz_ops *ops = x->ops;
    const float cap = (float)h->program->config.final_softcap;
    const fz_fold fold = {.root = t->sums, .rest = t->sums + 2 * n, .n = 2 * n};

    FZ_TRY(fz_column_forward(x, t->z, normed, fz_weight(h->block, x, FZ_HEAD_TABLE), NULL, n, h->C,
                             h->piece));
    for (int64_t j = 0; j < h->shards.count; j++) {
        float *max = j == 0 ? t->max : t->piece_max;
        FZ_TRY(ops->ce_max(t->z + j * n * h->piece, max, t->target + j * n, labels, n, h->piece,
                           (h->shards.first + j) * h->piece, valid_columns(h, j), cap, x->queue));
        for (int64_t i = 0; j > 0 && i < n; i++)
            if (max[i] > t->max[i]) t->max[i] = max[i];
    }
    FZ_TRY(fz_max_shards(x->hooks, t->max, n));
    for (int64_t j = 0; j < h->shards.count; j++) {
        float *leaf = fz_fold_leaf(&fold, j);
        FZ_TRY(ops->ce_sum(leaf, t->z + j * n * h->piece, t->max, n, h->piece, valid_columns(h, j),
                           x->queue));
        FZ_TRY(ops->copy(leaf + n, t->target + j * n, n, x->queue));
        FZ_TRY(fz_fold_close(x, &fold, j));
    }
    return fz_fold_total(x, &fold);
}

static fz_status record_loss(fz_exec *x, const scratch *t, int64_t row, int64_t n, double *sum)
{
    float *loss = x->token_loss ? x->token_loss + row : t->loss;
    FZ_TRY(
        x->ops->ce_loss(loss, t->sums, t->max, t->sums + n, x->batch->labels + row, n, x->queue));
    for (int64_t i = 0; i < n; i++)
        *sum += (double)loss[i];
    return FZ_OK;
}

/* ---- best columns ---- */

/* Of rows [row, row + n) of a chunk of `chunk` rows, over the local shards, into best (n, k). */
static fz_status best_of_shards(const head *h, const fz_exec *x, const scratch *t, fz_top *best,
                                int64_t row, int64_t n, int64_t chunk, const int32_t *banned,
                                const int32_t *banned_start)
{
    for (int64_t j = 0; j < h->shards.count; j++) {
        fz_top *to = j == 0 ? best : t->piece_best;
        FZ_TRY(x->ops->top_k(to, t->z + (j * chunk + row) * h->piece, n, h->piece,
                             (h->shards.first + j) * h->piece, valid_columns(h, j), h->k, banned,
                             banned_start, x->queue));
        if (j > 0) FZ_TRY(x->ops->top_merge(best, to, n, h->k, x->queue));
    }
    return FZ_OK;
}

/* t->best (n, k) of the local shards becomes that of all. */
static fz_status best_of_all(const head *h, const fz_exec *x, const scratch *t, int64_t n)
{
    const int64_t here = h->shards.first / h->shards.count;
    if (h->shards.count == h->shards.n) return FZ_OK;
    FZ_TRY(fz_gather_shards(x->hooks, t->all, t->best, (size_t)(n * h->k) * sizeof *t->all));
    for (int64_t i = 0; i < h->shards.n / h->shards.count; i++)
        if (i != here) FZ_TRY(x->ops->top_merge(t->best, t->all + i * n * h->k, n, h->k, x->queue));
    return FZ_OK;
}

/* ---- eval ---- */

/* Of samples whose last token is in the chunk. */
static fz_status pick_next(const head *h, const fz_exec *x, const scratch *t, int64_t row,
                           int64_t n)
{
    for (int64_t b = 0; b < h->n_samples; b++) {
        const int64_t i = x->batch->dec_start[b + 1] - 1 - row;
        if (x->batch->dec_start[b + 1] == x->batch->dec_start[b] || i < 0 || i >= n) continue;
        FZ_TRY(best_of_shards(h, x, t, t->best + b, i, 1, n, NULL, NULL));
    }
    return FZ_OK;
}

static fz_status evaluate(const head *h, fz_exec *x)
{
    const scratch t = take_scratch(h, x->work, false);
    const float *in = x->stream[FZ_STREAM_DEC];
    double sum = 0.0;

    for (int64_t b = 0; b < h->n_samples; b++)
        t.best[b] = (fz_top){.id = -1, .value = -INFINITY};
    for (int64_t row = 0; row < h->N; row += FZ_HEAD_CHUNK) {
        const int64_t n = min64(FZ_HEAD_CHUNK, h->N - row);
        const float *normed;
        FZ_TRY(normed_input(h, x, &t, in, row, n, &normed));
        FZ_TRY(score(h, x, &t, normed, x->batch->labels + row, n));
        FZ_TRY(record_loss(x, &t, row, n, &sum));
        if (x->next_token) FZ_TRY(pick_next(h, x, &t, row, n));
    }
    if (x->loss_sum) *x->loss_sum = sum;
    if (!x->next_token) return FZ_OK;
    FZ_TRY(best_of_all(h, x, &t, h->n_samples));
    for (int64_t b = 0; b < h->n_samples; b++)
        x->next_token[b] = t.best[b].id;
    return FZ_OK;
}

/* ---- a step of generation ---- */

static fz_status suggest(const head *h, fz_exec *x)
{
    const scratch t = take_scratch(h, x->work, false);
    const fz_decode *d = x->decode;

    for (int64_t row = 0; row < h->N; row += FZ_HEAD_CHUNK) {
        const int64_t n = min64(FZ_HEAD_CHUNK, h->N - row);
        fz_candidate *candidates = d->candidates + row * h->k;
        const float *normed;
        FZ_TRY(normed_input(h, x, &t, x->stream[FZ_STREAM_DEC], row, n, &normed));
        FZ_TRY(score(h, x, &t, normed, x->batch->labels + row, n));
        FZ_TRY(best_of_shards(h, x, &t, t.best, 0, n, n, d->banned,
                              d->banned_start ? d->banned_start + row : NULL));
        FZ_TRY(best_of_all(h, x, &t, n));
        for (int64_t i = 0; i < n * h->k; i++) /* the loss with its sign turned, bit for bit */
            candidates[i] = (fz_candidate){
                .id = t.best[i].id,
                .log_prob = -(fz_logf(t.sums[i / h->k]) + (t.max[i / h->k] - t.best[i].value))};
    }
    return FZ_OK;
}

/* ---- passes ---- */

static fz_status forward(const fz_block *block, fz_exec *x)
{
    const head h = describe_exec(block, x);
    head_saved *saved =
        fz_block_keeps(block) && !x->decode ? fz_arena_take(x->save, sizeof *saved) : NULL;

    if (x->decode) return suggest(&h, x);
    if (saved) saved->in = x->stream[FZ_STREAM_DEC];
    x->saved = saved;
    return x->training && saved ? FZ_OK : evaluate(&h, x);
}

/* The logits of a chunk are scored: turns them into their gradient, adds the table's, and writes
 * that of the product's input to d. */
static fz_status chunk_backward(const head *h, fz_exec *x, const scratch *t, const float *normed,
                                int64_t row, int64_t n, float *d)
{
    const float cap = (float)h->program->config.final_softcap;
    const fz_fold fold = {.root = d, .rest = t->rest, .n = n * h->C};
    const fz_column_term term = {
        .dy = t->z, .w = fz_weight(h->block, x, FZ_HEAD_TABLE), .out = h->piece};

    for (int64_t j = 0; j < h->shards.count; j++)
        FZ_TRY(x->ops->ce_backward(t->z + j * n * h->piece, t->max, t->sums, x->batch->labels + row,
                                   n, h->piece, (h->shards.first + j) * h->piece,
                                   valid_columns(h, j), cap, x->batch->loss_scale, x->queue));
    FZ_TRY(fz_column_backward_weight(x, fz_grad(h->block, x, FZ_HEAD_TABLE), t->z, normed, n, h->C,
                                     h->piece));
    return h->want_dn ? fz_column_backward_input(x, &fold, &term, 1, n, h->C) : FZ_OK;
}

static fz_status backward_input(const fz_block *block, fz_exec *x)
{
    const head h = describe_exec(block, x);
    const head_saved *saved = x->saved;
    const scratch t = take_scratch(&h, x->work, true);
    float *d = x->dstream[FZ_STREAM_DEC];
    double sum = 0.0;

    for (int64_t row = 0; row < h.N; row += FZ_HEAD_CHUNK) {
        const int64_t n = min64(FZ_HEAD_CHUNK, h.N - row);
        const float *normed;
        FZ_TRY(normed_input(&h, x, &t, saved->in, row, n, &normed));
        FZ_TRY(score(&h, x, &t, normed, x->batch->labels + row, n));
        FZ_TRY(record_loss(x, &t, row, n, &sum));
        FZ_TRY(chunk_backward(&h, x, &t, normed, row, n, h.want_dn ? d + row * h.C : NULL));
    }
    if (x->loss_sum) *x->loss_sum = sum;
    x->kept = NULL;
    if (!h.norm) return FZ_OK;
    const float *w = fz_weight(block, x, FZ_HEAD_NORM);
    float *dw = fz_grad(block, x, FZ_HEAD_NORM);
    if (dw)
        FZ_TRY(x->ops->rmsnorm_backward_weight(dw, NULL, d, saved->in, t.r, w, NULL, h.N, h.C,
                                               h.shards.n, t.norm, x->queue));
    if (!block->wants_input_grad) return FZ_OK;
    return x->ops->rmsnorm_backward_input(d, d, saved->in, t.r, w, NULL, false, h.N, h.C, x->queue);
}

static fz_status backward_weight(const fz_block *block, fz_exec *x)
{
    (void)block; /* backward_input did it */
    (void)x;
    return FZ_OK;
}

/* ---- plan ---- */

static void bytes(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_block_bytes *out)
{
    const head h = describe(block, program, sizes, shards);
    fz_arena save = fz_arena_counting(), eval_work = fz_arena_counting();
    fz_arena backward_work = fz_arena_counting();
    take_scratch(&h, &eval_work, false);
    if (fz_block_keeps(block)) {
        fz_arena_take(&save, sizeof(head_saved));
        take_scratch(&h, &backward_work, true);
    }
    *out = (fz_block_bytes){.save = save.peak,
                            .work = eval_work.peak > backward_work.peak ? eval_work.peak
                                                                        : backward_work.peak};
}

static void decode_bytes(const fz_block *block, const fz_program *program,
                         const fz_decode_sizes *sizes, fz_shards shards, fz_decode_bytes *out)
{
    const head h = describe_step(block, program, sizes, shards);
    fz_arena work = fz_arena_counting();
    take_scratch(&h, &work, false);
    *out = (fz_decode_bytes){.work = work.peak};
}

static void flops(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_flops *out)
{
    const head h = describe(block, program, sizes, shards);
    const double n =
        2.0 * (double)h.N * (double)h.C * (double)h.V / (double)shards.n * (double)shards.count;
    *out = (fz_flops){.forward = n,
                      .backward_input = h.want_dn ? n : 0.0,
                      .backward_weight = fz_use_trains(program, block, FZ_HEAD_TABLE) ? n : 0.0};
}

const fz_block_kind fz_block_head = {
    .name = "head.loss",
    .forward = forward,
    .backward_input = backward_input,
    .backward_weight = backward_weight,
    .bytes = bytes,
    .flops = flops,
    .decode_bytes = decode_bytes,
};
