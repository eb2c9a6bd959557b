/* Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1) over ragged
 * sequences, with grouped key/value heads (Ainslie et al. 2023, arXiv:2305.13245), Gemma-2's soft
 * cap, a causal mask, a sliding window and dropout on the weights. Per sequence and head, i over
 * queries, j over keys:
 *
 *   u_ij = scale * q_i . k_j                 s_ij = softcap * tanh(u_ij / softcap), or u_ij
 *   visible: (not causal or j <= a + i) and (window = 0 or j > a + i - window), a = q_first: the
 *            place of the first query among the keys, 0 but where earlier queries were other calls'
 *   lse_i = log sum_j exp(s_ij)              P_ij = exp(s_ij - lse_i)       over visible j
 *   o_i = sum_j f_ij P_ij v_j                f: dropout factor (dropout.h)
 *   backward   D_i = sum_j f_ij P_ij do_i . v_j          (= do_i . o_i)
 *              dv_j = sum_i f_ij P_ij do_i
 *              dS_ij = P_ij * (f_ij do_i . v_j - D_i) * (1 - (s_ij / softcap)^2)
 *              dq_i = scale * sum_j dS_ij k_j       dk_j = scale * sum_i dS_ij q_i
 *
 * D_i is formed as the mean of f_ij do_i . v_j under the P_ij that dS is formed from, so that a row
 * of dS_ij / (1 - ...) adds up to zero to the last bits; do_i . o_i, which needs no second pass,
 * leaves several times as much, and all of it in the gradient of a key's bias, whose true value is
 * zero. dk and dv of a key/value head are added over its query heads in order. Only lse is saved; P
 * is formed again in the backward pass. A query that sees no key has o = 0, lse = -inf, dq = 0.
 * Shapes and strides: fz_attention_args (ops.h). The _ref takes the same arguments with doubles.
 */
#ifndef FZ_MODEL_OPS_ATTENTION_H
#define FZ_MODEL_OPS_ATTENTION_H

#include "model/ops/ops.h"

/* The arrays of fz_attention_args in double; the numbers are taken from args. */
typedef struct fz_attention_ref {
    const double *q, *k, *v;
    double *o, *lse;
    const double *dout;
    double *dq, *dk, *dv;
} fz_attention_ref;

void fz_attention_forward_ref(const fz_attention_ref *arrays, const fz_attention_args *args);
void fz_attention_backward_ref(const fz_attention_ref *arrays, const fz_attention_args *args);

#endif
