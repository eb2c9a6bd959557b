/* SIGKILL before every call of a save that changes the disk: what a find accepts afterwards is a
 * whole checkpoint, never older than the last one that was acknowledged. */
#include "tests/checkpoint/toy_state.h"

#include <signal.h>
#include <sys/wait.h>

#include "core/fault.h"
#include "core/log.h"

static const char *program;

static fz_status save_step(const char *dir, int64_t step, int keep)
{
    const fz_ckpt_info info = toy_info(step);
    toy t;

    toy_create(&t, world.group, &TOY_LAYOUTS[1], (uint64_t)step);
    const fz_status status = fz_ckpt_save(world.group, dir, &t.state, &info, keep, NULL);
    toy_reset(&t);
    return status;
}

/* The newest step, loaded in full; -1 none, -2 wrong. */
static int64_t load_newest(const char *dir)
{
    fz_ckpt_info info;
    bool found = false;
    toy t;

    if (fz_ckpt_find(world.group, dir, &found, &info) != FZ_OK) return -2;
    if (!found) return -1;
    const int64_t step = info.step;
    fz_ckpt_info_reset(&info);
    toy_create(&t, world.group, &TOY_LAYOUTS[1], 1000);
    const bool is_right = fz_ckpt_load(world.group, dir, step, &t.state) == FZ_OK &&
                          toy_each(&t, (uint64_t)step, false, false) == 0;
    toy_reset(&t);
    return is_right ? step : -2;
}

/* A world of one takes part in no collective, so that a child may go on after fork(). */
static bool is_killed_at(const char *dir, int64_t step, int n)
{
    char spec[32];
    int status = 0;

    snprintf(spec, sizeof spec, "save:%d:kill", n);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        fz_fault_set(spec);
        _exit(save_step(dir, step, 1) == FZ_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) return true;
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return false;
}

static void a_kill_at_any_point_loses_nothing(void **state)
{
    char dir[FZ_PATH_BYTES];
    int64_t step = 1;
    int n = 1, n_committed = 0;

    (void)state;
    make_scratch(dir);
    assert_int_equal(save_step(dir, step, 1), FZ_OK);
    for (; is_killed_at(dir, step + 1, n); n++) {
        const int64_t there = load_newest(dir);
        assert_true(there == step || there == step + 1);
        if (there == step) continue; /* killed before the rename, else after it */
        step = there;
        n_committed++;
    }
    assert_int_equal(load_newest(dir), step + 1);
    assert_true(n > 30 && n_committed > 3);
    remove_scratch(dir);
}

static void a_kill_while_a_step_replaces_itself_loses_nothing(void **state)
{
    char dir[FZ_PATH_BYTES];
    int n = 1;

    (void)state;
    make_scratch(dir);
    assert_int_equal(save_step(dir, 5, 0), FZ_OK);
    for (; is_killed_at(dir, 5, n); n++)
        assert_int_equal(load_newest(dir), 5);
    assert_true(n > 30);
    remove_scratch(dir);
}

/* The next save after a kill leaves no trace of it. */
static void what_a_killed_save_left_is_cleaned_up(void **state)
{
    char dir[FZ_PATH_BYTES], command[FZ_PATH_BYTES + 64];

    (void)state;
    make_scratch(dir);
    assert_true(is_killed_at(dir, 1, 12));
    snprintf(command, sizeof command, "ls -A '%s' | grep -q 'tmp-'", dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(save_step(dir, 2, 1), FZ_OK);
    assert_int_not_equal(system(command), 0);
    remove_scratch(dir);
}

/* This program again, on n ranks (0: without mpirun) and in a world of its own: before this
 * process has one. */
static int run_again(int n, const char *dir, const char *mode, int victim, int point)
{
    static char command[3 * FZ_PATH_BYTES];
    char launcher[32] = "";

    if (n > 0) snprintf(launcher, sizeof launcher, "mpirun -n %d", n);
    snprintf(command, sizeof command, "%s '%s' '%s' %s %d %d >'%s/out' 2>&1", launcher, program,
             dir, mode, victim, point, dir);
    const int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Rank r of three dies at its n-th point, and mpirun ends the others. */
static void a_killed_rank_takes_no_checkpoint_with_it(void **state)
{
    char dir[FZ_PATH_BYTES / 2];
    int n_killed = 0;

    (void)state;
    snprintf(dir, sizeof dir, "%s/ckpt-test-XXXXXX", FZ_BINARY_DIR);
    assert_non_null(mkdtemp(dir));
    assert_int_equal(run_again(0, dir, "save-1", -1, 1), 0);
    for (int i = 0; i < 3; i++) {
        const int result = run_again(3, dir, "save-2", i % 3, 2 + 9 * i);
        const int there = run_again(0, dir, "find", -1, 1);
        assert_true(there == 101 || there == 102);
        if (result == 0) assert_int_equal(there, 102);
        n_killed += result != 0;
    }
    assert_true(n_killed >= 2);
    fz_disk_remove_tree(dir);
}

/* Exit code: 0 saved, 1 not saved, 100 + the step that was found and loaded. */
static int child_main(char **arguments)
{
    const char *dir = arguments[0], *mode = arguments[1];
    char spec[32];
    int result;

    if (fz_world_start(0, NULL, &world) != FZ_OK) return 1;
    snprintf(spec, sizeof spec, "save:%.8s:kill", arguments[3]);
    if (world.rank == atoi(arguments[2])) fz_fault_set(spec);
    if (strcmp(mode, "find") == 0)
        result = 100 + (int)load_newest(dir);
    else
        result = save_step(dir, atoi(mode + strlen("save-")), 0) == FZ_OK ? 0 : 1;
    fz_world_stop(&world);
    return result;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_at_any_point_loses_nothing),
        cmocka_unit_test(a_kill_while_a_step_replaces_itself_loses_nothing),
        cmocka_unit_test(what_a_killed_save_left_is_cleaned_up),
    };
    const struct CMUnitTest tests_without_mpi[] = {
        cmocka_unit_test(a_killed_rank_takes_no_checkpoint_with_it),
    };

#ifdef __SANITIZE_THREAD__
    return 77; /* it knows no thread that a child of fork() makes, and a save has one */
#endif
    program = argv[0];
    if (fz_ckpt_start() != FZ_OK) return 1;
    fz_log_set_level(FZ_LOG_ERROR);
    if (argc == 5) return child_main(argv + 1);
    if (cmocka_run_group_tests(tests_without_mpi, NULL, NULL) != 0) return 1;
    run_on_all_ranks(tests);
}
