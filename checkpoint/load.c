#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/blocks.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "checkpoint/source.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"

enum { STEP, BASE, N_SOURCES };

/* Bytes [begin, end) of a file hold what one view needs of one fragment. */
typedef struct job {
    int source, view;
    int64_t row, file, begin, end;
} job;

typedef struct load {
    const fz_group *world; /* borrowed */
    const fz_state *state; /* borrowed */
    bool is_weights_only;
    fz_source source[N_SOURCES]; /* BASE is open only if something comes from it */
    job *jobs;                   /* owned */
    int64_t n_jobs, room;
    fz_blocks blocks; /* of the file that is being read */
} load;

/* What a view is filled from. Weights lie where they were trained or frozen; moments that were not
 * kept are zero. */
typedef struct origin {
    int source;
    fz_state_kind kind;
    bool is_zero, is_left_alone;
} origin;

static origin origin_of(const load *l, int tensor, fz_state_kind kind)
{
    const bool was_trained = l->source[STEP].index.tensors[tensor].trainable;

    if (kind == FZ_STATE_MASTER || kind == FZ_STATE_WEIGHT)
        return (origin){.source = was_trained ? STEP : BASE,
                        .kind = was_trained ? FZ_STATE_MASTER : FZ_STATE_WEIGHT};
    return (origin){.source = STEP,
                    .kind = kind,
                    .is_zero = !was_trained || l->source[STEP].index.info.has_weights_alone,
                    .is_left_alone = l->is_weights_only};
}

/* opening */

/* Says what the file cannot give: in one line each what changed between trained and frozen, and
 * that there are no moments at all. */
static void tell_changes(const load *l)
{
    int n_thawed = 0, n_frozen = 0, n_trained = 0;

    for (int t = 0; t < l->state->n_tensors; t++)
        n_trained += l->state->tensors[t].trainable;
    if (n_trained == 0) return; /* a reader of weights: it changes nothing */
    for (int t = 0; t < l->state->n_tensors; t++) {
        const bool was = l->source[STEP].index.tensors[t].trainable;
        n_thawed += l->state->tensors[t].trainable && !was;
        n_frozen += !l->state->tensors[t].trainable && was;
    }
    if (n_thawed + n_frozen > 0)
        fz_info("%s: %d tensors are trained from here on (moments start at zero), %d are frozen",
                l->source[STEP].path, n_thawed, n_frozen);
    if (l->source[STEP].index.info.has_weights_alone && !l->is_weights_only)
        fz_info("%s holds weights alone: moments start at zero", l->source[STEP].path);
}

/* Opens the step and, where frozen weights are needed from it, its base. Collective. */
static fz_status open_sources(load *l, const char *path)
{
    char base[FZ_PATH_BYTES];

    FZ_TRY(fz_source_open(l->world, path, "step", &l->source[STEP]));
    FZ_TRY(fz_source_check_model(l->state, &l->source[STEP]));
    tell_changes(l);
    FZ_TRY(fz_source_base(&l->source[STEP], base));
    if (!base[0]) return FZ_OK;
    FZ_TRY(fz_source_open(l->world, base, "base", &l->source[BASE]));
    return fz_source_check_model(l->state, &l->source[BASE]);
}

/* planning */

/* Elements of part that lie in the fragment's flat range. */
static int64_t count_in_fragment(const fz_fragment *row, const fz_box *box, const fz_box *part)
{
    fz_runs runs;
    int64_t n = 0, at, unused;

    if (row->a == 0 && row->b == fz_box_elements(box)) return fz_box_elements(part);
    runs = fz_runs_over(part, box, box);
    while (fz_runs_next(&runs, &at, &unused)) {
        const int64_t from = at > row->a ? at : row->a;
        const int64_t to = at + runs.length < row->b ? at + runs.length : row->b;
        if (to > from) n += to - from;
    }
    return n;
}

static fz_status add_job(load *l, int source, int64_t row_n, int view, const fz_box *part)
{
    const fz_fragment *row = &l->source[source].index.rows[row_n];
    const fz_box box = fz_box_of_fragment(row);
    int64_t last[FZ_MAX_AXES];

    for (int axis = 0; axis < FZ_MAX_AXES; axis++)
        last[axis] = part->hi[axis] - 1;
    int64_t from = fz_box_offset(&box, part->lo), to = fz_box_offset(&box, last) + 1;
    if (from < row->a) from = row->a;
    if (to > row->b) to = row->b;
    if (l->n_jobs == l->room) {
        l->room = 2 * l->room + 256;
        FZ_TRY(fz_realloc((void **)&l->jobs, (size_t)l->room * sizeof *l->jobs, "list of reads"));
    }
    l->jobs[l->n_jobs++] = (job){.source = source,
                                 .view = view,
                                 .row = row_n,
                                 .file = row->file,
                                 .begin = row->offset + (from - row->a) * 4,
                                 .end = row->offset + (to - row->a) * 4};
    return FZ_OK;
}

static fz_status plan_view(load *l, int i)
{
    const fz_state_view *view = &l->state->views[i];
    const fz_state_tensor *tensor = &l->state->tensors[view->tensor];
    const fz_box wanted = fz_box_of_view(view, tensor->ndim);
    const int64_t n = fz_box_elements(&wanted);
    const origin from = origin_of(l, view->tensor, view->kind);
    const fz_source *source = &l->source[from.source];
    int64_t n_found = 0;

    if (n == 0 || from.is_left_alone) return FZ_OK;
    if (from.is_zero) {
        memset(view->data, 0, (size_t)n * sizeof *view->data);
        return FZ_OK;
    }
    int64_t row = source->head[(int)from.kind * l->state->n_tensors + view->tensor];
    for (; row >= 0; row = source->next[row]) {
        const fz_box box = fz_box_of_fragment(&source->index.rows[row]);
        const fz_box part = fz_box_intersect(&box, &wanted);
        if (fz_box_elements(&part) == 0) continue;
        const int64_t n_here = count_in_fragment(&source->index.rows[row], &box, &part);
        n_found += n_here;
        if (n_here > 0) FZ_TRY(add_job(l, from.source, row, i, &part));
    }
    FZ_CHECK(n_found == n, FZ_ERR_FORMAT,
             "%s: its fragments hold %lld of %lld elements of %s of tensor %s", source->path,
             (long long)n_found, (long long)n, FZ_KIND_NAMES[from.kind], tensor->name);
    return FZ_OK;
}

static int compare_jobs(const void *x, const void *y)
{
    const job *a = x, *b = y;

    if (a->source != b->source) return a->source < b->source ? -1 : 1;
    if (a->file != b->file) return a->file < b->file ? -1 : 1;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    return a->view < b->view ? -1 : a->view > b->view;
}

/* reading */

/* Jobs of one file, by their first byte: every block that any of them needs is read once. */
static fz_status read_jobs(load *l, const job *jobs, int64_t n)
{
    fz_blocks *blocks = &l->blocks;
    const fz_index *index = &blocks->source->index;
    int64_t at = 0;

    for (int64_t first = 0; first < n;) {
        if (jobs[first].end <= at) {
            first++;
            continue;
        }
        if (at < jobs[first].begin) at = jobs[first].begin;
        FZ_TRY(fz_blocks_read(blocks, &index->rows[jobs[first].row], at));
        for (int64_t i = first; i < n && jobs[i].begin < blocks->end; i++) {
            const fz_state_view *view = &l->state->views[jobs[i].view];
            const fz_box wanted = fz_box_of_view(view, l->state->tensors[view->tensor].ndim);
            if (jobs[i].end > blocks->begin)
                fz_blocks_copy(blocks, &index->rows[jobs[i].row], &wanted, view->data);
        }
        at = blocks->end;
    }
    return FZ_OK;
}

static fz_status read_file(load *l, const job *jobs, int64_t n)
{
    FZ_TRY(fz_blocks_open(&l->blocks, &l->source[jobs->source], jobs->file));
    const fz_status status = read_jobs(l, jobs, n);
    const fz_status closed = fz_blocks_close(&l->blocks);
    return status != FZ_OK ? status : closed;
}

/* This rank's part; Local. */
static fz_status fill_views(load *l)
{
    FZ_TRY(fz_state_check(l->state));
    for (int i = 0; i < l->state->n_views; i++)
        FZ_TRY(plan_view(l, i));
    if (l->n_jobs == 0) return FZ_OK;
    qsort(l->jobs, (size_t)l->n_jobs, sizeof *l->jobs, compare_jobs);
    for (int64_t first = 0, end; first < l->n_jobs; first = end) {
        const job *j = &l->jobs[first];
        for (end = first;
             end < l->n_jobs && l->jobs[end].source == j->source && l->jobs[end].file == j->file;)
            end++;
        FZ_TRY(read_file(l, j, end - first));
    }
    return FZ_OK;
}

/* the proof */

static fz_status compare_digests(const load *l, uint64_t (*sums)[2])
{
    const int n = l->state->n_tensors;

    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
        for (int t = 0; t < n; t++) {
            const origin from = origin_of(l, t, (fz_state_kind)kind);
            const fz_state_tensor *tensor = &l->state->tensors[t];
            if (tensor->trainable == (kind == FZ_STATE_WEIGHT)) continue;
            if (from.is_zero || from.is_left_alone) continue;
            const uint64_t expected = l->source[STEP].index.sums[(int)from.kind * n + t][0];
            FZ_CHECK(sums[kind * n + t][0] == expected, FZ_ERR_FORMAT,
                     "%s: %s of tensor %s has digest %016" PRIx64 " once loaded, %016" PRIx64
                     " when it was saved",
                     l->source[from.source].path, FZ_KIND_NAMES[from.kind], tensor->name,
                     sums[kind * n + t][0], expected);
        }
    return FZ_OK;
}

/* Owners' rows of all ranks to everybody, then each compares its replicas. Collective. */
static fz_status compare_replicas(const load *l, const uint64_t *views, fz_fragment *rows,
                                  uint64_t *digests, int *view_of, int64_t *counts)
{
    const int rank = fz_group_rank(l->world), size = fz_group_size(l->world);
    const unsigned mask = l->is_weights_only ? 1u << FZ_STATE_MASTER | 1u << FZ_STATE_WEIGHT
                                             : (1u << FZ_N_STATE_KINDS) - 1;
    fz_fragment *all_rows = NULL;
    uint64_t *all_digests = NULL;
    int64_t n_all = 0;

    const int64_t n = fz_owned_rows(l->state, rank, mask, views, rows, digests, view_of);
    FZ_TRY(fz_allgather(l->world, &n, sizeof n, counts));
    for (int r = 0; r < size; r++)
        n_all += counts[r];
    fz_status status = FZ_NEW(&all_rows, n_all);
    if (status == FZ_OK) status = FZ_NEW(&all_digests, n_all);
    status = fz_agree(l->world, status);
    for (int r = 0; r < size; r++)
        counts[r] *= (int64_t)sizeof *rows;
    if (status == FZ_OK)
        status = fz_gatherv_bytes(l->world, rows, counts[rank], all_rows, counts, 0);
    for (int r = 0; r < size; r++)
        counts[r] = counts[r] / (int64_t)sizeof *rows * (int64_t)sizeof *digests;
    if (status == FZ_OK)
        status = fz_gatherv_bytes(l->world, digests, counts[rank], all_digests, counts, 0);
    if (status == FZ_OK) status = fz_broadcast(l->world, all_rows, (size_t)n_all * sizeof *rows, 0);
    if (status == FZ_OK)
        status = fz_broadcast(l->world, all_digests, (size_t)n_all * sizeof *digests, 0);
    if (status == FZ_OK)
        status = fz_agree(l->world,
                          fz_replicas_check(l->state, mask, views, all_rows, all_digests, n_all));
    fz_free(&all_rows);
    fz_free(&all_digests);
    return status;
}

typedef struct proof {
    uint64_t (*sums)[2], *views, *digests;
    fz_fragment *rows;
    int *view_of;
    int64_t *counts;
} proof;

static fz_status allocate_proof(const load *l, proof *p)
{
    FZ_TRY(FZ_NEW(&p->sums, FZ_N_STATE_KINDS * l->state->n_tensors));
    FZ_TRY(FZ_NEW(&p->views, l->state->n_views));
    FZ_TRY(FZ_NEW(&p->digests, l->state->n_views));
    FZ_TRY(FZ_NEW(&p->rows, l->state->n_views));
    FZ_TRY(FZ_NEW(&p->view_of, l->state->n_views));
    return FZ_NEW(&p->counts, fz_group_size(l->world));
}

static fz_status prove(const load *l)
{
    proof p = {.sums = NULL};

    fz_status status = fz_agree(l->world, allocate_proof(l, &p));
    if (status == FZ_OK) status = fz_state_digests(l->world, l->state, p.sums, p.views);
    if (status == FZ_OK) status = compare_digests(l, p.sums);
    if (status == FZ_OK)
        status = compare_replicas(l, p.views, p.rows, p.digests, p.view_of, p.counts);
    fz_free(&p.sums);
    fz_free(&p.views);
    fz_free(&p.digests);
    fz_free(&p.rows);
    fz_free(&p.view_of);
    fz_free(&p.counts);
    return status;
}

/* all of it */

static fz_status load_path(const fz_group *world, const char *path, const fz_state *state,
                           bool is_weights_only)
{
    load *l = NULL;

    fz_status status = fz_agree(world, FZ_NEW(&l, 1));
    if (status != FZ_OK) {
        fz_free(&l);
        return status;
    }
    *l = (load){.world = world, .state = state, .is_weights_only = is_weights_only};
    fz_span_begin("checkpoint load", FZ_SHARE_CKPT);
    status = open_sources(l, path);
    if (status == FZ_OK) status = fz_agree(world, fill_views(l));
    if (status == FZ_OK) status = prove(l);
    fz_span_end();
    fz_blocks_reset(&l->blocks);
    fz_free(&l->jobs);
    for (int i = 0; i < N_SOURCES; i++)
        fz_source_reset(&l->source[i]);
    fz_free(&l);
    return status;
}

fz_status fz_ckpt_load(const fz_group *world, const char *dir, int64_t step, const fz_state *state)
{
    char name[FZ_STEP_NAME_BYTES], path[FZ_PATH_BYTES];

    fz_step_name(name, step);
    FZ_TRY(fz_disk_join(path, dir, name));
    return load_path(world, path, state, false);
}

fz_status fz_ckpt_load_weights(const fz_group *world, const char *path, const fz_state *state)
{
    char clean[FZ_PATH_BYTES];

    FZ_CHECK(strlen(path) < sizeof clean, FZ_ERR_ARG, "the path %s is too long", path);
    strcpy(clean, path);
    for (size_t n = strlen(clean); n > 1 && clean[n - 1] == '/'; n--)
        clean[n - 1] = 0;
    return load_path(world, clean, state, true);
}
