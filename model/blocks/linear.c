#include "model/blocks/linear.h"

#include "core/tree.h"

int64_t fz_fold_rest(int64_t count)
{
    return fz_fold_slots(count) - 1;
}

static float *slot_of(const fz_fold *fold, int slot)
{
    return slot == 0 ? fold->root : fold->rest + (slot - 1) * fold->n;
}

float *fz_fold_leaf(const fz_fold *fold, int64_t j)
{
    return slot_of(fold, fz_fold_slot(j));
}

fz_status fz_fold_close(const fz_exec *x, const fz_fold *fold, int64_t j)
{
    int slot = fz_fold_slot(j);
    for (int i = 0; i < fz_fold_adds(j); i++, slot--)
        FZ_TRY(x->ops->add(slot_of(fold, slot - 1), slot_of(fold, slot), fold->n, x->queue));
    return FZ_OK;
}

fz_status fz_fold_total(const fz_exec *x, const fz_fold *fold)
{
    return fz_sum_shards(x->hooks, fold->root, fold->n);
}

fz_status fz_column_forward(const fz_exec *x, float *y, const float *in, const float *w,
                            const float *b, int64_t N, int64_t C, int64_t out)
{
    for (int64_t j = 0; j < x->shards.count; j++) {
        float *y_j = y + j * N * out;
        FZ_TRY(x->ops->gemm(&(fz_gemm_args){.c = y_j,
                                            .a = in,
                                            .b = w + j * out * C,
                                            .trans_b = true,
                                            .m = N,
                                            .n = out,
                                            .k = C,
                                            .lda = C,
                                            .ldb = C,
                                            .ldc = out,
                                            .alpha = 1.0f},
                            x->queue));
        if (b) FZ_TRY(x->ops->bias_add(y_j, b + j * out, N, out, out, x->queue));
    }
    return FZ_OK;
}

fz_status fz_column_backward_input(const fz_exec *x, const fz_fold *fold,
                                   const fz_column_term *terms, int n_terms, int64_t N, int64_t C)
{
    for (int64_t j = 0; j < x->shards.count; j++) {
        float *leaf = fz_fold_leaf(fold, j);
        for (int t = 0; t < n_terms; t++) {
            const int64_t out = terms[t].out;
            FZ_TRY(x->ops->gemm(&(fz_gemm_args){.c = leaf,
                                                .a = terms[t].dy + j * N * out,
                                                .b = terms[t].w + j * out * C,
                                                .m = N,
                                                .n = C,
                                                .k = out,
                                                .lda = out,
                                                .ldb = C,
                                                .ldc = C,
                                                .alpha = 1.0f,
                                                .beta = t == 0 ? 0.0f : 1.0f},
                                x->queue));
        }
        FZ_TRY(fz_fold_close(x, fold, j));
    }
    return fz_fold_total(x, fold);
}

fz_status fz_column_backward_weight(const fz_exec *x, float *dw, const float *dy, const float *in,
                                    int64_t N, int64_t C, int64_t out)
{
    if (!dw) return FZ_OK;
    for (int64_t j = 0; j < x->shards.count; j++)
        FZ_TRY(x->ops->gemm(&(fz_gemm_args){.c = dw + j * out * C,
                                            .a = dy + j * N * out,
                                            .b = in,
                                            .trans_a = true,
                                            .m = out,
                                            .n = C,
                                            .k = N,
                                            .lda = out,
                                            .ldb = C,
                                            .ldc = C,
                                            .alpha = 1.0f,
                                            .beta = 1.0f},
                            x->queue));
    return FZ_OK;
}

fz_status fz_column_backward_bias(const fz_exec *x, float *db, const float *dy, int64_t N,
                                  int64_t out, float *work)
{
    if (!db) return FZ_OK;
    for (int64_t j = 0; j < x->shards.count; j++)
        FZ_TRY(x->ops->bias_backward(db + j * out, dy + j * N * out, N, out, out, x->shards.n, work,
                                     x->queue));
    return FZ_OK;
}

fz_status fz_row_forward(const fz_exec *x, const fz_fold *fold, const float *a, const float *w,
                         int64_t N, int64_t C, int64_t in)
{
    for (int64_t j = 0; j < x->shards.count; j++) {
        FZ_TRY(x->ops->gemm(&(fz_gemm_args){.c = fz_fold_leaf(fold, j),
                                            .a = a + j * N * in,
                                            .b = w + j * C * in,
                                            .trans_b = true,
                                            .m = N,
                                            .n = C,
                                            .k = in,
                                            .lda = in,
                                            .ldb = in,
                                            .ldc = C,
                                            .alpha = 1.0f},
                            x->queue));
        FZ_TRY(fz_fold_close(x, fold, j));
    }
    return fz_fold_total(x, fold);
}

fz_status fz_row_backward_input(const fz_exec *x, float *da, const float *dy, const float *w,
                                int64_t N, int64_t C, int64_t in)
{
    for (int64_t j = 0; j < x->shards.count; j++)
        FZ_TRY(x->ops->gemm(&(fz_gemm_args){.c = da + j * N * in,
                                            .a = dy,
                                            .b = w + j * C * in,
                                            .m = N,
                                            .n = in,
                                            .k = C,
                                            .lda = C,
                                            .ldb = in,
                                            .ldc = in,
                                            .alpha = 1.0f},
                            x->queue));
    return FZ_OK;
}

fz_status fz_row_backward_weight(const fz_exec *x, float *dw, const float *dy, const float *a,
                                 int64_t N, int64_t C, int64_t in)
{
    if (!dw) return FZ_OK;
    for (int64_t j = 0; j < x->shards.count; j++)
        FZ_TRY(x->ops->gemm(&(fz_gemm_args){.c = dw + j * C * in,
                                            .a = dy,
                                            .b = a + j * N * in,
                                            .trans_a = true,
                                            .m = C,
                                            .n = in,
                                            .k = N,
                                            .lda = C,
                                            .ldb = in,
                                            .ldc = in,
                                            .alpha = 1.0f,
                                            .beta = 1.0f},
                            x->queue));
    return FZ_OK;
}

/* Local pieces are consecutive and contiguous: together they are one table of count * piece_rows
 * rows, and rows of padding are never asked for. */
fz_status fz_lookup_local(const fz_exec *x, float *y, const float *table, const int32_t *ids,
                          int64_t N, int64_t C, int64_t piece_rows, float scale)
{
    return x->ops->embedding_forward(y, table, ids, N, C, x->shards.first * piece_rows,
                                     x->shards.count * piece_rows, scale, x->queue);
}

fz_status fz_lookup_backward(const fz_exec *x, float *dtable, const float *dy, const int32_t *ids,
                             int64_t N, int64_t C, int64_t piece_rows, float scale, int32_t skip_id)
{
    if (!dtable) return FZ_OK;
    return x->ops->embedding_backward(dtable, dy, ids, N, C, x->shards.first * piece_rows,
                                      x->shards.count * piece_rows, scale, skip_id, x->queue);
}

fz_status fz_layernorm_grads(const fz_exec *x, float *dw, float *db, const float *dy,
                             const float *in, const float *mean, const float *rstd, int64_t N,
                             int64_t C, float *work)
{
    const int64_t S = x->shards.n;
    if (!dw && !db) return FZ_OK;
    /* The op forms both; what a frozen one would get goes to the last row of work. */
    float *unused = work + 2 * S * C;
    if (!dw || !db) FZ_TRY(x->ops->zero(unused, C, x->queue));
    return x->ops->layernorm_backward_weight(dw ? dw : unused, db ? db : unused, dy, in, mean, rstd,
                                             N, C, S, work, x->queue);
}

const fz_param *fz_use_param(const fz_program *program, const fz_block *block, int i)
{
    return &program->params[program->uses[block->first_use + i].param];
}

bool fz_use_trains(const fz_program *program, const fz_block *block, int i)
{
    return fz_use_param(program, block, i)->trainable;
}

bool fz_uses_train(const fz_program *program, const fz_block *block, int first, int n)
{
    for (int i = first; i < first + n; i++)
        if (fz_use_trains(program, block, i)) return true;
    return false;
}

void fz_count_linear(const fz_program *program, const fz_block *block, fz_shards shards,
                     fz_flops *flops, int use, int64_t rows, int64_t C, int64_t out, bool input)
{
    const double n = 2.0 * (double)rows * (double)C * (double)(out * shards.count);
    flops->forward += n;
    if (input) flops->backward_input += n;
    if (fz_use_trains(program, block, use)) flops->backward_weight += n;
}
