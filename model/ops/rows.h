/* Sums and maxima over the columns of one row, in an order that depends on the row's length alone:
 * FZ_LANES partial results, lane j over columns j, j + FZ_LANES, ... in order, then combined by
 * halves (j += j + 8, 4, 2, 1). Written so that the lanes are vector lanes.
 *
 *     float s[FZ_LANES] = {0};
 *     FZ_FOR_LANES(C, c, j, s[j] += x[c + j]);
 *     sum = fz_sum_lanes(s);
 */
#ifndef FZ_MODEL_OPS_ROWS_H
#define FZ_MODEL_OPS_ROWS_H

#include <stdint.h>

/* Before a loop whose iterations touch only their own element: arrays may be the same array (ops
 * in place), and the compiler need not guard against it. */
#if defined(__clang__)
#define FZ_ELEMENTWISE _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define FZ_ELEMENTWISE _Pragma("GCC ivdep")
#else
#define FZ_ELEMENTWISE
#endif

enum { FZ_LANES = 16 };

static inline float fz_sum_lanes(float s[FZ_LANES])
{
    for (int half = FZ_LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            s[j] += s[j + half];
    return s[0];
}

static inline float fz_max_lanes(float s[FZ_LANES])
{
    for (int half = FZ_LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            s[j] = s[j] > s[j + half] ? s[j] : s[j + half];
    return s[0];
}

/* Whole groups of lanes, then the rest by the same formula. The body may use c and j; it is
 * written once for both. */
#define FZ_FOR_LANES(C, c, j, ...)                                                                 \
    do {                                                                                           \
        int64_t c = 0;                                                                             \
        for (; c + FZ_LANES <= (C); c += FZ_LANES)                                                 \
            for (int j = 0; j < FZ_LANES; j++) {                                                   \
                __VA_ARGS__;                                                                       \
            }                                                                                      \
        for (int j = 0; j < (int)((C)-c); j++) {                                                   \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

#endif
