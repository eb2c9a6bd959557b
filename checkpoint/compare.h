/* Two checkpoints, of any layouts, compared by what their indices say of each tensor. Local. */
#ifndef FZ_CHECKPOINT_COMPARE_H
#define FZ_CHECKPOINT_COMPARE_H

#include "checkpoint/source.h"
#include "checkpoint/stream.h"

typedef enum fz_difference_kind {
    FZ_DIFFERS_ONLY_A, /* the tensor, or a kind of it, is on one side alone */
    FZ_DIFFERS_ONLY_B,
    FZ_DIFFERS_SHAPE,
    FZ_DIFFERS_TRAINED, /* trained on one side, frozen on the other */
    FZ_DIFFERS_BITS     /* digests */
} fz_difference_kind;

typedef struct fz_difference {
    fz_difference_kind what;
    int a, b;           /* tensors of the two lists; -1: not there */
    fz_state_kind kind; /* ONLY_* of a tensor that both have, and BITS; trained and frozen weights
                           are both MASTER */
} fz_difference;

typedef fz_status fz_compare_say(void *context, const fz_difference *difference);

/* Steps, matched by name. Says every difference in the order of a's tensors, then what b alone
 * has; n_same: pairs of tensor and kind with equal digests. No payload is read. */
fz_status fz_compare(const fz_index *a, const fz_index *b, fz_compare_say *say, void *context,
                     int64_t *n_same_p);

enum { FZ_FIRST_DIFFERENCES = 3 };
typedef struct fz_values_difference { /* of a tensor and kind, element by element */
    int64_t n, n_elements;            /* elements with other bits, of all */
    int n_first;
    int64_t first[FZ_FIRST_DIFFERENCES]; /* row-major */
    float a[FZ_FIRST_DIFFERENCES], b[FZ_FIRST_DIFFERENCES];
    double max_abs; /* over pairs of numbers; where all that differ have a NaN it is 0 */
    int64_t n_nan;  /* pairs with a NaN, which max_abs leaves out */
} fz_values_difference;
fz_values_difference fz_compare_values(const float *a, const float *b, int64_t n);

#endif
