#include "model/ops/image_tokens.h"

void fz_image_tokens_forward_ref(double *y, const double *x, const double *row, const double *col,
                                 int64_t B, int64_t side, int64_t C)
{
    const int64_t n = side * side, half = C / 2;

    for (int64_t b = 0; b < B; b++) {
        double *out = y + b * (1 + n) * C;
        for (int64_t c = 0; c < C; c++) {
            double sum = 0.0;
            for (int64_t p = 0; p < n; p++) {
                const double pos =
                    c < half ? col[p % side * half + c] : row[p / side * half + c - half];
                out[(1 + p) * C + c] = x[(b * n + p) * C + c] + pos + (double)(c % 2);
                sum += out[(1 + p) * C + c];
            }
            out[c] = sum / (double)n;
        }
    }
}

void fz_image_tokens_backward_ref(double *dx, const double *dy, int64_t B, int64_t side, int64_t C)
{
    const int64_t n = side * side;

    for (int64_t i = 0; i < B * n * C; i++) {
        const int64_t c = i % C, p = i / C % n, b = i / (C * n);
        const double *in = dy + b * (1 + n) * C;
        dx[i] = in[(1 + p) * C + c] + in[c] / (double)n;
    }
}

void fz_image_positions_backward_ref(double *drow, double *dcol, const double *dx, int64_t B,
                                     int64_t side, int64_t C)
{
    const int64_t n = side * side, half = C / 2;

    for (int64_t i = 0; i < FZ_IMAGE_POSITIONS * half; i++)
        drow[i] = dcol[i] = 0.0;
    for (int64_t i = 0; i < B * n * C; i++) {
        const int64_t c = i % C, p = i / C % n;
        if (c < half)
            dcol[p % side * half + c] += dx[i];
        else
            drow[p / side * half + c - half] += dx[i];
    }
}
