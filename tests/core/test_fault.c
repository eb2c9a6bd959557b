#include "tests/support/unit.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fault.h"

static void only_the_planned_call_fails(void **state)
{
    (void)state;
    assert_ok(fz_fault_set("write:3,read:1"));
    for (int call = 1; call < 6; call++)
        assert_int_equal(fz_fault_now(FZ_FAULT_WRITE), call == 3);
    assert_true(fz_fault_now(FZ_FAULT_READ));
    assert_false(fz_fault_now(FZ_FAULT_READ));
    assert_false(fz_fault_now(FZ_FAULT_ALLOC));
    assert_ok(fz_fault_set(NULL));
    assert_false(fz_fault_now(FZ_FAULT_WRITE));
}

static void a_planned_kill_ends_the_process(void **state)
{
    (void)state;
    const pid_t child = fork();
    if (child == 0) {
        if (fz_fault_set("step:2:kill") != FZ_OK) _exit(1);
        fz_fault_now(FZ_FAULT_KILL_STEP);
        fz_fault_now(FZ_FAULT_KILL_STEP);
        _exit(2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void nonsense_is_refused(void **state)
{
    const char *const nonsense[] = {"",       "alloc",    "alloc:",       "alloc:0", "alloc:x",
                                    "disk:3", "write:3,", "write:3:kill", "alloc:-1"};
    (void)state;
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        assert_fails(fz_fault_set(nonsense[i]), FZ_ERR_USAGE, "is not one of");
        assert_false(fz_fault_now(FZ_FAULT_WRITE));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_planned_call_fails),
        cmocka_unit_test(a_planned_kill_ends_the_process),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
