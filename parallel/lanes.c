#include "parallel/lanes.h"

#include <string.h>

#include "core/assert.h"

void fz_lane_stack_init(fz_lane_stack *stack, fz_tree_add_fn add, void *context)
{
    memset(stack, 0, sizeof *stack);
    stack->add = add;
    stack->context = context;
}

int fz_lane_stack_take(fz_lane_stack *stack)
{
    int buffer = 0;
    while (stack->taken[buffer]) {
        buffer++;
        FZ_ASSERT(buffer < FZ_TREE_DEPTH);
    }
    stack->taken[buffer] = true;
    if (buffer + 1 > stack->n_buffers) stack->n_buffers = buffer + 1;
    return buffer;
}

static void fold(void *context, int left, int right)
{
    fz_lane_stack *stack = context;
    if (stack->add) stack->add(stack->context, left, right);
    stack->taken[right] = false;
}

void fz_lane_stack_push(fz_lane_stack *stack, int64_t lane, int buffer)
{
    const fz_tree_node node = {.level = 0, .index = lane, .buffer = buffer};
    fz_tree_push(&stack->tree, node, fold, stack);
}

void fz_lane_stack_simulate(fz_lane_stack *stack, int64_t n_micro, int64_t n_lanes, int64_t n_ranks,
                            int64_t rank)
{
    const int64_t end = fz_rank_first_lane(n_lanes, n_ranks, rank + 1);

    fz_lane_stack_init(stack, NULL, NULL);
    for (int64_t k = fz_rank_first_lane(n_lanes, n_ranks, rank); k < end; k++) {
        const bool empty = fz_lane_first_micro(n_micro, n_lanes, k) ==
                           fz_lane_first_micro(n_micro, n_lanes, k + 1);
        fz_lane_stack_push(stack, k, empty ? -1 : fz_lane_stack_take(stack));
    }
}
