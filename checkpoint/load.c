#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "checkpoint/exchange.h"
#include "checkpoint/load_plan.h"
#include "checkpoint/source.h"
#include "checkpoint/wants.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"

enum { STEP, BASE, N_SOURCES };
_Static_assert((int)N_SOURCES == (int)FZ_LOAD_SOURCES, "a plan is made over both");

static int64_t round_bytes = INT64_C(64) << 20;

void fz_load_set_round_bytes(int64_t bytes)
{
    round_bytes = bytes;
}

typedef struct load {
    const fz_group *world; /* borrowed */
    const fz_state *state; /* borrowed */
    fz_ckpt_moments moments;
    fz_source source[N_SOURCES]; /* BASE is open only if something comes from it */
    int64_t n_mine;
    fz_want *mine;  /* owned: what this rank needs from disk */
    float **data;   /* owned: where each of them goes */
    int64_t *hosts; /* owned: [size of world] */
    fz_wants wants; /* of all ranks */
    fz_load_plan plan;
    fz_ckpt_load_stats stats;
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
                    .is_zero = !was_trained || l->source[STEP].index.info.has_weights_alone ||
                               l->moments == FZ_MOMENTS_ZERO,
                    .is_left_alone = l->moments == FZ_MOMENTS_LEAVE};
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
    if (l->moments == FZ_MOMENTS_LEAVE) return;
    if (l->source[STEP].index.info.has_weights_alone)
        fz_info("%s holds weights alone: moments start at zero", l->source[STEP].path);
    else if (l->moments == FZ_MOMENTS_ZERO)
        fz_info("%s: its moments are not used, they start at zero", l->source[STEP].path);
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

/* filling */

/* Lists what comes from disk, and zeroes what has no source. Local. */
static fz_status list_wants(load *l)
{
    const fz_state *state = l->state;

    FZ_TRY(fz_state_check(state));
    FZ_TRY(FZ_NEW(&l->mine, state->n_views));
    FZ_TRY(FZ_NEW(&l->data, state->n_views));
    FZ_TRY(FZ_NEW(&l->hosts, fz_group_size(l->world)));
    for (int i = 0; i < state->n_views; i++) {
        const fz_state_view *view = &state->views[i];
        const fz_box box = fz_box_of_view(view, state->tensors[view->tensor].ndim);
        const int64_t n = fz_box_elements(&box);
        const origin from = origin_of(l, view->tensor, view->kind);
        if (n == 0 || from.is_left_alone) continue;
        if (from.is_zero) {
            memset(view->data, 0, (size_t)n * sizeof *view->data);
            continue;
        }
        fz_want *want = &l->mine[l->n_mine];
        *want = (fz_want){.source = from.source, .tensor = view->tensor, .kind = (int)from.kind};
        memcpy(want->lo, box.lo, sizeof box.lo);
        memcpy(want->hi, box.hi, sizeof box.hi);
        l->data[l->n_mine++] = view->data;
    }
    return FZ_OK;
}

static fz_status make_plan(load *l)
{
    const fz_load_plan_args args = {.sources = l->source,
                                    .wants = &l->wants,
                                    .hosts = l->hosts,
                                    .rank = fz_group_rank(l->world),
                                    .round_bytes = round_bytes};

    FZ_TRY(fz_load_plan_make(&args, &l->plan));
    l->stats.bytes_of_job = l->plan.bytes_of_job;
    l->stats.extra_bytes =
        (int64_t)fz_load_plan_bytes(&l->plan) +
        (l->n_mine + l->wants.first[l->wants.n_classes]) * (int64_t)sizeof *l->mine;
    return FZ_OK;
}

static fz_status plan_together(load *l)
{
    FZ_TRY(fz_agree(l->world, list_wants(l)));
    FZ_TRY(fz_group_hosts(l->world, l->hosts));
    FZ_TRY(fz_wants_gather(l->world, l->mine, l->n_mine, &l->wants));
    return fz_agree(l->world, make_plan(l));
}

static fz_status fill_views(const load *l, fz_ckpt_load_stats *stats)
{
    const fz_exchange_args args = {.group = l->world,
                                   .sources = l->source,
                                   .wants = &l->wants,
                                   .plan = &l->plan,
                                   .data = l->data};

    return fz_exchange_run(&args, stats);
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
    const unsigned mask = l->moments == FZ_MOMENTS_LEAVE
                              ? 1u << FZ_STATE_MASTER | 1u << FZ_STATE_WEIGHT
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

static void reset(load *l)
{
    for (int i = 0; i < N_SOURCES; i++)
        fz_source_reset(&l->source[i]);
    fz_free(&l->mine);
    fz_free(&l->data);
    fz_free(&l->hosts);
    fz_wants_reset(&l->wants);
    fz_load_plan_reset(&l->plan);
}

static fz_status load_all(load *l, const char *path)
{
    FZ_TRY(open_sources(l, path));
    FZ_TRY(plan_together(l));
    FZ_TRY(fill_views(l, &l->stats));
    return prove(l);
}

fz_status fz_ckpt_load_path(const fz_group *world, const char *path, fz_ckpt_moments moments,
                            const fz_state *state, fz_ckpt_load_stats *stats)
{
    const double start = fz_clock_s();
    load *l = NULL;

    fz_status status = fz_agree(world, FZ_NEW(&l, 1));
    if (status != FZ_OK) {
        fz_free(&l);
        return status;
    }
    *l = (load){.world = world, .state = state, .moments = moments};
    fz_span_begin("checkpoint load", FZ_SHARE_CKPT);
    status = load_all(l, path);
    fz_span_end();
    l->stats.seconds = fz_clock_s() - start;
    if (stats) *stats = l->stats;
    reset(l);
    fz_free(&l);
    return status;
}

fz_status fz_ckpt_load(const fz_group *world, const char *dir, int64_t step, const fz_state *state)
{
    char name[FZ_STEP_NAME_BYTES], path[FZ_PATH_BYTES];

    fz_step_name(name, step);
    FZ_TRY(fz_disk_join(path, dir, name));
    return fz_ckpt_load_path(world, path, FZ_MOMENTS_KEEP, state, NULL);
}

fz_status fz_ckpt_load_weights(const fz_group *world, const char *path, const fz_state *state)
{
    char clean[FZ_PATH_BYTES];

    FZ_CHECK(strlen(path) < sizeof clean, FZ_ERR_ARG, "the path %s is too long", path);
    strcpy(clean, path);
    for (size_t n = strlen(clean); n > 1 && clean[n - 1] == '/'; n--)
        clean[n - 1] = 0;
    return fz_ckpt_load_path(world, clean, FZ_MOMENTS_LEAVE, state, NULL);
}
