/* The op table: what a backend can do. One const struct of function pointers per backend; the
 * plain definitions that the tests believe are <op>_ref.c (double precision), the CPU's are
 * <op>_cpu.c.
 *
 * Common rules. Arrays are row-major and contiguous unless a stride says otherwise. Destination
 * first, then inputs, sizes, scalars, and the queue last (NULL on the CPU). Outputs and inputs may
 * not overlap unless "in place" is said. Nothing allocates. Sizes of 0 are legal and do nothing.
 * Sums have a fixed order that depends on the shapes alone, never on thread count or on where a
 * caller cuts the rows: a row's result does not depend on the other rows. "Segments" are S token
 * segments floor(iN/S) .. floor((i+1)N/S), each summed in token order, then added along the tree
 * of core/tree.h (empty segments are zeros): the sum over tokens of design.md 5; accumulated ("+=")
 * into the destination once.
 */
#ifndef FZ_MODEL_OPS_OPS_H
#define FZ_MODEL_OPS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct fz_queue fz_queue;

/* c = alpha * op(a) op(b) + beta * c; op(a) is (m,k), op(b) is (k,n). beta 0 never reads c. */
typedef struct fz_gemm_args {
    float *c;
    const float *a, *b;
    bool trans_a, trans_b;
    int64_t m, n, k, lda, ldb, ldc; /* row strides of the stored arrays */
    float alpha, beta;
} fz_gemm_args;

/* Rows of sequences: row r of sequence b (start[b] <= r < start[b+1]) is token r - start[b] of the
 * sample at position sample_n[b] of the run. */
typedef struct fz_rows {
    int64_t n_seq;
    const int32_t *start;    /* (n_seq+1); rows in all = start[n_seq] */
    const int64_t *sample_n; /* (n_seq) */
    int64_t first; /* position of each sequence's first row, for rope and position embeddings:
                      above 0 where the rows before were other calls' (generation) */
} fz_rows;

/* Inverted dropout: element (row, column) is dropped iff the 16 bits that core/rng.h keys by (seed,
 * site, n, token, column) are < round(p * 65536); kept ones are scaled by 65536 / (65536 - that).
 * p = 0: the identity, nothing is drawn. */
typedef struct fz_dropout {
    double p;
    uint64_t seed;
    uint32_t site;
    int64_t first_column; /* global column of local column 0 (shards); a multiple of 8 or any */
} fz_dropout;

/* Attention over ragged sequences, one head at a time. For head h (local), kv head h / (n_heads /
 * n_kv_heads), query i and key j of the same sequence:
 *     s = scale * q_i . k_j;  if softcap > 0: s = softcap * tanh(s / softcap)
 *     visible: not causal, or j <= q_first + i; and window == 0 or j > q_first + i - window
 *     P = softmax_j(s);  o_i = sum_j drop(P_ij) v_j;   lse_i = log sum_j exp(s_ij)
 * Rows are strided: q row i of head h is q + i*q_stride + h*head_dim; k, v likewise with kv_stride;
 * o, dout, with o_stride; dq with q_stride, dk, dv with kv_stride. */
typedef struct fz_attention_args {
    const float *q, *k, *v;
    float *o;   /* forward output (backward input) */
    float *lse; /* (rows of q, n_heads) forward output, backward input */
    const float *dout;
    float *dq, *dk, *dv; /* backward outputs: written, not accumulated */
    int64_t n_seq;
    const int32_t *q_start, *kv_start; /* (n_seq+1) row offsets                            */
    int64_t max_q_len, max_kv_len;     /* for work                                         */
    int64_t n_heads, n_kv_heads, head_dim, q_stride, kv_stride, o_stride;
    float scale, softcap;
    bool causal;
    int64_t window;
    int64_t q_first; /* place of each sequence's first query among its keys. Causal: keys from
                        q_first + queries on are not read by the forward pass */
    /* dropout on P: row = query token of sample sample_n[b]; column = (first_head + h) * 65536 + j
     */
    fz_dropout dropout;
    const int64_t *sample_n;
    int64_t first_head;
    void *work; /* attention_work(max_q_len, max_kv_len) bytes */
} fz_attention_args;

/* Window attention of DaViT works on whole windows through attention; channel attention is its own:
 * per image and group g of 32 channels, over n tokens:
 *     A[i,j] = softmax_j( n^-0.5 * sum_t q[t,i] k[t,j] );  o[t,i] = sum_j A[i,j] v[t,j]
 * q, k, v, are columns 0, C, 2C of qkv (images*n, 3C); o (images*n, C);
 * a (images, C/32, 32, 32) is saved by forward. */
typedef struct fz_channel_attention_args {
    const float *qkv;
    float *o, *a;
    const float *dout;
    float *dqkv; /* written */
    int64_t n_images, n_tokens, C;
    void *work; /* channel_attention_work(C) bytes */
} fz_channel_attention_args;

/* One of a row's best columns. */
typedef struct fz_top {
    int32_t id; /* in the vocabulary; -1: there are fewer */
    float value;
} fz_top;

typedef struct fz_adamw_args {
    float *w, *m, *v;
    const float *g;
    int64_t n;
    float lr, beta1, beta2, eps, weight_decay; /* weight_decay 0 for tensors outside the mask */
    float correction1, correction2;            /* 1 - beta^t */
    float grad_scale;                          /* clipping */
} fz_adamw_args;

typedef struct fz_ops {
    const char *name;

    fz_status (*gemm)(const fz_gemm_args *args, fz_queue *queue);

    /* ---- element-wise and rows ---- */
    fz_status (*zero)(float *y, int64_t n, fz_queue *queue);
    fz_status (*copy)(float *y, const float *x, int64_t n, fz_queue *queue);
    fz_status (*add)(float *y, const float *x, int64_t n, fz_queue *queue); /* y += x */
    fz_status (*scale)(float *y, float factor, int64_t n, fz_queue *queue); /* y *= factor */
    /* y[r,c] += b[c], (N,C) with row stride ld */
    fz_status (*bias_add)(float *y, const float *b, int64_t N, int64_t C, int64_t ld,
                          fz_queue *queue);
    /* db[c] += segments(dy[:,c]); dy (N,C) with row stride ld; work (S, C) floats */
    fz_status (*bias_backward)(float *db, const float *dy, int64_t N, int64_t C, int64_t ld,
                               int64_t S, float *work, fz_queue *queue);
    /* y = drop(x); in place allowed. Backward is the same call on dy. bias may be NULL: y =
     * drop(x + bias). */
    fz_status (*dropout)(float *y, const float *x, const float *bias, const fz_rows *rows,
                         int64_t C, const fz_dropout *drop, fz_queue *queue);
    /* y = x + drop(r + bias); bias may be NULL; y may be x or r. */
    fz_status (*dropout_residual)(float *y, const float *x, const float *r, const float *bias,
                                  const fz_rows *rows, int64_t C, const fz_dropout *drop,
                                  fz_queue *queue);
    /* Stochastic depth: sample i (rows_per_sample*C floats) is kept or dropped as a whole, key
     * (seed, site, n = sample_n[i], token 0, column 0). y = x + dp(r + bias). bias may be NULL. */
    fz_status (*drop_path_residual)(float *y, const float *x, const float *r, const float *bias,
                                    int64_t n_samples, int64_t rows_per_sample, int64_t C,
                                    const int64_t *sample_n, const fz_dropout *drop,
                                    fz_queue *queue);
    /* dr = dp(dy); in place allowed. */
    fz_status (*drop_path)(float *dr, const float *dy, int64_t n_samples, int64_t rows_per_sample,
                           int64_t C, const int64_t *sample_n, const fz_dropout *drop,
                           fz_queue *queue);

    /* ---- activations ---- */
    /* h = h + bias in place (kept for the backward); y = drop(gelu_erf(h)). bias NULL: none. (N,C)
     */
    fz_status (*gelu_forward)(float *y, float *h, const float *bias, const fz_rows *rows, int64_t C,
                              const fz_dropout *drop, fz_queue *queue);
    /* dh = gelu_erf'(h) * drop(dy); dh may be dy. */
    fz_status (*gelu_backward)(float *dh, const float *dy, const float *h, const fz_rows *rows,
                               int64_t C, const fz_dropout *drop, fz_queue *queue);
    /* y = gelu_tanh(gate) * up; n elements */
    fz_status (*geglu_forward)(float *y, const float *gate, const float *up, int64_t n,
                               fz_queue *queue);
    fz_status (*geglu_backward)(float *dgate, float *dup, const float *dy, const float *gate,
                                const float *up, int64_t n, fz_queue *queue);

    /* ---- norms; x, y (N,C) ---- */
    /* LayerNorm (Ba et al. 2016): y = (x - mean) * rstd * w + b; mean, rstd (N) saved. */
    fz_status (*layernorm_forward)(float *y, float *mean, float *rstd, const float *x,
                                   const float *w, const float *b, int64_t N, int64_t C, float eps,
                                   fz_queue *queue);
    /* dx written (dx may be dy). */
    fz_status (*layernorm_backward_input)(float *dx, const float *dy, const float *x,
                                          const float *mean, const float *rstd, const float *w,
                                          int64_t N, int64_t C, fz_queue *queue);
    /* dw, db += segments; work (2, S, C) floats */
    fz_status (*layernorm_backward_weight)(float *dw, float *db, const float *dy, const float *x,
                                           const float *mean, const float *rstd, int64_t N,
                                           int64_t C, int64_t S, float *work, fz_queue *queue);
    /* RMSNorm with (1 + w) (Gemma): y = x * r * (1 + w), r = 1/sqrt(mean(x^2) + eps) saved (N). */
    fz_status (*rmsnorm_forward)(float *y, float *r, const float *x, const float *w, int64_t N,
                                 int64_t C, float eps, fz_queue *queue);
    /* y = x + tanh(gate[0]) * rms(a; w); gate NULL: factor 1. y may be x. r saved. */
    fz_status (*rmsnorm_residual_forward)(float *y, float *r, const float *x, const float *a,
                                          const float *w, const float *gate, int64_t N, int64_t C,
                                          float eps, fz_queue *queue);
    /* dx = or += (accumulate) factor * J^T dy with factor tanh(gate[0]) or 1 (gate NULL). dx may be
     * dy when accumulate is false. */
    fz_status (*rmsnorm_backward_input)(float *dx, const float *dy, const float *x, const float *r,
                                        const float *w, const float *gate, bool accumulate,
                                        int64_t N, int64_t C, fz_queue *queue);
    /* dw += segments(factor * dy * x * r); dgate[0] += (1 - tanh^2) * segments(sum_c dy * x * r *
     * (1+w)) when gate and dgate are not NULL. dw may be NULL. work (S, C) + (S) floats */
    fz_status (*rmsnorm_backward_weight)(float *dw, float *dgate, const float *dy, const float *x,
                                         const float *r, const float *w, const float *gate,
                                         int64_t N, int64_t C, int64_t S, float *work,
                                         fz_queue *queue);

    /* ---- attention ---- */
    size_t (*attention_work)(int64_t max_q_len, int64_t max_kv_len, int64_t head_dim);
    fz_status (*attention_forward)(const fz_attention_args *args, fz_queue *queue);
    fz_status (*attention_backward)(const fz_attention_args *args, fz_queue *queue);
    /* Rotary, half-split pairs (i, i + hd/2), angle = position * theta^(-2i/hd), position = row -
     * start of its sequence + rows->first; in place on x (rows, n_heads * head_dim) with row
     * stride; inverse rotates back (the backward). Angles and factors in fp32 from double tables.
     */
    fz_status (*rope)(float *x, const fz_rows *rows, int64_t n_heads, int64_t head_dim,
                      int64_t stride, double theta, bool inverse, fz_queue *queue);

    /* ---- tokens ---- */
    /* y[r,:] = scale * (0 + table[ids[r] - first, :]) where first <= ids[r] < first + n_rows, else
     * zeros. table (n_rows, C). */
    fz_status (*embedding_forward)(float *y, const float *table, const int32_t *ids, int64_t N,
                                   int64_t C, int64_t first, int64_t n_rows, float scale,
                                   fz_queue *queue);
    /* dtable[ids[r] - first, :] += scale * dy[r,:], rows in order; ids == skip_id are left out. */
    fz_status (*embedding_backward)(float *dtable, const float *dy, const int32_t *ids, int64_t N,
                                    int64_t C, int64_t first, int64_t n_rows, float scale,
                                    int32_t skip_id, fz_queue *queue);
    /* y[r,:] += table[position of r + offset, :]; position = row - start + rows->first */
    fz_status (*position_forward)(float *y, const float *table, const fz_rows *rows, int64_t C,
                                  int64_t offset, fz_queue *queue);
    /* dtable[p + offset, :] += segments over all rows of (dy of rows at position p); the segment of
     * a row is decided by its row number, S segments of start[n_seq] rows. work (S, max_len, C) */
    fz_status (*position_backward)(float *dtable, const float *dy, const fz_rows *rows, int64_t C,
                                   int64_t offset, int64_t max_len, int64_t S, float *work,
                                   fz_queue *queue);

    /* ---- soft-capped cross entropy on one shard's logits z (N, V), columns first .. first+V;
     * n_valid counts this shard's own valid columns (0 .. V): the local columns >= n_valid are
     * padding and ignored. cap <= 0: none. Sums over columns in fixed order. */
    /* z = cap*tanh(z/cap) in place; max[r] = max over valid columns (-inf where none); target[r] =
     * z at labels[r] where it lies in this shard, else 0. labels < 0: none. */
    fz_status (*ce_max)(float *z, float *max, float *target, const int32_t *labels, int64_t N,
                        int64_t V, int64_t first, int64_t n_valid, float cap, fz_queue *queue);
    /* sum[r] = sum over valid columns exp(z - max[r]) */
    fz_status (*ce_sum)(float *sum, const float *z, const float *max, int64_t N, int64_t V,
                        int64_t n_valid, fz_queue *queue);
    /* loss[r] = log(sum) + max - target where labels[r] >= 0, else 0 */
    fz_status (*ce_loss)(float *loss, const float *sum, const float *max, const float *target,
                         const int32_t *labels, int64_t N, fz_queue *queue);
    /* dz = factor * (exp(z - max)/sum - [label]) * (1 - (z/cap)^2), rows with label < 0 and padding
     * columns zero; in place over the capped z. */
    fz_status (*ce_backward)(float *z, const float *max, const float *sum, const int32_t *labels,
                             int64_t N, int64_t V, int64_t first, int64_t n_valid, float cap,
                             float factor, fz_queue *queue);

    /* top (N, k) = the k largest of each row's valid columns, best first, equals by lower id
     * (top_k.h). z at row r's ids banned[banned_start[r] .. banned_start[r+1]) becomes -infinity
     * first; ids that are not this shard's are passed over. banned_start NULL: none. */
    fz_status (*top_k)(fz_top *top, float *z, int64_t N, int64_t V, int64_t first, int64_t n_valid,
                       int64_t k, const int32_t *banned, const int32_t *banned_start,
                       fz_queue *queue);
    /* best (N, k) = the k best of best and other (N, k), of different columns, both as top_k
     * leaves them. */
    fz_status (*top_merge)(fz_top *best, const fz_top *other, int64_t N, int64_t k,
                           fz_queue *queue);

    /* ---- vision; images (B, H, W, C), channels last ---- */
    /* Patches for a k x k convolution: out (B, Ho, Wo, C*k*k) in the order (c, ky, kx) of a stored
     * [out, in, kh, kw] weight; zeros outside. */
    fz_status (*im2col)(float *out, const float *x, int64_t B, int64_t H, int64_t W, int64_t C,
                        int64_t k, int64_t stride, int64_t pad, fz_queue *queue);
    /* dx (written) = transpose of im2col, contributions added in (ky, kx) order. */
    fz_status (*col2im)(float *dx, const float *dcol, int64_t B, int64_t H, int64_t W, int64_t C,
                        int64_t k, int64_t stride, int64_t pad, fz_queue *queue);
    /* y = x + depthwise 3x3 (pad 1) of x + b; w [C,1,3,3]. */
    fz_status (*depthwise_residual_forward)(float *y, const float *x, const float *w,
                                            const float *b, int64_t B, int64_t H, int64_t W,
                                            int64_t C, fz_queue *queue);
    /* dx = dy + flipped kernel on dy; dx may not be dy. */
    fz_status (*depthwise_residual_backward_input)(float *dx, const float *dy, const float *w,
                                                   int64_t B, int64_t H, int64_t W, int64_t C,
                                                   fz_queue *queue);
    /* dw, db WRITTEN (a tree leaf of the caller): sums over images, rows, columns in order. */
    fz_status (*depthwise_backward_weight)(float *dw, float *db, const float *dy, const float *x,
                                           int64_t B, int64_t H, int64_t W, int64_t C,
                                           fz_queue *queue);
    /* x (B,H,W,C) -> windows (B * Hw * Ww, 144, C) with zero padding right and bottom; and back
     * (cropped). Each is the other's transpose. */
    fz_status (*window_split)(float *out, const float *x, int64_t B, int64_t H, int64_t W,
                              int64_t C, int64_t window, fz_queue *queue);
    fz_status (*window_merge)(float *out, const float *x, int64_t B, int64_t H, int64_t W,
                              int64_t C, int64_t window, fz_queue *queue);
    size_t (*channel_attention_work)(int64_t C);
    fz_status (*channel_attention_forward)(const fz_channel_attention_args *args, fz_queue *queue);
    fz_status (*channel_attention_backward)(const fz_channel_attention_args *args, fz_queue *queue);
    /* Projector head (model.md 3): y (B, 1+n, C), n = side^2: y[b,1+p,:] = x[b,p,:] +
     * concat(col[x], row[y]) + te0 with te0 = 0,1,0,1,...; y[b,0,:] = mean over p. row, col (50,
     * C/2). */
    fz_status (*image_tokens_forward)(float *y, const float *x, const float *row, const float *col,
                                      int64_t B, int64_t side, int64_t C, fz_queue *queue);
    /* dx[b,p,:] = dy[b,1+p,:] + dy[b,0,:]/n */
    fz_status (*image_tokens_backward)(float *dx, const float *dy, int64_t B, int64_t side,
                                       int64_t C, fz_queue *queue);
    /* drow, dcol (50, C/2) WRITTEN: sums of dx in (b, p) order. */
    fz_status (*image_positions_backward)(float *drow, float *dcol, const float *dx, int64_t B,
                                          int64_t side, int64_t C, fz_queue *queue);
    /* Sums over all rows WRITTEN (a tree leaf): db[c] = sum_r dy[r,c]. For vision, where the tree
     * is over images. */
    fz_status (*column_sums)(float *db, const float *dy, int64_t N, int64_t C, fz_queue *queue);
    /* LayerNorm weight gradients over all rows, WRITTEN. */
    fz_status (*layernorm_weight_sums)(float *dw, float *db, const float *dy, const float *x,
                                       const float *mean, const float *rstd, int64_t N, int64_t C,
                                       fz_queue *queue);

    /* ---- optimizer ---- */
    /* Loshchilov & Hutter 2019 (arXiv:1711.05101), decoupled decay: g' = grad_scale*g;
     * m = b1 m + (1-b1) g'; v = b2 v + (1-b2) g'^2;
     * w = w - lr * weight_decay * w - lr * (m/c1) / (sqrt(v/c2) + eps) */
    fz_status (*adamw)(const fz_adamw_args *args, fz_queue *queue);
    /* sums[i] = sum of squares of chunk i of 1,024 elements (the last may be short), in double. */
    fz_status (*sumsq_chunks)(double *sums, const float *x, int64_t n, fz_queue *queue);
} fz_ops;

extern const fz_ops fz_ops_cpu; /* ops_cpu.c */

/* One-time set-up of the CPU backend: BLAS to one thread (design.md 5). */
void fz_ops_cpu_start(void);
/* For florenz bench: while set, called before (done false) and after every product of the CPU
 * backend, those inside attention included. NULL: nobody. One thread. */
typedef void fz_product_watch(bool done, int64_t m, int64_t n, int64_t k);
void fz_ops_cpu_watch(fz_product_watch *watch);
/* "OpenBLAS 0.3.21 zen4 single-thread; gcc 12.2.0 -O3 -march=...": the arithmetic id. */
const char *fz_ops_cpu_arithmetic_id(void);

#endif
