#include "checkpoint/layout.h"

#include <stdlib.h>
#include <string.h>

#include "core/checksum.h"
#include "core/memory.h"

const char *const FZ_KIND_NAMES[FZ_N_STATE_KINDS] = {"master", "exp_avg", "exp_avg_sq", "weight"};

/* boxes */

fz_box fz_box_of_tensor(const fz_state_tensor *tensor)
{
    fz_box box;
    for (int axis = 0; axis < FZ_MAX_AXES; axis++) {
        box.lo[axis] = 0;
        box.hi[axis] = axis < tensor->ndim ? tensor->shape[axis] : 1;
    }
    return box;
}

fz_box fz_box_of_view(const fz_state_view *view, int ndim)
{
    fz_box box;
    for (int axis = 0; axis < FZ_MAX_AXES; axis++) {
        box.lo[axis] = axis < ndim ? view->lo[axis] : 0;
        box.hi[axis] = axis < ndim ? view->hi[axis] : 1;
    }
    return box;
}

fz_box fz_box_of_fragment(const fz_fragment *fragment)
{
    fz_box box;
    memcpy(box.lo, fragment->lo, sizeof box.lo);
    memcpy(box.hi, fragment->hi, sizeof box.hi);
    return box;
}

int64_t fz_box_elements(const fz_box *box)
{
    int64_t n = 1;
    for (int axis = 0; axis < FZ_MAX_AXES; axis++)
        n *= box->hi[axis] > box->lo[axis] ? box->hi[axis] - box->lo[axis] : 0;
    return n;
}

fz_box fz_box_intersect(const fz_box *x, const fz_box *y)
{
    fz_box box;
    for (int axis = 0; axis < FZ_MAX_AXES; axis++) {
        box.lo[axis] = x->lo[axis] > y->lo[axis] ? x->lo[axis] : y->lo[axis];
        box.hi[axis] = x->hi[axis] < y->hi[axis] ? x->hi[axis] : y->hi[axis];
    }
    return box;
}

static bool is_inside(const fz_box *inner, const fz_box *outer)
{
    for (int axis = 0; axis < FZ_MAX_AXES; axis++)
        if (inner->lo[axis] < outer->lo[axis] || inner->hi[axis] > outer->hi[axis]) return false;
    return true;
}

/* runs */

static bool covers(const fz_box *part, const fz_box *box, int axis)
{
    return part->lo[axis] == box->lo[axis] && part->hi[axis] == box->hi[axis];
}

fz_runs fz_runs_over(const fz_box *part, const fz_box *first, const fz_box *second)
{
    fz_runs runs = {.part = *part, .first = *first, .second = *second};

    runs.axis = FZ_MAX_AXES - 1;
    runs.is_done = fz_box_elements(part) == 0;
    runs.length = part->hi[runs.axis] - part->lo[runs.axis];
    while (runs.axis > 0 && covers(part, first, runs.axis) && covers(part, second, runs.axis)) {
        runs.axis--;
        runs.length *= part->hi[runs.axis] - part->lo[runs.axis];
    }
    memcpy(runs.at, part->lo, sizeof runs.at);
    return runs;
}

int64_t fz_box_offset(const fz_box *box, const int64_t at[FZ_MAX_AXES])
{
    int64_t offset = 0;
    for (int axis = 0; axis < FZ_MAX_AXES; axis++)
        offset = offset * (box->hi[axis] - box->lo[axis]) + at[axis] - box->lo[axis];
    return offset;
}

/* The next position of the axes up to `axis`; those behind it begin again. */
static void advance(fz_runs *runs, int axis)
{
    for (; axis >= 0; axis--) {
        if (++runs->at[axis] < runs->part.hi[axis]) break;
        runs->at[axis] = runs->part.lo[axis];
    }
    runs->is_done = axis < 0;
}

bool fz_runs_next(fz_runs *runs, int64_t *in_first, int64_t *in_second)
{
    if (runs->is_done) return false;
    *in_first = fz_box_offset(&runs->first, runs->at);
    *in_second = fz_box_offset(&runs->second, runs->at);
    advance(runs, runs->axis - 1);
    return true;
}

/* Coordinates of an element of a box that is not empty. */
static void find_position(const fz_box *box, int64_t flat, int64_t at[FZ_MAX_AXES])
{
    for (int axis = FZ_MAX_AXES - 1; axis >= 0; axis--) {
        const int64_t n = box->hi[axis] - box->lo[axis];
        at[axis] = box->lo[axis] + flat % n;
        flat /= n;
    }
}

void fz_runs_seek(fz_runs *runs, int64_t flat)
{
    int64_t wanted[FZ_MAX_AXES];
    int axis = 0;

    if (fz_box_elements(&runs->part) == 0) return;
    runs->is_done = flat >= fz_box_elements(&runs->first);
    if (runs->is_done) return;
    find_position(&runs->first, flat, wanted);
    memcpy(runs->at, runs->part.lo, sizeof runs->at);
    for (; axis < runs->axis; axis++) {
        if (wanted[axis] < runs->part.lo[axis]) return;
        if (wanted[axis] >= runs->part.hi[axis]) break;
        runs->at[axis] = wanted[axis];
    }
    /* Here all outer positions are behind flat, or the run begins where flat lies or around it. */
    if (axis < runs->axis || fz_box_offset(&runs->first, runs->at) + runs->length <= flat)
        advance(runs, axis - 1);
}

int64_t fz_box_count_below(const fz_box *part, const fz_box *box, int64_t flat)
{
    int64_t wanted[FZ_MAX_AXES], n = 0, below = fz_box_elements(part);

    if (below == 0 || flat >= fz_box_elements(box)) return below;
    find_position(box, flat, wanted);
    for (int axis = 0; axis < FZ_MAX_AXES; axis++) {
        const int64_t extent = part->hi[axis] - part->lo[axis];
        int64_t before = wanted[axis] - part->lo[axis];
        const bool is_inside_part = before >= 0 && before < extent;
        below /= extent;
        before = before < 0 ? 0 : before > extent ? extent : before;
        n += before * below;
        if (!is_inside_part) break;
    }
    return n;
}

/* the state */

bool fz_view_is_stored(const fz_state *state, const fz_state_view *view)
{
    const fz_state_tensor *tensor = &state->tensors[view->tensor];
    const fz_box box = fz_box_of_view(view, tensor->ndim);

    if (tensor->trainable == (view->kind == FZ_STATE_WEIGHT)) return false;
    return fz_box_elements(&box) > 0;
}

uint64_t fz_view_digest(const fz_state *state, const fz_state_view *view)
{
    const fz_state_tensor *tensor = &state->tensors[view->tensor];
    const fz_box whole = fz_box_of_tensor(tensor), box = fz_box_of_view(view, tensor->ndim);
    fz_runs runs = fz_runs_over(&box, &whole, &box);
    uint64_t digest = 0;
    int64_t in_tensor, in_view;

    while (fz_runs_next(&runs, &in_tensor, &in_view))
        digest += fz_digest32(view->data + in_view, in_tensor, runs.length);
    return digest;
}

static fz_status check_tensor(const fz_state_tensor *tensor, int t)
{
    FZ_CHECK(memchr(tensor->name, 0, FZ_NAME_BYTES) && tensor->name[0], FZ_ERR_ARG,
             "tensor %d has no name of at most %d characters", t, FZ_NAME_BYTES - 1);
    FZ_CHECK(!strchr(tensor->name, '/') && strcmp(tensor->name, ".") != 0, FZ_ERR_ARG,
             "tensor %s cannot be the name of an HDF5 group", tensor->name);
    FZ_CHECK(tensor->ndim >= 0 && tensor->ndim <= FZ_MAX_AXES, FZ_ERR_ARG,
             "tensor %s has %d axes, at most %d", tensor->name, tensor->ndim, FZ_MAX_AXES);
    for (int axis = 0; axis < tensor->ndim; axis++)
        FZ_CHECK(tensor->shape[axis] > 0, FZ_ERR_ARG, "tensor %s: axis %d has size %lld",
                 tensor->name, axis, (long long)tensor->shape[axis]);
    return FZ_OK;
}

fz_status fz_state_check(const fz_state *state)
{
    for (int t = 0; t < state->n_tensors; t++)
        FZ_TRY(check_tensor(&state->tensors[t], t));
    for (int i = 0; i < state->n_views; i++) {
        const fz_state_view *view = &state->views[i];
        FZ_CHECK(view->tensor >= 0 && view->tensor < state->n_tensors && view->piece >= 0 &&
                     (int)view->kind >= 0 && view->kind < FZ_N_STATE_KINDS,
                 FZ_ERR_ARG, "view %d: tensor %d, piece %d, kind %d do not exist", i, view->tensor,
                 view->piece, (int)view->kind);
        const fz_state_tensor *tensor = &state->tensors[view->tensor];
        const fz_box box = fz_box_of_view(view, tensor->ndim), whole = fz_box_of_tensor(tensor);
        if (fz_box_elements(&box) == 0) continue;
        FZ_CHECK(is_inside(&box, &whole) && view->data, FZ_ERR_ARG,
                 "view %d: its box leaves tensor %s", i, tensor->name);
        FZ_CHECK(tensor->trainable || view->kind == FZ_STATE_WEIGHT, FZ_ERR_ARG,
                 "tensor %s is frozen and has %s", tensor->name, FZ_KIND_NAMES[view->kind]);
    }
    return FZ_OK;
}

static fz_status check_counts(const fz_state *state, uint64_t (*sums)[2])
{
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
        for (int t = 0; t < state->n_tensors; t++) {
            const fz_state_tensor *tensor = &state->tensors[t];
            const fz_box whole = fz_box_of_tensor(tensor);
            const bool is_here = tensor->trainable != (kind == FZ_STATE_WEIGHT);
            const uint64_t expected = is_here ? (uint64_t)fz_box_elements(&whole) : 0;
            const uint64_t counted = sums[kind * state->n_tensors + t][1];
            FZ_CHECK(counted == expected, FZ_ERR_ARG,
                     "%s of tensor %s: %llu elements have an owner, it has %llu",
                     FZ_KIND_NAMES[kind], tensor->name, (unsigned long long)counted,
                     (unsigned long long)expected);
        }
    return FZ_OK;
}

void fz_sums_add_owned(const fz_state *state, const uint64_t *views, uint64_t (*sums)[2])
{
    for (int i = 0; i < state->n_views; i++) {
        const fz_state_view *view = &state->views[i];
        if (!view->is_owner || !fz_view_is_stored(state, view)) continue;
        const fz_box box = fz_box_of_view(view, state->tensors[view->tensor].ndim);
        uint64_t *sum = sums[(int)view->kind * state->n_tensors + view->tensor];
        sum[0] += views[i];
        sum[1] += (uint64_t)fz_box_elements(&box);
    }
}

fz_status fz_sums_share(const fz_group *world, const fz_state *state, uint64_t (*sums)[2])
{
    FZ_TRY(fz_allreduce_sum_uint(world, &sums[0][0],
                                 (int64_t)2 * FZ_N_STATE_KINDS * state->n_tensors));
    return check_counts(state, sums);
}

fz_status fz_state_digests(const fz_group *world, const fz_state *state, uint64_t (*sums)[2],
                           uint64_t *views)
{
    for (int i = 0; i < state->n_views; i++)
        if (fz_view_is_stored(state, &state->views[i]))
            views[i] = fz_view_digest(state, &state->views[i]);
    fz_sums_add_owned(state, views, sums);
    return fz_sums_share(world, state, sums);
}

int64_t fz_owned_rows(const fz_state *state, int rank, unsigned mask, const uint64_t *views,
                      fz_fragment *rows, uint64_t *digests, int *view_of)
{
    int64_t n = 0;

    for (int i = 0; i < state->n_views; i++) {
        const fz_state_view *view = &state->views[i];
        if (!view->is_owner || !(mask >> view->kind & 1) || !fz_view_is_stored(state, view))
            continue;
        const fz_box box = fz_box_of_view(view, state->tensors[view->tensor].ndim);
        rows[n] = (fz_fragment){.tensor = view->tensor,
                                .kind = (int64_t)view->kind,
                                .file = rank,
                                .b = fz_box_elements(&box)};
        memcpy(rows[n].lo, box.lo, sizeof box.lo);
        memcpy(rows[n].hi, box.hi, sizeof box.hi);
        view_of[n] = i;
        digests[n++] = views[i];
    }
    return n;
}

/* replicas */

fz_status fz_rows_chain(int n_tensors, const fz_fragment *rows, int64_t n_rows, int64_t **head_p,
                        int64_t **next_p)
{
    const int64_t n_heads = (int64_t)FZ_N_STATE_KINDS * n_tensors;
    int64_t *head = NULL, *next = NULL;

    FZ_TRY(FZ_NEW(&head, n_heads));
    const fz_status status = FZ_NEW(&next, n_rows);
    if (status != FZ_OK) {
        fz_free(&head);
        return status;
    }
    for (int64_t i = 0; i < n_heads; i++)
        head[i] = -1;
    for (int64_t i = n_rows - 1; i >= 0; i--) {
        int64_t *first = &head[rows[i].kind * n_tensors + rows[i].tensor];
        next[i] = *first;
        *first = i;
    }
    *head_p = head;
    *next_p = next;
    return FZ_OK;
}

/* Digests add up, so a replica that is tiled by several owners' boxes can be compared too. */
static fz_status check_view(const fz_state *state, const fz_state_view *view, uint64_t digest,
                            const fz_fragment *rows, const uint64_t *digests, int64_t row,
                            const int64_t *next)
{
    const fz_state_tensor *tensor = &state->tensors[view->tensor];
    const fz_box box = fz_box_of_view(view, tensor->ndim);
    uint64_t expected = 0;
    int64_t n = 0;

    for (; row >= 0; row = next[row]) {
        const fz_box owned = fz_box_of_fragment(&rows[row]);
        if (!is_inside(&owned, &box)) continue;
        expected += digests[row];
        n += rows[row].b - rows[row].a;
    }
    FZ_CHECK(n != fz_box_elements(&box) || digest == expected, FZ_ERR_DEVICE,
             "%s of tensor %s, piece %d: this rank's copy differs from its owner's; memory or a "
             "sum went wrong, restart from the last checkpoint",
             FZ_KIND_NAMES[view->kind], tensor->name, view->piece);
    return FZ_OK;
}

fz_status fz_replicas_check(const fz_state *state, unsigned mask, const uint64_t *views,
                            const fz_fragment *rows, const uint64_t *digests, int64_t n_rows)
{
    int64_t *head = NULL, *next = NULL;

    fz_status status = fz_rows_chain(state->n_tensors, rows, n_rows, &head, &next);
    for (int i = 0; i < state->n_views && status == FZ_OK; i++) {
        const fz_state_view *view = &state->views[i];
        if (view->is_owner || !(mask >> view->kind & 1) || !fz_view_is_stored(state, view))
            continue;
        status = check_view(state, view, views[i], rows, digests,
                            head[(int)view->kind * state->n_tensors + view->tensor], next);
    }
    fz_free(&head);
    fz_free(&next);
    return status;
}
