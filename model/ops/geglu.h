/* Gated GELU (Shazeer 2020, arXiv:2002.05202, eq. 5) with the tanh form of GELU (arXiv:1606.08415,
 * section 2), as in Gemma.
 *
 *   gelu(g) = g (1 + t) / 2,   t = tanh(a (g + b g^3)),   a = sqrt(2/pi), b = 0.044715
 *   y = gelu(gate) * up
 *   backward   dup = dy * gelu(gate)
 *              dgate = dy * up * ((1 + t)/2 + g/2 (1 - t^2) a (1 + 3 b g^2))
 *
 * n elements each.
 */
#ifndef FZ_MODEL_OPS_GEGLU_H
#define FZ_MODEL_OPS_GEGLU_H

#include "model/ops/ops.h"

void fz_geglu_forward_ref(double *y, const double *gate, const double *up, int64_t n);
void fz_geglu_backward_ref(double *dgate, double *dup, const double *dy, const double *gate,
                           const double *up, int64_t n);

#endif
