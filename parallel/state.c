#include "parallel/state.h"

#include <string.h>

#include "core/checksum.h"
#include "core/memory.h"
#include "core/rng.h"

fz_status fz_state_tensors_create(const fz_program *program, fz_state_tensor **tensors_p)
{
    fz_state_tensor *tensors = NULL;

    FZ_TRY(FZ_NEW(&tensors, program->n_params));
    for (int p = 0; p < program->n_params; p++) {
        const fz_param *param = &program->params[p];
        memcpy(tensors[p].name, param->name, sizeof param->name);
        tensors[p].ndim = param->ndim;
        memcpy(tensors[p].shape, param->shape, sizeof param->shape);
        tensors[p].trainable = param->trainable;
    }
    *tensors_p = tensors;
    return FZ_OK;
}

/* Views of one piece: three kinds, or one where frozen. Returns how many. */
static int piece_views(const fz_plan *plan, const fz_rank_plan *rp, const fz_held *held, int64_t j,
                       fz_state_view *views)
{
    const fz_param *param = &plan->program->params[held->param];
    const int64_t shard = held->first_shard + j, at = j * held->piece_elements;
    fz_state_view view = {.tensor = held->param,
                          .piece = (int)shard,
                          .kind = FZ_STATE_WEIGHT,
                          .data = held->w + at,
                          .is_owner = fz_plan_owns(plan, rp->coord, held->param, shard)};

    fz_param_piece_box(param, plan->program->n_shards, shard, view.lo, view.hi);
    if (param->trainable) {
        const struct {
            fz_state_kind kind;
            float *data;
        } parts[] = {{FZ_STATE_MASTER, held->w + at},
                     {FZ_STATE_EXP_AVG, held->m + at},
                     {FZ_STATE_EXP_AVG_SQ, held->v + at}};
        for (int i = 0; i < 3; i++) {
            views[i] = view;
            views[i].kind = parts[i].kind;
            views[i].data = parts[i].data;
        }
        return 3;
    }
    views[0] = view;
    return 1;
}

fz_status fz_state_create(const fz_plan *plan, const fz_rank_plan *rank_plan,
                          const fz_rank_memory *memory, fz_state *state)
{
    fz_state_view *views = NULL;
    int64_t most = 0;

    memset(state, 0, sizeof *state);
    fz_state_tensor *tensors = NULL;
    FZ_TRY(fz_state_tensors_create(plan->program, &tensors));
    state->n_tensors = plan->program->n_params;
    state->tensors = tensors;
    for (int i = 0; i < memory->n_held; i++)
        most += 3 * memory->held[i].n_pieces;
    FZ_TRY(FZ_NEW(&views, most));
    for (int i = 0; i < memory->n_held; i++)
        for (int64_t j = 0; j < memory->held[i].n_pieces; j++)
            state->n_views +=
                piece_views(plan, rank_plan, &memory->held[i], j, views + state->n_views);
    state->views = views;
    return FZ_OK;
}

void fz_state_destroy(fz_state *state)
{
    fz_free(&state->tensors);
    fz_free(&state->views);
}

/* Digest part of a piece: its rows are runs of consecutive elements of the logical tensor. */
static uint64_t view_digest(const fz_state_tensor *tensor, const fz_state_view *view)
{
    int64_t run = 1, stride = 1, n_runs = 1, index[FZ_MAX_AXES], strides[FZ_MAX_AXES];
    const float *data = view->data;
    uint64_t digest = 0;
    int axis = tensor->ndim;

    /* Trailing axes that the piece holds in full, and the first one it does not, are one run. */
    while (axis > 0 && run == stride) {
        axis--;
        run *= view->hi[axis] - view->lo[axis];
        strides[axis] = stride;
        stride *= tensor->shape[axis];
    }
    const int inner = axis;
    for (int a = inner - 1; a >= 0; a--) {
        strides[a] = stride;
        stride *= tensor->shape[a];
        n_runs *= view->hi[a] - view->lo[a];
    }
    memcpy(index, view->lo, sizeof index);
    for (int64_t r = 0; r < n_runs && run > 0; r++) {
        int64_t first = 0;
        for (int a = 0; a <= inner && a < tensor->ndim; a++)
            first += index[a] * strides[a];
        digest += fz_digest32(data, first, run);
        data += run;
        for (int a = inner - 1; a >= 0; a--) {
            if (++index[a] < view->hi[a]) break;
            index[a] = view->lo[a];
        }
    }
    return digest;
}

fz_status fz_state_digest(const fz_state *state, const fz_group *world, uint64_t *scratch,
                          uint64_t *digest)
{
    memset(scratch, 0, (size_t)state->n_tensors * sizeof *scratch);
    for (int i = 0; i < state->n_views; i++) {
        const fz_state_view *view = &state->views[i];
        if (!view->is_owner) continue;
        if (view->kind != FZ_STATE_MASTER && view->kind != FZ_STATE_WEIGHT) continue;
        scratch[view->tensor] += view_digest(&state->tensors[view->tensor], view);
    }
    FZ_TRY(fz_allreduce_sum_uint(world, scratch, state->n_tensors));
    uint64_t sum = 0;
    for (int t = 0; t < state->n_tensors; t++)
        sum += fz_mix64(scratch[t] ^ fz_mix64((uint64_t)t + 1));
    *digest = sum;
    return FZ_OK;
}
