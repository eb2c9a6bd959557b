/* The CPU backend's functions, one per entry of the op table (contracts in ops.h). */
#ifndef FZ_MODEL_OPS_CPU_H
#define FZ_MODEL_OPS_CPU_H

#include "model/ops/ops.h"

/* c (m,n) = alpha op(a) op(b) + beta c by the BLAS: the one place that calls it. Sizes and strides
 * fit its int: the caller checked. */
void fz_cpu_product(float *c, int64_t ldc, const float *a, int64_t lda, bool trans_a,
                    const float *b, int64_t ldb, bool trans_b, int64_t m, int64_t n, int64_t k,
                    float alpha, float beta);

fz_status fz_cpu_gemm(const fz_gemm_args *args, fz_queue *queue);
fz_status fz_cpu_zero(float *y, int64_t n, fz_queue *queue);
fz_status fz_cpu_copy(float *y, const float *x, int64_t n, fz_queue *queue);
fz_status fz_cpu_add(float *y, const float *x, int64_t n, fz_queue *queue);
fz_status fz_cpu_scale(float *y, float factor, int64_t n, fz_queue *queue);
fz_status fz_cpu_bias_add(float *y, const float *b, int64_t N, int64_t C, int64_t ld,
                          fz_queue *queue);
fz_status fz_cpu_bias_backward(float *db, const float *dy, int64_t N, int64_t C, int64_t ld,
                               int64_t S, float *work, fz_queue *queue);
fz_status fz_cpu_dropout(float *y, const float *x, const float *bias, const fz_rows *rows,
                         int64_t C, const fz_dropout *drop, fz_queue *queue);
fz_status fz_cpu_dropout_residual(float *y, const float *x, const float *r, const float *bias,
                                  const fz_rows *rows, int64_t C, const fz_dropout *drop,
                                  fz_queue *queue);
fz_status fz_cpu_drop_path_residual(float *y, const float *x, const float *r, const float *bias,
                                    int64_t n_samples, int64_t rows_per_sample, int64_t C,
                                    const int64_t *sample_n, const fz_dropout *drop,
                                    fz_queue *queue);
fz_status fz_cpu_drop_path(float *dr, const float *dy, int64_t n_samples, int64_t rows_per_sample,
                           int64_t C, const int64_t *sample_n, const fz_dropout *drop,
                           fz_queue *queue);
fz_status fz_cpu_gelu_forward(float *y, float *h, const float *bias, const fz_rows *rows, int64_t C,
                              const fz_dropout *drop, fz_queue *queue);
fz_status fz_cpu_gelu_backward(float *dh, const float *dy, const float *h, const fz_rows *rows,
                               int64_t C, const fz_dropout *drop, fz_queue *queue);
fz_status fz_cpu_geglu_forward(float *y, const float *gate, const float *up, int64_t n,
                               fz_queue *queue);
fz_status fz_cpu_geglu_backward(float *dgate, float *dup, const float *dy, const float *gate,
                                const float *up, int64_t n, fz_queue *queue);
fz_status fz_cpu_layernorm_forward(float *y, float *mean, float *rstd, const float *x,
                                   const float *w, const float *b, int64_t N, int64_t C, float eps,
                                   fz_queue *queue);
fz_status fz_cpu_layernorm_backward_input(float *dx, const float *dy, const float *x,
                                          const float *mean, const float *rstd, const float *w,
                                          int64_t N, int64_t C, fz_queue *queue);
fz_status fz_cpu_layernorm_backward_weight(float *dw, float *db, const float *dy, const float *x,
                                           const float *mean, const float *rstd, int64_t N,
                                           int64_t C, int64_t S, float *work, fz_queue *queue);
fz_status fz_cpu_rmsnorm_forward(float *y, float *r, const float *x, const float *w, int64_t N,
                                 int64_t C, float eps, fz_queue *queue);
fz_status fz_cpu_rmsnorm_residual_forward(float *y, float *r, const float *x, const float *a,
                                          const float *w, const float *gate, int64_t N, int64_t C,
                                          float eps, fz_queue *queue);
fz_status fz_cpu_rmsnorm_backward_input(float *dx, const float *dy, const float *x, const float *r,
                                        const float *w, const float *gate, bool accumulate,
                                        int64_t N, int64_t C, fz_queue *queue);
fz_status fz_cpu_rmsnorm_backward_weight(float *dw, float *dgate, const float *dy, const float *x,
                                         const float *r, const float *w, const float *gate,
                                         int64_t N, int64_t C, int64_t S, float *work,
                                         fz_queue *queue);
size_t fz_cpu_attention_work(int64_t max_q_len, int64_t max_kv_len, int64_t head_dim);
fz_status fz_cpu_attention_forward(const fz_attention_args *args, fz_queue *queue);
fz_status fz_cpu_attention_backward(const fz_attention_args *args, fz_queue *queue);
fz_status fz_cpu_rope(float *x, const fz_rows *rows, int64_t n_heads, int64_t head_dim,
                      int64_t stride, double theta, bool inverse, fz_queue *queue);
fz_status fz_cpu_embedding_forward(float *y, const float *table, const int32_t *ids, int64_t N,
                                   int64_t C, int64_t first, int64_t n_rows, float scale,
                                   fz_queue *queue);
fz_status fz_cpu_embedding_backward(float *dtable, const float *dy, const int32_t *ids, int64_t N,
                                    int64_t C, int64_t first, int64_t n_rows, float scale,
                                    int32_t skip_id, fz_queue *queue);
fz_status fz_cpu_position_forward(float *y, const float *table, const fz_rows *rows, int64_t C,
                                  int64_t offset, fz_queue *queue);
fz_status fz_cpu_position_backward(float *dtable, const float *dy, const fz_rows *rows, int64_t C,
                                   int64_t offset, int64_t max_len, int64_t S, float *work,
                                   fz_queue *queue);
fz_status fz_cpu_ce_max(float *z, float *max, float *target, const int32_t *labels, int64_t N,
                        int64_t V, int64_t first, int64_t n_valid, float cap, fz_queue *queue);
fz_status fz_cpu_ce_sum(float *sum, const float *z, const float *max, int64_t N, int64_t V,
                        int64_t n_valid, fz_queue *queue);
fz_status fz_cpu_ce_loss(float *loss, const float *sum, const float *max, const float *target,
                         const int32_t *labels, int64_t N, fz_queue *queue);
fz_status fz_cpu_ce_backward(float *z, const float *max, const float *sum, const int32_t *labels,
                             int64_t N, int64_t V, int64_t first, int64_t n_valid, float cap,
                             float factor, fz_queue *queue);
fz_status fz_cpu_top_k(fz_top *top, float *z, int64_t N, int64_t V, int64_t first, int64_t n_valid,
                       int64_t k, const int32_t *banned, const int32_t *banned_start,
                       fz_queue *queue);
fz_status fz_cpu_top_merge(fz_top *best, const fz_top *other, int64_t N, int64_t k,
                           fz_queue *queue);
fz_status fz_cpu_im2col(float *out, const float *x, int64_t B, int64_t H, int64_t W, int64_t C,
                        int64_t k, int64_t stride, int64_t pad, fz_queue *queue);
fz_status fz_cpu_col2im(float *dx, const float *dcol, int64_t B, int64_t H, int64_t W, int64_t C,
                        int64_t k, int64_t stride, int64_t pad, fz_queue *queue);
fz_status fz_cpu_depthwise_residual_forward(float *y, const float *x, const float *w,
                                            const float *b, int64_t B, int64_t H, int64_t W,
                                            int64_t C, fz_queue *queue);
fz_status fz_cpu_depthwise_residual_backward_input(float *dx, const float *dy, const float *w,
                                                   int64_t B, int64_t H, int64_t W, int64_t C,
                                                   fz_queue *queue);
fz_status fz_cpu_depthwise_backward_weight(float *dw, float *db, const float *dy, const float *x,
                                           int64_t B, int64_t H, int64_t W, int64_t C,
                                           fz_queue *queue);
fz_status fz_cpu_window_split(float *out, const float *x, int64_t B, int64_t H, int64_t W,
                              int64_t C, int64_t window, fz_queue *queue);
fz_status fz_cpu_window_merge(float *out, const float *x, int64_t B, int64_t H, int64_t W,
                              int64_t C, int64_t window, fz_queue *queue);
size_t fz_cpu_channel_attention_work(int64_t C);
fz_status fz_cpu_channel_attention_forward(const fz_channel_attention_args *args, fz_queue *queue);
fz_status fz_cpu_channel_attention_backward(const fz_channel_attention_args *args, fz_queue *queue);
fz_status fz_cpu_image_tokens_forward(float *y, const float *x, const float *row, const float *col,
                                      int64_t B, int64_t side, int64_t C, fz_queue *queue);
fz_status fz_cpu_image_tokens_backward(float *dx, const float *dy, int64_t B, int64_t side,
                                       int64_t C, fz_queue *queue);
fz_status fz_cpu_image_positions_backward(float *drow, float *dcol, const float *dx, int64_t B,
                                          int64_t side, int64_t C, fz_queue *queue);
fz_status fz_cpu_column_sums(float *db, const float *dy, int64_t N, int64_t C, fz_queue *queue);
fz_status fz_cpu_layernorm_weight_sums(float *dw, float *db, const float *dy, const float *x,
                                       const float *mean, const float *rstd, int64_t N, int64_t C,
                                       fz_queue *queue);
fz_status fz_cpu_adamw(const fz_adamw_args *args, fz_queue *queue);
fz_status fz_cpu_sumsq_chunks(double *sums, const float *x, int64_t n, fz_queue *queue);

#endif
