#include "launch/timed_ops.h"

#include <string.h>

#include "core/clock.h"

static const fz_ops *inner;
static fz_op_time times[FZ_TIMED_OPS];
static fz_ops timed_table;

static void count(int op, double since)
{
    times[op].seconds += fz_clock_s() - since;
    times[op].calls++;
}

/* One wrapper per entry: the call itself, with the clock read on both sides. */
#define TIMED(op, params, args)                    \
    static fz_status timed_##op params             \
    {                                              \
        const double since = fz_clock_s();         \
        const fz_status status = inner->op args;   \
        count(OP_##op, since);                     \
        return status;                             \
    }

enum {
    OP_gemm, OP_zero, OP_copy, OP_add, OP_scale, OP_bias_add, OP_bias_backward, OP_dropout,
    OP_dropout_residual, OP_drop_path_residual, OP_drop_path, OP_gelu_forward, OP_gelu_backward,
    OP_geglu_forward, OP_geglu_backward, OP_layernorm_forward, OP_layernorm_backward_input,
    OP_layernorm_backward_weight, OP_rmsnorm_forward, OP_rmsnorm_residual_forward,
    OP_rmsnorm_backward_input, OP_rmsnorm_backward_weight, OP_attention_forward,
    OP_attention_backward, OP_rope, OP_embedding_forward, OP_embedding_backward,
    OP_position_forward, OP_position_backward, OP_ce_max, OP_ce_sum, OP_ce_loss, OP_ce_backward,
    OP_im2col, OP_col2im, OP_depthwise_residual_forward, OP_depthwise_residual_backward_input,
    OP_depthwise_backward_weight, OP_window_split, OP_window_merge, OP_channel_attention_forward,
    OP_channel_attention_backward, OP_image_tokens_forward, OP_image_tokens_backward,
    OP_image_positions_backward, OP_column_sums, OP_layernorm_weight_sums, OP_adamw,
    OP_sumsq_chunks, N_OPS
};

TIMED(gemm, (const fz_gemm_args *args, fz_queue *queue), (args, queue))
TIMED(zero, (float *y, int64_t n, fz_queue *queue), (y, n, queue))
TIMED(copy, (float *y, const float *x, int64_t n, fz_queue *queue), (y, x, n, queue))
TIMED(add, (float *y, const float *x, int64_t n, fz_queue *queue), (y, x, n, queue))
TIMED(scale, (float *y, float factor, int64_t n, fz_queue *queue), (y, factor, n, queue))
TIMED(bias_add, (float *y, const float *b, int64_t N, int64_t C, int64_t ld, fz_queue *queue),
      (y, b, N, C, ld, queue))
TIMED(bias_backward, (float *db, const float *dy, int64_t N, int64_t C, int64_t ld, int64_t S,
      float *work, fz_queue *queue), (db, dy, N, C, ld, S, work, queue))
TIMED(dropout, (float *y, const float *x, const float *bias, const fz_rows *rows, int64_t C,
      const fz_dropout *drop, fz_queue *queue), (y, x, bias, rows, C, drop, queue))
TIMED(dropout_residual, (float *y, const float *x, const float *r, const float *bias,
      const fz_rows *rows, int64_t C, const fz_dropout *drop, fz_queue *queue), (y, x, r, bias,
      rows, C, drop, queue))
TIMED(drop_path_residual, (float *y, const float *x, const float *r, const float *bias,
      int64_t n_samples, int64_t rows_per_sample, int64_t C, const int64_t *sample_n,
      const fz_dropout *drop, fz_queue *queue), (y, x, r, bias, n_samples, rows_per_sample, C,
      sample_n, drop, queue))
TIMED(drop_path, (float *dr, const float *dy, int64_t n_samples, int64_t rows_per_sample,
      int64_t C, const int64_t *sample_n, const fz_dropout *drop, fz_queue *queue), (dr, dy,
      n_samples, rows_per_sample, C, sample_n, drop, queue))
TIMED(gelu_forward, (float *y, float *h, const float *bias, const fz_rows *rows, int64_t C,
      const fz_dropout *drop, fz_queue *queue), (y, h, bias, rows, C, drop, queue))
TIMED(gelu_backward, (float *dh, const float *dy, const float *h, const fz_rows *rows, int64_t C,
      const fz_dropout *drop, fz_queue *queue), (dh, dy, h, rows, C, drop, queue))
TIMED(geglu_forward, (float *y, const float *gate, const float *up, int64_t n, fz_queue *queue),
      (y, gate, up, n, queue))
TIMED(geglu_backward, (float *dgate, float *dup, const float *dy, const float *gate,
      const float *up, int64_t n, fz_queue *queue), (dgate, dup, dy, gate, up, n, queue))
TIMED(layernorm_forward, (float *y, float *mean, float *rstd, const float *x, const float *w,
      const float *b, int64_t N, int64_t C, float eps, fz_queue *queue), (y, mean, rstd, x, w, b,
      N, C, eps, queue))
TIMED(layernorm_backward_input, (float *dx, const float *dy, const float *x, const float *mean,
      const float *rstd, const float *w, int64_t N, int64_t C, fz_queue *queue), (dx, dy, x,
      mean, rstd, w, N, C, queue))
TIMED(layernorm_backward_weight, (float *dw, float *db, const float *dy, const float *x,
      const float *mean, const float *rstd, int64_t N, int64_t C, int64_t S, float *work,
      fz_queue *queue), (dw, db, dy, x, mean, rstd, N, C, S, work, queue))
TIMED(rmsnorm_forward, (float *y, float *r, const float *x, const float *w, int64_t N, int64_t C,
      float eps, fz_queue *queue), (y, r, x, w, N, C, eps, queue))
TIMED(rmsnorm_residual_forward, (float *y, float *r, const float *x, const float *a,
      const float *w, const float *gate, int64_t N, int64_t C, float eps, fz_queue *queue), (y,
      r, x, a, w, gate, N, C, eps, queue))
TIMED(rmsnorm_backward_input, (float *dx, const float *dy, const float *x, const float *r,
      const float *w, const float *gate, bool accumulate, int64_t N, int64_t C, fz_queue *queue),
      (dx, dy, x, r, w, gate, accumulate, N, C, queue))
TIMED(rmsnorm_backward_weight, (float *dw, float *dgate, const float *dy, const float *x,
      const float *r, const float *w, const float *gate, int64_t N, int64_t C, int64_t S,
      float *work, fz_queue *queue), (dw, dgate, dy, x, r, w, gate, N, C, S, work, queue))
TIMED(attention_forward, (const fz_attention_args *args, fz_queue *queue), (args, queue))
TIMED(attention_backward, (const fz_attention_args *args, fz_queue *queue), (args, queue))
TIMED(rope, (float *x, const fz_rows *rows, int64_t n_heads, int64_t head_dim, int64_t stride,
      double theta, bool inverse, fz_queue *queue), (x, rows, n_heads, head_dim, stride, theta,
      inverse, queue))
TIMED(embedding_forward, (float *y, const float *table, const int32_t *ids, int64_t N, int64_t C,
      int64_t first, int64_t n_rows, float scale, fz_queue *queue), (y, table, ids, N, C, first,
      n_rows, scale, queue))
TIMED(embedding_backward, (float *dtable, const float *dy, const int32_t *ids, int64_t N,
      int64_t C, int64_t first, int64_t n_rows, float scale, int32_t skip_id, fz_queue *queue),
      (dtable, dy, ids, N, C, first, n_rows, scale, skip_id, queue))
TIMED(position_forward, (float *y, const float *table, const fz_rows *rows, int64_t C,
      int64_t offset, fz_queue *queue), (y, table, rows, C, offset, queue))
TIMED(position_backward, (float *dtable, const float *dy, const fz_rows *rows, int64_t C,
      int64_t offset, int64_t max_len, int64_t S, float *work, fz_queue *queue), (dtable, dy,
      rows, C, offset, max_len, S, work, queue))
TIMED(ce_max, (float *z, float *max, float *target, const int32_t *labels, int64_t N, int64_t V,
      int64_t first, int64_t n_valid, float cap, fz_queue *queue), (z, max, target, labels, N, V,
      first, n_valid, cap, queue))
TIMED(ce_sum, (float *sum, const float *z, const float *max, int64_t N, int64_t V,
      int64_t n_valid, fz_queue *queue), (sum, z, max, N, V, n_valid, queue))
TIMED(ce_loss, (float *loss, const float *sum, const float *max, const float *target,
      const int32_t *labels, int64_t N, fz_queue *queue), (loss, sum, max, target, labels, N,
      queue))
TIMED(ce_backward, (float *z, const float *max, const float *sum, const int32_t *labels,
      int64_t N, int64_t V, int64_t first, int64_t n_valid, float cap, float factor,
      fz_queue *queue), (z, max, sum, labels, N, V, first, n_valid, cap, factor, queue))
TIMED(im2col, (float *out, const float *x, int64_t B, int64_t H, int64_t W, int64_t C, int64_t k,
      int64_t stride, int64_t pad, fz_queue *queue), (out, x, B, H, W, C, k, stride, pad, queue))
TIMED(col2im, (float *dx, const float *dcol, int64_t B, int64_t H, int64_t W, int64_t C,
      int64_t k, int64_t stride, int64_t pad, fz_queue *queue), (dx, dcol, B, H, W, C, k, stride,
      pad, queue))
TIMED(depthwise_residual_forward, (float *y, const float *x, const float *w, const float *b,
      int64_t B, int64_t H, int64_t W, int64_t C, fz_queue *queue), (y, x, w, b, B, H, W, C,
      queue))
TIMED(depthwise_residual_backward_input, (float *dx, const float *dy, const float *w, int64_t B,
      int64_t H, int64_t W, int64_t C, fz_queue *queue), (dx, dy, w, B, H, W, C, queue))
TIMED(depthwise_backward_weight, (float *dw, float *db, const float *dy, const float *x,
      int64_t B, int64_t H, int64_t W, int64_t C, fz_queue *queue), (dw, db, dy, x, B, H, W, C,
      queue))
TIMED(window_split, (float *out, const float *x, int64_t B, int64_t H, int64_t W, int64_t C,
      int64_t window, fz_queue *queue), (out, x, B, H, W, C, window, queue))
TIMED(window_merge, (float *out, const float *x, int64_t B, int64_t H, int64_t W, int64_t C,
      int64_t window, fz_queue *queue), (out, x, B, H, W, C, window, queue))
TIMED(channel_attention_forward, (const fz_channel_attention_args *args, fz_queue *queue), (args,
      queue))
TIMED(channel_attention_backward, (const fz_channel_attention_args *args, fz_queue *queue),
      (args, queue))
TIMED(image_tokens_forward, (float *y, const float *x, const float *row, const float *col,
      int64_t B, int64_t side, int64_t C, fz_queue *queue), (y, x, row, col, B, side, C, queue))
TIMED(image_tokens_backward, (float *dx, const float *dy, int64_t B, int64_t side, int64_t C,
      fz_queue *queue), (dx, dy, B, side, C, queue))
TIMED(image_positions_backward, (float *drow, float *dcol, const float *dx, int64_t B,
      int64_t side, int64_t C, fz_queue *queue), (drow, dcol, dx, B, side, C, queue))
TIMED(column_sums, (float *db, const float *dy, int64_t N, int64_t C, fz_queue *queue), (db, dy,
      N, C, queue))
TIMED(layernorm_weight_sums, (float *dw, float *db, const float *dy, const float *x,
      const float *mean, const float *rstd, int64_t N, int64_t C, fz_queue *queue), (dw, db, dy,
      x, mean, rstd, N, C, queue))
TIMED(adamw, (const fz_adamw_args *args, fz_queue *queue), (args, queue))
TIMED(sumsq_chunks, (double *sums, const float *x, int64_t n, fz_queue *queue), (sums, x, n,
      queue))

_Static_assert((int)N_OPS <= (int)FZ_TIMED_OPS, "FZ_TIMED_OPS is too small");

const fz_ops *fz_timed_ops(const fz_ops *ops)
{
    inner = ops;
    timed_table = *ops;
    timed_table.gemm = timed_gemm;
    timed_table.zero = timed_zero;
    timed_table.copy = timed_copy;
    timed_table.add = timed_add;
    timed_table.scale = timed_scale;
    timed_table.bias_add = timed_bias_add;
    timed_table.bias_backward = timed_bias_backward;
    timed_table.dropout = timed_dropout;
    timed_table.dropout_residual = timed_dropout_residual;
    timed_table.drop_path_residual = timed_drop_path_residual;
    timed_table.drop_path = timed_drop_path;
    timed_table.gelu_forward = timed_gelu_forward;
    timed_table.gelu_backward = timed_gelu_backward;
    timed_table.geglu_forward = timed_geglu_forward;
    timed_table.geglu_backward = timed_geglu_backward;
    timed_table.layernorm_forward = timed_layernorm_forward;
    timed_table.layernorm_backward_input = timed_layernorm_backward_input;
    timed_table.layernorm_backward_weight = timed_layernorm_backward_weight;
    timed_table.rmsnorm_forward = timed_rmsnorm_forward;
    timed_table.rmsnorm_residual_forward = timed_rmsnorm_residual_forward;
    timed_table.rmsnorm_backward_input = timed_rmsnorm_backward_input;
    timed_table.rmsnorm_backward_weight = timed_rmsnorm_backward_weight;
    timed_table.attention_forward = timed_attention_forward;
    timed_table.attention_backward = timed_attention_backward;
    timed_table.rope = timed_rope;
    timed_table.embedding_forward = timed_embedding_forward;
    timed_table.embedding_backward = timed_embedding_backward;
    timed_table.position_forward = timed_position_forward;
    timed_table.position_backward = timed_position_backward;
    timed_table.ce_max = timed_ce_max;
    timed_table.ce_sum = timed_ce_sum;
    timed_table.ce_loss = timed_ce_loss;
    timed_table.ce_backward = timed_ce_backward;
    timed_table.im2col = timed_im2col;
    timed_table.col2im = timed_col2im;
    timed_table.depthwise_residual_forward = timed_depthwise_residual_forward;
    timed_table.depthwise_residual_backward_input = timed_depthwise_residual_backward_input;
    timed_table.depthwise_backward_weight = timed_depthwise_backward_weight;
    timed_table.window_split = timed_window_split;
    timed_table.window_merge = timed_window_merge;
    timed_table.channel_attention_forward = timed_channel_attention_forward;
    timed_table.channel_attention_backward = timed_channel_attention_backward;
    timed_table.image_tokens_forward = timed_image_tokens_forward;
    timed_table.image_tokens_backward = timed_image_tokens_backward;
    timed_table.image_positions_backward = timed_image_positions_backward;
    timed_table.column_sums = timed_column_sums;
    timed_table.layernorm_weight_sums = timed_layernorm_weight_sums;
    timed_table.adamw = timed_adamw;
    timed_table.sumsq_chunks = timed_sumsq_chunks;
    return &timed_table;
}

void fz_timed_ops_reset(void)
{
    memset(times, 0, sizeof times);
}

int fz_timed_ops_get(const fz_op_time **times_p)
{
    static const char *const names[] = {
        "gemm",
        "zero",
        "copy",
        "add",
        "scale",
        "bias_add",
        "bias_backward",
        "dropout",
        "dropout_residual",
        "drop_path_residual",
        "drop_path",
        "gelu_forward",
        "gelu_backward",
        "geglu_forward",
        "geglu_backward",
        "layernorm_forward",
        "layernorm_backward_input",
        "layernorm_backward_weight",
        "rmsnorm_forward",
        "rmsnorm_residual_forward",
        "rmsnorm_backward_input",
        "rmsnorm_backward_weight",
        "attention_forward",
        "attention_backward",
        "rope",
        "embedding_forward",
        "embedding_backward",
        "position_forward",
        "position_backward",
        "ce_max",
        "ce_sum",
        "ce_loss",
        "ce_backward",
        "im2col",
        "col2im",
        "depthwise_residual_forward",
        "depthwise_residual_backward_input",
        "depthwise_backward_weight",
        "window_split",
        "window_merge",
        "channel_attention_forward",
        "channel_attention_backward",
        "image_tokens_forward",
        "image_tokens_backward",
        "image_positions_backward",
        "column_sums",
        "layernorm_weight_sums",
        "adamw",
        "sumsq_chunks",
    };
    for (int i = 0; i < N_OPS; i++) times[i].name = names[i];
    *times_p = times;
    return N_OPS;
}
