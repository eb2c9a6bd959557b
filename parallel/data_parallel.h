/* Data parallelism by lanes: a lane's micro-batches add their gradients into one buffer, in order;
 * lanes are added along the tree of core/tree.h, on this rank by the lane stack, over the data
 * group by the ordered sum. The bits depend on K and M alone.
 */
#ifndef FZ_PARALLEL_DATA_PARALLEL_H
#define FZ_PARALLEL_DATA_PARALLEL_H

#include "dist/ordered_sum.h"
#include "model/ops/ops.h"
#include "parallel/lanes.h"
#include "parallel/rank_memory.h"

typedef struct fz_data_parallel {
    const fz_plan *plan;          /* borrowed */
    const fz_rank_plan *rp;       /* borrowed */
    const fz_rank_memory *memory; /* borrowed */
    const fz_ops *ops;            /* borrowed */
    fz_ordered_sum *sum;          /* owned; NULL with one data rank */
    float **use_grads;            /* owned: by use, into the current lane's buffer: fz_exec.grads */
    fz_lane_stack stack;
    int64_t lane;     /* that runs, or runs next */
    int buffer;       /* of the lane that runs; -1: none */
    fz_status status; /* of additions made in the stack's callback */
} fz_data_parallel;

/* Local. */
fz_status fz_data_parallel_init(fz_data_parallel *dp, const fz_plan *plan,
                                const fz_rank_plan *rank_plan, const fz_rank_memory *memory,
                                const fz_group *group, const fz_ops *ops);
void fz_data_parallel_reset(fz_data_parallel *dp);
/* Around the backward passes of a step; micro counts from this rank's first one. Local. */
void fz_data_parallel_begin(fz_data_parallel *dp);
fz_status fz_data_parallel_before(fz_data_parallel *dp, int64_t micro);
fz_status fz_data_parallel_after(fz_data_parallel *dp, int64_t micro);
/* total: the buffer with the sum over all lanes of all ranks. Collective over the data group. */
fz_status fz_data_parallel_finish(fz_data_parallel *dp, float **total);

#endif
