#include "tests/support/unit.h"

#include <unistd.h>

#include "core/log.h"

static const char *path = "test_log.out";

static const char *contents(void)
{
    static char text[4096];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static int start(void **state)
{
    (void)state;
    unlink(path);
    return fz_log_open(path) == FZ_OK ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    fz_log_set_writer(true);
    fz_log_set_rank(-1);
    fz_log_set_level(FZ_LOG_INFO);
    return fz_log_open(NULL) == FZ_OK ? 0 : -1;
}

static void info_is_for_the_writer_and_warnings_are_for_all(void **state)
{
    (void)state;
    fz_log_set_rank(3);
    fz_log_set_writer(false);
    fz_info("not mine");
    fz_warn("disk %d%% full", 98);
    fz_log_set_writer(true);
    fz_info("step %d", 7);
    assert_string_equal(contents(), "florenz: warning: rank 3: disk 98% full\nstep 7\n");
}

static void the_least_level_cuts_off_what_is_below(void **state)
{
    (void)state;
    fz_log(FZ_LOG_DEBUG, "hidden");
    fz_log_set_level(FZ_LOG_DEBUG);
    fz_log(FZ_LOG_DEBUG, "shown");
    fz_log_set_level(FZ_LOG_ERROR);
    fz_warn("hidden");
    assert_string_equal(contents(), "debug: shown\n");
}

static void a_log_file_is_continued(void **state)
{
    (void)state;
    fz_info("one");
    assert_ok(fz_log_open(path));
    fz_info("two");
    assert_string_equal(contents(), "one\ntwo\n");
}

static void a_file_that_cannot_be_opened_is_named(void **state)
{
    (void)state;
    assert_fails(fz_log_open("/nowhere/log.txt"), FZ_ERR_IO,
                 "open /nowhere/log.txt: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(info_is_for_the_writer_and_warnings_are_for_all, start,
                                        stop),
        cmocka_unit_test_setup_teardown(the_least_level_cuts_off_what_is_below, start, stop),
        cmocka_unit_test_setup_teardown(a_log_file_is_continued, start, stop),
        cmocka_unit_test_setup_teardown(a_file_that_cannot_be_opened_is_named, start, stop),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
