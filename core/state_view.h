/* How checkpoint/ sees the trainer: a list of pieces of named tensors in memory. Local. */
#ifndef FZ_CORE_STATE_VIEW_H
#define FZ_CORE_STATE_VIEW_H

#include <stdbool.h>
#include <stdint.h>

enum { FZ_MAX_AXES = 5, FZ_NAME_BYTES = 128 };

typedef enum fz_state_kind {
    FZ_STATE_MASTER,     /* fp32 weights of what is trained   */
    FZ_STATE_EXP_AVG,    /* AdamW first moment, fp32          */
    FZ_STATE_EXP_AVG_SQ, /* AdamW second moment, fp32         */
    FZ_STATE_WEIGHT,     /* frozen weights, written once      */
    FZ_N_STATE_KINDS
} fz_state_kind;

/* A logical tensor: unpadded, unfused, tied copies once. */
typedef struct fz_state_tensor {
    char name[FZ_NAME_BYTES];
    int ndim;
    int64_t shape[FZ_MAX_AXES];
    bool trainable;
} fz_state_tensor;

/* One piece in this process. data holds the box [lo, hi) of the tensor, row-major and contiguous
 * (vocabulary padding rows, if any, follow behind and are not part of the box). An empty box
 * (hi == lo on an axis) is allowed. */
typedef struct fz_state_view {
    int tensor; /* index into the list of all tensors (the same on every rank) */
    int piece;  /* shard index of this piece, for its name in the file         */
    fz_state_kind kind;
    int64_t lo[FZ_MAX_AXES], hi[FZ_MAX_AXES];
    float *data;   /* borrowed from the trainer                                 */
    bool is_owner; /* exactly one rank writes each element                      */
} fz_state_view;

typedef struct fz_state {
    int n_tensors;
    const fz_state_tensor *tensors; /* all of the model, the same on every rank */
    int n_views;
    const fz_state_view *views; /* what this rank holds: owned or replica */
} fz_state;

#endif
