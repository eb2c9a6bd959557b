/* Rotary positions on the CPU; the mathematics is in rope.h. 6 flops and 8 bytes an element.
 *
 * Position by position over all sequences, so that one row of cosines and sines serves them all and
 * no table is kept. It is turned from position p to p + 1 in double: after 8,192 positions the
 * error is 1e-12, far below fp32, and a position's factors depend on the position alone. */
#include "model/ops/rope.h"

#include <math.h>

#include "model/ops/cpu.h"

enum { MAX_HALF = 512 }; /* head_dim up to 1,024: the tables are on the stack */

typedef struct fz_turn {
    double step_cos[MAX_HALF], step_sin[MAX_HALF]; /* of one position */
    double cos[MAX_HALF], sin[MAX_HALF];           /* of this position */
    float c[MAX_HALF], s[MAX_HALF];
} fz_turn;

static void turn_begin(fz_turn *turn, int64_t half, double theta)
{
    for (int64_t i = 0; i < half; i++) {
        const double angle = pow(theta, -(double)i / (double)half);
        turn->step_cos[i] = cos(angle);
        turn->step_sin[i] = sin(angle);
        turn->cos[i] = 1.0;
        turn->sin[i] = 0.0;
    }
}

static void turn_factors(fz_turn *turn, int64_t half, bool inverse)
{
    for (int64_t i = 0; i < half; i++) {
        turn->c[i] = (float)turn->cos[i];
        turn->s[i] = inverse ? -(float)turn->sin[i] : (float)turn->sin[i];
    }
}

static void turn_next(fz_turn *turn, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        const double c = turn->cos[i], s = turn->sin[i];
        turn->cos[i] = c * turn->step_cos[i] - s * turn->step_sin[i];
        turn->sin[i] = s * turn->step_cos[i] + c * turn->step_sin[i];
    }
}

static void rotate(float *restrict low, float *restrict high, const float *restrict c,
                   const float *restrict s, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        const float a = low[i], b = high[i];
        low[i] = a * c[i] - b * s[i];
        high[i] = b * c[i] + a * s[i];
    }
}

static int64_t longest(const fz_rows *rows)
{
    int64_t max = 0;
    for (int64_t b = 0; b < rows->n_seq; b++)
        if (rows->start[b + 1] - rows->start[b] > max) max = rows->start[b + 1] - rows->start[b];
    return max;
}

fz_status fz_cpu_rope(float *x, const fz_rows *rows, int64_t n_heads, int64_t head_dim,
                      int64_t stride, double theta, bool inverse, fz_queue *queue)
{
    (void)queue;
    const int64_t half = head_dim / 2, n_positions = longest(rows);
    FZ_CHECK(head_dim % 2 == 0 && half <= MAX_HALF, FZ_ERR_ARG,
             "rope: head_dim %lld is not an even number up to %d", (long long)head_dim,
             2 * MAX_HALF);
    if (n_positions == 0 || half == 0) return FZ_OK;

    fz_turn turn;
    turn_begin(&turn, half, theta);
    for (int64_t p = 0; p < rows->first; p++)
        turn_next(&turn, half);
    for (int64_t p = 0; p < n_positions; p++) {
        turn_factors(&turn, half, inverse);
        for (int64_t b = 0; b < rows->n_seq; b++) {
            const int64_t row = rows->start[b] + p;
            if (row >= rows->start[b + 1]) continue;
            for (int64_t head = 0; head < n_heads; head++) {
                float *low = x + row * stride + head * head_dim;
                rotate(low, low + half, turn.c, turn.s, half);
            }
        }
        turn_next(&turn, half);
    }
    return FZ_OK;
}
