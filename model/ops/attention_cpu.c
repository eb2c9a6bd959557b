/* Attention on the CPU; the mathematics is in attention.h.
 *
 * Per (sequence, head): CBLAS products and one pass over the (queries, keys) matrix, which stays in
 * the second-level cache. Forward 4 Tq Tk hd flops in 2 products; backward 10 Tq Tk hd in 5. Masked
 * places are computed and set to 0: at these lengths that is cheaper than cutting products up. */
#include "model/ops/attention.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include "core/assert.h"
#include "model/ops/cpu.h"
#include "model/ops/dropout_row.h"
#include "model/ops/math.h"
#include "model/ops/rows.h"

/* One sequence and head: where its rows begin and how far apart they are. */
typedef struct fz_head {
    const fz_attention_args *args;
    const fz_drop *drop;
    int64_t Tq, Tk, ld; /* queries, keys, row stride of the (Tq, Tk) matrices */
    int64_t q_at, kv_at, o_at, lse_at;
    int64_t sample_n, column; /* of dropout */
} fz_head;

/* Visible keys [first, end) of a query, and the whole groups of lanes [from, to) they lie in. Loops
 * run over groups, so that short rows have no scalar tails; to <= ld. */
typedef struct fz_span {
    int64_t first, end, from, to;
} fz_span;

static int64_t padded(int64_t n)
{
    return (n + FZ_LANES - 1) / FZ_LANES * FZ_LANES;
}

size_t fz_cpu_attention_work(int64_t max_q_len, int64_t max_kv_len, int64_t head_dim)
{
    (void)head_dim;
    return 2 * (size_t)((max_q_len + 1) * padded(max_kv_len)) * sizeof(float);
}

static fz_span visible(const fz_head *h, int64_t i)
{
    const fz_attention_args *x = h->args;
    const int64_t at = x->q_first + i; /* among the keys */
    fz_span span = {.first = 0, .end = h->Tk};
    if (x->causal && at + 1 < span.end) span.end = at + 1;
    if (x->window > 0 && at - x->window + 1 > span.first) span.first = at - x->window + 1;
    if (span.first >= span.end) return (fz_span){0};
    span.from = span.first / FZ_LANES * FZ_LANES;
    span.to = padded(span.end);
    return span;
}

static void zero_rows(float *x, int64_t n, int64_t width, int64_t stride)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < width; c++)
            x[i * stride + c] = 0.0f;
}

static void fill(float *x, int64_t first, int64_t end, float value)
{
    for (int64_t j = first; j < end; j++)
        x[j] = value;
}

static void cap_row(float *restrict s, fz_span span, float cap)
{
    const float inverse = 1.0f / cap;
    for (int64_t c = span.from; c < span.to; c += FZ_LANES)
        for (int j = 0; j < FZ_LANES; j++)
            s[c + j] = cap * fz_tanhf(s[c + j] * inverse);
}

/* s -> exp(s - max) / sum over the visible places and 0 over the others of n; returns log of the
 * sum of exp(s). */
static float softmax_row(float *restrict s, fz_span span, int64_t n)
{
    float max[FZ_LANES], sum[FZ_LANES] = {0};
    for (int j = 0; j < FZ_LANES; j++)
        max[j] = -INFINITY;
    fill(s, span.from, span.first, -INFINITY); /* exp gives 0 */
    fill(s, span.end, span.to, -INFINITY);
    for (int64_t c = span.from; c < span.to; c += FZ_LANES)
        for (int j = 0; j < FZ_LANES; j++)
            max[j] = s[c + j] > max[j] ? s[c + j] : max[j];
    const float m = fz_max_lanes(max);
    for (int64_t c = span.from; c < span.to; c += FZ_LANES)
        for (int j = 0; j < FZ_LANES; j++) {
            const float e = fz_expf(s[c + j] - m);
            s[c + j] = e;
            sum[j] += e;
        }
    const float total = fz_sum_lanes(sum), inverse = 1.0f / total;
    for (int64_t c = span.from; c < span.to; c += FZ_LANES)
        for (int j = 0; j < FZ_LANES; j++)
            s[c + j] *= inverse;
    fill(s, 0, span.from, 0.0f);
    fill(s, span.to, n, 0.0f);
    return span.from < span.to ? m + fz_logf(total) : -INFINITY;
}

static void drop_row(float *restrict p, fz_span span, const fz_head *h, int64_t i)
{
    float buffer[FZ_DROP_BUFFER];
    for (int64_t j = span.from; j < span.to; j += FZ_DROP_CHUNK) {
        const int64_t n = span.to - j < FZ_DROP_CHUNK ? span.to - j : (int64_t)FZ_DROP_CHUNK;
        const float *restrict f =
            fz_drop_factors(buffer, h->drop, h->sample_n, i, h->column + j, n);
        for (int64_t c = 0; c < n; c++)
            p[j + c] *= f[c];
    }
}

static void forward_head(const fz_head *h)
{
    const fz_attention_args *x = h->args;
    const int64_t hd = x->head_dim;
    float *p = x->work;

    if (h->Tq == 0) return;
    if (h->Tk > 0)
        fz_cpu_product(p, h->ld, x->q + h->q_at, x->q_stride, false, x->k + h->kv_at, x->kv_stride,
                       true, h->Tq, h->Tk, hd, x->scale, 0.0f);
    for (int64_t i = 0; i < h->Tq; i++) {
        float *row = p + i * h->ld;
        const fz_span span = visible(h, i);
        if (x->softcap > 0.0f) cap_row(row, span, x->softcap);
        x->lse[h->lse_at + i * x->n_heads] = softmax_row(row, span, h->ld);
        if (h->drop->active) drop_row(row, span, h, i);
    }
    if (h->Tk > 0)
        fz_cpu_product(x->o + h->o_at, x->o_stride, p, h->ld, false, x->v + h->kv_at, x->kv_stride,
                       false, h->Tq, hd, h->Tk, 1.0f, 0.0f);
    else
        zero_rows(x->o + h->o_at, h->Tq, hd, x->o_stride);
}

/* s -> P in place; slope (the soft cap's derivative) is written where there is a cap. */
static void weights_again(float *restrict s, float *restrict slope, int64_t n, float lse, float cap)
{
    if (cap > 0.0f) {
        const float inverse = 1.0f / cap;
        for (int64_t j = 0; j < n; j++) {
            const float t = fz_tanhf(s[j] * inverse);
            s[j] = fz_expf(cap * t - lse);
            slope[j] = 1.0f - t * t;
        }
    } else {
        for (int64_t j = 0; j < n; j++)
            s[j] = fz_expf(s[j] - lse);
    }
}

/* The row's dropout factors into f, and g *= f. */
static void drop_gradient(float *restrict g, float *restrict f, fz_span span, const fz_head *h,
                          int64_t i)
{
    float buffer[FZ_DROP_BUFFER];
    for (int64_t j = span.from; j < span.to; j += FZ_DROP_CHUNK) {
        const int64_t n = span.to - j < FZ_DROP_CHUNK ? span.to - j : (int64_t)FZ_DROP_CHUNK;
        memcpy(f + j, fz_drop_factors(buffer, h->drop, h->sample_n, i, h->column + j, n),
               (size_t)n * sizeof *f);
    }
    for (int64_t j = span.from; j < span.to; j++)
        g[j] *= f[j];
}

/* The mean of g under the weights p, over whole groups of lanes. */
static float weighted_mean(const float *p, const float *g, fz_span span)
{
    float weight[FZ_LANES] = {0}, sum[FZ_LANES] = {0};
    for (int64_t c = span.from; c < span.to; c += FZ_LANES)
        for (int j = 0; j < FZ_LANES; j++) {
            weight[j] += p[c + j];
            sum[j] += p[c + j] * g[c + j];
        }
    return fz_sum_lanes(sum) / fz_sum_lanes(weight);
}

static void multiply(float *restrict x, const float *restrict factor, int64_t first, int64_t end)
{
    for (int64_t j = first; j < end; j++)
        x[j] *= factor[j];
}

/* In place, one query: scores s -> f P, do . v in g -> dS. slope, f: rows to keep things in. */
static void backward_row(float *restrict s, float *restrict g, float *slope, float *f,
                         const fz_head *h, int64_t i)
{
    const fz_attention_args *x = h->args;
    const fz_span span = visible(h, i);

    weights_again(s + span.from, slope + span.from, span.to - span.from,
                  x->lse[h->lse_at + i * x->n_heads], x->softcap);
    if (h->drop->active) drop_gradient(g, f, span, h, i);
    fill(s, 0, span.first, 0.0f);
    fill(s, span.end, h->ld, 0.0f);
    fill(g, 0, span.first, 0.0f);
    fill(g, span.end, h->ld, 0.0f);
    if (span.from == span.to) return;
    const float D = weighted_mean(s, g, span);
    for (int64_t j = span.from; j < span.to; j++)
        g[j] = s[j] * (g[j] - D);
    if (x->softcap > 0.0f) multiply(g, slope, span.from, span.to);
    if (h->drop->active) multiply(s, f, span.from, span.to);
}

/* first_of_group: the first query head of its key/value head writes dk and dv, the others add. */
static void backward_head(const fz_head *h, bool first_of_group)
{
    const fz_attention_args *x = h->args;
    const int64_t hd = x->head_dim;
    const float beta = first_of_group ? 0.0f : 1.0f;
    float *p = x->work, *ds = p + h->Tq * h->ld, *slope = ds + h->Tq * h->ld, *f = slope + h->ld;

    if (h->Tq == 0 || h->Tk == 0) {
        zero_rows(x->dq + h->q_at, h->Tq, hd, x->q_stride);
        if (first_of_group) {
            zero_rows(x->dk + h->kv_at, h->Tk, hd, x->kv_stride);
            zero_rows(x->dv + h->kv_at, h->Tk, hd, x->kv_stride);
        }
        return;
    }
    fz_cpu_product(p, h->ld, x->q + h->q_at, x->q_stride, false, x->k + h->kv_at, x->kv_stride,
                   true, h->Tq, h->Tk, hd, x->scale, 0.0f);
    fz_cpu_product(ds, h->ld, x->dout + h->o_at, x->o_stride, false, x->v + h->kv_at, x->kv_stride,
                   true, h->Tq, h->Tk, hd, 1.0f, 0.0f);
    for (int64_t i = 0; i < h->Tq; i++)
        backward_row(p + i * h->ld, ds + i * h->ld, slope, f, h, i);
    fz_cpu_product(x->dv + h->kv_at, x->kv_stride, p, h->ld, true, x->dout + h->o_at, x->o_stride,
                   false, h->Tk, hd, h->Tq, 1.0f, beta);
    fz_cpu_product(x->dk + h->kv_at, x->kv_stride, ds, h->ld, true, x->q + h->q_at, x->q_stride,
                   false, h->Tk, hd, h->Tq, x->scale, beta);
    fz_cpu_product(x->dq + h->q_at, x->q_stride, ds, h->ld, false, x->k + h->kv_at, x->kv_stride,
                   false, h->Tq, hd, h->Tk, x->scale, 0.0f);
}

static fz_status check(const fz_attention_args *x)
{
    FZ_ASSERT(x->n_kv_heads > 0 && x->n_heads % x->n_kv_heads == 0 && x->head_dim > 0);
    FZ_CHECK(x->max_q_len <= INT_MAX && x->max_kv_len <= INT_MAX - FZ_LANES &&
                 x->q_stride <= INT_MAX && x->kv_stride <= INT_MAX && x->o_stride <= INT_MAX,
             FZ_ERR_ARG, "attention: a length or row stride is beyond the BLAS's int (2147483647)");
    return FZ_OK;
}

static fz_head head_of(const fz_attention_args *x, const fz_drop *drop, int64_t b, int64_t head)
{
    const int64_t group = x->n_heads / x->n_kv_heads, q0 = x->q_start[b], kv0 = x->kv_start[b];
    fz_head h = {
        .args = x,
        .drop = drop,
        .Tq = x->q_start[b + 1] - q0,
        .Tk = x->kv_start[b + 1] - kv0,
        .q_at = q0 * x->q_stride + head * x->head_dim,
        .kv_at = kv0 * x->kv_stride + head / group * x->head_dim,
        .o_at = q0 * x->o_stride + head * x->head_dim,
        .lse_at = q0 * x->n_heads + head,
        .sample_n = drop->active ? x->sample_n[b] : 0,
        .column = (x->first_head + head) * 65536,
    };
    h.ld = padded(h.Tk);
    FZ_ASSERT(h.Tq <= x->max_q_len && h.Tk <= x->max_kv_len);
    return h;
}

/* Keys that no query sees need not be there: a cache has places for the tokens to come. */
static void hide_later_keys(fz_head *h)
{
    const int64_t seen = h->args->q_first + h->Tq;
    if (!h->args->causal || seen >= h->Tk) return;
    h->Tk = seen;
    h->ld = padded(seen);
}

fz_status fz_cpu_attention_forward(const fz_attention_args *args, fz_queue *queue)
{
    (void)queue;
    if (args->n_seq == 0 || args->n_heads == 0) return FZ_OK;
    FZ_TRY(check(args));
    const fz_drop drop = fz_drop_prepare(&args->dropout);
    for (int64_t b = 0; b < args->n_seq; b++)
        for (int64_t head = 0; head < args->n_heads; head++) {
            fz_head h = head_of(args, &drop, b, head);
            hide_later_keys(&h);
            forward_head(&h);
        }
    return FZ_OK;
}

fz_status fz_cpu_attention_backward(const fz_attention_args *args, fz_queue *queue)
{
    (void)queue;
    if (args->n_seq == 0 || args->n_heads == 0) return FZ_OK;
    FZ_TRY(check(args));
    const fz_drop drop = fz_drop_prepare(&args->dropout);
    const int64_t group = args->n_heads / args->n_kv_heads;
    for (int64_t b = 0; b < args->n_seq; b++)
        for (int64_t head = 0; head < args->n_heads; head++) {
            const fz_head h = head_of(args, &drop, b, head);
            backward_head(&h, head % group == 0);
        }
    return FZ_OK;
}
