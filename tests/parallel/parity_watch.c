#include "tests/parallel/parity_watch.h"

#include <string.h>

#include "core/assert.h"
#include "core/memory.h"

static parity_watch *seeing;

static void compare(parity_seen *seen, int64_t at, const float *x, int64_t n)
{
    FZ_ASSERT(at >= 0 && at + n <= seen->n);
    for (int64_t i = 0; i < n; i++) {
        const double r = (double)seen->wanted[at + i], d = (double)x[i] - r;
        seen->tally.error2 += d * d;
        seen->tally.norm2 += r * r;
    }
    seen->tally.n += (double)n;
}

/* ---- streams ---- */

/* Vision streams: every tensor rank has its own images. The others are the same on all tensor
 * ranks, and the first speaks. */
static void see_stream(const fz_block *block, const fz_exec *x)
{
    const parity_case *c = seeing->c;
    const fz_microbatch *micro = x->batch;
    const int64_t m = micro - seeing->micro, first = m * seeing->micro_batch;
    parity_seen *seen = &seeing->streams[block->index];
    int64_t row, rows;

    if (!seen->known) return;
    if (block->out_rows_per_image > 0) {
        row = (first + fz_image_first(micro->sizes.n_samples, x->shards.n, x->shards.first)) *
              block->out_rows_per_image;
        rows = micro->sizes.n_local_images * block->out_rows_per_image;
    } else if (x->shards.first > 0) {
        return;
    } else if (block->writes == FZ_STREAM_ENC) {
        row = c->prompt_start[first] + first * fz_image_tokens(&c->model);
        rows = micro->sizes.n_enc;
    } else {
        row = c->label_start[first];
        rows = micro->sizes.n_dec;
    }
    compare(seen, row * block->out_width, x->stream[block->writes], rows * block->out_width);
}

static fz_status forward(const fz_block *block, fz_exec *x)
{
    const fz_block *real = &seeing->blocks[block->index];
    FZ_TRY(real->kind->forward(real, x));
    see_stream(real, x);
    return FZ_OK;
}

static fz_status backward_input(const fz_block *block, fz_exec *x)
{
    const fz_block *real = &seeing->blocks[block->index];
    return real->kind->backward_input(real, x);
}

static fz_status backward_weight(const fz_block *block, fz_exec *x)
{
    const fz_block *real = &seeing->blocks[block->index];
    return real->kind->backward_weight(real, x);
}

static void bytes(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_block_bytes *out)
{
    const fz_block *real = &seeing->blocks[block->index];
    real->kind->bytes(real, program, sizes, shards, out);
}

static void flops(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_flops *out)
{
    const fz_block *real = &seeing->blocks[block->index];
    real->kind->flops(real, program, sizes, shards, out);
}

/* ---- logits ---- */

/* The place in the labels tells the row, whatever the chunks. */
static fz_status ce_max(float *z, float *max, float *target, const int32_t *labels, int64_t N,
                        int64_t V, int64_t first, int64_t n_valid, float cap, fz_queue *queue)
{
    const int64_t row = labels - seeing->c->labels, columns = seeing->c->model.dec_vocab;

    FZ_TRY(fz_ops_cpu.ce_max(z, max, target, labels, N, V, first, n_valid, cap, queue));
    for (int64_t r = 0; seeing->logits.known && r < N; r++)
        compare(&seeing->logits, (row + r) * columns + first, z + r * V, n_valid);
    return FZ_OK;
}

/* ---- beginning and end ---- */

static fz_status want(const parity_case *c, const char *kind, const char *name, int64_t columns,
                      parity_seen *seen)
{
    FZ_TRY(parity_read(c, kind, name, 0, NULL, &seen->wanted, &seen->n));
    seen->known = seen->wanted != NULL;
    FZ_CHECK(seen->n % columns == 0, FZ_ERR_FORMAT, "%s: %s/%s is not of rows of %lld", c->name,
             kind, name, (long long)columns);
    return FZ_OK;
}

fz_status parity_watch_start(parity_watch *watch, fz_program *program, const parity_case *c,
                             int64_t micro_batch)
{
    const int n = program->n_blocks;

    *watch = (parity_watch){.c = c, .micro_batch = micro_batch, .ops = fz_ops_cpu, .n_blocks = n};
    watch->ops.ce_max = ce_max;
    seeing = watch;
    FZ_TRY(FZ_NEW(&watch->blocks, n));
    FZ_TRY(FZ_NEW(&watch->kinds, n));
    FZ_TRY(FZ_NEW(&watch->streams, n));
    for (int b = 0; b < n; b++) {
        fz_block *block = &program->blocks[b];
        watch->blocks[b] = *block;
        watch->kinds[b] = *block->kind;
        watch->kinds[b].forward = forward;
        watch->kinds[b].backward_input = backward_input;
        watch->kinds[b].backward_weight = backward_weight;
        watch->kinds[b].bytes = bytes;
        watch->kinds[b].flops = flops;
        block->kind = &watch->kinds[b];
        FZ_TRY(want(c, "stream", block->name, block->out_width, &watch->streams[b]));
    }
    return want(c, "logits", "", c->model.dec_vocab, &watch->logits);
}

void parity_watch_batch(parity_watch *watch, const fz_step_batch *batch)
{
    watch->micro = batch->micro;
}

fz_status parity_watch_end(parity_watch *watch, const fz_group *group)
{
    for (int b = 0; b <= watch->n_blocks; b++) {
        parity_seen *seen = b < watch->n_blocks ? &watch->streams[b] : &watch->logits;
        double sums[] = {seen->tally.error2, seen->tally.norm2, seen->tally.n};
        FZ_TRY(fz_allreduce_sum_double(group, sums, 3));
        seen->tally = (parity_tally){.error2 = sums[0], .norm2 = sums[1], .n = sums[2]};
    }
    return FZ_OK;
}

void parity_watch_stop(parity_watch *watch)
{
    for (int b = 0; watch->streams && b < watch->n_blocks; b++)
        fz_free(&watch->streams[b].wanted);
    fz_free(&watch->logits.wanted);
    fz_free(&watch->blocks);
    fz_free(&watch->kinds);
    fz_free(&watch->streams);
    seeing = NULL;
}
