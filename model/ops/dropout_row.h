/* Dropout factors of a stretch of one row, many Philox blocks at a time: the inner part of every
 * CPU op with dropout. */
#ifndef FZ_MODEL_OPS_DROPOUT_ROW_H
#define FZ_MODEL_OPS_DROPOUT_ROW_H

#include "core/rng.h"
#include "model/ops/dropout.h"

/* Columns that one call makes: what callers cut their rows into. */
enum { FZ_DROP_CHUNK = 128, FZ_DROP_BUFFER = FZ_DROP_CHUNK + 16 };

/* What is the same for all elements of a call. */
typedef struct fz_drop {
    bool active;     /* false: p = 0, every factor is 1 */
    uint32_t key[2]; /* of core/rng.h */
    uint32_t threshold;
    float kept; /* factor of what is kept */
} fz_drop;

fz_drop fz_drop_prepare(const fz_dropout *dropout);

/* Factors of global columns [column, column + n), n <= FZ_DROP_CHUNK, of this token of sample n.
 * Returns where in buffer they begin. */
const float *fz_drop_factors(float buffer[FZ_DROP_BUFFER], const fz_drop *drop, int64_t sample_n,
                             int64_t token, int64_t column, int64_t n);

#endif
