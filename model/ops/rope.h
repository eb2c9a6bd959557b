/* Rotary positions (Su et al. 2021, arXiv:2104.09864, eq. 34) in half-split form (Gemma): the pair
 * is (i, i + hd/2), not (2i, 2i+1). Per row at position p and head, i < hd/2, a = p theta^(-2i/hd):
 *
 *   x'[i]        = x[i] cos a - x[i + hd/2] sin a
 *   x'[i + hd/2] = x[i + hd/2] cos a + x[i] sin a
 *   backward (inverse): a -> -a
 *
 * In place on x (rows, n_heads * head_dim) with a row stride; position = row - start of its
 * sequence + rows->first.
 */
#ifndef FZ_MODEL_OPS_ROPE_H
#define FZ_MODEL_OPS_ROPE_H

#include "model/ops/ops.h"

void fz_rope_ref(double *x, const fz_rows *rows, int64_t n_heads, int64_t head_dim, int64_t stride,
                 double theta, bool inverse);

#endif
