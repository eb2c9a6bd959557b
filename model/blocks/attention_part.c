#include "model/blocks/attention_part.h"

static fz_attention_args args_of(const fz_exec *x, const fz_attention_part *part, int64_t j)
{
    const int64_t q_width = part->heads * part->head_dim;
    const int64_t kv_width = part->kv_heads * part->head_dim;
    return (fz_attention_args){
        .q = part->q + j * part->n_q * q_width,
        .k = part->k + j * part->n_kv * kv_width,
        .v = part->v + j * part->n_kv * kv_width,
        .o = part->o + j * part->n_q * q_width,
        .lse = part->lse + j * part->n_q * part->heads,
        .n_seq = part->n_seq,
        .q_start = part->q_start,
        .kv_start = part->kv_start,
        .max_q_len = part->max_q_len,
        .max_kv_len = part->max_kv_len,
        .n_heads = part->heads,
        .n_kv_heads = part->kv_heads,
        .head_dim = part->head_dim,
        .q_stride = q_width,
        .kv_stride = kv_width,
        .o_stride = q_width,
        .scale = part->scale,
        .softcap = part->softcap,
        .causal = part->causal,
        .window = part->window,
        .q_first = part->q_first,
        .dropout = {.p = part->dropout, .seed = x->seed, .site = part->site},
        .sample_n = x->batch->sample_n,
        .first_head = (x->shards.first + j) * part->heads,
        .work = part->work,
    };
}

fz_status fz_attention_part_forward(const fz_exec *x, const fz_attention_part *part)
{
    for (int64_t j = 0; j < x->shards.count; j++) {
        const fz_attention_args args = args_of(x, part, j);
        FZ_TRY(x->ops->attention_forward(&args, x->queue));
    }
    return FZ_OK;
}

fz_status fz_attention_part_backward(const fz_exec *x, const fz_attention_part *part,
                                     const float *dout, float *dq, float *dk, float *dv)
{
    const int64_t q_width = part->heads * part->head_dim;
    const int64_t kv_width = part->kv_heads * part->head_dim;
    for (int64_t j = 0; j < x->shards.count; j++) {
        fz_attention_args args = args_of(x, part, j);
        args.dout = dout + j * part->n_q * q_width;
        args.dq = dq + j * part->n_q * q_width;
        args.dk = dk + j * part->n_kv * kv_width;
        args.dv = dv + j * part->n_kv * kv_width;
        FZ_TRY(x->ops->attention_backward(&args, x->queue));
    }
    return FZ_OK;
}

/* The sizes know totals, not each sample's length: as if all were of the mean length. */
double fz_attention_part_flops(const fz_attention_part *part, int64_t n_samples, int64_t count)
{
    if (n_samples == 0) return 0.0;
    return 4.0 * (double)part->n_q * (double)part->n_kv / (double)n_samples *
           (double)(part->heads * part->head_dim * count);
}
