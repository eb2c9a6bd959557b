#include "tests/support/unit.h"

#include <pthread.h>

static fz_status fails_inside(int value)
{
    FZ_CHECK(value > 3, FZ_ERR_IO, "open shard-%04d.tar: no such file", value);
    return FZ_OK;
}

static fz_status passes_on(int value)
{
    FZ_TRY(fails_inside(value));
    return FZ_OK;
}

static void the_first_line_that_sees_it_writes_the_text(void **state)
{
    (void)state;
    assert_int_equal(passes_on(4), FZ_OK);
    assert_int_equal(passes_on(2), FZ_ERR_IO);
    assert_string_equal(fz_last_error()->text, "open shard-0002.tar: no such file");
    assert_string_equal(fz_last_error()->func, "fails_inside");
    assert_int_equal(fz_last_error()->status, FZ_ERR_IO);
}

static void a_text_may_quote_the_text_before_it(void **state)
{
    (void)state;
    (void)FZ_FAIL(FZ_ERR_IO, "disk full");
    (void)FZ_FAIL(FZ_ERR_IO, "rank 3: %s", fz_last_error()->text);
    assert_string_equal(fz_last_error()->text, "rank 3: disk full");
}

static void *fail_elsewhere(void *unused)
{
    (void)unused;
    (void)FZ_FAIL(FZ_ERR_COMM, "elsewhere");
    return NULL;
}

static void each_thread_has_its_own_record(void **state)
{
    pthread_t thread;
    (void)state;
    (void)FZ_FAIL(FZ_ERR_ARG, "here");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    pthread_join(thread, NULL);
    assert_string_equal(fz_last_error()->text, "here");
}

static void long_texts_are_cut(void **state)
{
    char text[2000];
    (void)state;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    (void)FZ_FAIL(FZ_ERR_ARG, "%s", text);
    assert_int_equal(strlen(fz_last_error()->text), sizeof fz_last_error()->text - 1);
}

static void statuses_are_ordered_by_what_is_lost(void **state)
{
    (void)state;
    assert_true(FZ_OK < FZ_ERR_ARG && FZ_ERR_FORMAT < FZ_ERR_IO && FZ_ERR_IO < FZ_ERR_MEMORY &&
                FZ_ERR_DEVICE < FZ_ERR_COMM);
    assert_string_equal(fz_status_name(FZ_ERR_COMM), "communication");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_line_that_sees_it_writes_the_text),
        cmocka_unit_test(a_text_may_quote_the_text_before_it),
        cmocka_unit_test(each_thread_has_its_own_record),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(statuses_are_ordered_by_what_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
