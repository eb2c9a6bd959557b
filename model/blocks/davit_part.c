#include "model/blocks/davit_part.h"

#include "core/assert.h"

int64_t fz_piece_max(const fz_sizes *sizes, fz_shards shards)
{
    return (sizes->n_samples + shards.n - 1) / shards.n;
}

/* Local image number of the first image of local shard j. */
static int64_t first_local(const fz_exec *x, int64_t j)
{
    const int64_t B = x->batch->sizes.n_samples;
    return fz_image_first(B, x->shards.n, x->shards.first + j) -
           fz_image_first(B, x->shards.n, x->shards.first);
}

fz_piece fz_piece_get(const fz_exec *x, int64_t j)
{
    const int64_t first = first_local(x, j);

    FZ_ASSERT(first_local(x, x->shards.count) == x->batch->sizes.n_local_images);
    return (fz_piece){.first = first, .n = first_local(x, j + 1) - first};
}

const int64_t *fz_piece_samples(const fz_exec *x, fz_piece piece)
{
    return x->batch->sample_n +
           fz_image_first(x->batch->sizes.n_samples, x->shards.n, x->shards.first) + piece.first;
}

fz_rows fz_plain_rows_init(fz_plain_rows *plain, int64_t N)
{
    FZ_ASSERT(N <= INT32_MAX);
    *plain = (fz_plain_rows){.start = {0, (int32_t)N}};
    return (fz_rows){.n_seq = 1, .start = plain->start, .sample_n = plain->sample_n};
}

fz_status fz_dense_forward(const fz_exec *x, float *y, const float *in, const float *w, int64_t N,
                           int64_t C, int64_t out)
{
    const fz_gemm_args args = {.c = y,
                               .a = in,
                               .b = w,
                               .trans_b = true,
                               .m = N,
                               .n = out,
                               .k = C,
                               .lda = C,
                               .ldb = C,
                               .ldc = out,
                               .alpha = 1.0f};
    return x->ops->gemm(&args, x->queue);
}

fz_status fz_dense_backward_input(const fz_exec *x, float *din, const float *dy, const float *w,
                                  int64_t N, int64_t C, int64_t out)
{
    const fz_gemm_args args = {.c = din,
                               .a = dy,
                               .b = w,
                               .m = N,
                               .n = C,
                               .k = out,
                               .lda = out,
                               .ldb = C,
                               .ldc = C,
                               .alpha = 1.0f};
    return x->ops->gemm(&args, x->queue);
}

fz_status fz_dense_backward_weight(const fz_exec *x, float *dw, const float *dy, const float *in,
                                   int64_t N, int64_t C, int64_t out)
{
    const fz_gemm_args args = {.c = dw,
                               .a = dy,
                               .b = in,
                               .trans_a = true,
                               .m = out,
                               .n = C,
                               .k = N,
                               .lda = out,
                               .ldb = C,
                               .ldc = C,
                               .alpha = 1.0f};
    return x->ops->gemm(&args, x->queue);
}

void fz_leaves_take(fz_leaves *leaves, const fz_program *program, const fz_block *block,
                    int64_t n_local_shards, const int *bound, int n_groups, fz_arena *work)
{
    int64_t most = 0;

    FZ_ASSERT(n_groups <= FZ_LEAF_GROUPS && bound[0] == 0 && bound[n_groups] == block->n_uses);
    *leaves = (fz_leaves){.n_groups = n_groups};
    for (int g = 0; g < n_groups; g++) {
        const bool trains = fz_uses_train(program, block, bound[g], bound[g + 1] - bound[g]);
        leaves->bound[g + 1] = bound[g + 1];
        for (int i = bound[g]; i < bound[g + 1]; i++)
            leaves->at[i + 1] =
                leaves->at[i] + (trains ? fz_param_elements(fz_use_param(program, block, i)) : 0);
        const int64_t n = leaves->at[bound[g + 1]] - leaves->at[bound[g]];
        if (n > most) most = n;
    }
    leaves->root = fz_arena_floats(work, leaves->at[block->n_uses]);
    leaves->rest = fz_arena_floats(work, fz_fold_rest(n_local_shards) * most);
}

float *fz_leaf_at(const fz_leaf *leaf, int i)
{
    return leaf->base + (leaf->leaves->at[i] - leaf->leaves->at[leaf->first]);
}

fz_status fz_leaves_form(const fz_exec *x, const fz_leaves *leaves, int g, fz_leaf_fn form,
                         void *context)
{
    const int first = leaves->bound[g];
    const fz_fold fold = {.root = leaves->root + leaves->at[first],
                          .rest = leaves->rest,
                          .n = leaves->at[leaves->bound[g + 1]] - leaves->at[first]};

    if (fold.n == 0) return FZ_OK;
    for (int64_t j = 0; j < x->shards.count; j++) {
        const fz_piece piece = fz_piece_get(x, j);
        const fz_leaf leaf = {.leaves = leaves, .base = fz_fold_leaf(&fold, j), .first = first};
        if (piece.n == 0)
            FZ_TRY(x->ops->zero(leaf.base, fold.n, x->queue));
        else
            FZ_TRY(form(context, piece, &leaf));
        FZ_TRY(fz_fold_close(x, &fold, j));
    }
    return FZ_OK;
}

fz_status fz_leaves_add(const fz_exec *x, const fz_block *block, const fz_leaves *leaves)
{
    const int64_t n = leaves->at[block->n_uses];

    if (n == 0) return FZ_OK;
    FZ_TRY(fz_sum_shards(x->hooks, leaves->root, n));
    for (int i = 0; i < block->n_uses; i++) {
        float *grad = fz_grad(block, x, i);
        if (grad)
            FZ_TRY(x->ops->add(grad, leaves->root + leaves->at[i],
                               leaves->at[i + 1] - leaves->at[i], x->queue));
    }
    return FZ_OK;
}
