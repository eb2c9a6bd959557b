/* Depthwise 3x3 on the CPU; mathematics and shapes in depthwise.h. Channels lie side by side, so
 * all loops run over a block of channels; the block's weights are turned to (tap, channel) first.
 * Bound by the nine reads of each pixel from cache: 18 flops for 10 floats moved. */
#include "model/ops/depthwise.h"

#include "model/ops/cpu.h"

enum { TAPS = 9, BLOCK = 64 };

typedef struct span { /* taps [y0, y1) x [x0, x1) that lie inside the image */
    int64_t y0, y1, x0, x1;
} span;

static span taps_inside(int64_t iy, int64_t ix, int64_t H, int64_t W)
{
    return (span){iy == 0 ? 1 : 0, iy == H - 1 ? 2 : 3, ix == 0 ? 1 : 0, ix == W - 1 ? 2 : 3};
}

/* y = centre + bias + taps, all nine inside. The order of additions is that of edge_pixel. */
static void inner_pixel(float *restrict y, const float *restrict x, int64_t row, int64_t C,
                        const float (*restrict w)[BLOCK], const float *restrict bias, int64_t n)
{
    const float *a = x - row - C, *b = x - row, *c = x - row + C;
    const float *d = x - C, *f = x + C;
    const float *g = x + row - C, *h = x + row, *i = x + row + C;

    for (int64_t j = 0; j < n; j++) {
        float sum = x[j] + bias[j];
        sum += w[0][j] * a[j];
        sum += w[1][j] * b[j];
        sum += w[2][j] * c[j];
        sum += w[3][j] * d[j];
        sum += w[4][j] * x[j];
        sum += w[5][j] * f[j];
        sum += w[6][j] * g[j];
        sum += w[7][j] * h[j];
        sum += w[8][j] * i[j];
        y[j] = sum;
    }
}

static void edge_pixel(float *restrict y, const float *restrict x, int64_t row, int64_t C,
                       const float (*restrict w)[BLOCK], const float *restrict bias, int64_t n,
                       span in)
{
    for (int64_t j = 0; j < n; j++)
        y[j] = x[j] + bias[j];
    for (int64_t ky = in.y0; ky < in.y1; ky++) {
        for (int64_t kx = in.x0; kx < in.x1; kx++) {
            const float *tap = x + (ky - 1) * row + (kx - 1) * C;
            const float *w_k = w[ky * 3 + kx];
            for (int64_t j = 0; j < n; j++)
                y[j] += w_k[j] * tap[j];
        }
    }
}

/* The convolution with the residual for channels [first, first + n). */
static void convolve(float *y, const float *x, const float (*w)[BLOCK], const float *bias,
                     int64_t B, int64_t H, int64_t W, int64_t C, int64_t first, int64_t n)
{
    const int64_t row = W * C;

    for (int64_t r = 0; r < B * H; r++) {
        const int64_t iy = r % H;
        for (int64_t ix = 0; ix < W; ix++) {
            const int64_t at = r * row + ix * C + first;
            const span in = taps_inside(iy, ix, H, W);
            if (in.y1 - in.y0 == 3 && in.x1 - in.x0 == 3)
                inner_pixel(y + at, x + at, row, C, w, bias, n);
            else
                edge_pixel(y + at, x + at, row, C, w, bias, n, in);
        }
    }
}

fz_status fz_cpu_depthwise_residual_forward(float *y, const float *x, const float *w,
                                            const float *b, int64_t B, int64_t H, int64_t W,
                                            int64_t C, fz_queue *queue)
{
    float turned[TAPS][BLOCK];

    (void)queue;
    for (int64_t first = 0; first < C; first += BLOCK) {
        const int64_t n = C - first < BLOCK ? C - first : BLOCK;
        for (int64_t k = 0; k < TAPS; k++)
            for (int64_t j = 0; j < n; j++)
                turned[k][j] = w[(first + j) * TAPS + k];
        convolve(y, x, (const float(*)[BLOCK])turned, b + first, B, H, W, C, first, n);
    }
    return FZ_OK;
}

fz_status fz_cpu_depthwise_residual_backward_input(float *dx, const float *dy, const float *w,
                                                   int64_t B, int64_t H, int64_t W, int64_t C,
                                                   fz_queue *queue)
{
    static const float no_bias[BLOCK];
    float turned[TAPS][BLOCK];

    (void)queue;
    for (int64_t first = 0; first < C; first += BLOCK) {
        const int64_t n = C - first < BLOCK ? C - first : BLOCK;
        for (int64_t k = 0; k < TAPS; k++)
            for (int64_t j = 0; j < n; j++)
                turned[k][j] = w[(first + j) * TAPS + TAPS - 1 - k]; /* flipped kernel */
        convolve(dx, dy, (const float(*)[BLOCK])turned, no_bias, B, H, W, C, first, n);
    }
    return FZ_OK;
}

/* sums (10, BLOCK): nine taps, then the bias. */
static void correlate(float (*restrict sums)[BLOCK], const float *restrict dy,
                      const float *restrict x, int64_t row, int64_t C, int64_t n, span in)
{
    for (int64_t j = 0; j < n; j++)
        sums[TAPS][j] += dy[j];
    for (int64_t ky = in.y0; ky < in.y1; ky++) {
        for (int64_t kx = in.x0; kx < in.x1; kx++) {
            const float *restrict tap = x + (ky - 1) * row + (kx - 1) * C;
            float *restrict sum = sums[ky * 3 + kx];
            for (int64_t j = 0; j < n; j++)
                sum[j] += dy[j] * tap[j];
        }
    }
}

fz_status fz_cpu_depthwise_backward_weight(float *dw, float *db, const float *dy, const float *x,
                                           int64_t B, int64_t H, int64_t W, int64_t C,
                                           fz_queue *queue)
{
    const int64_t row = W * C;

    (void)queue;
    for (int64_t first = 0; first < C; first += BLOCK) {
        const int64_t n = C - first < BLOCK ? C - first : BLOCK;
        float sums[TAPS + 1][BLOCK] = {{0.0f}};
        for (int64_t r = 0; r < B * H; r++) {
            for (int64_t ix = 0; ix < W; ix++) {
                const int64_t at = r * row + ix * C + first;
                correlate(sums, dy + at, x + at, row, C, n, taps_inside(r % H, ix, H, W));
            }
        }
        for (int64_t j = 0; j < n; j++) {
            for (int64_t k = 0; k < TAPS; k++)
                dw[(first + j) * TAPS + k] = sums[k][j];
            db[first + j] = sums[TAPS][j];
        }
    }
    return FZ_OK;
}
