/* Saves behind the training: what changes after the start does not reach the file, one failing rank
 * fails the save on all and nothing else, and the outcome comes once. */
#include "tests/checkpoint/toy_state.h"

#include <signal.h>
#include <sys/wait.h>

#include "checkpoint/async.h"
#include "core/fault.h"
#include "core/log.h"

static const toy_layout *const COPIES = &TOY_LAYOUTS[1];

typedef struct rig {
    char dir[FZ_PATH_BYTES];
    toy t;
    fz_saver *saver;
    void *snapshot;
} rig;

static void rig_start(rig *g, uint64_t seed, int keep, int64_t keep_every)
{
    if (!g->dir[0]) make_scratch(g->dir);
    toy_create(&g->t, world.group, COPIES, seed);
    fz_saver_config config = {.dir = g->dir,
                              .state = &g->t.state,
                              .snapshot_bytes = fz_snapshot_bytes(&g->t.state),
                              .keep = keep,
                              .keep_every = keep_every};
    assert_int_equal(fz_alloc(&g->snapshot, config.snapshot_bytes, "a snapshot"), FZ_OK);
    config.snapshot = g->snapshot;
    assert_all_ranks(fz_saver_create(world.group, &config, &g->saver) == FZ_OK);
}

static void rig_stop(rig *g)
{
    fz_saver_destroy(&g->saver);
    fz_free(&g->snapshot);
    toy_reset(&g->t);
}

static void rig_finish(rig *g)
{
    rig_stop(g);
    remove_scratch(g->dir);
}

static bool has_step(const rig *g, int64_t step)
{
    char name[FZ_STEP_NAME_BYTES], path[FZ_PATH_BYTES];
    fz_step_name(name, step);
    return fz_disk_join(path, g->dir, name) == FZ_OK && fz_disk_is_there(path);
}

static bool has_hidden_files(const rig *g)
{
    char command[FZ_PATH_BYTES + 64];
    snprintf(command, sizeof command, "ls -A '%s' | grep -q '^[.]'", g->dir);
    return system(command) == 0;
}

/* Loads the step into a state of its own: whether it is that of the seed. */
static bool holds(const rig *g, int64_t step, uint64_t seed)
{
    toy back;
    toy_create(&back, world.group, &TOY_LAYOUTS[3], 1000);
    const bool is_right = fz_ckpt_load(world.group, g->dir, step, &back.state) == FZ_OK &&
                          toy_each(&back, seed, false, false) == 0;
    toy_reset(&back);
    return is_right;
}

/* What the next update of the training may touch: everything but what is frozen. */
static void change(const rig *g, bool only_owned)
{
    for (int i = 0; i < g->t.state.n_views; i++) {
        const fz_state_view *view = &g->t.views[i];
        const fz_box box = fz_box_of_view(view, g->t.tensors[view->tensor].ndim);
        if (view->kind == FZ_STATE_WEIGHT || (only_owned && !view->is_owner)) continue;
        memset(view->data, 0x77, (size_t)fz_box_elements(&box) * sizeof(float));
    }
}

static fz_status save(rig *g, int64_t step, fz_save_report *report)
{
    static fz_ckpt_info info;
    info = toy_info(step);
    fz_ckpt_save_start(g->saver, &info);
    return fz_ckpt_save_wait(g->saver, report);
}

static void what_changes_after_the_start_does_not_reach_the_file(void **state)
{
    rig g = {.dir = ""};
    fz_save_report report;
    const fz_ckpt_info info = toy_info(3);

    (void)state;
    rig_start(&g, 5, 0, 0);
    fz_ckpt_save_start(g.saver, &info);
    change(&g, true); /* at once */
    fz_ckpt_save_release(g.saver);
    change(&g, false);
    assert_all_ranks(fz_ckpt_save_wait(g.saver, &report) == FZ_OK);
    assert_all_ranks(report.event == FZ_SAVE_COMMITTED && report.step == 3);
    assert_all_ranks(holds(&g, 3, 5));
    rig_finish(&g);
}

static void the_files_are_those_of_a_save_that_is_waited_for(void **state)
{
    char command[2 * FZ_PATH_BYTES + 64], dir[FZ_PATH_BYTES];
    const fz_ckpt_info info = toy_info(3);
    fz_save_report report;
    rig g = {.dir = ""};

    (void)state;
    rig_start(&g, 6, 0, 0);
    assert_all_ranks(save(&g, 3, &report) == FZ_OK && report.event == FZ_SAVE_COMMITTED);
    make_scratch(dir);
    assert_all_ranks(fz_ckpt_save(world.group, dir, &g.t.state, &info, 0, NULL) == FZ_OK);
    snprintf(command, sizeof command, "diff -r '%s' '%s'", g.dir, dir);
    assert_all_ranks(world.rank != 0 || system(command) == 0);
    remove_scratch(dir);
    rig_finish(&g);
}

static void the_outcome_comes_once_and_after_the_commit(void **state)
{
    const fz_ckpt_info info = toy_info(8);
    fz_save_report report;
    rig g = {.dir = ""};
    int n_told = 0, n_polls = 0;

    (void)state;
    rig_start(&g, 1, 0, 0);
    assert_all_ranks(!fz_saver_is_busy(g.saver));
    assert_all_ranks(fz_ckpt_save_poll(g.saver, &report) == FZ_OK);
    assert_all_ranks(report.event == FZ_SAVE_NOTHING);
    fz_ckpt_save_start(g.saver, &info);
    while (fz_saver_is_busy(g.saver)) {
        usleep(500);
        assert_all_ranks(fz_ckpt_save_poll(g.saver, &report) == FZ_OK);
        n_polls++;
        if (report.event == FZ_SAVE_NOTHING) continue;
        n_told++;
        assert_all_ranks(report.event == FZ_SAVE_COMMITTED && has_step(&g, 8));
        assert_all_ranks(report.step == 8 && report.total_s >= report.write_s);
        assert_all_ranks(report.write_s > 0 && report.copy_s >= 0 && report.held_s >= 0);
    }
    assert_all_ranks(n_told == 1);
    assert_all_ranks(n_polls >= 4); /* step, missing base, base, commit */
    assert_all_ranks(fz_ckpt_save_wait(g.saver, &report) == FZ_OK);
    assert_all_ranks(report.event == FZ_SAVE_NOTHING);
    rig_finish(&g);
}

/* Every write of a save fails once, on the last rank: each time all ranks learn it, the earlier
 * step is untouched, nothing is left, and the next save goes through. */
static void a_failure_of_one_rank_gives_up_the_save_and_nothing_else(void **state)
{
    char spec[32], who[32];
    fz_save_report report;
    rig g = {.dir = ""};
    int n_failed = 0;

    (void)state;
    snprintf(who, sizeof who, "rank %d: ", world.size - 1);
    rig_start(&g, 2, 0, 0);
    assert_all_ranks(save(&g, 1, &report) == FZ_OK);
    for (int n = 1;; n++) {
        snprintf(spec, sizeof spec, "write:%d", n);
        if (world.rank == world.size - 1) fz_fault_set(spec);
        const fz_status status = save(&g, 2, &report);
        fz_fault_set(NULL);
        assert_all_ranks(status == FZ_OK && report.event != FZ_SAVE_NOTHING);
        if (report.event == FZ_SAVE_COMMITTED) break;
        n_failed++;
        assert_all_ranks(report.error.status == FZ_ERR_IO);
        assert_all_ranks(strstr(report.error.text, "No space left on device") != NULL);
        assert_all_ranks(strncmp(report.error.text, who, strlen(who)) == 0 || world.size == 1);
        assert_all_ranks(!has_step(&g, 2) && !has_hidden_files(&g));
        fz_barrier(world.group);
    }
    assert_all_ranks(n_failed > 3);
    assert_all_ranks(holds(&g, 1, 2) && holds(&g, 2, 2));
    rig_finish(&g);
}

static fz_status refuse(void *context)
{
    (void)context;
    return FZ_FAIL(FZ_ERR_IO, "not yet");
}

static void rank_0_may_refuse_before_the_commit(void **state)
{
    fz_save_report report;
    rig g = {.dir = ""};

    (void)state;
    rig_start(&g, 2, 0, 0);
    fz_saver_destroy(&g.saver);
    const fz_saver_config config = {.dir = g.dir, .state = &g.t.state, .before_commit = refuse};
    assert_all_ranks(fz_saver_create(world.group, &config, &g.saver) == FZ_OK);
    assert_all_ranks(save(&g, 4, &report) == FZ_OK && report.event == FZ_SAVE_FAILED);
    assert_all_ranks(strstr(report.error.text, "not yet") != NULL);
    assert_all_ranks(!has_step(&g, 4) && !has_hidden_files(&g));
    rig_finish(&g);
}

static void a_copy_that_drifted_ends_the_training(void **state)
{
    fz_save_report report;
    rig g = {.dir = ""};

    (void)state;
    rig_start(&g, 2, 0, 0);
    for (int i = 0; i < g.t.state.n_views && world.rank == 0; i++)
        if (!g.t.views[i].is_owner && g.t.views[i].kind == FZ_STATE_EXP_AVG &&
            fz_view_is_stored(&g.t.state, &g.t.views[i])) {
            *(uint32_t *)(void *)g.t.views[i].data ^= 1;
            break;
        }
    const fz_status status = save(&g, 4, &report);
    assert_all_ranks(status == (world.size > 1 ? FZ_ERR_DEVICE : FZ_OK));
    assert_all_ranks(has_step(&g, 4) == (world.size == 1));
    fz_barrier(world.group);
    assert_all_ranks(!has_hidden_files(&g));
    rig_finish(&g);
}

static void some_steps_are_kept_for_ever(void **state)
{
    fz_save_report report;
    rig g = {.dir = ""};

    (void)state;
    rig_start(&g, 2, 2, 3);
    for (int64_t step = 1; step <= 8; step++)
        assert_all_ranks(save(&g, step, &report) == FZ_OK && report.event == FZ_SAVE_COMMITTED);
    for (int64_t step = 1; step <= 8; step++)
        assert_all_ranks(has_step(&g, step) == (step % 3 == 0 || step > 6));
    rig_finish(&g);
}

static void room_that_is_too_small_is_refused(void **state)
{
    rig g = {.dir = ""};
    fz_saver *none = NULL;

    (void)state;
    rig_start(&g, 2, 2, 3);
    const fz_saver_config config = {.dir = g.dir,
                                    .state = &g.t.state,
                                    .snapshot = g.snapshot,
                                    .snapshot_bytes = fz_snapshot_bytes(&g.t.state) - 1};
    assert_all_ranks(fz_saver_create(world.group, &config, &none) == FZ_ERR_ARG && !none);
    rig_finish(&g);
}

/* A process that dies with a save in flight: the step before is there, and the next process cleans
 * up. Without other ranks a child may go on after fork(). */
static void a_death_with_a_save_in_flight_loses_only_that(void **state)
{
    const fz_ckpt_info info = toy_info(2);
    fz_save_report report;
    rig g = {.dir = ""};
    int status;

    (void)state;
#ifdef __SANITIZE_THREAD__
    return; /* it knows no thread that a child of fork() makes */
#endif
    if (world.size > 1) return;
    make_scratch(g.dir);
    for (int i = 0; i < 20; i++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            rig_start(&g, 3, 0, 0);
            if (save(&g, 1, &report) != FZ_OK) _exit(1);
            fz_ckpt_save_start(g.saver, &info);
            usleep((useconds_t)(150 * i));
            raise(SIGKILL);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_true(holds(&g, 1, 3) && !has_step(&g, 2));
    }
    rig_start(&g, 3, 0, 0);
    assert_false(has_hidden_files(&g));
    rig_finish(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_changes_after_the_start_does_not_reach_the_file),
        cmocka_unit_test(the_files_are_those_of_a_save_that_is_waited_for),
        cmocka_unit_test(the_outcome_comes_once_and_after_the_commit),
        cmocka_unit_test(a_failure_of_one_rank_gives_up_the_save_and_nothing_else),
        cmocka_unit_test(rank_0_may_refuse_before_the_commit),
        cmocka_unit_test(a_copy_that_drifted_ends_the_training),
        cmocka_unit_test(some_steps_are_kept_for_ever),
        cmocka_unit_test(room_that_is_too_small_is_refused),
        cmocka_unit_test(a_death_with_a_save_in_flight_loses_only_that),
    };

    if (fz_ckpt_start() != FZ_OK) return 1;
    fz_log_set_level(FZ_LOG_ERROR);
    run_on_all_ranks(tests);
}
