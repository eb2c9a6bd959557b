/* Saves of one to three ranks, killed before and inside system calls and at any time, one rank or
 * all of them: what is found afterwards is whole, has the right bits and is never older than the
 * last acknowledged step.
 *
 *   checkpoint_test_crash [KILLS [SEED]]     default: 1000 1
 */
#define _GNU_SOURCE
#include "tests/checkpoint/marked_state.h"

#include "tests/checkpoint/disk_calls.h"
#include "tests/support/forked.h"

#include <stdatomic.h>

#include "checkpoint/direct.h"
#include "core/log.h"

enum { SAVES = 3, KEEP = 2, CALLS_OF_SAVES = 400, SAVES_US = 24000 };

static int64_t n_wanted = 1000;
static uint64_t seed = 1;
static char dir[FZ_PATH_BYTES];
static atomic_llong *acknowledged; /* the last mark; shared by all processes */
static fz_group one = {.rank = 0, .size = 1};

/* the kill */

static atomic_int n_calls;
static int deadly_call; /* 0: none */
static bool is_torn;    /* dies with half of the bytes written */

static int disk_before(disk_call *call)
{
    if (deadly_call == 0 || atomic_fetch_add(&n_calls, 1) + 1 != deadly_call) return 0;
    if (is_torn && call->verb == DISK_WRITE)
        syscall(SYS_pwrite64, call->fd, call->data, call->bytes / 2, (off_t)call->offset);
    raise(SIGKILL);
    return 0;
}

static void disk_after(const disk_call *call)
{
    (void)call;
}

static uint64_t draw(uint64_t below)
{
    static uint64_t n;
    return fz_mix64(seed * 1000003 + n++) % below;
}

/* one trial */

typedef struct trial {
    int n_ranks, victim; /* victim n_ranks: all of them */
    int call;            /* of the victim, from 1; 0: at a time */
    bool is_torn;
    unsigned delay_us;
    int64_t first; /* mark of the first save */
} trial;

static _Noreturn void be_rank(const trial *t, const fz_group *group)
{
    if (t->victim == group->rank || t->victim == t->n_ranks) deadly_call = t->call;
    is_torn = t->is_torn;
    for (int64_t mark = t->first; mark < t->first + SAVES; mark++) {
        const toy_layout *layout = &TOY_LAYOUTS[mark % N_TOY_LAYOUTS];
        fz_io_set(mark % 2 ? FZ_IO_DIRECT : FZ_IO_BUFFERED);
        if (marked_save(group, dir, layout, marked_step(mark), mark, KEEP) != FZ_OK) {
            fprintf(stderr, "%s\n", fz_last_error()->text);
            _exit(1);
        }
        if (group->rank == 0) atomic_store(acknowledged, mark);
    }
    _exit(0);
}

static void kill_some(pid_t *pids, int n, int victim)
{
    for (int r = 0; r < n; r++)
        if (pids[r] > 0 && (victim == r || victim == n)) kill(pids[r], SIGKILL);
}

/* Starts the ranks, kills as planned, and ends who is left. Returns how many were killed. */
static int run_trial(const trial *t)
{
    forked_shared *shared = t->n_ranks > 1 ? forked_start(t->n_ranks) : NULL;
    pid_t pids[FORKED_RANKS];
    int n_killed = 0, status;

    for (int r = 0; r < t->n_ranks; r++) {
        const fz_group group = {.rank = r, .size = t->n_ranks, .shared = shared};
        pids[r] = fork();
        assert_true(pids[r] >= 0);
        if (pids[r] == 0) be_rank(t, &group);
    }
    if (t->call == 0) {
        usleep(t->delay_us);
        kill_some(pids, t->n_ranks, t->victim);
    }
    for (int left = t->n_ranks; left > 0; left--) {
        const pid_t pid = waitpid(-1, &status, 0);
        assert_true(pid > 0);
        for (int r = 0; r < t->n_ranks; r++)
            if (pids[r] == pid) pids[r] = 0;
        if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
        if (!WIFSIGNALED(status)) continue;
        assert_int_equal(WTERMSIG(status), SIGKILL);
        if (n_killed++ > 0) continue;
        usleep((unsigned)draw(1500)); /* the others go on until they miss it */
        kill_some(pids, t->n_ranks, t->n_ranks);
    }
    if (shared) forked_stop(shared);
    return n_killed;
}

static trial plan_trial(int64_t first)
{
    trial t = {.n_ranks = 1 + (int)draw(3), .first = first};

    t.victim = (int)draw((uint64_t)t.n_ranks + 1);
    if (draw(3) > 0) t.call = 1 + (int)draw(t.victim == 0 ? CALLS_OF_SAVES : CALLS_OF_SAVES / 3);
    t.is_torn = draw(2) == 0;
    t.delay_us = (unsigned)draw(SAVES_US * (uint64_t)t.n_ranks);
    return t;
}

/* What an undisturbed save leaves: steps to keep, bases they need, nothing hidden. */
static void check_tidiness(int64_t mark)
{
    char name[FZ_STEP_NAME_BYTES], path[FZ_PATH_BYTES], *text;
    size_t n;

    assert_int_equal(count_names(dir, "."), 0);
    assert_true(count_names(dir, "step-") <= KEEP);
    assert_true(count_names(dir, "base-") <= KEEP);
    fz_step_name(name, marked_step(mark));
    assert_ok(fz_disk_join(path, dir, "latest"));
    assert_ok(fz_disk_read_file(path, &text, &n));
    assert_true(n == strlen(name) + 1 && memcmp(text, name, n - 1) == 0);
    fz_free(&text);
}

static void no_kill_loses_what_was_acknowledged(void **state)
{
    int64_t n_killed = 0, n_trials = 0, n_unfinished = 0, mark = 0;

    (void)state;
    while (n_killed < n_wanted) {
        trial t = plan_trial(mark + 1);
        if (n_trials++ % 25 == 24)
            t = (trial){.n_ranks = 3, .victim = -1, .call = 1, .first = mark + 1};
        const int n = run_trial(&t);
        n_killed += n;
        assert_true(steps_are_whole(dir));
        mark = marked_find(&one, dir, (int64_t)atomic_load(acknowledged));
        assert_true(mark >= 0);
        n_unfinished += count_names(dir, ".step-") > 0;
        if (n == 0) {
            assert_int_equal(mark, t.first + SAVES - 1);
            check_tidiness(mark);
        }
        if (atomic_load(acknowledged) < mark) atomic_store(acknowledged, mark);
    }
    printf("%lld processes killed in %lld trials, %lld saves; %lld left a directory unfinished\n",
           (long long)n_killed, (long long)n_trials, (long long)mark, (long long)n_unfinished);
    assert_true(n_unfinished > n_trials / 8); /* or the kills came when nothing was under way */
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_kill_loses_what_was_acknowledged),
    };

    if (argc > 1) n_wanted = atoll(argv[1]);
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    if (fz_ckpt_start() != FZ_OK) return 1;
    fz_log_set_level(FZ_LOG_ERROR);
    acknowledged =
        mmap(NULL, sizeof *acknowledged, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (acknowledged == MAP_FAILED) return 1;
    world.group = &one;
    make_quick_folder(dir);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (!failed) fz_disk_remove_tree(dir);
    return failed != 0;
}
