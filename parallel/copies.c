#include "parallel/copies.h"

#include <string.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/memory.h"
#include "core/tree.h"
#include "parallel/tensor_parallel.h"

enum { TAG_TIED = 32 };

static bool is_trained(const fz_copies *copies, const fz_held *held)
{
    return copies->program->params[held->param].trainable;
}

/* Ranks that share one logical piece: 1 where a rank holds all its replicas. */
static int64_t sharing_ranks(const fz_copies *copies, const fz_held *held)
{
    const fz_param *param = &copies->program->params[held->param];
    if (param->cut != FZ_CUT_HEADS || param->replicas <= held->n_pieces) return 1;
    return param->replicas / held->n_pieces;
}

static fz_status create_groups(fz_copies *copies)
{
    const fz_group *tensor = copies->mesh->tensor;

    for (int i = 0; i < copies->memory->n_held; i++) {
        const fz_held *held = &copies->memory->held[i];
        const int64_t n = sharing_ranks(copies, held);
        if (n == 1 || !is_trained(copies, held)) continue;
        const int g = fz_log2(n);
        FZ_ASSERT(g < FZ_REPLICA_GROUPS);
        if (copies->group[g]) continue;
        const int rank = fz_group_rank(tensor);
        FZ_TRY(fz_group_split(tensor, rank / (int)n, rank, &copies->group[g]));
        FZ_TRY(fz_leaf_sum_create(copies->group[g], &copies->sum[g]));
    }
    return FZ_OK;
}

static fz_status list_tied(fz_copies *copies)
{
    const fz_rank_memory *memory = copies->memory;

    FZ_TRY(FZ_NEW(&copies->tied, memory->n_held));
    for (int i = 0; i < memory->n_held; i++) {
        if (memory->held[i].other_stage < 0 || !is_trained(copies, &memory->held[i])) continue;
        /* Both stages must exchange in one order: by parameter. */
        int at = copies->n_tied++;
        for (; at > 0 && memory->held[copies->tied[at - 1]].param > memory->held[i].param; at--)
            copies->tied[at] = copies->tied[at - 1];
        copies->tied[at] = i;
    }
    return FZ_OK;
}

fz_status fz_copies_init(fz_copies *copies, const fz_plan *plan, const fz_rank_memory *memory,
                         const fz_mesh *mesh, const fz_ops *ops)
{
    memset(copies, 0, sizeof *copies);
    copies->program = plan->program;
    copies->memory = memory;
    copies->mesh = mesh;
    copies->ops = ops;
    FZ_TRY(create_groups(copies));
    return list_tied(copies);
}

void fz_copies_reset(fz_copies *copies)
{
    for (int g = 0; g < FZ_REPLICA_GROUPS; g++) {
        fz_ordered_sum_destroy(&copies->sum[g]);
        fz_group_destroy(&copies->group[g]);
    }
    fz_free(&copies->tied);
}

/* rows (n_rows, n): the first becomes their tree sum, over sum's ranks too; the others copies. */
static fz_status sum_piece(const fz_copies *copies, const fz_ordered_sum *sum, float *rows,
                           int64_t n_rows, int64_t n)
{
    for (int64_t half = 1; half < n_rows; half *= 2)
        for (int64_t left = 0; left < n_rows; left += 2 * half)
            FZ_TRY(copies->ops->add(rows + left * n, rows + (left + half) * n, n, NULL));
    if (sum) FZ_TRY(fz_leaf_sum_run(sum, rows, n, copies->memory->comm));
    for (int64_t r = 1; r < n_rows; r++)
        FZ_TRY(copies->ops->copy(rows + r * n, rows, n, NULL));
    return FZ_OK;
}

static fz_status sum_replicas(const fz_copies *copies, const fz_held *held, float *grad)
{
    const int64_t replicas = copies->program->params[held->param].replicas;
    const int64_t n = held->piece_elements, ranks = sharing_ranks(copies, held);

    if (ranks > 1) return sum_piece(copies, copies->sum[fz_log2(ranks)], grad, held->n_pieces, n);
    for (int64_t piece = 0; piece < held->n_pieces; piece += replicas)
        FZ_TRY(sum_piece(copies, NULL, grad + piece * n, replicas, n));
    return FZ_OK;
}

/* grad += the other stage's gradient. Two terms: the order does not change the bits. */
static fz_status add_other_stage(const fz_copies *copies, const fz_held *held, float *grad)
{
    const fz_group *pipeline = copies->mesh->pipeline;
    const int64_t n = held->n_pieces * held->piece_elements;
    float *theirs = copies->memory->comm;

    for (int64_t at = 0; at < n; at += FZ_COMM_CHUNK) {
        const int64_t part = n - at < FZ_COMM_CHUNK ? n - at : FZ_COMM_CHUNK;
        const size_t bytes = (size_t)part * sizeof(float);
        fz_request sent = {{NULL}}, got = {{NULL}};
        FZ_TRY(fz_recv_start(pipeline, theirs, bytes, held->other_stage, TAG_TIED, &got));
        FZ_TRY(fz_send_start(pipeline, grad + at, bytes, held->other_stage, TAG_TIED, &sent));
        FZ_TRY(fz_request_wait(&got));
        FZ_TRY(fz_request_wait(&sent));
        FZ_TRY(copies->ops->add(grad + at, theirs, part, NULL));
    }
    return FZ_OK;
}

static fz_status sum_all(const fz_copies *copies, float *grads)
{
    const fz_rank_memory *memory = copies->memory;

    for (int i = 0; i < memory->n_held; i++) {
        const fz_held *held = &memory->held[i];
        if (!is_trained(copies, held)) continue;
        float *first = grads + memory->grad_offset[held->use[0]];
        if (copies->program->params[held->param].cut == FZ_CUT_HEADS) {
            FZ_ASSERT(held->use[1] < 0);
            FZ_TRY(sum_replicas(copies, held, first));
        }
        if (held->use[1] >= 0)
            FZ_TRY(copies->ops->add(first, grads + memory->grad_offset[held->use[1]],
                                    held->n_pieces * held->piece_elements, NULL));
    }
    for (int i = 0; i < copies->n_tied; i++) {
        const fz_held *held = &memory->held[copies->tied[i]];
        FZ_TRY(add_other_stage(copies, held, grads + memory->grad_offset[held->use[0]]));
    }
    return FZ_OK;
}

fz_status fz_copies_sum(const fz_copies *copies, float *grads)
{
    fz_span_begin("grads.copies", FZ_SHARE_COMM);
    const fz_status status = sum_all(copies, grads);
    fz_span_end();
    return status;
}
