#include "core/tree.h"

#include "core/assert.h"

bool fz_is_power_of_two(int64_t n)
{
    return n > 0 && (n & (n - 1)) == 0;
}

int fz_log2(int64_t n)
{
    FZ_ASSERT(fz_is_power_of_two(n));
    int log2 = 0;
    while (n >>= 1)
        log2++;
    return log2;
}

int fz_fold_slot(int64_t i)
{
    int ones = 0;
    for (; i; i &= i - 1)
        ones++;
    return ones;
}

int fz_fold_adds(int64_t i)
{
    int ones = 0;
    for (; i & 1; i >>= 1)
        ones++;
    return ones;
}

int fz_fold_slots(int64_t n)
{
    return fz_log2(n) + 1;
}

void fz_tree_add(float *restrict a, const float *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        a[i] += b[i];
}

void fz_tree_sum_rows(float *rows, int64_t n_leaves, int64_t n)
{
    FZ_ASSERT(fz_is_power_of_two(n_leaves));
    for (int64_t half = 1; half < n_leaves; half *= 2)
        for (int64_t left = 0; left < n_leaves; left += 2 * half)
            fz_tree_add(rows + left * n, rows + (left + half) * n, n);
}

static bool are_siblings(const fz_tree_node *left, const fz_tree_node *right)
{
    return left->level == right->level && left->index % 2 == 0 && right->index == left->index + 1;
}

void fz_tree_push(fz_tree_stack *stack, fz_tree_node node, fz_tree_add_fn add, void *context)
{
    while (stack->n > 0 && are_siblings(&stack->node[stack->n - 1], &node)) {
        const fz_tree_node left = stack->node[--stack->n];
        if (left.buffer >= 0 && node.buffer >= 0) add(context, left.buffer, node.buffer);
        node.buffer = left.buffer >= 0 ? left.buffer : node.buffer;
        node.level++;
        node.index /= 2;
    }
    FZ_ASSERT(stack->n < FZ_TREE_DEPTH);
    stack->node[stack->n++] = node;
}
