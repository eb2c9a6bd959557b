#include "parallel/data_parallel.h"

#include <string.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/memory.h"

/* Who brings which roots: arithmetic, so all ranks know it without asking. */
static fz_status create_sum(fz_data_parallel *dp, const fz_group *group)
{
    const fz_plan *plan = dp->plan;
    const int d = plan->layout.shape.dp;
    fz_lane_stack stack;
    int *n_nodes = NULL, n_all = 0;
    fz_tree_node *nodes = NULL;

    fz_status status = FZ_NEW(&n_nodes, d);
    if (status == FZ_OK) status = FZ_NEW(&nodes, (int64_t)d * FZ_TREE_DEPTH);
    for (int r = 0; r < d && status == FZ_OK; r++) {
        fz_lane_stack_simulate(&stack, plan->n_micro, plan->layout.n_lanes, d, r);
        n_nodes[r] = stack.tree.n;
        for (int i = 0; i < stack.tree.n; i++)
            nodes[n_all++] = stack.tree.node[i];
    }
    if (status == FZ_OK) {
        FZ_ASSERT(fz_ordered_sum_work_bytes(group, n_nodes, FZ_COMM_CHUNK) <= dp->rp->bytes.comm);
        status = fz_ordered_sum_create(group, n_nodes, nodes, FZ_COMM_CHUNK, &dp->sum);
    }
    fz_free(&n_nodes);
    fz_free(&nodes);
    return status;
}

fz_status fz_data_parallel_init(fz_data_parallel *dp, const fz_plan *plan,
                                const fz_rank_plan *rank_plan, const fz_rank_memory *memory,
                                const fz_group *group, const fz_ops *ops)
{
    *dp = (fz_data_parallel){
        .plan = plan, .rp = rank_plan, .memory = memory, .ops = ops, .buffer = -1};
    FZ_TRY(FZ_NEW(&dp->use_grads, plan->program->n_uses));
    if (plan->layout.shape.dp > 1 && memory->grad_floats > 0) FZ_TRY(create_sum(dp, group));
    return FZ_OK;
}

void fz_data_parallel_reset(fz_data_parallel *dp)
{
    fz_ordered_sum_destroy(&dp->sum);
    fz_free(&dp->use_grads);
}

static void add_buffers(void *context, int left, int right)
{
    fz_data_parallel *dp = context;
    float *const *grads = dp->memory->grads;

    fz_span_begin("data.lanes", FZ_SHARE_COMPUTE);
    const fz_status status = dp->ops->add(grads[left], grads[right], dp->memory->grad_floats, NULL);
    fz_span_end();
    if (dp->status == FZ_OK) dp->status = status;
}

static int64_t first_micro(const fz_data_parallel *dp, int64_t lane)
{
    return fz_lane_first_micro(dp->plan->n_micro, dp->plan->layout.n_lanes, lane);
}

static void skip_empty_lanes(fz_data_parallel *dp)
{
    const int64_t end = dp->rp->first_lane + dp->rp->n_lanes;

    while (dp->lane < end && first_micro(dp, dp->lane) == first_micro(dp, dp->lane + 1))
        fz_lane_stack_push(&dp->stack, dp->lane++, -1);
}

void fz_data_parallel_begin(fz_data_parallel *dp)
{
    fz_lane_stack_init(&dp->stack, add_buffers, dp);
    dp->lane = dp->rp->first_lane;
    dp->buffer = -1;
    dp->status = FZ_OK;
    skip_empty_lanes(dp);
}

fz_status fz_data_parallel_before(fz_data_parallel *dp, int64_t micro)
{
    const fz_rank_memory *memory = dp->memory;

    if (dp->rp->first_micro + micro != first_micro(dp, dp->lane)) return FZ_OK;
    FZ_ASSERT(dp->buffer < 0);
    dp->buffer = fz_lane_stack_take(&dp->stack);
    FZ_ASSERT(dp->buffer < dp->rp->grad_buffers);
    float *buffer = memory->grads[dp->buffer];
    for (int u = 0; u < dp->plan->program->n_uses; u++)
        dp->use_grads[u] = memory->grad_offset[u] < 0 ? NULL : buffer + memory->grad_offset[u];
    return dp->ops->zero(buffer, memory->grad_floats, NULL);
}

fz_status fz_data_parallel_after(fz_data_parallel *dp, int64_t micro)
{
    if (dp->rp->first_micro + micro + 1 != first_micro(dp, dp->lane + 1)) return FZ_OK;
    const int buffer = dp->buffer;
    dp->buffer = -1;
    fz_lane_stack_push(&dp->stack, dp->lane++, buffer);
    skip_empty_lanes(dp);
    return dp->status;
}

fz_status fz_data_parallel_finish(fz_data_parallel *dp, float **total)
{
    const fz_tree_stack *tree = &dp->stack.tree;
    const int64_t n = dp->memory->grad_floats;
    float *roots[FZ_TREE_DEPTH], *at_roots[FZ_TREE_DEPTH];
    int n_roots = 0;

    FZ_ASSERT(dp->lane == dp->rp->first_lane + dp->rp->n_lanes);
    for (int i = 0; i < tree->n; i++)
        if (tree->node[i].buffer >= 0) roots[n_roots++] = dp->memory->grads[tree->node[i].buffer];
    *total = n_roots > 0 ? roots[0] : dp->memory->grads[0];
    if (!dp->sum) return FZ_OK;

    fz_status status = FZ_OK;
    fz_span_begin("data.sum", FZ_SHARE_COMM);
    for (int64_t at = 0; at < n && status == FZ_OK; at += FZ_COMM_CHUNK) {
        for (int i = 0; i < n_roots; i++)
            at_roots[i] = roots[i] + at;
        const int64_t rest = n - at;
        status = fz_ordered_sum_run(dp->sum, *total + at, at_roots,
                                    rest < FZ_COMM_CHUNK ? rest : FZ_COMM_CHUNK, dp->memory->comm);
    }
    fz_span_end();
    return status;
}
