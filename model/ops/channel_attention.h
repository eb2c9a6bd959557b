/* Channel attention of DaViT (Ding et al. 2022, arXiv:2204.03645, with the scale and roles of
 * Florence-2, model.md 2.2): channels attend to channels, over the tokens of one image.
 *
 * Per image and group g of 32 channels, over n tokens; q, k, v are columns 0, C, 2C of qkv:
 *   forward    S[i,j] = n^-0.5 sum_t q[t,i] k[t,j];   A = softmax_j(S);   o[t,i] = sum_j A[i,j]
 * v[t,j] backward   dA[i,j] = sum_t do[t,i] v[t,j];   dS = A (dA - sum_j A dA) dq[t,i] = n^-0.5
 * sum_j dS[i,j] k[t,j];   dk[t,j] = n^-0.5 sum_i dS[i,j] q[t,i] dv[t,j] = sum_i A[i,j] do[t,i]
 *
 * Shapes: qkv, dqkv (images*n, 3C); o, dout (images*n, C); a (images, C/32, 32, 32), saved by
 * forward. All outputs are written. An image's bits depend on that image alone.
 * Below: the reference in double precision; the CPU's are fz_cpu_channel_attention_* in cpu.h.
 */
#ifndef FZ_MODEL_OPS_CHANNEL_ATTENTION_H
#define FZ_MODEL_OPS_CHANNEL_ATTENTION_H

#include <stdint.h>

enum { FZ_CHANNEL_GROUP = 32 };

void fz_channel_attention_forward_ref(double *o, double *a, const double *qkv, int64_t n_images,
                                      int64_t n_tokens, int64_t C);
void fz_channel_attention_backward_ref(double *dqkv, const double *dout, const double *qkv,
                                       const double *a, int64_t n_images, int64_t n_tokens,
                                       int64_t C);

#endif
