#include "tests/support/unit.h"

#include <time.h>

#include "core/clock.h"

static void wait_ms(long ms)
{
    const struct timespec t = {.tv_nsec = ms * 1000000};
    nanosleep(&t, NULL);
}

static void shares_sum_to_the_time_that_passed(void **state)
{
    double share[FZ_N_SHARES], sum = 0.0;
    (void)state;
    const double t0 = fz_clock_s();
    fz_span_reset_shares();
    fz_span_begin("forward", FZ_SHARE_COMPUTE);
    wait_ms(10);
    fz_span_begin("all-reduce", FZ_SHARE_COMM);
    wait_ms(20);
    fz_span_end();
    fz_span_end();
    wait_ms(5);
    fz_span_shares(share);
    const double gone = fz_clock_s() - t0;
    for (int i = 0; i < FZ_N_SHARES; i++)
        sum += share[i];
    assert_true(sum <= gone && sum >= 0.035); /* no bound above: the machine may be busy */
    assert_true(share[FZ_SHARE_COMPUTE] >= 0.010 && share[FZ_SHARE_COMM] >= 0.020);
    assert_true(share[FZ_SHARE_OTHER] >= 0.005 && share[FZ_SHARE_OPTIM] == 0.0);
}

static void a_childs_time_is_not_its_parents_own(void **state)
{
    double share[FZ_N_SHARES];
    (void)state;
    fz_span_reset_shares();
    fz_span_begin("outer", FZ_SHARE_COMPUTE);
    fz_span_begin("inner", FZ_SHARE_BUBBLE);
    wait_ms(20);
    fz_span_end();
    fz_span_end();
    fz_span_shares(share);
    assert_true(share[FZ_SHARE_COMPUTE] < 0.015 && share[FZ_SHARE_BUBBLE] >= 0.020);
}

static void the_table_counts_calls_while_it_is_on(void **state)
{
    char text[2048] = "";
    (void)state;
    fz_span_begin("before", FZ_SHARE_DATA);
    fz_span_end();
    fz_span_table_enable(1);
    for (int i = 0; i < 3; i++) {
        fz_span_begin("during", FZ_SHARE_DATA);
        wait_ms(2);
        fz_span_end();
    }
    fz_span_table_enable(0);
    fz_span_begin("after", FZ_SHARE_DATA);
    fz_span_end();
    FILE *out = fmemopen(text, sizeof text, "w");
    fz_span_table_print(out);
    fclose(out);
    assert_null(strstr(text, "before"));
    const char *line = strstr(text, "during");
    assert_non_null(line);
    assert_null(strstr(text, "after"));
    int calls = 0;
    float total = 0.0f, own = 0.0f;
    assert_int_equal(sscanf(line, "during %d %f %f", &calls, &total, &own), 3);
    assert_int_equal(calls, 3);
    assert_true(own >= 6.0f && own <= total + 0.002f);
}

static int pushed, popped;
static void push(const char *name)
{
    assert_string_equal(name, "range");
    pushed++;
}
static void pop(void)
{
    popped++;
}

static void an_attached_tool_sees_the_ranges(void **state)
{
    (void)state;
    fz_span_set_tool(push, pop);
    fz_span_begin("range", FZ_SHARE_DATA);
    assert_int_equal(popped, 0);
    fz_span_end();
    fz_span_set_tool(NULL, NULL);
    assert_int_equal(pushed, 1);
    assert_int_equal(popped, 1);
}

static void the_age_of_this_process_is_small_and_grows(void **state)
{
    (void)state;
    const double age = fz_clock_since_exec_s();
    assert_true(age > 0.0 && age < 60.0);
    wait_ms(10);
    assert_true(fz_clock_since_exec_s() > age);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_sum_to_the_time_that_passed),
        cmocka_unit_test(a_childs_time_is_not_its_parents_own),
        cmocka_unit_test(the_table_counts_calls_while_it_is_on),
        cmocka_unit_test(an_attached_tool_sees_the_ranges),
        cmocka_unit_test(the_age_of_this_process_is_small_and_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
