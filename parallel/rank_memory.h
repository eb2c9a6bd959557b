/* The memory of a rank: one allocation and what lies where in it. Local.
 *
 * fz_rank_memory_layout is the only place that decides it. It runs over a counting arena for the
 * plan and over the allocation for the trainer, so both agree to the byte.
 */
#ifndef FZ_PARALLEL_RANK_MEMORY_H
#define FZ_PARALLEL_RANK_MEMORY_H

#include "core/arena.h"
#include "parallel/plan.h"

enum {
    FZ_COMM_CHUNK = 1 << 18, /* floats that one call of an ordered sum takes at most */
    FZ_SUMSQ_CHUNK = 1024,   /* elements: grain of the global norm (design.md 5) */
    FZ_SUMSQ_SLAB = 1024,    /* such chunks in one call */
    FZ_EXTRA_COUNTS = 2,     /* integers exchanged behind the label counts */
};

/* A parameter this rank holds, wherever its uses are. */
typedef struct fz_held {
    int param;
    int use[2];          /* uses on this stage, in program order; -1: none */
    int other_stage;     /* the stage of a tied parameter's other use; -1: none, or here */
    int64_t first_shard; /* of the pieces; 0 for uncut ones */
    int64_t n_pieces, piece_elements;
    float *w;     /* n_pieces pieces, one behind the other */
    float *m, *v; /* AdamW moments likewise; NULL where frozen */
} fz_held;

typedef struct fz_rank_memory {
    void *base;  /* owned: the one allocation; everything below points into it */
    size_t used; /* bytes of it that were handed out */

    int n_held;
    fz_held *held;        /* owned array */
    float **weights;      /* owned array: by parameter, NULL where not held: fz_exec.weights */
    int64_t *grad_offset; /* owned array: by use, floats into a gradient buffer; -1: none */
    int64_t grad_floats;  /* of one gradient buffer: all trained uses, gaps stay zero */
    float **grads;        /* owned array: rank_plan.grad_buffers buffers */

    fz_arena *save;        /* owned array: one per micro-batch in flight */
    float **received;      /* owned array: in_flight x FZ_N_STREAMS, streams from the stage below */
    fz_arena transient[2]; /* outputs that only the next block reads, by parity of the block */
    float *dstream[FZ_N_STREAMS]; /* NULL where no gradient flows */
    fz_arena keep, work;
    void *comm;
    void *snapshot; /* NULL: none is planned */
    size_t snapshot_bytes;

    float *token_loss;  /* of the longest micro-batch; last stage */
    double *sums;       /* n_micro losses, then the norm's pieces: exchanged in one go */
    int64_t *counts;    /* n_micro label counts, then FZ_EXTRA_COUNTS sums */
    double *chunk_sums; /* FZ_SUMSQ_SLAB */
    uint64_t *digests;  /* by parameter */
} fz_rank_memory;

/* memory NULL: only count. Else its arrays must be there and arena lies over its allocation. */
void fz_rank_memory_layout(const fz_plan *plan, const fz_rank_plan *rank_plan, fz_arena *arena,
                           fz_rank_memory *memory, fz_plan_bytes *bytes);
/* Elements held here, and those of them that are trained. */
void fz_rank_memory_count(const fz_plan *plan, const fz_rank_plan *rank_plan, int64_t *n_weights,
                          int64_t *n_trainable);
/* Allocates rank_plan->bytes.total bytes, zero, and the arrays. */
fz_status fz_rank_memory_create(const fz_plan *plan, const fz_rank_plan *rank_plan,
                                fz_rank_memory *memory);
void fz_rank_memory_destroy(fz_rank_memory *memory);

/* Whether block b's output is read by block b+1 alone, on the same stage, and neither keeps it. */
bool fz_output_is_transient(const fz_plan *plan, const fz_rank_plan *rank_plan, int block);

#endif
