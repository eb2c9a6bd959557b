/* Products by shard, shared by the text blocks (design.md 5, model.md 13.1).
 *
 *   column-split   y_j = x W_j^T for every local shard j: W_j (out/S, C) are rows of W. y is the
 *                  count pieces (N, out/S) one after another.
 *   row-split      p_j = a_j W_j^T with W_j (C, in/S) columns of W, stored contiguously. The
 *                  partial products are leaves of the tree: folded here over the local shards, then
 *                  summed over all of them by the hook.
 *
 * Each product is one piece: its shape never depends on how many shards a process holds. All
 * weight gradients are accumulated; a NULL destination means frozen and does nothing.
 */
#ifndef FZ_MODEL_BLOCKS_LINEAR_H
#define FZ_MODEL_BLOCKS_LINEAR_H

#include "model/ops/ops.h"
#include "model/program.h"

/* Buffers of a sum over shards: slot 0 is root, where the total ends up; the others follow each
 * other in rest, fz_fold_rest(count) of them. */
typedef struct fz_fold {
    float *root, *rest;
    int64_t n; /* floats of a slot */
} fz_fold;

/* Slots besides the root for count leaves. */
int64_t fz_fold_rest(int64_t count);
/* Where local shard j's leaf is to be written. */
float *fz_fold_leaf(const fz_fold *fold, int64_t j);
/* After leaf j is written: adds what is complete. */
fz_status fz_fold_close(const fz_exec *x, const fz_fold *fold, int64_t j);
/* After the last leaf: root becomes the sum over all shards. Meets the other ranks. */
fz_status fz_fold_total(const fz_exec *x, const fz_fold *fold);

/* y_j = in W_j^T (+ b_j); in (N, C), w pieces (out, C), b pieces (out) or NULL. out is a shard's.
 */
fz_status fz_column_forward(const fz_exec *x, float *y, const float *in, const float *w,
                            const float *b, int64_t N, int64_t C, int64_t out);
/* One column-split product, seen from its backward pass. */
typedef struct fz_column_term {
    const float *dy, *w; /* count pieces (N, out) and (out, C) */
    int64_t out;
} fz_column_term;
/* root = sum over shards of sum over terms, in their order, of dy_j W_j; (N, C). */
fz_status fz_column_backward_input(const fz_exec *x, const fz_fold *fold,
                                   const fz_column_term *terms, int n_terms, int64_t N, int64_t C);
/* dw_j += dy_j^T in */
fz_status fz_column_backward_weight(const fz_exec *x, float *dw, const float *dy, const float *in,
                                    int64_t N, int64_t C, int64_t out);
/* db_j += segments(dy_j); work (S, out) floats */
fz_status fz_column_backward_bias(const fz_exec *x, float *db, const float *dy, int64_t N,
                                  int64_t out, float *work);

/* root = sum over shards of a_j W_j^T; a pieces (N, in), w pieces (C, in). in is a shard's. */
fz_status fz_row_forward(const fz_exec *x, const fz_fold *fold, const float *a, const float *w,
                         int64_t N, int64_t C, int64_t in);
/* da_j = dy W_j */
fz_status fz_row_backward_input(const fz_exec *x, float *da, const float *dy, const float *w,
                                int64_t N, int64_t C, int64_t in);
/* dw_j += dy^T a_j */
fz_status fz_row_backward_weight(const fz_exec *x, float *dw, const float *dy, const float *a,
                                 int64_t N, int64_t C, int64_t in);

/* Looks up ids in the local pieces of a table cut by vocabulary, zeros where other shards hold the
 * row: only one term of the sum over shards (the caller's) is not zero, so any order is exact.
 * y (N, C); piece_rows = ceil(V/S). */
fz_status fz_lookup_local(const fz_exec *x, float *y, const float *table, const int32_t *ids,
                          int64_t N, int64_t C, int64_t piece_rows, float scale);
/* dtable[id] += scale * dy over the ids that the local pieces hold; skip_id (padding) left out. */
fz_status fz_lookup_backward(const fz_exec *x, float *dtable, const float *dy, const int32_t *ids,
                             int64_t N, int64_t C, int64_t piece_rows, float scale,
                             int32_t skip_id);

/* Gradients of a LayerNorm's weight and bias, either of which may be frozen (NULL);
 * work (2 S + 1, C) floats. */
fz_status fz_layernorm_grads(const fz_exec *x, float *dw, float *db, const float *dy,
                             const float *in, const float *mean, const float *rstd, int64_t N,
                             int64_t C, float *work);

/* What a block's i-th use is: from the program alone, so that layouts are known without data. */
const fz_param *fz_use_param(const fz_program *program, const fz_block *block, int i);
bool fz_use_trains(const fz_program *program, const fz_block *block, int i);
/* Whether any of uses [first, first + n) trains. */
bool fz_uses_train(const fz_program *program, const fz_block *block, int first, int n);

/* Counts one product of rows x C x out columns (a shard's) of the local shards: forward, input
 * gradient where `input` is set, weight gradient where the use trains. */
void fz_count_linear(const fz_program *program, const fz_block *block, fz_shards shards,
                     fz_flops *flops, int use, int64_t rows, int64_t C, int64_t out, bool input);

/* Arena for something that a later pass needs (kept) or only this one. */
static inline fz_arena *fz_choose(bool kept, fz_arena *later, fz_arena *work)
{
    return kept ? later : work;
}

#endif
