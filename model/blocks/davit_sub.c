#include "model/blocks/davit_sub.h"

#include "core/assert.h"
#include "model/ops/channel_attention.h"

_Static_assert((int)FZ_SUB_HEAD == (int)FZ_CHANNEL_GROUP, "heads and groups have 32 channels");

fz_sub_shape fz_sub_shape_of(const fz_block *block, const fz_program *program,
                             const fz_sizes *sizes, fz_shards shards)
{
    const fz_model_config *config = &program->config;
    fz_sub_shape p = {.is_channel = block->kind == &fz_block_vision_channel,
                      .C = config->vision_dims[block->layer],
                      .side = fz_vision_side(config, block->layer),
                      .n_images = sizes->n_local_images,
                      .piece = fz_piece_max(sizes, shards)};
    const int64_t per_side = (p.side + FZ_SUB_WINDOW - 1) / FZ_SUB_WINDOW;

    p.T = p.side * p.side;
    p.windows = p.is_channel ? 0 : per_side * per_side;
    p.rows = p.is_channel ? p.T : p.windows * FZ_SUB_WINDOW * FZ_SUB_WINDOW;
    p.stats = p.is_channel ? p.C * FZ_SUB_HEAD : p.rows * (p.C / FZ_SUB_HEAD);
    return p;
}

fz_sub_saved fz_sub_saved_at(const fz_sub_saved *saved, const fz_sub_shape *p, int64_t first,
                             int64_t in_first)
{
    return (fz_sub_saved){.in = saved->in + in_first * p->T * p->C,
                          .mean1 = saved->mean1 + first * p->T,
                          .rstd1 = saved->rstd1 + first * p->T,
                          .mean2 = saved->mean2 + first * p->T,
                          .rstd2 = saved->rstd2 + first * p->T,
                          .x2 = saved->x2 + first * p->T * p->C,
                          .qkv = saved->qkv + first * p->rows * 3 * p->C,
                          .o = saved->o + first * p->rows * p->C,
                          .stats = saved->stats + first * p->stats,
                          .h = saved->h + first * p->T * 4 * p->C};
}

/* ---- parts ---- */

fz_sub_attention fz_sub_attention_take(const fz_sub_shape *p, fz_arena *work)
{
    const int64_t n = FZ_SUB_WINDOW * FZ_SUB_WINDOW;
    fz_sub_attention attention = {0};

    if (p->is_channel) {
        attention.work = fz_arena_take(work, fz_ops_cpu.channel_attention_work(p->C));
        return attention;
    }
    attention.start = fz_arena_ints(work, p->piece * p->windows + 1);
    attention.work = fz_arena_take(work, fz_ops_cpu.attention_work(n, n, FZ_SUB_HEAD));
    return attention;
}

static fz_channel_attention_args channel_args(const fz_sub_shape *p,
                                              const fz_sub_attention *attention,
                                              const fz_sub_saved *saved, int64_t n)
{
    return (fz_channel_attention_args){.qkv = saved->qkv,
                                       .o = saved->o,
                                       .a = saved->stats,
                                       .n_images = n,
                                       .n_tokens = p->T,
                                       .C = p->C,
                                       .work = attention->work};
}

/* Every window is a sequence of 144. */
static fz_attention_args window_args(const fz_sub_shape *p, const fz_sub_attention *attention,
                                     const fz_sub_saved *saved, int64_t n)
{
    const int64_t tokens = FZ_SUB_WINDOW * FZ_SUB_WINDOW, heads = p->C / FZ_SUB_HEAD;

    for (int64_t i = 0; i <= n * p->windows; i++)
        attention->start[i] = (int32_t)(i * tokens);
    return (fz_attention_args){.q = saved->qkv,
                               .k = saved->qkv + p->C,
                               .v = saved->qkv + 2 * p->C,
                               .o = saved->o,
                               .lse = saved->stats,
                               .n_seq = n * p->windows,
                               .q_start = attention->start,
                               .kv_start = attention->start,
                               .max_q_len = tokens,
                               .max_kv_len = tokens,
                               .n_heads = heads,
                               .n_kv_heads = heads,
                               .head_dim = FZ_SUB_HEAD,
                               .q_stride = 3 * p->C,
                               .kv_stride = 3 * p->C,
                               .o_stride = p->C,
                               .scale = 0.17677669529663687f, /* 32^-0.5 */
                               .work = attention->work};
}

fz_status fz_sub_attention_forward(const fz_exec *x, const fz_sub_shape *p,
                                   const fz_sub_attention *attention, const fz_sub_saved *saved,
                                   int64_t n)
{
    if (p->is_channel) {
        const fz_channel_attention_args args = channel_args(p, attention, saved, n);
        return x->ops->channel_attention_forward(&args, x->queue);
    }
    const fz_attention_args args = window_args(p, attention, saved, n);
    return x->ops->attention_forward(&args, x->queue);
}

fz_status fz_sub_attention_backward(const fz_exec *x, const fz_sub_shape *p,
                                    const fz_sub_attention *attention, const fz_sub_saved *saved,
                                    const float *dout, float *dqkv, int64_t n)
{
    if (p->is_channel) {
        fz_channel_attention_args args = channel_args(p, attention, saved, n);
        args.dout = dout;
        args.dqkv = dqkv;
        return x->ops->channel_attention_backward(&args, x->queue);
    }
    fz_attention_args args = window_args(p, attention, saved, n);
    args.dout = dout;
    args.dq = dqkv;
    args.dk = dqkv + p->C;
    args.dv = dqkv + 2 * p->C;
    return x->ops->attention_backward(&args, x->queue);
}

fz_dropout fz_sub_drop_path(const fz_exec *x, const fz_block *block, int branch)
{
    const fz_model_config *config = &x->program->config;
    int64_t n = 0;

    for (int s = 0; s < FZ_VISION_STAGES; s++)
        n += 2 * config->vision_depths[s];
    const bool is_active = x->training && block->dropout_active;
    return (fz_dropout){.p = is_active ? block->sub_global * config->drop_path / (double)(n - 1)
                                       : 0.0,
                        .seed = x->seed,
                        .site = block->site + (uint32_t)branch};
}

fz_status fz_sub_depthwise(const fz_exec *x, const fz_block *block, const fz_sub_shape *p, float *y,
                           const float *in, int use_w, int64_t n)
{
    return x->ops->depthwise_residual_forward(y, in, fz_weight(block, x, use_w),
                                              fz_weight(block, x, use_w + 1), n, p->side, p->side,
                                              p->C, x->queue);
}

fz_status fz_sub_norm(const fz_exec *x, const fz_block *block, const fz_sub_shape *p, float *y,
                      float *mean, float *rstd, const float *in, int use_w, int64_t n)
{
    return x->ops->layernorm_forward(y, mean, rstd, in, fz_weight(block, x, use_w),
                                     fz_weight(block, x, use_w + 1), n * p->T, p->C,
                                     FZ_SUB_NORM_EPS, x->queue);
}

fz_status fz_sub_split(const fz_exec *x, const fz_sub_shape *p, float *rows, const float *tokens,
                       int64_t width, int64_t n)
{
    if (p->is_channel) return FZ_OK;
    return x->ops->window_split(rows, tokens, n, p->side, p->side, width, FZ_SUB_WINDOW, x->queue);
}

fz_status fz_sub_merge(const fz_exec *x, const fz_sub_shape *p, float *tokens, const float **rows_p,
                       int64_t width, int64_t n)
{
    if (p->is_channel) return FZ_OK;
    FZ_TRY(
        x->ops->window_merge(tokens, *rows_p, n, p->side, p->side, width, FZ_SUB_WINDOW, x->queue));
    *rows_p = tokens;
    return FZ_OK;
}

/* ---- forward ---- */

typedef struct forward_memory {
    fz_sub_saved *record; /* NULL where nothing is kept */
    fz_sub_saved saved;   /* for all local images if kept, else for one piece */
    float *out;           /* (n_images, T, C) */
    float *a, *b, *c;     /* (piece, T, C); c: spatial only */
    float *g;             /* (piece, T, 4C) */
    fz_sub_attention attention;
} forward_memory;

static void take_saved(fz_sub_saved *saved, const fz_sub_shape *p, int64_t n, fz_arena *arena)
{
    saved->mean1 = fz_arena_floats(arena, n * p->T);
    saved->rstd1 = fz_arena_floats(arena, n * p->T);
    saved->mean2 = fz_arena_floats(arena, n * p->T);
    saved->rstd2 = fz_arena_floats(arena, n * p->T);
    saved->x2 = fz_arena_floats(arena, n * p->T * p->C);
    saved->qkv = fz_arena_floats(arena, n * p->rows * 3 * p->C);
    saved->o = fz_arena_floats(arena, n * p->rows * p->C);
    saved->stats = fz_arena_floats(arena, n * p->stats);
    saved->h = fz_arena_floats(arena, n * p->T * 4 * p->C);
}

static forward_memory take_forward(const fz_block *block, const fz_sub_shape *p, fz_arena *save,
                                   fz_arena *work)
{
    const bool keeps = fz_block_keeps(block);
    forward_memory m = {0};

    if (keeps) m.record = fz_arena_take(save, sizeof *m.record);
    take_saved(&m.saved, p, keeps ? p->n_images : p->piece, fz_choose(keeps, save, work));
    m.out = fz_arena_floats(save, p->n_images * p->T * p->C);
    m.a = fz_arena_floats(work, p->piece * p->T * p->C);
    m.b = fz_arena_floats(work, p->piece * p->T * p->C);
    if (!p->is_channel) m.c = fz_arena_floats(work, p->piece * p->T * p->C);
    m.g = fz_arena_floats(work, p->piece * p->T * 4 * p->C);
    m.attention = fz_sub_attention_take(p, work);
    return m;
}

/* x2 = x1 + DP(Attn(LN1(x1))) with x1 = x + DW1(x). */
static fz_status attention_half(const fz_block *block, const fz_exec *x, const fz_sub_shape *p,
                                const forward_memory *m, const fz_sub_saved *s, fz_piece piece)
{
    const int64_t n = piece.n, N = n * p->T, R = n * p->rows, C = p->C;
    const fz_dropout drop = fz_sub_drop_path(x, block, 0);
    float *qkv = p->is_channel ? s->qkv : m->g;
    const float *o = s->o;

    FZ_TRY(fz_sub_depthwise(x, block, p, m->a, s->in, FZ_SUB_DW1_W, n));
    FZ_TRY(fz_sub_norm(x, block, p, m->b, s->mean1, s->rstd1, m->a, FZ_SUB_NORM1_W, n));
    FZ_TRY(fz_dense_forward(x, qkv, m->b, fz_weight(block, x, FZ_SUB_QKV_W), N, C, 3 * C));
    FZ_TRY(fz_sub_split(x, p, s->qkv, qkv, 3 * C, n));
    FZ_TRY(x->ops->bias_add(s->qkv, fz_weight(block, x, FZ_SUB_QKV_B), R, 3 * C, 3 * C, x->queue));
    FZ_TRY(fz_sub_attention_forward(x, p, &m->attention, s, n));
    FZ_TRY(fz_sub_merge(x, p, m->c, &o, C, n));
    FZ_TRY(fz_dense_forward(x, m->b, o, fz_weight(block, x, FZ_SUB_PROJ_W), N, C, C));
    return x->ops->drop_path_residual(s->x2, m->a, m->b, fz_weight(block, x, FZ_SUB_PROJ_B), n,
                                      p->T, C, fz_piece_samples(x, piece), &drop, x->queue);
}

/* y = x3 + DP(FFN(LN2(x3))) with x3 = x2 + DW2(x2). */
static fz_status ffn_half(const fz_block *block, const fz_exec *x, const fz_sub_shape *p,
                          const forward_memory *m, const fz_sub_saved *s, fz_piece piece)
{
    const int64_t n = piece.n, N = n * p->T, C = p->C;
    const fz_dropout drop = fz_sub_drop_path(x, block, 1), none = {0};
    fz_plain_rows plain;
    const fz_rows rows = fz_plain_rows_init(&plain, N);

    FZ_TRY(fz_sub_depthwise(x, block, p, m->a, s->x2, FZ_SUB_DW2_W, n));
    FZ_TRY(fz_sub_norm(x, block, p, m->b, s->mean2, s->rstd2, m->a, FZ_SUB_NORM2_W, n));
    FZ_TRY(fz_dense_forward(x, s->h, m->b, fz_weight(block, x, FZ_SUB_FC1_W), N, C, 4 * C));
    FZ_TRY(x->ops->gelu_forward(m->g, s->h, fz_weight(block, x, FZ_SUB_FC1_B), &rows, 4 * C, &none,
                                x->queue));
    FZ_TRY(fz_dense_forward(x, m->b, m->g, fz_weight(block, x, FZ_SUB_FC2_W), N, 4 * C, C));
    return x->ops->drop_path_residual(m->out + piece.first * p->T * C, m->a, m->b,
                                      fz_weight(block, x, FZ_SUB_FC2_B), n, p->T, C,
                                      fz_piece_samples(x, piece), &drop, x->queue);
}

static fz_status forward(const fz_block *block, fz_exec *x)
{
    const fz_sub_shape p = fz_sub_shape_now(block, x);
    forward_memory m = take_forward(block, &p, x->save, x->work);

    m.saved.in = x->stream[FZ_STREAM_VISION];
    for (int64_t j = 0; j < x->shards.count; j++) {
        const fz_piece piece = fz_piece_get(x, j);
        if (piece.n == 0) continue;
        const fz_sub_saved s =
            fz_sub_saved_at(&m.saved, &p, m.record ? piece.first : 0, piece.first);
        FZ_TRY(attention_half(block, x, &p, &m, &s, piece));
        FZ_TRY(ffn_half(block, x, &p, &m, &s, piece));
    }
    if (m.record) *m.record = m.saved;
    x->saved = m.record;
    x->stream[FZ_STREAM_VISION] = m.out;
    return FZ_OK;
}

/* ---- the plan ---- */

static void count_bytes(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                        fz_shards shards, fz_block_bytes *bytes)
{
    const fz_sub_shape p = fz_sub_shape_of(block, program, sizes, shards);
    fz_arena save = fz_arena_counting(), keep = fz_arena_counting(), work = fz_arena_counting();

    take_forward(block, &p, &save, &work);
    fz_arena_release(&work, 0);
    if (fz_block_keeps(block)) fz_sub_count_backward_input(block, &p, &keep, &work);
    fz_arena_release(&work, 0);
    if (block->trains) fz_sub_count_backward_weight(block, program, &p, shards.count, &work);
    *bytes = (fz_block_bytes){.save = save.used, .keep = keep.used, .work = work.peak};
}

/* model.md 9, but products of the attention's weights over tokens, not over padded windows
 * (docs/design/0004-padding-is-not-multiplied.md); backward of attention: two products for each of
 * the forward's, none formed again. */
static void count_flops(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                        fz_shards shards, fz_flops *flops)
{
    const fz_sub_shape p = fz_sub_shape_of(block, program, sizes, shards);
    const double C = (double)p.C, N = (double)(p.n_images * p.T), R = (double)(p.n_images * p.rows);
    const double per_row = p.is_channel ? 4.0 * FZ_SUB_HEAD : 4.0 * FZ_SUB_WINDOW * FZ_SUB_WINDOW;
    const double attention = per_row * C * R, depthwise = 18.0 * C * N;
    const struct {
        int use;
        double flops;
    } products[] = {{FZ_SUB_DW1_W, depthwise},        {FZ_SUB_QKV_W, 6.0 * C * C * N},
                    {FZ_SUB_PROJ_W, 2.0 * C * C * N}, {FZ_SUB_DW2_W, depthwise},
                    {FZ_SUB_FC1_W, 8.0 * C * C * N},  {FZ_SUB_FC2_W, 8.0 * C * C * N}};

    *flops = (fz_flops){.forward = attention};
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        flops->forward += products[i].flops;
        if (fz_use_trains(program, block, products[i].use))
            flops->backward_weight += products[i].flops;
    }
    if (fz_block_keeps(block)) flops->backward_input = flops->forward + attention;
}

const fz_block_kind fz_block_vision_spatial = {
    .name = "vision.spatial",
    .forward = forward,
    .backward_input = fz_sub_backward_input,
    .backward_weight = fz_sub_backward_weight,
    .bytes = count_bytes,
    .flops = count_flops,
};

const fz_block_kind fz_block_vision_channel = {
    .name = "vision.channel",
    .forward = forward,
    .backward_input = fz_sub_backward_input,
    .backward_weight = fz_sub_backward_weight,
    .bytes = count_bytes,
    .flops = count_flops,
};
