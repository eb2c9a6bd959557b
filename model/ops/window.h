/* Windows of DaViT's spatial attention (model.md 2.2): the map is padded with zeros right and
 * bottom to multiples of w and cut into w x w windows.
 *
 *   split   out[((b*Hw + wy)*Ww + wx), ty*w + tx, c] = x[b, wy*w + ty, wx*w + tx, c] or 0 outside
 *   merge   out[b, y, x, c] = the token of that pixel; padded tokens are dropped
 *
 * Hw = ceil(H/w), Ww = ceil(W/w). Each is the other's transpose, so each is the other's backward.
 * Below: the reference in double precision; the CPU's are fz_cpu_window_* in cpu.h.
 */
#ifndef FZ_MODEL_OPS_WINDOW_H
#define FZ_MODEL_OPS_WINDOW_H

#include <stdint.h>

void fz_window_split_ref(double *out, const double *x, int64_t B, int64_t H, int64_t W, int64_t C,
                         int64_t window);
void fz_window_merge_ref(double *out, const double *x, int64_t B, int64_t H, int64_t W, int64_t C,
                         int64_t window);

#endif
