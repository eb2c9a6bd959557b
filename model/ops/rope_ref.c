#include "model/ops/rope.h"

#include <math.h>

void fz_rope_ref(double *x, const fz_rows *rows, int64_t n_heads, int64_t head_dim, int64_t stride,
                 double theta, bool inverse)
{
    const int64_t half = head_dim / 2;
    for (int64_t b = 0; b < rows->n_seq; b++)
        for (int64_t r = rows->start[b]; r < rows->start[b + 1]; r++)
            for (int64_t head = 0; head < n_heads; head++)
                for (int64_t i = 0; i < half; i++) {
                    const double position = (double)(rows->first + r - rows->start[b]);
                    const double turn = position * pow(theta, -2.0 * (double)i / (double)head_dim);
                    const double angle = inverse ? -turn : turn;
                    double *low = x + r * stride + head * head_dim + i, *high = low + half;
                    const double first = *low, second = *high;
                    *low = first * cos(angle) - second * sin(angle);
                    *high = second * cos(angle) + first * sin(angle);
                }
}
