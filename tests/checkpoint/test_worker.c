/* The thread of asynchronous saves: one job at a time, its writes seen, its errors carried over. */
#include "tests/support/unit.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "checkpoint/worker.h"
#include "core/memory.h"

typedef struct task {
    int value, n_done;
    pthread_t thread;
    bool takes_signals;
} task;

static fz_status double_it(void *context)
{
    const struct timespec nap = {.tv_nsec = 2000000};
    sigset_t blocked;
    task *t = context;

    nanosleep(&nap, NULL);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    t->takes_signals = !sigismember(&blocked, SIGTERM);
    t->thread = pthread_self();
    t->value *= 2;
    t->n_done++;
    return t->value == 16 ? FZ_FAIL(FZ_ERR_IO, "value %d", t->value) : FZ_OK;
}

static void jobs_run_one_by_one_in_another_thread(void **state)
{
    fz_worker *worker = NULL;
    task t = {.value = 1};

    (void)state;
    assert_ok(fz_worker_create(&worker));
    assert_true(fz_worker_is_idle(worker));
    assert_ok(fz_worker_wait(worker));
    for (int i = 1; i <= 5; i++) {
        fz_worker_start(worker, double_it, &t);
        while (i % 2 && !fz_worker_is_idle(worker)) {
        }
        const fz_status status = fz_worker_wait(worker);
        assert_int_equal(t.value, 1 << i);
        assert_int_equal(status, i == 4 ? FZ_ERR_IO : FZ_OK);
        if (i == 4) assert_string_equal(fz_last_error()->text, "value 16");
        assert_ok(fz_worker_wait(worker)); /* told once */
    }
    assert_false(pthread_equal(t.thread, pthread_self()));
    assert_false(t.takes_signals);
    fz_worker_destroy(&worker);
    assert_null(worker);
    fz_worker_destroy(&worker);
}

static void the_end_waits_for_the_job(void **state)
{
    fz_worker *worker = NULL;
    task t = {.value = 3};

    (void)state;
    assert_ok(fz_worker_create(&worker));
    fz_worker_start(worker, double_it, &t);
    fz_worker_destroy(&worker);
    assert_int_equal(t.n_done, 1);
    assert_int_equal(fz_memory_get().n_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_run_one_by_one_in_another_thread),
        cmocka_unit_test(the_end_waits_for_the_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
