#include "model/ops/attention.h"

#include <math.h>

#include "model/ops/dropout.h"

/* One (sequence, head) with pointers to its first query, key and so on. */
typedef struct fz_case {
    const fz_attention_args *x;
    int64_t b, head, Tq, Tk, q_at, kv_at, o_at, lse_at;
} fz_case;

static fz_case case_of(const fz_attention_args *x, int64_t b, int64_t head)
{
    const int64_t kv_head = head / (x->n_heads / x->n_kv_heads);
    return (fz_case){
        .x = x,
        .b = b,
        .head = head,
        .Tq = x->q_start[b + 1] - x->q_start[b],
        .Tk = x->kv_start[b + 1] - x->kv_start[b],
        .q_at = x->q_start[b] * x->q_stride + head * x->head_dim,
        .kv_at = x->kv_start[b] * x->kv_stride + kv_head * x->head_dim,
        .o_at = x->q_start[b] * x->o_stride + head * x->head_dim,
        .lse_at = x->q_start[b] * x->n_heads + head,
    };
}

static bool is_visible(const fz_attention_args *x, int64_t i, int64_t j)
{
    const int64_t at = x->q_first + i;
    return (!x->causal || j <= at) && (x->window == 0 || j > at - x->window);
}

static double dot(const double *x, const double *y, int64_t n)
{
    double sum = 0.0;
    for (int64_t c = 0; c < n; c++)
        sum += x[c] * y[c];
    return sum;
}

static double score(const fz_attention_ref *a, const fz_case *h, int64_t i, int64_t j)
{
    const fz_attention_args *x = h->x;
    const double u = (double)x->scale * dot(a->q + h->q_at + i * x->q_stride,
                                            a->k + h->kv_at + j * x->kv_stride, x->head_dim);
    return x->softcap > 0.0f ? (double)x->softcap * tanh(u / (double)x->softcap) : u;
}

static double drop_factor(const fz_case *h, int64_t i, int64_t j)
{
    const fz_attention_args *x = h->x;
    if (x->dropout.p == 0.0) return 1.0;
    return fz_dropout_factor_ref(&x->dropout, x->sample_n[h->b], i,
                                 (x->first_head + h->head) * 65536 + j);
}

static void forward_query(const fz_attention_ref *a, const fz_case *h, int64_t i)
{
    const fz_attention_args *x = h->x;
    double max = -(double)INFINITY, sum = 0.0;
    double *o = a->o + h->o_at + i * x->o_stride;

    for (int64_t j = 0; j < h->Tk; j++)
        if (is_visible(x, i, j)) max = fmax(max, score(a, h, i, j));
    for (int64_t j = 0; j < h->Tk; j++)
        if (is_visible(x, i, j)) sum += exp(score(a, h, i, j) - max);
    const double lse = max + log(sum);
    a->lse[h->lse_at + i * x->n_heads] = sum > 0.0 ? lse : -(double)INFINITY;
    for (int64_t c = 0; c < x->head_dim; c++)
        o[c] = 0.0;
    for (int64_t j = 0; j < h->Tk; j++)
        if (is_visible(x, i, j)) {
            const double p = exp(score(a, h, i, j) - lse) * drop_factor(h, i, j);
            for (int64_t c = 0; c < x->head_dim; c++)
                o[c] += p * a->v[h->kv_at + j * x->kv_stride + c];
        }
}

static void backward_query(const fz_attention_ref *a, const fz_case *h, int64_t i)
{
    const fz_attention_args *x = h->x;
    const double *q = a->q + h->q_at + i * x->q_stride, *o = a->o + h->o_at + i * x->o_stride;
    const double *dout = a->dout + h->o_at + i * x->o_stride;
    double *dq = a->dq + h->q_at + i * x->q_stride;
    const double D = dot(dout, o, x->head_dim), lse = a->lse[h->lse_at + i * x->n_heads];

    for (int64_t j = 0; j < h->Tk; j++) {
        if (!is_visible(x, i, j)) continue;
        const int64_t at = h->kv_at + j * x->kv_stride;
        const double s = score(a, h, i, j), p = exp(s - lse), f = drop_factor(h, i, j);
        const double t = x->softcap > 0.0f ? s / (double)x->softcap : 0.0;
        const double ds = p * (f * dot(dout, a->v + at, x->head_dim) - D) * (1.0 - t * t);
        for (int64_t c = 0; c < x->head_dim; c++) {
            dq[c] += (double)x->scale * ds * a->k[at + c];
            a->dk[at + c] += (double)x->scale * ds * q[c];
            a->dv[at + c] += f * p * dout[c];
        }
    }
}

void fz_attention_forward_ref(const fz_attention_ref *arrays, const fz_attention_args *args)
{
    for (int64_t b = 0; b < args->n_seq; b++)
        for (int64_t head = 0; head < args->n_heads; head++) {
            const fz_case h = case_of(args, b, head);
            for (int64_t i = 0; i < h.Tq; i++)
                forward_query(arrays, &h, i);
        }
}

static void zero_rows(double *x, int64_t n, int64_t width, int64_t stride)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < width; c++)
            x[i * stride + c] = 0.0;
}

void fz_attention_backward_ref(const fz_attention_ref *arrays, const fz_attention_args *args)
{
    const fz_attention_args *x = args;
    if (x->n_seq == 0) return;
    zero_rows(arrays->dq, x->q_start[x->n_seq], x->n_heads * x->head_dim, x->q_stride);
    zero_rows(arrays->dk, x->kv_start[x->n_seq], x->n_kv_heads * x->head_dim, x->kv_stride);
    zero_rows(arrays->dv, x->kv_start[x->n_seq], x->n_kv_heads * x->head_dim, x->kv_stride);
    for (int64_t b = 0; b < x->n_seq; b++)
        for (int64_t head = 0; head < x->n_heads; head++) {
            const fz_case h = case_of(x, b, head);
            for (int64_t i = 0; i < h.Tq; i++)
                backward_query(arrays, &h, i);
        }
}
