/* The pipeline's player: runs the actions of one stage and moves streams between neighbours.
 *
 *   forward    receive the micro-batch's live streams from the stage below, run my blocks, send
 *              what is live above
 *   backward   receive the gradients of what went up, run my blocks backwards, send the gradients
 *              of what came from below
 *
 * Message sizes follow from the micro-batch's token counts, which every rank of a data lane knows.
 * Both kinds of passes run in micro-batch order on every stage, so messages match by order. Sends
 * and receives do not block; a buffer is waited for when it is needed again.
 */
#ifndef FZ_PARALLEL_PIPELINE_H
#define FZ_PARALLEL_PIPELINE_H

#include "dist/group.h"
#include "parallel/rank_memory.h"
#include "parallel/schedule.h"

typedef struct fz_pipeline {
    const fz_plan *plan;    /* borrowed */
    const fz_rank_plan *rp; /* borrowed */
    fz_rank_memory *memory; /* borrowed */
    const fz_group *group;  /* borrowed: the pipeline group */
    fz_exec exec;           /* what blocks get; the caller fills hooks, weights, grads, seed */
    int n_below, n_above;
    fz_live below[FZ_N_STREAMS], above[FZ_N_STREAMS];
    bool has_backward;
    void **saved;        /* owned: in_flight x local blocks */
    fz_request *sent_up; /* owned: in_flight x FZ_N_STREAMS */
    fz_request sent_down[FZ_N_STREAMS], from_below[FZ_N_STREAMS], from_above[FZ_N_STREAMS];
    int64_t n_forward, n_backward;        /* passes done in this run */
    bool forward_posted, backward_posted; /* receives of the next pass of either kind */
} fz_pipeline;

/* One run over micro-batches. Callbacks may be NULL; a backward one is called for every
 * micro-batch, on stages that have a backward pass. */
typedef struct fz_pipeline_run {
    const fz_microbatch *micro;
    int64_t n_micro;
    bool training; /* false: forward passes only */
    /* Generation begins: blocks of the decoder fill their caches (by block, from this stage's first
     * one) instead of running; n_dec is 0. NULL: no. */
    const fz_decode *decode;
    fz_arena *caches;
    const fz_action *list; /* training: 2 n_micro actions */
    double *loss_sum;      /* (n_micro); written where the head runs */
    void *context;
    fz_status (*after_forward)(void *context, int64_t micro);
    fz_status (*before_backward)(void *context, int64_t micro);
    fz_status (*after_backward)(void *context, int64_t micro);
} fz_pipeline_run;

/* Local. */
fz_status fz_pipeline_init(fz_pipeline *p, const fz_plan *plan, const fz_rank_plan *rank_plan,
                           fz_rank_memory *memory, const fz_group *group);
void fz_pipeline_reset(fz_pipeline *p);
/* Collective over the pipeline group (and whatever the blocks' hooks need). */
fz_status fz_pipeline_play(fz_pipeline *p, const fz_pipeline_run *run);

#endif
