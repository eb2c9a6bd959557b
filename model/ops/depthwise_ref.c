#include "model/ops/depthwise.h"

/* x at image b, row iy, column ix, channel c; 0 outside. */
static double at(const double *x, int64_t b, int64_t iy, int64_t ix, int64_t c, int64_t H,
                 int64_t W, int64_t C)
{
    if (iy < 0 || iy >= H || ix < 0 || ix >= W) return 0.0;
    return x[((b * H + iy) * W + ix) * C + c];
}

void fz_depthwise_residual_forward_ref(double *y, const double *x, const double *w, const double *b,
                                       int64_t B, int64_t H, int64_t W, int64_t C)
{
    for (int64_t i = 0; i < B * H * W * C; i++) {
        const int64_t c = i % C, ix = i / C % W, iy = i / (C * W) % H, n = i / (C * W * H);
        double sum = x[i] + b[c];
        for (int64_t k = 0; k < 9; k++)
            sum += w[c * 9 + k] * at(x, n, iy + k / 3 - 1, ix + k % 3 - 1, c, H, W, C);
        y[i] = sum;
    }
}

void fz_depthwise_residual_backward_input_ref(double *dx, const double *dy, const double *w,
                                              int64_t B, int64_t H, int64_t W, int64_t C)
{
    for (int64_t i = 0; i < B * H * W * C; i++) {
        const int64_t c = i % C, ix = i / C % W, iy = i / (C * W) % H, n = i / (C * W * H);
        double sum = dy[i];
        for (int64_t k = 0; k < 9; k++)
            sum += w[c * 9 + k] * at(dy, n, iy - (k / 3 - 1), ix - (k % 3 - 1), c, H, W, C);
        dx[i] = sum;
    }
}

void fz_depthwise_backward_weight_ref(double *dw, double *db, const double *dy, const double *x,
                                      int64_t B, int64_t H, int64_t W, int64_t C)
{
    for (int64_t i = 0; i < C * 9; i++)
        dw[i] = 0.0;
    for (int64_t c = 0; c < C; c++)
        db[c] = 0.0;
    for (int64_t i = 0; i < B * H * W * C; i++) {
        const int64_t c = i % C, ix = i / C % W, iy = i / (C * W) % H, n = i / (C * W * H);
        db[c] += dy[i];
        for (int64_t k = 0; k < 9; k++)
            dw[c * 9 + k] += dy[i] * at(x, n, iy + k / 3 - 1, ix + k % 3 - 1, c, H, W, C);
    }
}
