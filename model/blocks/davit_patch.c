/* vision.patch: a dense convolution with stride, and a LayerNorm (model.md 2.2).
 *
 *   stage 0    col = im2col(pixels), c = col W^T + b, y = LN(c)        7x7, stride 4, padding 3
 *   stage > 0  n = LN(x), col = im2col(n), y = col W^T + b             3x3, stride 2, padding 1
 *
 * Saved: the norm's input and statistics. col is formed again for the weights. Maps shrink from
 * input to output, so the gradient of what was written is copied before its place in dstream is
 * taken by the (larger) gradient of what was read. */
#include "core/assert.h"
#include "model/blocks/davit.h"
#include "model/blocks/davit_part.h"
#include "model/ops/im2col.h"

enum { GROUPS = 1 }; /* weights share col and dc: all leaves of a piece at once */
static const int group_bound[GROUPS + 1] = {0, FZ_PATCH_USES};

#define NORM_EPS 1e-5f

typedef struct shape {
    int stage;
    int64_t side_in, C_in, side, C, k, stride, pad;
    int64_t T_in, T;         /* pixels or tokens per image                */
    int64_t patch;           /* C_in k^2                                  */
    int64_t T_norm, C_norm;  /* what the norm works on, per image         */
    int64_t n_images, piece; /* local images; images of the largest piece */
} shape;

/* What the norm reads, (images*T_norm, C_norm): in stage 0 the convolution's output, else the
 * stream that came in (borrowed; it lives in save or in the player's receive buffer). */
typedef struct saved_state {
    float *conv;
    const float *in;
    float *mean, *rstd;
} saved_state;

typedef struct kept_state {
    float *dy; /* of the block's output, (images*T, C)                             */
    float *dc; /* of the convolution's output: stage 0 own memory, else dy itself  */
    float *dn; /* of the norm's output: stage 0 dy itself, else (images*T_in, C_in) */
} kept_state;

static shape shape_of(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                      fz_shards shards)
{
    const fz_model_config *config = &program->config;
    const int s = block->layer;
    shape p = {.stage = s,
               .side_in = s == 0 ? config->image_size : fz_vision_side(config, s - 1),
               .C_in = s == 0 ? 3 : config->vision_dims[s - 1],
               .side = fz_vision_side(config, s),
               .C = config->vision_dims[s],
               .k = s == 0 ? 7 : 3,
               .stride = s == 0 ? 4 : 2,
               .pad = s == 0 ? 3 : 1,
               .n_images = sizes->n_local_images,
               .piece = fz_piece_max(sizes, shards)};

    FZ_ASSERT(fz_im2col_side(p.side_in, p.k, p.stride, p.pad) == p.side);
    p.T_in = p.side_in * p.side_in;
    p.T = p.side * p.side;
    p.patch = p.C_in * p.k * p.k;
    p.T_norm = s == 0 ? p.T : p.T_in;
    p.C_norm = s == 0 ? p.C : p.C_in;
    return p;
}

static shape shape_now(const fz_block *block, const fz_exec *x)
{
    return shape_of(block, x->program, &x->batch->sizes, x->shards);
}

/* ---- memory: the same code counts and hands out ---- */

typedef struct forward_memory {
    saved_state *record; /* NULL where nothing is kept */
    saved_state saved;   /* for all local images if kept, else for one piece */
    float *out, *col, *normed;
} forward_memory;

static forward_memory take_forward(const fz_block *block, const shape *p, fz_arena *save,
                                   fz_arena *work)
{
    const bool keeps = fz_block_keeps(block);
    const int64_t n = keeps ? p->n_images : p->piece;
    fz_arena *hold = fz_choose(keeps, save, work);
    forward_memory m = {0};

    if (keeps) m.record = fz_arena_take(save, sizeof *m.record);
    if (p->stage == 0) m.saved.conv = fz_arena_floats(hold, n * p->T * p->C);
    m.saved.mean = fz_arena_floats(hold, n * p->T_norm);
    m.saved.rstd = fz_arena_floats(hold, n * p->T_norm);
    m.out = fz_arena_floats(save, p->n_images * p->T * p->C);
    m.col = fz_arena_floats(work, p->piece * p->T * p->patch);
    if (p->stage > 0) m.normed = fz_arena_floats(work, p->piece * p->T_in * p->C_in);
    return m;
}

typedef struct input_memory {
    kept_state *record;
    kept_state kept;
    float *dcol;
} input_memory;

static input_memory take_backward_input(const fz_block *block, const shape *p, fz_arena *keep,
                                        fz_arena *work)
{
    fz_arena *hold = fz_choose(block->trains, keep, work);
    input_memory m = {0};

    if (block->trains) m.record = fz_arena_take(keep, sizeof *m.record);
    m.kept.dy = fz_arena_floats(hold, p->n_images * p->T * p->C);
    if (p->stage == 0) {
        m.kept.dc = fz_arena_floats(hold, p->n_images * p->T * p->C);
        m.kept.dn = m.kept.dy;
        return m;
    }
    m.kept.dc = m.kept.dy;
    m.kept.dn = fz_arena_floats(hold, p->n_images * p->T_in * p->C_in);
    m.dcol = fz_arena_floats(work, p->piece * p->T * p->patch);
    return m;
}

typedef struct weight_memory {
    fz_leaves leaves;
    float *col, *normed;
} weight_memory;

static weight_memory take_backward_weight(const fz_block *block, const fz_program *program,
                                          const shape *p, int64_t n_local_shards, fz_arena *work)
{
    weight_memory m;

    fz_leaves_take(&m.leaves, program, block, n_local_shards, group_bound, GROUPS, work);
    m.col = fz_arena_floats(work, p->piece * p->T * p->patch);
    m.normed = NULL;
    if (p->stage > 0) m.normed = fz_arena_floats(work, p->piece * p->T_in * p->C_in);
    return m;
}

static void count_bytes(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                        fz_shards shards, fz_block_bytes *bytes)
{
    const shape p = shape_of(block, program, sizes, shards);
    fz_arena save = fz_arena_counting(), keep = fz_arena_counting(), work = fz_arena_counting();

    take_forward(block, &p, &save, &work);
    fz_arena_release(&work, 0);
    if (fz_block_keeps(block)) take_backward_input(block, &p, &keep, &work);
    fz_arena_release(&work, 0);
    if (block->trains) take_backward_weight(block, program, &p, shards.count, &work);
    *bytes = (fz_block_bytes){.save = save.used, .keep = keep.used, .work = work.peak};
}

/* ---- passes ---- */

/* normed and statistics of the piece's norm input, stage > 0. */
static fz_status norm_input(const fz_block *block, const fz_exec *x, const shape *p, float *normed,
                            float *mean, float *rstd, fz_piece piece, const float *in)
{
    return x->ops->layernorm_forward(normed, mean, rstd, in + piece.first * p->T_in * p->C_in,
                                     fz_weight(block, x, FZ_PATCH_NORM_W),
                                     fz_weight(block, x, FZ_PATCH_NORM_B), piece.n * p->T_in,
                                     p->C_in, NORM_EPS, x->queue);
}

static fz_status patches(const fz_exec *x, const shape *p, float *col, const float *in,
                         fz_piece piece)
{
    return x->ops->im2col(col, in, piece.n, p->side_in, p->side_in, p->C_in, p->k, p->stride,
                          p->pad, x->queue);
}

static fz_status convolve(const fz_block *block, const fz_exec *x, const shape *p, float *y,
                          const float *col, fz_piece piece)
{
    const int64_t N = piece.n * p->T;

    FZ_TRY(fz_dense_forward(x, y, col, fz_weight(block, x, FZ_PATCH_W), N, p->patch, p->C));
    return x->ops->bias_add(y, fz_weight(block, x, FZ_PATCH_B), N, p->C, p->C, x->queue);
}

/* at: first image of the piece in what is saved. */
static fz_status forward_piece(const fz_block *block, const fz_exec *x, const shape *p,
                               const forward_memory *m, fz_piece piece, int64_t at)
{
    float *mean = m->saved.mean + at * p->T_norm, *rstd = m->saved.rstd + at * p->T_norm;
    float *out = m->out + piece.first * p->T * p->C;

    if (p->stage > 0) {
        FZ_TRY(norm_input(block, x, p, m->normed, mean, rstd, piece, m->saved.in));
        FZ_TRY(patches(x, p, m->col, m->normed, piece));
        return convolve(block, x, p, out, m->col, piece);
    }
    float *conv = m->saved.conv + at * p->T * p->C;
    FZ_TRY(patches(x, p, m->col, x->batch->pixels + piece.first * p->T_in * p->C_in, piece));
    FZ_TRY(convolve(block, x, p, conv, m->col, piece));
    return x->ops->layernorm_forward(out, mean, rstd, conv, fz_weight(block, x, FZ_PATCH_NORM_W),
                                     fz_weight(block, x, FZ_PATCH_NORM_B), piece.n * p->T, p->C,
                                     NORM_EPS, x->queue);
}

static fz_status forward(const fz_block *block, fz_exec *x)
{
    const shape p = shape_now(block, x);
    forward_memory m = take_forward(block, &p, x->save, x->work);

    m.saved.in = x->stream[FZ_STREAM_VISION];
    for (int64_t j = 0; j < x->shards.count; j++) {
        const fz_piece piece = fz_piece_get(x, j);
        if (piece.n > 0) FZ_TRY(forward_piece(block, x, &p, &m, piece, m.record ? piece.first : 0));
    }
    if (m.record) *m.record = m.saved;
    x->saved = m.record;
    x->stream[FZ_STREAM_VISION] = m.out;
    return FZ_OK;
}

static fz_status backward_input_piece(const fz_block *block, const fz_exec *x, const shape *p,
                                      const input_memory *m, fz_piece piece)
{
    const saved_state *saved = x->saved;
    const float *mean = saved->mean + piece.first * p->T_norm;
    const float *rstd = saved->rstd + piece.first * p->T_norm;
    const float *w = fz_weight(block, x, FZ_PATCH_NORM_W);
    const int64_t out = piece.first * p->T * p->C, in = piece.first * p->T_in * p->C_in;

    if (p->stage == 0)
        return x->ops->layernorm_backward_input(m->kept.dc + out, m->kept.dn + out,
                                                saved->conv + out, mean, rstd, w, piece.n * p->T,
                                                p->C, x->queue);
    FZ_TRY(fz_dense_backward_input(x, m->dcol, m->kept.dc + out, fz_weight(block, x, FZ_PATCH_W),
                                   piece.n * p->T, p->patch, p->C));
    FZ_TRY(x->ops->col2im(m->kept.dn + in, m->dcol, piece.n, p->side_in, p->side_in, p->C_in, p->k,
                          p->stride, p->pad, x->queue));
    if (!block->wants_input_grad) return FZ_OK;
    return x->ops->layernorm_backward_input(x->dstream[FZ_STREAM_VISION] + in, m->kept.dn + in,
                                            saved->in + in, mean, rstd, w, piece.n * p->T_in,
                                            p->C_in, x->queue);
}

static fz_status backward_input(const fz_block *block, fz_exec *x)
{
    const shape p = shape_now(block, x);
    const input_memory m = take_backward_input(block, &p, x->keep, x->work);

    FZ_TRY(x->ops->copy(m.kept.dy, x->dstream[FZ_STREAM_VISION], p.n_images * p.T * p.C, x->queue));
    for (int64_t j = 0; j < x->shards.count; j++) {
        const fz_piece piece = fz_piece_get(x, j);
        if (piece.n > 0) FZ_TRY(backward_input_piece(block, x, &p, &m, piece));
    }
    if (m.record) *m.record = m.kept;
    x->kept = m.record;
    return FZ_OK;
}

typedef struct weight_pass {
    const fz_block *block;
    const fz_exec *x;
    const shape *p;
    const weight_memory *m;
} weight_pass;

static fz_status form_leaf(void *context, fz_piece piece, const fz_leaf *leaf)
{
    const weight_pass *pass = context;
    const fz_exec *x = pass->x;
    const shape *p = pass->p;
    const saved_state *saved = x->saved;
    const kept_state *kept = x->kept;
    const int64_t N = piece.n * p->T, norm = piece.first * p->T_norm;
    const float *dc = kept->dc + piece.first * p->T * p->C;

    if (p->stage == 0) {
        const float *pixels = x->batch->pixels + piece.first * p->T_in * p->C_in;
        FZ_TRY(patches(x, p, pass->m->col, pixels, piece));
    } else {
        FZ_TRY(norm_input(pass->block, x, p, pass->m->normed, saved->mean + norm,
                          saved->rstd + norm, piece, saved->in));
        FZ_TRY(patches(x, p, pass->m->col, pass->m->normed, piece));
    }
    FZ_TRY(fz_dense_backward_weight(x, fz_leaf_at(leaf, FZ_PATCH_W), dc, pass->m->col, N, p->patch,
                                    p->C));
    FZ_TRY(x->ops->column_sums(fz_leaf_at(leaf, FZ_PATCH_B), dc, N, p->C, x->queue));
    return x->ops->layernorm_weight_sums(
        fz_leaf_at(leaf, FZ_PATCH_NORM_W), fz_leaf_at(leaf, FZ_PATCH_NORM_B),
        kept->dn + norm * p->C_norm, (p->stage == 0 ? saved->conv : saved->in) + norm * p->C_norm,
        saved->mean + norm, saved->rstd + norm, piece.n * p->T_norm, p->C_norm, x->queue);
}

static fz_status backward_weight(const fz_block *block, fz_exec *x)
{
    const shape p = shape_now(block, x);

    if (!block->trains) return FZ_OK;
    const weight_memory m = take_backward_weight(block, x->program, &p, x->shards.count, x->work);
    weight_pass pass = {.block = block, .x = x, .p = &p, .m = &m};
    FZ_TRY(fz_leaves_form(x, &m.leaves, 0, form_leaf, &pass));
    return fz_leaves_add(x, block, &m.leaves);
}

static void count_flops(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                        fz_shards shards, fz_flops *flops)
{
    const shape p = shape_of(block, program, sizes, shards);
    const double one = 2.0 * (double)(p.n_images * p.T) * (double)p.patch * (double)p.C;

    *flops = (fz_flops){.forward = one};
    if (fz_block_keeps(block) && p.stage > 0) flops->backward_input = one;
    if (fz_use_trains(program, block, FZ_PATCH_W)) flops->backward_weight = one;
}

const fz_block_kind fz_block_vision_patch = {
    .name = "vision.patch",
    .forward = forward,
    .backward_input = backward_input,
    .backward_weight = backward_weight,
    .bytes = count_bytes,
    .flops = count_flops,
};
