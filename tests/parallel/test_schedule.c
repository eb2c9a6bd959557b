/* Lists of actions and the simulator that checks them. */
#include "tests/support/unit.h"

#include "core/memory.h"
#include "parallel/schedule.h"

enum { MAX_STAGES = 8, MAX_MICRO = 32 };
static const fz_schedule_kind kinds[] = {FZ_SCHEDULE_AFAB, FZ_SCHEDULE_1F1B};

static void every_schedule_is_complete_and_has_the_bubble_of_the_formula(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++)
        for (int p = 1; p <= MAX_STAGES; p++)
            for (int64_t M = 1; M <= MAX_MICRO; M++) {
                fz_schedule_report report;
                assert_int_equal(fz_schedule_simulate(kinds[k], p, M, &report), FZ_OK);
                const double expected = (double)(p - 1) / (double)(M + p - 1);
                assert_true(report.bubble > expected - 1e-12 && report.bubble < expected + 1e-12);
                assert_int_equal(report.peak_in_flight, fz_schedule_in_flight(kinds[k], 0, p, M));
            }
}

static void one_forward_one_backward_saves_no_more_than_the_stages_above(void **state)
{
    (void)state;
    for (int s = 0; s < MAX_STAGES; s++)
        assert_int_equal(fz_schedule_in_flight(FZ_SCHEDULE_1F1B, s, MAX_STAGES, MAX_MICRO),
                         MAX_STAGES - s);
    assert_int_equal(fz_schedule_in_flight(FZ_SCHEDULE_1F1B, 0, MAX_STAGES, 3), 3);
    assert_int_equal(fz_schedule_in_flight(FZ_SCHEDULE_AFAB, 0, MAX_STAGES, MAX_MICRO), MAX_MICRO);
    assert_int_equal(fz_schedule_in_flight(FZ_SCHEDULE_AFAB, 0, 1, 0), 0);
}

static void the_list_of_the_last_stage_alternates(void **state)
{
    fz_action list[6];
    (void)state;
    fz_schedule_list(FZ_SCHEDULE_1F1B, 2, 3, 3, list);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(list[i].kind, i % 2 == 0 ? FZ_ACTION_FORWARD : FZ_ACTION_BACKWARD);
        assert_int_equal(list[i].micro, i / 2);
    }
}

static void no_micro_batch_is_an_empty_schedule(void **state)
{
    fz_schedule_report report;
    (void)state;
    assert_int_equal(fz_schedule_simulate(FZ_SCHEDULE_1F1B, 4, 0, &report), FZ_OK);
    assert_int_equal(report.peak_in_flight, 0);
    assert_true(report.bubble >= 0.0 && report.bubble <= 0.0);
}

static void broken_lists_are_detected(void **state)
{
    enum { P = 3, M = 4, N = 2 * M };
    fz_action lists[P * N];
    fz_schedule_report report;
    (void)state;

    for (int broken = 0; broken < 4; broken++) {
        for (int s = 0; s < P; s++)
            fz_schedule_list(FZ_SCHEDULE_1F1B, s, P, M, lists + s * N);
        fz_action *list = lists + N; /* of stage 1 */
        switch (broken) {
        case 0:
            list[N - 1].micro = M - 2;
            break; /* one twice, one never */
        case 1:
            list[0].kind = FZ_ACTION_BACKWARD;
            break; /* before its forward */
        case 2:
            list[0].micro = 1;
            list[1].micro = 0;
            break; /* out of order */
        case 3:    /* the first stage wants its first gradient before anyone above could make one */
            lists[1] = (fz_action){FZ_ACTION_BACKWARD, 0};
            lists[2] = (fz_action){FZ_ACTION_FORWARD, 1};
            lists[3] = (fz_action){FZ_ACTION_FORWARD, 2};
            list[0] = (fz_action){FZ_ACTION_FORWARD, 0};
            list[1] = (fz_action){FZ_ACTION_FORWARD, 1};
            break;
        }
        assert_int_equal(fz_schedule_play(lists, P, M, &report), FZ_ERR_ARG);
        assert_non_null(strstr(fz_last_error()->text, broken < 3 ? "stage 1" : "deadlock"));
    }
}

static void nothing_stays_allocated(void **state)
{
    (void)state;
    assert_int_equal(fz_memory_get().n_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_schedule_is_complete_and_has_the_bubble_of_the_formula),
        cmocka_unit_test(one_forward_one_backward_saves_no_more_than_the_stages_above),
        cmocka_unit_test(the_list_of_the_last_stage_alternates),
        cmocka_unit_test(no_micro_batch_is_an_empty_schedule),
        cmocka_unit_test(broken_lists_are_detected),
        cmocka_unit_test(nothing_stays_allocated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
