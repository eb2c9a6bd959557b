#include <stdlib.h>
#include <string.h>

#include "checkpoint/read_ahead.h"
#include "checkpoint/target.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"

typedef struct stream {
    const fz_group *world; /* borrowed, like all of the caller's */
    const char *dir;
    const fz_ckpt_info *info;
    fz_tensor_read *read;
    void *context;
    fz_state state;         /* a view without data for every tensor of this rank */
    fz_state_view *views;   /* owned */
    uint64_t *view_digests; /* owned; not used: digests are taken while writing */
    uint64_t (*sums)[2];    /* owned: of all tensors */
    int *list;              /* owned: of the tensors of one directory, in the order of its files */
    fz_read_ahead *ahead;   /* over list, while its directory is written */
    int n_taken;            /* of list */
    int64_t bytes;
} stream;

/* who writes what */

typedef struct share {
    int tensor;
    int64_t elements;
} share;

static int64_t elements_of(const fz_state_tensor *tensor)
{
    const fz_box box = fz_box_of_tensor(tensor);
    return fz_box_elements(&box);
}

static int compare_shares(const void *x, const void *y)
{
    const share *a = x, *b = y;

    if (a->elements != b->elements) return a->elements > b->elements ? -1 : 1;
    return a->tensor < b->tensor ? -1 : 1;
}

static int least_loaded(const int64_t *loads, int n)
{
    int best = 0;

    for (int r = 1; r < n; r++)
        if (loads[r] < loads[best]) best = r;
    return best;
}

static void add_view(stream *s, int tensor)
{
    const fz_state_tensor *t = &s->state.tensors[tensor];
    const fz_box box = fz_box_of_tensor(t);
    fz_state_view *view = &s->views[s->state.n_views++];

    *view = (fz_state_view){.tensor = tensor,
                            .kind = t->trainable ? FZ_STATE_MASTER : FZ_STATE_WEIGHT,
                            .is_owner = true};
    memcpy(view->lo, box.lo, sizeof box.lo);
    memcpy(view->hi, box.hi, sizeof box.hi);
}

/* The largest first, each to the rank that has least so far; trained and frozen ones apart, since
 * they are written one after the other. The same on every rank. */
static void share_tensors(stream *s, share *shares, int64_t *loads)
{
    const int size = fz_group_size(s->world), rank = fz_group_rank(s->world);

    for (int t = 0; t < s->state.n_tensors; t++)
        shares[t] = (share){.tensor = t, .elements = elements_of(&s->state.tensors[t])};
    qsort(shares, (size_t)s->state.n_tensors, sizeof *shares, compare_shares);
    for (int trained = 0; trained < 2; trained++) {
        memset(loads, 0, (size_t)size * sizeof *loads);
        for (int i = 0; i < s->state.n_tensors; i++) {
            if (s->state.tensors[shares[i].tensor].trainable != (trained != 0)) continue;
            const int owner = least_loaded(loads, size);
            loads[owner] += shares[i].elements;
            if (owner == rank) add_view(s, shares[i].tensor);
        }
    }
}

static fz_status allocate(stream *s)
{
    int64_t *loads = NULL;
    share *shares = NULL;

    FZ_TRY(fz_save_check(&s->state, s->info));
    FZ_TRY(FZ_NEW(&s->sums, FZ_N_STATE_KINDS * s->state.n_tensors));
    FZ_TRY(FZ_NEW(&s->views, s->state.n_tensors));
    FZ_TRY(FZ_NEW(&s->view_digests, s->state.n_tensors));
    s->state.views = s->views;
    fz_status status = FZ_NEW(&shares, s->state.n_tensors);
    if (status == FZ_OK) status = FZ_NEW(&loads, fz_group_size(s->world));
    if (status == FZ_OK) share_tensors(s, shares, loads);
    fz_free(&shares);
    fz_free(&loads);
    FZ_TRY(status);
    return FZ_NEW(&s->list, s->state.n_tensors);
}

/* writing */

static int64_t largest(const fz_state_tensor *tensors, const int *list, int n)
{
    int64_t largest = 0;

    for (int i = 0; i < n; i++)
        if (elements_of(&tensors[list[i]]) > largest) largest = elements_of(&tensors[list[i]]);
    return largest;
}

static int compare_ints(const void *x, const void *y)
{
    const int *a = x, *b = y;
    return *a < *b ? -1 : *a > *b;
}

/* This rank's tensors of one kind, as a file holds them: by number. */
static fz_status start_reading(stream *s, fz_state_kind kind)
{
    int n = 0;

    s->n_taken = 0;
    for (int i = 0; i < s->state.n_views; i++)
        if (s->views[i].kind == kind) s->list[n++] = s->views[i].tensor;
    qsort(s->list, (size_t)n, sizeof *s->list, compare_ints);
    return fz_read_ahead_start(s->read, s->context, s->list, n,
                               largest(s->state.tensors, s->list, n), &s->ahead);
}

static fz_status next_view(void *context, const fz_state_view *view, float **data_p)
{
    stream *s = context;

    FZ_ASSERT(s->list[s->n_taken] == view->tensor);
    s->n_taken++;
    return fz_read_ahead_next(s->ahead, data_p);
}

/* Writes one directory and adds its tensors' digests to the sums. Collective. */
static fz_status write_target(stream *s, fz_target *t, const char *name, unsigned mask,
                              fz_state_kind kind)
{
    *t = (fz_target){.world = s->world,
                     .dir = s->dir,
                     .state = &s->state,
                     .info = s->info,
                     .mask = mask,
                     .views = s->view_digests,
                     .read = next_view,
                     .read_context = s};
    fz_status status = fz_agree(s->world, start_reading(s, kind));
    if (status == FZ_OK) status = fz_target_write(t, name);
    fz_read_ahead_stop(&s->ahead);
    FZ_TRY(status);
    s->bytes += fz_shard_bytes(&t->shard);
    uint64_t(*sums)[2] = s->sums + (int)kind * s->state.n_tensors;
    for (int64_t i = 0; i < t->shard.n_rows; i++) {
        sums[t->shard.rows[i].tensor][0] += t->shard.digests[i];
        sums[t->shard.rows[i].tensor][1] += (uint64_t)t->shard.rows[i].b;
    }
    return fz_allreduce_sum_uint(s->world, &sums[0][0], (int64_t)2 * s->state.n_tensors);
}

static bool has_frozen(const stream *s)
{
    for (int t = 0; t < s->state.n_tensors; t++)
        if (!s->state.tensors[t].trainable) return true;
    return false;
}

/* Both are whole before either gets its name, the base first. *keeps_base: it was there, or is
 * committed now. */
static fz_status write_both(stream *s, fz_target *base, fz_target *step, bool *keeps_base)
{
    char base_name[FZ_STEP_NAME_BYTES] = "", name[FZ_STEP_NAME_BYTES];
    bool is_there = false;

    fz_step_name(name, s->info->step);
    if (has_frozen(s)) FZ_TRY(write_target(s, base, "base-new", FZ_MASK_FROZEN, FZ_STATE_WEIGHT));
    FZ_TRY(write_target(s, step, name, FZ_MASK_WEIGHTS, FZ_STATE_MASTER));
    fz_base_name(base_name, &s->state, s->sums);
    if (base_name[0]) FZ_TRY(fz_base_is_there(s->world, s->dir, base_name, &is_there));
    if (base_name[0] && !is_there) {
        FZ_TRY(fz_target_commit(base, base_name, base_name, s->sums));
        *keeps_base = true;
    }
    const fz_status status = fz_target_commit(step, name, base_name, s->sums);
    if (status != FZ_OK && status != FZ_ERR_COMM && *keeps_base) {
        /* Nothing refers to it. */
        *keeps_base = false;
        if (fz_disk_join(base->path, s->dir, base_name) != FZ_OK) base->path[0] = 0;
    }
    FZ_TRY(status);
    if (fz_group_rank(s->world) != 0) return FZ_OK;
    if (fz_directory_set_latest(s->dir, name) != FZ_OK) fz_warn("%s", fz_last_error()->text);
    return FZ_OK;
}

static fz_status save_all(stream *s)
{
    fz_target *targets = NULL;
    bool keeps_base = false;

    fz_status status = allocate(s);
    if (status == FZ_OK) status = FZ_NEW(&targets, 2);
    status = fz_agree(s->world, status);
    if (status != FZ_OK) {
        fz_free(&targets);
        return status;
    }
    if (fz_group_rank(s->world) == 0) {
        fz_directory_recover(s->dir);
        fz_directory_clean(s->dir);
    }
    fz_target *base = &targets[0], *step = &targets[1];
    status = write_both(s, base, step, &keeps_base);
    const bool is_lost = status == FZ_ERR_COMM; /* nobody knows who still writes */
    if (base->world) fz_target_reset(base, keeps_base || is_lost);
    if (step->world) fz_target_reset(step, status == FZ_OK || is_lost);
    fz_free(&targets);
    return status;
}

fz_status fz_ckpt_save_tensors(const fz_group *world, const char *dir, int n_tensors,
                               const fz_state_tensor *tensors, fz_tensor_read *read, void *context,
                               const fz_ckpt_info *info, fz_ckpt_save_stats *stats)
{
    stream s = {.world = world,
                .dir = dir,
                .info = info,
                .read = read,
                .context = context,
                .state = {.n_tensors = n_tensors, .tensors = tensors}};
    const double start = fz_clock_s();

    fz_span_begin("checkpoint save", FZ_SHARE_CKPT);
    const fz_status status = save_all(&s);
    fz_span_end();
    fz_free(&s.views);
    fz_free(&s.view_digests);
    fz_free(&s.sums);
    fz_free(&s.list);
    if (status == FZ_OK && stats)
        *stats = (fz_ckpt_save_stats){.bytes = s.bytes, .seconds = fz_clock_s() - start};
    return status;
}
