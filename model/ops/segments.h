/* The sum over tokens of design.md 5: S segments of consecutive rows, each summed in row order,
 * then the tree of core/tree.h over the S sums. */
#ifndef FZ_MODEL_OPS_SEGMENTS_H
#define FZ_MODEL_OPS_SEGMENTS_H

#include <stdint.h>

/* First row of segment s of N rows; s = S gives N. */
static inline int64_t fz_segment_first(int64_t N, int64_t S, int64_t s)
{
    return s * N / S;
}

#endif
