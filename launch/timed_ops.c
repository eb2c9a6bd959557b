#include "launch/timed_ops.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

/* clang-format off */
#define OPS(X)                                                                        \
    X(gemm) X(zero) X(copy)                                                           \
    X(add) X(scale) X(bias_add)                                                       \
    X(bias_backward) X(dropout) X(dropout_residual)                                   \
    X(drop_path_residual) X(drop_path) X(gelu_forward)                                \
    X(gelu_backward) X(geglu_forward) X(geglu_backward)                               \
    X(layernorm_forward) X(layernorm_backward_input) X(layernorm_backward_weight)     \
    X(rmsnorm_forward) X(rmsnorm_residual_forward) X(rmsnorm_backward_input)          \
    X(rmsnorm_backward_weight) X(attention_forward) X(attention_backward)             \
    X(rope) X(embedding_forward) X(embedding_backward)                                \
    X(position_forward) X(position_backward) X(ce_max)                                \
    X(ce_sum) X(ce_loss) X(ce_backward)                                               \
    X(im2col) X(col2im) X(depthwise_residual_forward)                                 \
    X(depthwise_residual_backward_input) X(depthwise_backward_weight) X(window_split) \
    X(window_merge) X(channel_attention_forward) X(channel_attention_backward)        \
    X(image_tokens_forward) X(image_tokens_backward) X(image_positions_backward)      \
    X(column_sums) X(layernorm_weight_sums) X(adamw)                                  \
    X(sumsq_chunks)
/* clang-format on */

enum {
#define X(op) OP_##op,
    OPS(X)
#undef X
        N_OPS
};
_Static_assert((int)N_OPS <= (int)FZ_TIMED_OPS, "FZ_TIMED_OPS is too small");

static const fz_ops *inner;
static fz_ops timed_table;
static fz_op_time times[FZ_TIMED_OPS];
static fz_product_time products[FZ_TIMED_PRODUCTS];
static double product_since, product_seconds; /* of all products since the start */

/* The place of a shape; the last one collects what found no room. */
static fz_product_time *product_at(int64_t m, int64_t n, int64_t k)
{
    const uint64_t hash = ((uint64_t)m * 0x9E3779B97F4A7C15u + (uint64_t)n) * 0x9E3779B97F4A7C15u +
                          (uint64_t)k * 0xC2B2AE3D27D4EB4Fu;
    for (uint64_t i = 0; i < 16; i++) {
        fz_product_time *p = &products[((hash >> 32) + i) % (FZ_TIMED_PRODUCTS - 1)];
        if (p->calls == 0 || (p->m == m && p->n == n && p->k == k)) return p;
    }
    return &products[FZ_TIMED_PRODUCTS - 1];
}

static void watch(bool done, int64_t m, int64_t n, int64_t k)
{
    const double now = fz_clock_cpu_s();
    if (!done) {
        product_since = now;
        return;
    }
    fz_product_time *p = product_at(m, n, k);
    p->m = m;
    p->n = n;
    p->k = k;
    p->calls++;
    p->seconds += now - product_since;
    p->flops += 2.0 * (double)m * (double)n * (double)k;
    product_seconds += now - product_since;
}

static void count(int op, double since, double products_before)
{
    times[op].seconds += fz_clock_cpu_s() - since;
    times[op].product_seconds += product_seconds - products_before;
    times[op].calls++;
}

/* One wrapper per entry: the call itself, with the clock read on both sides. */
#define TIMED(op, params, args)                                                                    \
    static fz_status timed_##op params                                                             \
    {                                                                                              \
        const double before = product_seconds;                                                     \
        const double since = fz_clock_cpu_s();                                                     \
        const fz_status status = inner->op args;                                                   \
        count(OP_##op, since, before);                                                             \
        return status;                                                                             \
    }

TIMED(gemm, (const fz_gemm_args *args, fz_queue *queue), (args, queue))
TIMED(zero, (float *y, int64_t n, fz_queue *queue), (y, n, queue))
TIMED(copy, (float *y, const float *x, int64_t n, fz_queue *queue), (y, x, n, queue))
TIMED(add, (float *y, const float *x, int64_t n, fz_queue *queue), (y, x, n, queue))
TIMED(scale, (float *y, float factor, int64_t n, fz_queue *queue), (y, factor, n, queue))
TIMED(bias_add, (float *y, const float *b, int64_t N, int64_t C, int64_t ld, fz_queue *queue),
      (y, b, N, C, ld, queue))
TIMED(bias_backward,
      (float *db, const float *dy, int64_t N, int64_t C, int64_t ld, int64_t S, float *work,
       fz_queue *queue),
      (db, dy, N, C, ld, S, work, queue))
TIMED(dropout,
      (float *y, const float *x, const float *bias, const fz_rows *rows, int64_t C,
       const fz_dropout *drop, fz_queue *queue),
      (y, x, bias, rows, C, drop, queue))
TIMED(dropout_residual,
      (float *y, const float *x, const float *r, const float *bias, const fz_rows *rows, int64_t C,
       const fz_dropout *drop, fz_queue *queue),
      (y, x, r, bias, rows, C, drop, queue))
TIMED(drop_path_residual,
      (float *y, const float *x, const float *r, const float *bias, int64_t n_samples,
       int64_t rows_per_sample, int64_t C, const int64_t *sample_n, const fz_dropout *drop,
       fz_queue *queue),
      (y, x, r, bias, n_samples, rows_per_sample, C, sample_n, drop, queue))
TIMED(drop_path,
      (float *dr, const float *dy, int64_t n_samples, int64_t rows_per_sample, int64_t C,
       const int64_t *sample_n, const fz_dropout *drop, fz_queue *queue),
      (dr, dy, n_samples, rows_per_sample, C, sample_n, drop, queue))
TIMED(gelu_forward,
      (float *y, float *h, const float *bias, const fz_rows *rows, int64_t C,
       const fz_dropout *drop, fz_queue *queue),
      (y, h, bias, rows, C, drop, queue))
TIMED(gelu_backward,
      (float *dh, const float *dy, const float *h, const fz_rows *rows, int64_t C,
       const fz_dropout *drop, fz_queue *queue),
      (dh, dy, h, rows, C, drop, queue))
TIMED(geglu_forward, (float *y, const float *gate, const float *up, int64_t n, fz_queue *queue),
      (y, gate, up, n, queue))
TIMED(geglu_backward,
      (float *dgate, float *dup, const float *dy, const float *gate, const float *up, int64_t n,
       fz_queue *queue),
      (dgate, dup, dy, gate, up, n, queue))
TIMED(layernorm_forward,
      (float *y, float *mean, float *rstd, const float *x, const float *w, const float *b,
       int64_t N, int64_t C, float eps, fz_queue *queue),
      (y, mean, rstd, x, w, b, N, C, eps, queue))
TIMED(layernorm_backward_input,
      (float *dx, const float *dy, const float *x, const float *mean, const float *rstd,
       const float *w, int64_t N, int64_t C, fz_queue *queue),
      (dx, dy, x, mean, rstd, w, N, C, queue))
TIMED(layernorm_backward_weight,
      (float *dw, float *db, const float *dy, const float *x, const float *mean, const float *rstd,
       int64_t N, int64_t C, int64_t S, float *work, fz_queue *queue),
      (dw, db, dy, x, mean, rstd, N, C, S, work, queue))
TIMED(rmsnorm_forward,
      (float *y, float *r, const float *x, const float *w, int64_t N, int64_t C, float eps,
       fz_queue *queue),
      (y, r, x, w, N, C, eps, queue))
TIMED(rmsnorm_residual_forward,
      (float *y, float *r, const float *x, const float *a, const float *w, const float *gate,
       int64_t N, int64_t C, float eps, fz_queue *queue),
      (y, r, x, a, w, gate, N, C, eps, queue))
TIMED(rmsnorm_backward_input,
      (float *dx, const float *dy, const float *x, const float *r, const float *w,
       const float *gate, bool accumulate, int64_t N, int64_t C, fz_queue *queue),
      (dx, dy, x, r, w, gate, accumulate, N, C, queue))
TIMED(rmsnorm_backward_weight,
      (float *dw, float *dgate, const float *dy, const float *x, const float *r, const float *w,
       const float *gate, int64_t N, int64_t C, int64_t S, float *work, fz_queue *queue),
      (dw, dgate, dy, x, r, w, gate, N, C, S, work, queue))
TIMED(attention_forward, (const fz_attention_args *args, fz_queue *queue), (args, queue))
TIMED(attention_backward, (const fz_attention_args *args, fz_queue *queue), (args, queue))
TIMED(rope,
      (float *x, const fz_rows *rows, int64_t n_heads, int64_t head_dim, int64_t stride,
       double theta, bool inverse, fz_queue *queue),
      (x, rows, n_heads, head_dim, stride, theta, inverse, queue))
TIMED(embedding_forward,
      (float *y, const float *table, const int32_t *ids, int64_t N, int64_t C, int64_t first,
       int64_t n_rows, float scale, fz_queue *queue),
      (y, table, ids, N, C, first, n_rows, scale, queue))
TIMED(embedding_backward,
      (float *dtable, const float *dy, const int32_t *ids, int64_t N, int64_t C, int64_t first,
       int64_t n_rows, float scale, int32_t skip_id, fz_queue *queue),
      (dtable, dy, ids, N, C, first, n_rows, scale, skip_id, queue))
TIMED(position_forward,
      (float *y, const float *table, const fz_rows *rows, int64_t C, int64_t offset,
       fz_queue *queue),
      (y, table, rows, C, offset, queue))
TIMED(position_backward,
      (float *dtable, const float *dy, const fz_rows *rows, int64_t C, int64_t offset,
       int64_t max_len, int64_t S, float *work, fz_queue *queue),
      (dtable, dy, rows, C, offset, max_len, S, work, queue))
TIMED(ce_max,
      (float *z, float *max, float *target, const int32_t *labels, int64_t N, int64_t V,
       int64_t first, int64_t n_valid, float cap, fz_queue *queue),
      (z, max, target, labels, N, V, first, n_valid, cap, queue))
TIMED(ce_sum,
      (float *sum, const float *z, const float *max, int64_t N, int64_t V, int64_t n_valid,
       fz_queue *queue),
      (sum, z, max, N, V, n_valid, queue))
TIMED(ce_loss,
      (float *loss, const float *sum, const float *max, const float *target, const int32_t *labels,
       int64_t N, fz_queue *queue),
      (loss, sum, max, target, labels, N, queue))
TIMED(ce_backward,
      (float *z, const float *max, const float *sum, const int32_t *labels, int64_t N, int64_t V,
       int64_t first, int64_t n_valid, float cap, float factor, fz_queue *queue),
      (z, max, sum, labels, N, V, first, n_valid, cap, factor, queue))
TIMED(im2col,
      (float *out, const float *x, int64_t B, int64_t H, int64_t W, int64_t C, int64_t k,
       int64_t stride, int64_t pad, fz_queue *queue),
      (out, x, B, H, W, C, k, stride, pad, queue))
TIMED(col2im,
      (float *dx, const float *dcol, int64_t B, int64_t H, int64_t W, int64_t C, int64_t k,
       int64_t stride, int64_t pad, fz_queue *queue),
      (dx, dcol, B, H, W, C, k, stride, pad, queue))
TIMED(depthwise_residual_forward,
      (float *y, const float *x, const float *w, const float *b, int64_t B, int64_t H, int64_t W,
       int64_t C, fz_queue *queue),
      (y, x, w, b, B, H, W, C, queue))
TIMED(depthwise_residual_backward_input,
      (float *dx, const float *dy, const float *w, int64_t B, int64_t H, int64_t W, int64_t C,
       fz_queue *queue),
      (dx, dy, w, B, H, W, C, queue))
TIMED(depthwise_backward_weight,
      (float *dw, float *db, const float *dy, const float *x, int64_t B, int64_t H, int64_t W,
       int64_t C, fz_queue *queue),
      (dw, db, dy, x, B, H, W, C, queue))
TIMED(window_split,
      (float *out, const float *x, int64_t B, int64_t H, int64_t W, int64_t C, int64_t window,
       fz_queue *queue),
      (out, x, B, H, W, C, window, queue))
TIMED(window_merge,
      (float *out, const float *x, int64_t B, int64_t H, int64_t W, int64_t C, int64_t window,
       fz_queue *queue),
      (out, x, B, H, W, C, window, queue))
TIMED(channel_attention_forward, (const fz_channel_attention_args *args, fz_queue *queue),
      (args, queue))
TIMED(channel_attention_backward, (const fz_channel_attention_args *args, fz_queue *queue),
      (args, queue))
TIMED(image_tokens_forward,
      (float *y, const float *x, const float *row, const float *col, int64_t B, int64_t side,
       int64_t C, fz_queue *queue),
      (y, x, row, col, B, side, C, queue))
TIMED(image_tokens_backward,
      (float *dx, const float *dy, int64_t B, int64_t side, int64_t C, fz_queue *queue),
      (dx, dy, B, side, C, queue))
TIMED(image_positions_backward,
      (float *drow, float *dcol, const float *dx, int64_t B, int64_t side, int64_t C,
       fz_queue *queue),
      (drow, dcol, dx, B, side, C, queue))
TIMED(column_sums, (float *db, const float *dy, int64_t N, int64_t C, fz_queue *queue),
      (db, dy, N, C, queue))
TIMED(layernorm_weight_sums,
      (float *dw, float *db, const float *dy, const float *x, const float *mean, const float *rstd,
       int64_t N, int64_t C, fz_queue *queue),
      (dw, db, dy, x, mean, rstd, N, C, queue))
TIMED(adamw, (const fz_adamw_args *args, fz_queue *queue), (args, queue))
TIMED(sumsq_chunks, (double *sums, const float *x, int64_t n, fz_queue *queue), (sums, x, n, queue))

const fz_ops *fz_timed_ops_start(const fz_ops *ops)
{
    inner = ops;
    timed_table = *ops;
#define X(op) timed_table.op = timed_##op;
    OPS(X)
#undef X
    fz_timed_ops_reset();
    fz_ops_cpu_watch(watch);
    return &timed_table;
}

void fz_timed_ops_stop(void)
{
    fz_ops_cpu_watch(NULL);
}

void fz_timed_ops_reset(void)
{
    memset(times, 0, sizeof times);
    memset(products, 0, sizeof products);
    product_seconds = 0;
}

static int op_by_time(const void *a, const void *b)
{
    const fz_op_time *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

static int product_by_time(const void *a, const void *b)
{
    const fz_product_time *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

int fz_timed_ops_get(const fz_op_time **times_p)
{
    static fz_op_time sorted[FZ_TIMED_OPS];
    static const char *const names[] = {
#define X(op) #op,
        OPS(X)
#undef X
    };
    memcpy(sorted, times, sizeof sorted);
    for (int i = 0; i < N_OPS; i++)
        sorted[i].name = names[i];
    qsort(sorted, N_OPS, sizeof *sorted, op_by_time);
    *times_p = sorted;
    int n = 0;
    while (n < N_OPS && sorted[n].calls > 0)
        n++;
    return n;
}

int fz_timed_products_get(const fz_product_time **products_p)
{
    static fz_product_time sorted[FZ_TIMED_PRODUCTS];
    memcpy(sorted, products, sizeof sorted);
    qsort(sorted, FZ_TIMED_PRODUCTS, sizeof *sorted, product_by_time);
    *products_p = sorted;
    int n = 0;
    while (n < FZ_TIMED_PRODUCTS && sorted[n].calls > 0)
        n++;
    return n;
}
