/* What the vision blocks share: pieces of images, dense products, weight-gradient leaves.
 *
 * A piece is the images of one local shard. Every pass of a vision block works piece by piece with
 * buffers for the largest piece there can be, so work memory does not grow with the number of
 * shards a process holds and every product's shape is the piece's.
 */
#ifndef FZ_MODEL_BLOCKS_DAVIT_PART_H
#define FZ_MODEL_BLOCKS_DAVIT_PART_H

#include "model/blocks/linear.h"

typedef struct fz_piece {
    int64_t first, n; /* local images [first, first + n) */
} fz_piece;

/* Images of the largest piece at n_samples or fewer: ceil(B/S). */
int64_t fz_piece_max(const fz_sizes *sizes, fz_shards shards);
/* Of local shard j; asserts that n_local_images is what B and the shards say. */
fz_piece fz_piece_get(const fz_exec *x, int64_t j);
/* The micro-batch's sample of a piece's first image: images and samples are one to one. */
const int64_t *fz_piece_samples(const fz_exec *x, fz_piece piece);

/* One row of N sequences' rows, for element-wise ops that want rows and draw nothing. */
typedef struct fz_plain_rows {
    int32_t start[2];
    int64_t sample_n[1];
} fz_plain_rows;
fz_rows fz_plain_rows_init(fz_plain_rows *plain, int64_t N);

/* y = in W^T; in (N,C), w (out,C), y (N,out). */
fz_status fz_dense_forward(const fz_exec *x, float *y, const float *in, const float *w, int64_t N,
                           int64_t C, int64_t out);
/* din = dy W */
fz_status fz_dense_backward_input(const fz_exec *x, float *din, const float *dy, const float *w,
                                  int64_t N, int64_t C, int64_t out);
/* dw = dy^T in, written. */
fz_status fz_dense_backward_weight(const fz_exec *x, float *dw, const float *dy, const float *in,
                                   int64_t N, int64_t C, int64_t out);

/* Weight gradients of a block: per piece a leaf, folded over the local shards, summed over all
 * shards in one request, added to the lane's gradients. Uses come in groups whose leaves are formed
 * together; the roots of all groups lie side by side in root, while the other slots of the fold
 * serve one group after another. A group of which nothing trains takes no room. */
enum { FZ_LEAF_GROUPS = 8 };
typedef struct fz_leaves {
    float *root, *rest;
    int n_groups, bound[FZ_LEAF_GROUPS + 1]; /* group g is uses [bound[g], bound[g+1]) */
    int64_t at[FZ_BLOCK_USES + 1];           /* use i is root [at[i], at[i+1])         */
} fz_leaves;

/* bound has n_groups + 1 entries. Takes from work. */
void fz_leaves_take(fz_leaves *leaves, const fz_program *program, const fz_block *block,
                    int64_t n_local_shards, const int *bound, int n_groups, fz_arena *work);

/* Writes the leaf of a piece that is not empty: use i of the group at fz_leaf_at(leaf, i). */
typedef struct fz_leaf {
    const fz_leaves *leaves;
    float *base;
    int first; /* use at base */
} fz_leaf;
float *fz_leaf_at(const fz_leaf *leaf, int i);
typedef fz_status (*fz_leaf_fn)(void *context, fz_piece piece, const fz_leaf *leaf);

/* Forms and folds the leaves of group g; empty pieces are zeros. Does nothing for frozen groups. */
fz_status fz_leaves_form(const fz_exec *x, const fz_leaves *leaves, int g, fz_leaf_fn form,
                         void *context);
/* Sums over all shards (meets the other ranks) and adds to the gradients. */
fz_status fz_leaves_add(const fz_exec *x, const fz_block *block, const fz_leaves *leaves);

#endif
