/* projector: image tokens with positions and their mean, a product, a LayerNorm (model.md 3).
 *
 *   u = tokens(x, row, col)  (1+n, C)      z = u W, W (C, d)      Z = LN(z)
 *
 * Saved: x (borrowed), z and the norm's statistics; u is formed again. As in vision.patch, the
 * incoming gradient is copied before dstream is written, since rows differ in size. */
#include "model/blocks/davit.h"
#include "model/blocks/davit_part.h"

enum { GROUPS = 2 }; /* product and norm; positions */
static const int group_bound[GROUPS + 1] = {0, FZ_PROJ_ROW, FZ_PROJ_USES};

#define NORM_EPS 1e-5f

typedef struct shape {
    int64_t C, d, side;
    int64_t n, rows;         /* tokens in and out per image: side^2, 1 + side^2 */
    int64_t n_images, piece; /* local images; images of the largest piece       */
} shape;

typedef struct saved_state {
    const float *in;
    float *z, *mean, *rstd;
} saved_state;

typedef struct kept_state {
    float *dy; /* of the norm's output (images*rows, d) */
    float *dz; /* of the product (images*rows, d)       */
    float *dx; /* of the tokens (images*n, C)           */
} kept_state;

static shape shape_of(const fz_program *program, const fz_sizes *sizes, fz_shards shards)
{
    const fz_model_config *config = &program->config;
    const int64_t side = fz_vision_side(config, FZ_VISION_STAGES - 1);

    return (shape){.C = config->vision_dims[FZ_VISION_STAGES - 1],
                   .d = config->enc_width,
                   .side = side,
                   .n = side * side,
                   .rows = 1 + side * side,
                   .n_images = sizes->n_local_images,
                   .piece = fz_piece_max(sizes, shards)};
}

static shape shape_now(const fz_exec *x)
{
    return shape_of(x->program, &x->batch->sizes, x->shards);
}

/* ---- memory: the same code counts and hands out ---- */

typedef struct forward_memory {
    saved_state *record; /* NULL where nothing is kept */
    saved_state saved;   /* for all local images if kept, else for one piece */
    float *out, *u;
} forward_memory;

static forward_memory take_forward(const fz_block *block, const shape *p, fz_arena *save,
                                   fz_arena *work)
{
    const bool keeps = fz_block_keeps(block);
    const int64_t n = keeps ? p->n_images : p->piece;
    fz_arena *hold = fz_choose(keeps, save, work);
    forward_memory m = {0};

    if (keeps) m.record = fz_arena_take(save, sizeof *m.record);
    m.saved.z = fz_arena_floats(hold, n * p->rows * p->d);
    m.saved.mean = fz_arena_floats(hold, n * p->rows);
    m.saved.rstd = fz_arena_floats(hold, n * p->rows);
    m.out = fz_arena_floats(save, p->n_images * p->rows * p->d);
    m.u = fz_arena_floats(work, p->piece * p->rows * p->C);
    return m;
}

typedef struct input_memory {
    kept_state *record;
    kept_state kept;
    float *du;
} input_memory;

static input_memory take_backward_input(const fz_block *block, const shape *p, fz_arena *keep,
                                        fz_arena *work)
{
    fz_arena *hold = fz_choose(block->trains, keep, work);
    input_memory m = {0};

    if (block->trains) m.record = fz_arena_take(keep, sizeof *m.record);
    m.kept.dy = fz_arena_floats(hold, p->n_images * p->rows * p->d);
    m.kept.dz = fz_arena_floats(hold, p->n_images * p->rows * p->d);
    m.kept.dx = fz_arena_floats(hold, p->n_images * p->n * p->C);
    m.du = fz_arena_floats(work, p->piece * p->rows * p->C);
    return m;
}

typedef struct weight_pass {
    const fz_block *block;
    const fz_exec *x;
    shape p;
    fz_leaves leaves;
    float *u;
} weight_pass;

static weight_pass take_backward_weight(const fz_block *block, const fz_program *program,
                                        const shape *p, int64_t n_local_shards, fz_arena *work)
{
    weight_pass m = {.block = block, .p = *p};

    fz_leaves_take(&m.leaves, program, block, n_local_shards, group_bound, GROUPS, work);
    m.u = fz_arena_floats(work, p->piece * p->rows * p->C);
    return m;
}

static void count_bytes(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                        fz_shards shards, fz_block_bytes *bytes)
{
    const shape p = shape_of(program, sizes, shards);
    fz_arena save = fz_arena_counting(), keep = fz_arena_counting(), work = fz_arena_counting();

    take_forward(block, &p, &save, &work);
    fz_arena_release(&work, 0);
    if (fz_block_keeps(block)) take_backward_input(block, &p, &keep, &work);
    fz_arena_release(&work, 0);
    if (block->trains) take_backward_weight(block, program, &p, shards.count, &work);
    *bytes = (fz_block_bytes){.save = save.used, .keep = keep.used, .work = work.peak};
}

/* ---- passes ---- */

static fz_status tokens(const fz_block *block, const fz_exec *x, const shape *p, float *u,
                        const float *in, fz_piece piece)
{
    return x->ops->image_tokens_forward(
        u, in + piece.first * p->n * p->C, fz_weight(block, x, FZ_PROJ_ROW),
        fz_weight(block, x, FZ_PROJ_COL), piece.n, p->side, p->C, x->queue);
}

/* c = a op(b) with contiguous rows: the weight is stored (in, out), unlike all others. */
static fz_status product(const fz_exec *x, float *c, const float *a, const float *b, bool trans_a,
                         bool trans_b, int64_t m, int64_t n, int64_t k)
{
    const fz_gemm_args args = {.c = c,
                               .a = a,
                               .b = b,
                               .trans_a = trans_a,
                               .trans_b = trans_b,
                               .m = m,
                               .n = n,
                               .k = k,
                               .lda = trans_a ? m : k,
                               .ldb = trans_b ? k : n,
                               .ldc = n,
                               .alpha = 1.0f};
    return x->ops->gemm(&args, x->queue);
}

static fz_status forward(const fz_block *block, fz_exec *x)
{
    const shape p = shape_now(x);
    forward_memory m = take_forward(block, &p, x->save, x->work);

    m.saved.in = x->stream[FZ_STREAM_VISION];
    for (int64_t j = 0; j < x->shards.count; j++) {
        const fz_piece piece = fz_piece_get(x, j);
        const int64_t N = piece.n * p.rows, at = (m.record ? piece.first : 0) * p.rows;
        float *z = m.saved.z + at * p.d;
        if (N == 0) continue;
        FZ_TRY(tokens(block, x, &p, m.u, m.saved.in, piece));
        FZ_TRY(product(x, z, m.u, fz_weight(block, x, FZ_PROJ_W), false, false, N, p.d, p.C));
        FZ_TRY(x->ops->layernorm_forward(m.out + piece.first * p.rows * p.d, m.saved.mean + at,
                                         m.saved.rstd + at, z, fz_weight(block, x, FZ_PROJ_NORM_W),
                                         fz_weight(block, x, FZ_PROJ_NORM_B), N, p.d, NORM_EPS,
                                         x->queue));
    }
    if (m.record) *m.record = m.saved;
    x->saved = m.record;
    x->stream[FZ_STREAM_VISION] = m.out;
    return FZ_OK;
}

static fz_status backward_input(const fz_block *block, fz_exec *x)
{
    const shape p = shape_now(x);
    const input_memory m = take_backward_input(block, &p, x->keep, x->work);
    const saved_state *saved = x->saved;
    float *dstream = x->dstream[FZ_STREAM_VISION];

    FZ_TRY(x->ops->copy(m.kept.dy, dstream, p.n_images * p.rows * p.d, x->queue));
    for (int64_t j = 0; j < x->shards.count; j++) {
        const fz_piece piece = fz_piece_get(x, j);
        const int64_t N = piece.n * p.rows, at = piece.first * p.rows;
        float *dz = m.kept.dz + at * p.d, *dx = m.kept.dx + piece.first * p.n * p.C;
        if (N == 0) continue;
        FZ_TRY(x->ops->layernorm_backward_input(
            dz, m.kept.dy + at * p.d, saved->z + at * p.d, saved->mean + at, saved->rstd + at,
            fz_weight(block, x, FZ_PROJ_NORM_W), N, p.d, x->queue));
        FZ_TRY(product(x, m.du, dz, fz_weight(block, x, FZ_PROJ_W), false, true, N, p.C, p.d));
        FZ_TRY(x->ops->image_tokens_backward(dx, m.du, piece.n, p.side, p.C, x->queue));
    }
    if (block->wants_input_grad)
        FZ_TRY(x->ops->copy(dstream, m.kept.dx, p.n_images * p.n * p.C, x->queue));
    if (m.record) *m.record = m.kept;
    x->kept = m.record;
    return FZ_OK;
}

static fz_status form_product(void *context, fz_piece piece, const fz_leaf *leaf)
{
    const weight_pass *pass = context;
    const fz_exec *x = pass->x;
    const shape *p = &pass->p;
    const saved_state *saved = x->saved;
    const kept_state *kept = x->kept;
    const int64_t N = piece.n * p->rows, at = piece.first * p->rows;

    FZ_TRY(tokens(pass->block, x, p, pass->u, saved->in, piece));
    FZ_TRY(product(x, fz_leaf_at(leaf, FZ_PROJ_W), pass->u, kept->dz + at * p->d, true, false, p->C,
                   p->d, N));
    return x->ops->layernorm_weight_sums(
        fz_leaf_at(leaf, FZ_PROJ_NORM_W), fz_leaf_at(leaf, FZ_PROJ_NORM_B), kept->dy + at * p->d,
        saved->z + at * p->d, saved->mean + at, saved->rstd + at, N, p->d, x->queue);
}

static fz_status form_positions(void *context, fz_piece piece, const fz_leaf *leaf)
{
    const weight_pass *pass = context;
    const fz_exec *x = pass->x;
    const shape *p = &pass->p;
    const kept_state *kept = x->kept;

    return x->ops->image_positions_backward(
        fz_leaf_at(leaf, FZ_PROJ_ROW), fz_leaf_at(leaf, FZ_PROJ_COL),
        kept->dx + piece.first * p->n * p->C, piece.n, p->side, p->C, x->queue);
}

static fz_status backward_weight(const fz_block *block, fz_exec *x)
{
    const shape p = shape_now(x);

    if (!block->trains) return FZ_OK;
    weight_pass pass = take_backward_weight(block, x->program, &p, x->shards.count, x->work);
    pass.x = x;
    FZ_TRY(fz_leaves_form(x, &pass.leaves, 0, form_product, &pass));
    FZ_TRY(fz_leaves_form(x, &pass.leaves, 1, form_positions, &pass));
    return fz_leaves_add(x, block, &pass.leaves);
}

static void count_flops(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                        fz_shards shards, fz_flops *flops)
{
    const shape p = shape_of(program, sizes, shards);
    const double one = 2.0 * (double)(p.n_images * p.rows) * (double)p.C * (double)p.d;

    *flops = (fz_flops){.forward = one};
    if (fz_block_keeps(block)) flops->backward_input = one;
    if (fz_use_trains(program, block, FZ_PROJ_W)) flops->backward_weight = one;
}

const fz_block_kind fz_block_projector = {
    .name = "projector",
    .forward = forward,
    .backward_input = backward_input,
    .backward_weight = backward_weight,
    .bytes = count_bytes,
    .flops = count_flops,
};
