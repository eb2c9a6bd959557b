#include "tests/support/unit.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fault.h"
#include "core/memory.h"
#include "launch/files.h"
#include "launch/run_dir.h"

static char path[256];
static fz_run_dir dir;

static int start(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "test_run_dir.%d/deep", (int)getpid());
    return fz_run_dir_open(path, "4711", &dir) == FZ_OK ? 0 : -1;
}

static int stop(void **state)
{
    char command[512];
    (void)state;
    fz_run_dir_close(&dir);
    snprintf(command, sizeof command, "rm -rf test_run_dir.%d", (int)getpid());
    return system(command);
}

static void write_metrics(const char *text)
{
    char file[300];
    FILE *out = fopen(fz_run_dir_file(&dir, "metrics.jsonl", file, sizeof file), "w");
    fputs(text, out);
    fclose(out);
}

static const char *contents(const char *name)
{
    static char text[4096];
    char file[300], *bytes = NULL;
    size_t n = 0;
    assert_ok(fz_file_read(fz_run_dir_file(&dir, name, file, sizeof file), &bytes, &n));
    snprintf(text, sizeof text, "%s", bytes ? bytes : "(none)");
    fz_free(&bytes);
    return text;
}

static void metrics_are_cut_back_to_the_checkpoint(void **state)
{
    int64_t last = -1;
    (void)state;
    write_metrics("{\"step\":1,\"loss\":3}\n{\"step\":2,\"loss\":2}\n{\"step\":2,\"eval_loss\":2}\n"
                  "{\"step\":3,\"loss\":1}\n{\"step\":4,\"lo");
    assert_ok(fz_run_dir_cut_metrics(&dir, 2, &last));
    assert_int_equal(last, 2);
    assert_string_equal(contents("metrics.jsonl"),
                        "{\"step\":1,\"loss\":3}\n{\"step\":2,\"loss\":2}\n"
                        "{\"step\":2,\"eval_loss\":2}\n");
    assert_ok(fz_run_dir_cut_metrics(&dir, 0, &last));
    assert_int_equal(last, 0);
    assert_string_equal(contents("metrics.jsonl"), "");
}

static void a_line_that_a_crash_cut_is_dropped(void **state)
{
    int64_t last = -1;
    (void)state;
    write_metrics("{\"step\":1}\n{\"step\":2");
    assert_ok(fz_run_dir_cut_metrics(&dir, 9, &last));
    assert_string_equal(contents("metrics.jsonl"), "{\"step\":1}\n");
    assert_int_equal(last, 1);
}

static void no_metrics_are_nothing_to_cut(void **state)
{
    int64_t last = -1;
    (void)state;
    assert_ok(fz_run_dir_cut_metrics(&dir, 9, &last));
    assert_int_equal(last, 0);
    assert_string_equal(contents("metrics.jsonl"), "(none)");
}

static void a_failed_cut_changes_nothing(void **state)
{
    int64_t last = -1;
    (void)state;
    write_metrics("{\"step\":1}\n{\"step\":2}\n");
    assert_ok(fz_fault_set("write:1"));
    assert_fails(fz_run_dir_cut_metrics(&dir, 1, &last), FZ_ERR_IO, "No space left");
    assert_ok(fz_fault_set(NULL));
    assert_string_equal(contents("metrics.jsonl"), "{\"step\":1}\n{\"step\":2}\n");
}

/* Locks belong to processes: another one is needed to meet one. */
static int try_in_child(char *text, size_t bytes)
{
    int ends[2], status;
    if (pipe(ends) != 0) return -1;
    const pid_t child = fork();
    if (child == 0) {
        fz_run_dir mine;
        const fz_status got = fz_run_dir_open(path, NULL, &mine);
        const char *said = got == FZ_OK ? "" : fz_last_error()->text;
        const ssize_t wrote = write(ends[1], said, strlen(said) + 1);
        _exit(wrote > 0 ? (int)got : 99);
    }
    close(ends[1]);
    const ssize_t n = read(ends[0], text, bytes - 1);
    text[n > 0 ? n : 0] = '\0';
    close(ends[0]);
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static void a_directory_in_use_names_the_job(void **state)
{
    char text[600];
    (void)state;
    assert_int_equal(try_in_child(text, sizeof text), FZ_ERR_USAGE);
    assert_non_null(strstr(text, "is in use by job 4711, host "));
    assert_non_null(strstr(text, "run.dir: "));
}

static void a_closed_directory_and_one_of_a_dead_process_are_free(void **state)
{
    char text[600], file[300];
    (void)state;
    fz_run_dir_close(&dir);
    assert_string_equal(contents("lock"), "");
    assert_int_equal(try_in_child(text, sizeof text), FZ_OK);
    /* The child died without closing: its name is still in the file, its lock is not. */
    assert_non_null(strstr(contents("lock"), "process "));
    assert_ok(fz_run_dir_open(path, "4712", &dir));
    assert_non_null(strstr(contents("lock"), "job 4712"));
    fz_run_dir_file(&dir, "lock", file, sizeof file);
}

static void the_same_step_failing_twice_is_noticed(void **state)
{
    (void)state;
    assert_false(fz_run_dir_failed_again(&dir, 7));
    assert_false(fz_run_dir_failed_again(&dir, 8));
    assert_true(fz_run_dir_failed_again(&dir, 8));
    fz_run_dir_forget_failure(&dir);
    assert_false(fz_run_dir_failed_again(&dir, 8));
}

static void what_cannot_be_a_directory_is_named(void **state)
{
    char file[300];
    fz_run_dir other;
    (void)state;
    write_metrics("x");
    fz_run_dir_file(&dir, "metrics.jsonl", file, sizeof file);
    assert_fails(fz_run_dir_open(file, NULL, &other), FZ_ERR_IO, "metrics.jsonl");
    assert_fails(fz_run_dir_open("", NULL, &other), FZ_ERR_USAGE, "run.dir");
}

static void a_replaced_file_is_whole_or_the_old_one(void **state)
{
    (void)state;
    assert_ok(fz_run_dir_write_config(&dir, "old"));
    assert_ok(fz_fault_set("write:1"));
    assert_fails(fz_run_dir_write_config(&dir, "new"), FZ_ERR_IO, "config.yaml");
    assert_ok(fz_fault_set(NULL));
    assert_string_equal(contents("config.yaml"), "old");
    assert_string_equal(contents("config.yaml.new"), "(none)");
    assert_ok(fz_run_dir_write_config(&dir, "new"));
    assert_string_equal(contents("config.yaml"), "new");
    assert_string_equal(contents("config.yaml.new"), "(none)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(metrics_are_cut_back_to_the_checkpoint, start, stop),
        cmocka_unit_test_setup_teardown(a_line_that_a_crash_cut_is_dropped, start, stop),
        cmocka_unit_test_setup_teardown(no_metrics_are_nothing_to_cut, start, stop),
        cmocka_unit_test_setup_teardown(a_failed_cut_changes_nothing, start, stop),
        cmocka_unit_test_setup_teardown(a_directory_in_use_names_the_job, start, stop),
        cmocka_unit_test_setup_teardown(a_closed_directory_and_one_of_a_dead_process_are_free,
                                        start, stop),
        cmocka_unit_test_setup_teardown(the_same_step_failing_twice_is_noticed, start, stop),
        cmocka_unit_test_setup_teardown(what_cannot_be_a_directory_is_named, start, stop),
        cmocka_unit_test_setup_teardown(a_replaced_file_is_whole_or_the_old_one, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
