/* The fixed binary tree along which every exact sum is formed. Local.
 *
 * Leaves 0 .. n-1 with n a power of two; node (level, index) covers leaves
 * [index << level, (index+1) << level) and equals left + right, in fp32, rounded once a node.
 * Empty leaves are skipped: a node with one empty child is the other child.
 *
 *   fold   depth first: leaf i is written to buffer fz_fold_slot(i); then fz_fold_adds(i) times
 *          the top buffer is added to the one below (slot-1 += slot) and the slot goes down.
 *          log2(n)+1 buffers serve n leaves; after leaf n-1 the sum is in buffer 0.
 *   stack  the same for any range of leaves, empty ones allowed: what a data-parallel rank runs
 *          over its lanes; what is left at the end are the roots of its maximal complete subtrees.
 */
#ifndef FZ_CORE_TREE_H
#define FZ_CORE_TREE_H

#include <stdbool.h>
#include <stdint.h>

bool fz_is_power_of_two(int64_t n);
int fz_log2(int64_t n); /* n a power of two */

int fz_fold_slot(int64_t i);  /* number of one bits of i      */
int fz_fold_adds(int64_t i);  /* number of trailing ones of i */
int fz_fold_slots(int64_t n); /* buffers needed for n leaves  */

/* a[i] += b[i] */
void fz_tree_add(float *a, const float *b, int64_t n);
/* Fold of n_leaves rows (n_leaves, n) in place: the sum is left in row 0; other rows are lost. */
void fz_tree_sum_rows(float *rows, int64_t n_leaves, int64_t n);

typedef struct fz_tree_node {
    int level;
    int64_t index;
    int buffer; /* the caller's handle of its value; -1: empty */
} fz_tree_node;

enum { FZ_TREE_DEPTH = 64 };
typedef struct fz_tree_stack {
    fz_tree_node node[FZ_TREE_DEPTH];
    int n;
} fz_tree_stack;

/* Adds buffer right into buffer left and frees right (a handle can be reused after it). */
typedef void (*fz_tree_add_fn)(void *context, int left, int right);
/* Pushes a node to the right of all before it and folds siblings as long as there are any. */
void fz_tree_push(fz_tree_stack *stack, fz_tree_node node, fz_tree_add_fn add, void *context);

#endif
