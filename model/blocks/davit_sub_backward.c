/* Backward passes of DaViT's sub-blocks; the names are those of davit_sub.h. */
#include "model/blocks/davit_sub.h"

fz_sub_kept fz_sub_kept_at(const fz_sub_kept *kept, const fz_sub_shape *p, int64_t first)
{
    const int64_t tokens = first * p->T * p->C, rows = first * p->rows * p->C;

    return (fz_sub_kept){.d1 = kept->d1 + tokens,
                         .d3 = kept->d3 + tokens,
                         .dy1 = kept->dy1 + tokens,
                         .dy2 = kept->dy2 + tokens,
                         .dqkv = kept->dqkv + 3 * rows,
                         .dp = kept->dp + tokens,
                         .dh = kept->dh + 4 * tokens,
                         .df = kept->df + tokens};
}

/* ---- gradients of the stream ---- */

typedef struct input_memory {
    fz_sub_kept *record; /* NULL where no weights are trained */
    fz_sub_kept kept;    /* for all local images if so, else for one piece */
    float *a, *b;        /* (piece, T, C) */
    float *rows;         /* (piece, rows, C); b itself where rows are tokens */
    float *dqkv;         /* (piece, T, 3C); spatial only */
    fz_sub_attention attention;
} input_memory;

static input_memory take_input(const fz_block *block, const fz_sub_shape *p, fz_arena *keep,
                               fz_arena *work)
{
    const int64_t n = block->trains ? p->n_images : p->piece;
    fz_arena *hold = fz_choose(block->trains, keep, work);
    input_memory m = {0};

    if (block->trains) m.record = fz_arena_take(keep, sizeof *m.record);
    m.kept.d1 = fz_arena_floats(hold, n * p->T * p->C);
    m.kept.d3 = fz_arena_floats(hold, n * p->T * p->C);
    m.kept.dy1 = fz_arena_floats(hold, n * p->T * p->C);
    m.kept.dy2 = fz_arena_floats(hold, n * p->T * p->C);
    m.kept.dqkv = fz_arena_floats(hold, n * p->rows * 3 * p->C);
    m.kept.dp = fz_arena_floats(hold, n * p->T * p->C);
    m.kept.dh = fz_arena_floats(hold, n * p->T * 4 * p->C);
    m.kept.df = fz_arena_floats(hold, n * p->T * p->C);
    m.a = fz_arena_floats(work, p->piece * p->T * p->C);
    m.b = fz_arena_floats(work, p->piece * p->T * p->C);
    m.rows = p->is_channel ? m.b : fz_arena_floats(work, p->piece * p->rows * p->C);
    if (!p->is_channel) m.dqkv = fz_arena_floats(work, p->piece * p->T * 3 * p->C);
    m.attention = fz_sub_attention_take(p, work);
    return m;
}

void fz_sub_count_backward_input(const fz_block *block, const fz_sub_shape *p, fz_arena *keep,
                                 fz_arena *work)
{
    take_input(block, p, keep, work);
}

/* dx (n, T, C): the gradient of y in, of x2 out. */
static fz_status ffn_half(const fz_block *block, const fz_exec *x, const fz_sub_shape *p,
                          const input_memory *m, const fz_sub_saved *s, const fz_sub_kept *k,
                          float *dx, fz_piece piece)
{
    const int64_t n = piece.n, N = n * p->T, C = p->C;
    const fz_dropout drop = fz_sub_drop_path(x, block, 1), none = {0};
    fz_plain_rows plain;
    const fz_rows rows = fz_plain_rows_init(&plain, N);

    FZ_TRY(x->ops->drop_path(k->df, dx, n, p->T, C, fz_piece_samples(x, piece), &drop, x->queue));
    FZ_TRY(
        fz_dense_backward_input(x, k->dh, k->df, fz_weight(block, x, FZ_SUB_FC2_W), N, 4 * C, C));
    FZ_TRY(x->ops->gelu_backward(k->dh, k->dh, s->h, &rows, 4 * C, &none, x->queue));
    FZ_TRY(
        fz_dense_backward_input(x, k->dy2, k->dh, fz_weight(block, x, FZ_SUB_FC1_W), N, C, 4 * C));
    FZ_TRY(fz_sub_depthwise(x, block, p, m->a, s->x2, FZ_SUB_DW2_W, n));
    FZ_TRY(x->ops->layernorm_backward_input(k->d3, k->dy2, m->a, s->mean2, s->rstd2,
                                            fz_weight(block, x, FZ_SUB_NORM2_W), N, C, x->queue));
    FZ_TRY(x->ops->add(k->d3, dx, N * C, x->queue));
    return x->ops->depthwise_residual_backward_input(dx, k->d3, fz_weight(block, x, FZ_SUB_DW2_W),
                                                     n, p->side, p->side, C, x->queue);
}

/* dx: the gradient of x2 in, of x out (where somebody below wants it). */
static fz_status attention_half(const fz_block *block, const fz_exec *x, const fz_sub_shape *p,
                                const input_memory *m, const fz_sub_saved *s, const fz_sub_kept *k,
                                float *dx, fz_piece piece)
{
    const int64_t n = piece.n, N = n * p->T, C = p->C;
    const fz_dropout drop = fz_sub_drop_path(x, block, 0);
    const float *dqkv = k->dqkv;

    FZ_TRY(x->ops->drop_path(k->dp, dx, n, p->T, C, fz_piece_samples(x, piece), &drop, x->queue));
    FZ_TRY(fz_dense_backward_input(x, m->b, k->dp, fz_weight(block, x, FZ_SUB_PROJ_W), N, C, C));
    FZ_TRY(fz_sub_split(x, p, m->rows, m->b, C, n)); /* the transpose of merging */
    FZ_TRY(fz_sub_attention_backward(x, p, &m->attention, s, m->rows, k->dqkv, n));
    FZ_TRY(fz_sub_merge(x, p, m->dqkv, &dqkv, 3 * C, n));
    FZ_TRY(
        fz_dense_backward_input(x, k->dy1, dqkv, fz_weight(block, x, FZ_SUB_QKV_W), N, C, 3 * C));
    FZ_TRY(fz_sub_depthwise(x, block, p, m->a, s->in, FZ_SUB_DW1_W, n));
    FZ_TRY(x->ops->layernorm_backward_input(k->d1, k->dy1, m->a, s->mean1, s->rstd1,
                                            fz_weight(block, x, FZ_SUB_NORM1_W), N, C, x->queue));
    FZ_TRY(x->ops->add(k->d1, dx, N * C, x->queue));
    if (!block->wants_input_grad) return FZ_OK;
    return x->ops->depthwise_residual_backward_input(dx, k->d1, fz_weight(block, x, FZ_SUB_DW1_W),
                                                     n, p->side, p->side, C, x->queue);
}

fz_status fz_sub_backward_input(const fz_block *block, fz_exec *x)
{
    const fz_sub_shape p = fz_sub_shape_now(block, x);
    const input_memory m = take_input(block, &p, x->keep, x->work);

    for (int64_t j = 0; j < x->shards.count; j++) {
        const fz_piece piece = fz_piece_get(x, j);
        if (piece.n == 0) continue;
        const fz_sub_saved s = fz_sub_saved_at(x->saved, &p, piece.first, piece.first);
        const fz_sub_kept k = fz_sub_kept_at(&m.kept, &p, m.record ? piece.first : 0);
        float *dx = x->dstream[FZ_STREAM_VISION] + piece.first * p.T * p.C;
        FZ_TRY(ffn_half(block, x, &p, &m, &s, &k, dx, piece));
        FZ_TRY(attention_half(block, x, &p, &m, &s, &k, dx, piece));
    }
    if (m.record) *m.record = m.kept;
    x->kept = m.record;
    return FZ_OK;
}

/* ---- gradients of the weights ---- */

/* Uses whose leaves are formed from the same things. */
enum { GROUP_DW1, GROUP_QKV, GROUP_PROJ, GROUP_DW2, GROUP_FC1, GROUP_FC2, GROUPS };
static const int group_bound[GROUPS + 1] = {
    [GROUP_DW1] = FZ_SUB_DW1_W, [GROUP_QKV] = FZ_SUB_NORM1_W, [GROUP_PROJ] = FZ_SUB_PROJ_W,
    [GROUP_DW2] = FZ_SUB_DW2_W, [GROUP_FC1] = FZ_SUB_NORM2_W, [GROUP_FC2] = FZ_SUB_FC2_W,
    [GROUPS] = FZ_SUB_USES,
};

typedef struct weight_pass {
    const fz_block *block;
    const fz_exec *x;
    fz_sub_shape p;
    fz_leaves leaves;
    float *a, *b; /* (piece, T, C) */
    float *g;     /* (piece, T, 4C) */
} weight_pass;

static weight_pass take_weight(const fz_block *block, const fz_program *program,
                               const fz_sub_shape *p, int64_t n_local_shards, fz_arena *work)
{
    weight_pass m = {.block = block, .p = *p};

    fz_leaves_take(&m.leaves, program, block, n_local_shards, group_bound, GROUPS, work);
    m.a = fz_arena_floats(work, p->piece * p->T * p->C);
    m.b = fz_arena_floats(work, p->piece * p->T * p->C);
    m.g = fz_arena_floats(work, p->piece * p->T * 4 * p->C);
    return m;
}

void fz_sub_count_backward_weight(const fz_block *block, const fz_program *program,
                                  const fz_sub_shape *p, int64_t n_local_shards, fz_arena *work)
{
    take_weight(block, program, p, n_local_shards, work);
}

/* dw = dy^T in and db = sum of dy, at use_w and the one behind it. */
static fz_status dense_leaves(const weight_pass *pass, const fz_leaf *leaf, int use_w,
                              const float *dy, const float *in, int64_t N, int64_t C, int64_t out)
{
    const fz_exec *x = pass->x;

    FZ_TRY(fz_dense_backward_weight(x, fz_leaf_at(leaf, use_w), dy, in, N, C, out));
    return x->ops->column_sums(fz_leaf_at(leaf, use_w + 1), dy, N, out, x->queue);
}

static fz_status depthwise_leaves(const weight_pass *pass, const fz_leaf *leaf, int use_w,
                                  const float *dy, const float *in, int64_t n)
{
    const fz_sub_shape *p = &pass->p;

    return pass->x->ops->depthwise_backward_weight(fz_leaf_at(leaf, use_w),
                                                   fz_leaf_at(leaf, use_w + 1), dy, in, n, p->side,
                                                   p->side, p->C, pass->x->queue);
}

static fz_status norm_leaves(const weight_pass *pass, const fz_leaf *leaf, int use_w,
                             const float *dy, const float *in, const float *mean, const float *rstd,
                             int64_t n)
{
    return pass->x->ops->layernorm_weight_sums(fz_leaf_at(leaf, use_w), fz_leaf_at(leaf, use_w + 1),
                                               dy, in, mean, rstd, n * pass->p.T, pass->p.C,
                                               pass->x->queue);
}

static fz_status form_dw1(void *context, fz_piece piece, const fz_leaf *leaf)
{
    const weight_pass *pass = context;
    const fz_sub_saved s = fz_sub_saved_at(pass->x->saved, &pass->p, piece.first, piece.first);
    const fz_sub_kept k = fz_sub_kept_at(pass->x->kept, &pass->p, piece.first);

    return depthwise_leaves(pass, leaf, FZ_SUB_DW1_W, k.d1, s.in, piece.n);
}

static fz_status form_qkv(void *context, fz_piece piece, const fz_leaf *leaf)
{
    const weight_pass *pass = context;
    const fz_exec *x = pass->x;
    const fz_sub_shape *p = &pass->p;
    const fz_sub_saved s = fz_sub_saved_at(x->saved, p, piece.first, piece.first);
    const fz_sub_kept k = fz_sub_kept_at(x->kept, p, piece.first);

    FZ_TRY(fz_sub_depthwise(x, pass->block, p, pass->a, s.in, FZ_SUB_DW1_W, piece.n));
    FZ_TRY(fz_sub_norm(x, pass->block, p, pass->b, s.mean1, s.rstd1, pass->a, FZ_SUB_NORM1_W,
                       piece.n));
    FZ_TRY(norm_leaves(pass, leaf, FZ_SUB_NORM1_W, k.dy1, pass->a, s.mean1, s.rstd1, piece.n));
    const float *dqkv = k.dqkv;
    FZ_TRY(fz_sub_merge(x, p, pass->g, &dqkv, 3 * p->C, piece.n));
    FZ_TRY(fz_dense_backward_weight(x, fz_leaf_at(leaf, FZ_SUB_QKV_W), dqkv, pass->b,
                                    piece.n * p->T, p->C, 3 * p->C));
    /* Padding has a bias like everything else. */
    return x->ops->column_sums(fz_leaf_at(leaf, FZ_SUB_QKV_B), k.dqkv, piece.n * p->rows, 3 * p->C,
                               x->queue);
}

static fz_status form_proj(void *context, fz_piece piece, const fz_leaf *leaf)
{
    const weight_pass *pass = context;
    const fz_sub_shape *p = &pass->p;
    const fz_sub_saved s = fz_sub_saved_at(pass->x->saved, p, piece.first, piece.first);
    const fz_sub_kept k = fz_sub_kept_at(pass->x->kept, p, piece.first);
    const float *o = s.o;

    FZ_TRY(fz_sub_merge(pass->x, p, pass->b, &o, p->C, piece.n));
    return dense_leaves(pass, leaf, FZ_SUB_PROJ_W, k.dp, o, piece.n * p->T, p->C, p->C);
}

static fz_status form_dw2(void *context, fz_piece piece, const fz_leaf *leaf)
{
    const weight_pass *pass = context;
    const fz_sub_saved s = fz_sub_saved_at(pass->x->saved, &pass->p, piece.first, piece.first);
    const fz_sub_kept k = fz_sub_kept_at(pass->x->kept, &pass->p, piece.first);

    return depthwise_leaves(pass, leaf, FZ_SUB_DW2_W, k.d3, s.x2, piece.n);
}

static fz_status form_fc1(void *context, fz_piece piece, const fz_leaf *leaf)
{
    const weight_pass *pass = context;
    const fz_exec *x = pass->x;
    const fz_sub_shape *p = &pass->p;
    const fz_sub_saved s = fz_sub_saved_at(x->saved, p, piece.first, piece.first);
    const fz_sub_kept k = fz_sub_kept_at(x->kept, p, piece.first);

    FZ_TRY(fz_sub_depthwise(x, pass->block, p, pass->a, s.x2, FZ_SUB_DW2_W, piece.n));
    FZ_TRY(fz_sub_norm(x, pass->block, p, pass->b, s.mean2, s.rstd2, pass->a, FZ_SUB_NORM2_W,
                       piece.n));
    FZ_TRY(norm_leaves(pass, leaf, FZ_SUB_NORM2_W, k.dy2, pass->a, s.mean2, s.rstd2, piece.n));
    return dense_leaves(pass, leaf, FZ_SUB_FC1_W, k.dh, pass->b, piece.n * p->T, p->C, 4 * p->C);
}

static fz_status form_fc2(void *context, fz_piece piece, const fz_leaf *leaf)
{
    const weight_pass *pass = context;
    const fz_exec *x = pass->x;
    const fz_sub_shape *p = &pass->p;
    const int64_t N = piece.n * p->T;
    const fz_sub_saved s = fz_sub_saved_at(x->saved, p, piece.first, piece.first);
    const fz_sub_kept k = fz_sub_kept_at(x->kept, p, piece.first);
    const fz_dropout none = {0};
    fz_plain_rows plain;
    const fz_rows rows = fz_plain_rows_init(&plain, N);

    FZ_TRY(x->ops->gelu_forward(pass->g, s.h, NULL, &rows, 4 * p->C, &none, x->queue));
    return dense_leaves(pass, leaf, FZ_SUB_FC2_W, k.df, pass->g, N, 4 * p->C, p->C);
}

fz_status fz_sub_backward_weight(const fz_block *block, fz_exec *x)
{
    static const fz_leaf_fn form[GROUPS] = {
        [GROUP_DW1] = form_dw1, [GROUP_QKV] = form_qkv, [GROUP_PROJ] = form_proj,
        [GROUP_DW2] = form_dw2, [GROUP_FC1] = form_fc1, [GROUP_FC2] = form_fc2,
    };

    if (!block->trains) return FZ_OK;
    const fz_sub_shape p = fz_sub_shape_now(block, x);
    weight_pass pass = take_weight(block, x->program, &p, x->shards.count, x->work);
    pass.x = x;
    for (int g = 0; g < GROUPS; g++)
        FZ_TRY(fz_leaves_form(x, &pass.leaves, g, form[g], &pass));
    return fz_leaves_add(x, block, &pass.leaves);
}
