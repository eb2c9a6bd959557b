/* Attention by shard: every local shard runs its own heads over its own pieces. */
#ifndef FZ_MODEL_BLOCKS_ATTENTION_PART_H
#define FZ_MODEL_BLOCKS_ATTENTION_PART_H

#include "model/ops/ops.h"
#include "model/program.h"

typedef struct fz_attention_part {
    int64_t heads, kv_heads, head_dim; /* of one shard */
    int64_t n_seq;
    int64_t n_q, n_kv;                 /* rows */
    const int32_t *q_start, *kv_start; /* (n_seq+1) */
    int64_t max_q_len, max_kv_len;
    float scale, softcap;
    bool causal;
    int64_t window, q_first;
    double dropout; /* 0 where inactive */
    uint32_t site;
    /* count pieces each: q, o (n_q, heads*head_dim), k, v (n_kv, kv_heads*head_dim), lse (n_q,
     * heads) */
    float *q, *k, *v, *o, *lse;
    void *work; /* ops->attention_work(max_q_len, max_kv_len, head_dim) bytes */
} fz_attention_part;

fz_status fz_attention_part_forward(const fz_exec *x, const fz_attention_part *part);
/* dout as o; dq, dk, dv as q, k, v: written. */
fz_status fz_attention_part_backward(const fz_exec *x, const fz_attention_part *part,
                                     const float *dout, float *dq, float *dk, float *dv);
/* Multiply-adds times two of the two products of a forward pass, of the local shards. */
double fz_attention_part_flops(const fz_attention_part *part, int64_t n_samples, int64_t count);

#endif
