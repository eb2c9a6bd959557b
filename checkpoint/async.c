#include "checkpoint/async.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/direct.h"
#include "checkpoint/h5.h"
#include "checkpoint/target.h"
#include "checkpoint/worker.h"
#include "core/arena.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"

enum { NAP_NS = 1000000 };

/* What the threads are at; the same on every rank, moved on by polls. */
typedef enum phase {
    IDLE,
    WRITING,      /* every rank its file of the step */
    WRITING_BASE, /* and of the base: the first save of a run */
    COMMITTING,   /* rank 0 */
    CLEANING      /* rank 0, after a failure */
} phase;

struct fz_saver {
    const fz_group *world; /* borrowed */
    fz_saver_config config;
    fz_state state;       /* what is written: of the snapshot, where there is one */
    fz_state_view *views; /* owned: of state */
    uint64_t (*sums)[2];  /* owned: digests of all tensors */
    uint64_t *digests;    /* owned: and of this rank's views */
    char tag[48];         /* of this program's temporary names */
    int64_t n_started;
    bool is_direct[2]; /* past the page cache: the step, the base */
    fz_worker *worker; /* owned */

    phase phase;
    fz_ckpt_info info;                  /* of the save in flight */
    char tmp[2][128];                   /* names of step and base until they have their own */
    char base_name[FZ_STEP_NAME_BYTES]; /* "" where nothing is frozen */
    fz_target step, base;
    bool lacks_base; /* rank 0's thread has looked for it */

    pthread_mutex_t lock; /* of is_reading */
    pthread_cond_t released;
    bool has_lock, has_released; /* what was made */
    bool is_reading;             /* the thread reads copies in the live state */

    double started_at, copy_s, write_s, held_s, longest_held_s;
};

/* ---- the thread ---- */

static bool is_live_copy(const fz_state_view *view)
{
    return !view->is_owner && view->kind != FZ_STATE_WEIGHT;
}

static void release(fz_saver *s)
{
    pthread_mutex_lock(&s->lock);
    s->is_reading = false;
    pthread_cond_broadcast(&s->released);
    pthread_mutex_unlock(&s->lock);
}

/* Copies that others write lie in the live state, which waits for this; frozen weights do too, but
 * never change. */
static void take_digests(fz_saver *s)
{
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < s->state.n_views; i++) {
            const fz_state_view *view = &s->state.views[i];
            if (is_live_copy(view) != (pass == 0) || !fz_view_is_stored(&s->state, view)) continue;
            s->digests[i] = fz_view_digest(&s->state, view);
        }
        if (pass == 0 && s->config.snapshot) release(s);
    }
    memset(s->sums, 0, (size_t)(FZ_N_STATE_KINDS * s->state.n_tensors) * sizeof *s->sums);
    fz_sums_add_owned(&s->state, s->digests, s->sums);
}

static fz_status write_target(fz_saver *s, fz_target *target, unsigned mask)
{
    const bool is_base = mask == FZ_MASK_FROZEN;

    *target = (fz_target){.world = s->world,
                          .dir = s->config.dir,
                          .state = &s->state,
                          .info = &s->info,
                          .mask = mask,
                          .views = s->digests,
                          .is_direct = s->is_direct[is_base]};
    FZ_TRY(fz_target_begin_here(target, s->tmp[is_base]));
    return fz_target_write_here(target);
}

static fz_status write_step(void *context)
{
    fz_saver *s = context;
    const double start = fz_clock_s();

    fz_h5_start_thread();
    fz_status status = fz_save_check(&s->state, &s->info);
    if (status == FZ_OK) take_digests(s);
    release(s);
    if (status == FZ_OK) status = write_target(s, &s->step, FZ_MASK_TRAINED);
    s->write_s = fz_clock_s() - start;
    return status;
}

static fz_status write_base(void *context)
{
    fz_saver *s = context;
    return write_target(s, &s->base, FZ_MASK_FROZEN);
}

/* Rank 0. Where the base is missing nothing is committed: all ranks write it first. */
static fz_status commit(void *context)
{
    fz_saver *s = context;
    const char *dir = s->config.dir;
    char name[FZ_STEP_NAME_BYTES];

    if (s->base.path[0]) {
        FZ_TRY(fz_target_commit_here(&s->base, s->base_name, "", s->sums));
    } else if (s->base_name[0] && !fz_base_is_there_here(dir, s->base_name)) {
        s->lacks_base = true;
        return FZ_OK;
    }
    if (s->config.before_commit) FZ_TRY(s->config.before_commit(s->config.context));
    fz_step_name(name, s->info.step);
    FZ_TRY(fz_target_commit_here(&s->step, name, s->base_name, s->sums));
    /* Committed: what follows is tidying up, and no reason to call the save a failure. */
    if (fz_directory_set_latest(dir, name) != FZ_OK) fz_warn("%s", fz_last_error()->text);
    fz_directory_prune(dir, s->info.step, s->config.keep, s->config.keep_every);
    return FZ_OK;
}

static fz_status clean(void *context)
{
    const fz_saver *s = context;
    const fz_target *targets[] = {&s->step, &s->base};

    for (int i = 0; i < 2; i++)
        if (targets[i]->path[0] && fz_disk_is_there(targets[i]->path))
            fz_disk_remove_tree(targets[i]->path);
    return FZ_OK;
}

/* The system gives memory when it is first written: not in the first save. */
static fz_status touch(void *context)
{
    const fz_saver *s = context;

    memset(s->config.snapshot, 0, s->config.snapshot_bytes);
    return FZ_OK;
}

/* ---- create, destroy ---- */

/* What a rank writes, one view behind the other; with to NULL it is only counted. */
static size_t take_snapshot(const fz_state *state, fz_state_view *views, void *to, size_t bytes)
{
    fz_arena arena = to ? fz_arena_over(to, bytes) : fz_arena_counting();

    for (int i = 0; i < state->n_views; i++) {
        const fz_state_view *view = &state->views[i];
        const fz_box box = fz_box_of_view(view, state->tensors[view->tensor].ndim);
        if (!view->is_owner || view->kind == FZ_STATE_WEIGHT || !fz_view_is_stored(state, view))
            continue;
        float *place = fz_arena_floats(&arena, fz_box_elements(&box));
        if (views) views[i].data = place;
    }
    return arena.used;
}

size_t fz_snapshot_bytes(const fz_state *state)
{
    return take_snapshot(state, NULL, NULL, 0);
}

/* What only rank 0 does: nothing else in the directory is at work yet. */
static fz_status prepare_directory(fz_saver *s)
{
    snprintf(s->tag, sizeof s->tag, "%ld-%" PRIu64, (long)getpid(), (uint64_t)(fz_clock_s() * 1e6));
    if (!fz_disk_is_there(s->config.dir)) FZ_TRY(fz_disk_make_directory(s->config.dir));
    fz_directory_recover(s->config.dir);
    fz_directory_clean(s->config.dir);
    return FZ_OK;
}

/* Asked here and not at every save: it may write a probe. */
static fz_status choose_io(fz_saver *s)
{
    const unsigned masks[2] = {FZ_MASK_TRAINED, FZ_MASK_FROZEN};

    for (int i = 0; i < 2; i++)
        FZ_TRY(fz_io_choose(s->world, s->config.dir, fz_target_bytes(s->config.state, masks[i]),
                            &s->is_direct[i]));
    return FZ_OK;
}

static fz_status create_here(fz_saver *s)
{
    const fz_state *live = s->config.state;

    s->has_lock = pthread_mutex_init(&s->lock, NULL) == 0;
    s->has_released = s->has_lock && pthread_cond_init(&s->released, NULL) == 0;
    FZ_CHECK(s->has_released, FZ_ERR_MEMORY, "the system gives no lock for checkpoints");
    FZ_TRY(fz_state_check(live));
    FZ_TRY(FZ_NEW(&s->views, live->n_views));
    FZ_TRY(FZ_NEW(&s->digests, live->n_views));
    FZ_TRY(FZ_NEW(&s->sums, FZ_N_STATE_KINDS * live->n_tensors));
    if (live->n_views > 0) memcpy(s->views, live->views, (size_t)live->n_views * sizeof *s->views);
    s->state = *live;
    s->state.views = s->views;
    if (s->config.snapshot) {
        FZ_CHECK(fz_snapshot_bytes(live) <= s->config.snapshot_bytes, FZ_ERR_ARG,
                 "room for a snapshot of %zu bytes, %zu are needed", s->config.snapshot_bytes,
                 fz_snapshot_bytes(live));
        take_snapshot(live, s->views, s->config.snapshot, s->config.snapshot_bytes);
    }
    if (fz_group_rank(s->world) == 0) FZ_TRY(prepare_directory(s));
    return fz_worker_create(&s->worker);
}

fz_status fz_saver_create(const fz_group *world, const fz_saver_config *config, fz_saver **saver_p)
{
    fz_saver *s = NULL;

    fz_status status = FZ_NEW(&s, 1);
    if (status == FZ_OK) {
        s->world = world;
        s->config = *config;
        status = create_here(s);
    }
    status = fz_agree(world, status);
    if (status == FZ_OK) status = fz_broadcast(world, s->tag, sizeof s->tag, 0);
    if (status == FZ_OK) status = choose_io(s);
    if (status != FZ_OK) {
        fz_saver_destroy(&s);
        return status;
    }
    if (config->snapshot) fz_worker_start(s->worker, touch, s);
    *saver_p = s;
    return FZ_OK;
}

static void reset_targets(fz_saver *s)
{
    fz_target *targets[] = {&s->step, &s->base};

    for (int i = 0; i < 2; i++) {
        if (targets[i]->world) fz_target_reset(targets[i], true);
        *targets[i] = (fz_target){.world = NULL};
    }
}

void fz_saver_destroy(fz_saver **saver)
{
    fz_saver *s = *saver;

    if (!s) return;
    fz_worker_destroy(&s->worker);
    reset_targets(s);
    if (s->has_released) pthread_cond_destroy(&s->released);
    if (s->has_lock) pthread_mutex_destroy(&s->lock);
    fz_free(&s->views);
    fz_free(&s->digests);
    fz_free(&s->sums);
    fz_free(saver);
}

/* ---- the caller's thread ---- */

bool fz_saver_is_busy(const fz_saver *saver)
{
    return saver->phase != IDLE;
}

static void note_held(fz_saver *s, double seconds)
{
    s->held_s += seconds;
    if (seconds > s->longest_held_s) s->longest_held_s = seconds;
}

static void copy(const fz_saver *s)
{
    const fz_state *live = s->config.state;

    for (int i = 0; i < live->n_views; i++) {
        const fz_state_view *view = &live->views[i];
        const fz_box box = fz_box_of_view(view, live->tensors[view->tensor].ndim);
        if (s->views[i].data == view->data) continue;
        memcpy(s->views[i].data, view->data, (size_t)fz_box_elements(&box) * sizeof(float));
    }
}

void fz_ckpt_save_start(fz_saver *saver, const fz_ckpt_info *info)
{
    fz_saver *s = saver;
    const double start = fz_clock_s();

    FZ_ASSERT(s->phase == IDLE);
    (void)fz_worker_wait(s->worker); /* it may still be touching */
    fz_span_begin("checkpoint copy", FZ_SHARE_CKPT);
    s->info = *info;
    s->n_started++;
    snprintf(s->tmp[0], sizeof s->tmp[0], ".step-%09lld.tmp-%s-%" PRId64, (long long)info->step,
             s->tag, s->n_started);
    snprintf(s->tmp[1], sizeof s->tmp[1], ".base-new.tmp-%s-%" PRId64, s->tag, s->n_started);
    s->lacks_base = false;
    s->is_reading = true;
    s->held_s = s->longest_held_s = s->write_s = 0;
    copy(s);
    s->copy_s = fz_clock_s() - start;
    s->started_at = start;
    s->phase = WRITING;
    fz_worker_start(s->worker, write_step, s);
    fz_span_end();
    note_held(s, fz_clock_s() - start - s->copy_s);
}

void fz_ckpt_save_release(fz_saver *saver)
{
    if (saver->phase == IDLE) return;
    const double start = fz_clock_s();
    pthread_mutex_lock(&saver->lock);
    const bool waits = saver->is_reading;
    if (waits) fz_span_begin("checkpoint release", FZ_SHARE_CKPT);
    while (saver->is_reading)
        pthread_cond_wait(&saver->released, &saver->lock);
    if (waits) fz_span_end();
    pthread_mutex_unlock(&saver->lock);
    note_held(saver, fz_clock_s() - start);
}

static void start_commit(fz_saver *s)
{
    s->phase = COMMITTING;
    if (fz_group_rank(s->world) == 0) fz_worker_start(s->worker, commit, s);
}

static void finish(fz_saver *s, fz_save_report *report)
{
    report->bytes = fz_shard_bytes(&s->step.shard) + fz_shard_bytes(&s->base.shard);
    reset_targets(s);
    s->phase = IDLE;
}

/* All threads are done with the phase, and well. */
static fz_status move_on(fz_saver *s, bool lacks_base, fz_save_report *report)
{
    switch (s->phase) {
    case WRITING:
        FZ_TRY(fz_sums_share(s->world, &s->state, s->sums));
        FZ_TRY(fz_target_gather(&s->step));
        fz_base_name(s->base_name, &s->state, s->sums);
        start_commit(s);
        return FZ_OK;
    case WRITING_BASE:
        FZ_TRY(fz_target_gather(&s->base));
        start_commit(s);
        return FZ_OK;
    case COMMITTING:
        if (lacks_base) {
            s->phase = WRITING_BASE;
            s->lacks_base = false;
            fz_worker_start(s->worker, write_base, s);
            return FZ_OK;
        }
        report->event = FZ_SAVE_COMMITTED;
        finish(s, report);
        return FZ_OK;
    case CLEANING:
        finish(s, report);
        return FZ_OK;
    case IDLE:
        return FZ_OK;
    }
    return FZ_OK;
}

/* Every rank has the same status. What only the disk did is no reason to stop. */
static fz_status give_up(fz_saver *s, fz_status status, fz_save_report *report)
{
    report->event = FZ_SAVE_FAILED;
    report->error = *fz_last_error();
    s->phase = CLEANING;
    if (fz_group_rank(s->world) == 0) fz_worker_start(s->worker, clean, s);
    const bool goes_on = status == FZ_ERR_IO || status == FZ_ERR_FORMAT || status == FZ_ERR_MEMORY;
    return goes_on ? FZ_OK : status;
}

static int64_t in_ns(double seconds)
{
    return (int64_t)(seconds * 1e9);
}

static fz_status poll(fz_saver *s, fz_save_report *report)
{
    const bool is_idle = fz_worker_is_idle(s->worker);
    const double writing_s = is_idle ? s->write_s : 0;
    int64_t most[] = {!is_idle,
                      is_idle && s->lacks_base,
                      in_ns(s->copy_s),
                      in_ns(writing_s),
                      in_ns(s->held_s),
                      in_ns(s->longest_held_s),
                      in_ns(fz_clock_s() - s->started_at)};

    FZ_TRY(fz_allreduce_max_int(s->world, most, sizeof most / sizeof *most));
    if (most[0]) return FZ_OK;
    *report = (fz_save_report){.step = s->info.step,
                               .copy_s = (double)most[2] * 1e-9,
                               .write_s = (double)most[3] * 1e-9,
                               .held_s = (double)most[4] * 1e-9,
                               .longest_held_s = (double)most[5] * 1e-9,
                               .total_s = (double)most[6] * 1e-9};
    fz_status status = fz_agree(s->world, fz_worker_wait(s->worker));
    if (status == FZ_OK) status = move_on(s, most[1], report);
    if (status == FZ_OK || status == FZ_ERR_COMM) return status;
    return give_up(s, status, report);
}

fz_status fz_ckpt_save_poll(fz_saver *saver, fz_save_report *report)
{
    const double start = fz_clock_s();

    *report = (fz_save_report){.event = FZ_SAVE_NOTHING};
    if (saver->phase == IDLE) return FZ_OK;
    fz_span_begin("checkpoint poll", FZ_SHARE_CKPT);
    const fz_status status = poll(saver, report);
    fz_span_end();
    note_held(saver, fz_clock_s() - start);
    return status;
}

fz_status fz_ckpt_save_wait(fz_saver *saver, fz_save_report *report)
{
    const struct timespec nap = {.tv_nsec = NAP_NS};
    fz_save_report news;
    fz_status worst = FZ_OK;

    *report = (fz_save_report){.event = FZ_SAVE_NOTHING};
    while (saver->phase != IDLE) {
        const fz_status status = fz_ckpt_save_poll(saver, &news);
        if (status == FZ_ERR_COMM) return status;
        if (status != FZ_OK) worst = status;
        if (news.event != FZ_SAVE_NOTHING) *report = news;
        if (saver->phase != IDLE) nanosleep(&nap, NULL);
    }
    return worst == FZ_OK ? FZ_OK : FZ_FAIL(worst, "%s", report->error.text);
}
