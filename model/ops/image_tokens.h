/* The projector's tokens (model.md 3) of one still image: positions are added, and their mean goes
 * in front.
 *
 *   f[b,p,c]  = x[b,p,c] + (c < C/2 ? col[px, c] : row[py, c - C/2]) + te0[c],   p = py*side + px
 *   y[b,0,:]  = mean_p f[b,p,:],   y[b,1+p,:] = f[b,p,:],   te0 = 0,1,0,1,... (the sinusoid at 0)
 *   dx[b,p,:] = dy[b,1+p,:] + dy[b,0,:]/n,   n = side^2
 *   dcol[px,:] = sum_(b,py) dx[b,p,:C/2],   drow[py,:] = sum_(b,px) dx[b,p,C/2:]
 *
 * Shapes: x, dx (B, n, C); y, dy (B, 1+n, C); row, col, drow, dcol (FZ_IMAGE_POSITIONS, C/2), rows
 * from side on untouched by x and zero in the gradient. All outputs are written.
 * Below: the reference in double precision; the CPU's are fz_cpu_image_* in cpu.h.
 */
#ifndef FZ_MODEL_OPS_IMAGE_TOKENS_H
#define FZ_MODEL_OPS_IMAGE_TOKENS_H

#include <stdint.h>

enum { FZ_IMAGE_POSITIONS = 50 };

void fz_image_tokens_forward_ref(double *y, const double *x, const double *row, const double *col,
                                 int64_t B, int64_t side, int64_t C);
void fz_image_tokens_backward_ref(double *dx, const double *dy, int64_t B, int64_t side, int64_t C);
void fz_image_positions_backward_ref(double *drow, double *dcol, const double *dx, int64_t B,
                                     int64_t side, int64_t C);

#endif
