#include "model/blocks/head.h"

#include <math.h>

#include "model/blocks/linear.h"

static const float RMSNORM_EPS = 1e-6f;

typedef struct head {
    const fz_block *block;
    const fz_program *program;
    fz_shards shards;
    int64_t n_samples, N, C, V, piece;
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
    float *next;        /* (n_samples): minus the best id                       */
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
              .norm = block->n_uses == FZ_HEAD_USES};
    h.piece = (h.V + shards.n - 1) / shards.n;
    h.want_dn = block->wants_input_grad || (h.norm && fz_use_trains(program, block, FZ_HEAD_NORM));
    return h;
}

static head describe_exec(const fz_block *block, const fz_exec *x)
{
    return describe(block, x->program, &x->batch->sizes, x->shards);
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
    if (!backward) t.next = fz_arena_floats(work, h->n_samples);
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

/* ---- eval ---- */

/* For samples whose last token is in the chunk: minus the lowest local id whose logit is the
 * maximum over all shards, or -infinity. */
static void pick_next(const head *h, const fz_exec *x, const scratch *t, int64_t row, int64_t n)
{
    for (int64_t b = 0; b < h->n_samples; b++) {
        const int64_t i = x->batch->dec_start[b + 1] - 1 - row;
        if (x->batch->dec_start[b + 1] == x->batch->dec_start[b] || i < 0 || i >= n) continue;
        for (int64_t j = h->shards.count - 1; j >= 0; j--) {
            const float *z = t->z + (j * n + i) * h->piece;
            for (int64_t c = valid_columns(h, j) - 1; c >= 0; c--)
                if (z[c] == t->max[i]) t->next[b] = -(float)((h->shards.first + j) * h->piece + c);
        }
    }
}

static fz_status evaluate(const head *h, fz_exec *x)
{
    const scratch t = take_scratch(h, x->work, false);
    const float *in = x->stream[FZ_STREAM_DEC];
    double sum = 0.0;

    FZ_CHECK(h->V <= 1 << 24, FZ_ERR_USAGE,
             "model.dec_vocab: %lld; ids of chosen tokens travel as floats, use at most %d",
             (long long)h->V, 1 << 24);
    for (int64_t b = 0; b < h->n_samples; b++)
        t.next[b] = -INFINITY;
    for (int64_t row = 0; row < h->N; row += FZ_HEAD_CHUNK) {
        const int64_t n = min64(FZ_HEAD_CHUNK, h->N - row);
        const float *normed;
        FZ_TRY(normed_input(h, x, &t, in, row, n, &normed));
        FZ_TRY(score(h, x, &t, normed, x->batch->labels + row, n));
        FZ_TRY(record_loss(x, &t, row, n, &sum));
        if (x->next_token) pick_next(h, x, &t, row, n);
    }
    if (x->loss_sum) *x->loss_sum = sum;
    if (!x->next_token) return FZ_OK;
    FZ_TRY(fz_max_shards(x->hooks, t.next, h->n_samples));
    for (int64_t b = 0; b < h->n_samples; b++)
        x->next_token[b] = isinf(t.next[b]) ? -1 : (int32_t)-t.next[b];
    return FZ_OK;
}

/* ---- passes ---- */

static fz_status forward(const fz_block *block, fz_exec *x)
{
    const head h = describe_exec(block, x);
    head_saved *saved = fz_block_keeps(block) ? fz_arena_take(x->save, sizeof *saved) : NULL;

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
};
