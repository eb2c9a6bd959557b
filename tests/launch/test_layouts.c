#include "tests/support/unit.h"

#include "launch/layouts.h"

static fz_program *program;
static const fz_train_config train = {
    .steps = 1, .global_batch = 32, .loss_batch = 32, .micro_batch = 8, .beta2 = 0.9, .eps = 1e-8};
static const fz_layout_config layout = {.schedule = FZ_SCHEDULE_1F1B, .n_shards = 4, .n_lanes = 8};
static fz_layouts found;

static int start(void **state)
{
    fz_model_config model;
    (void)state;
    if (fz_model_variant("tiny-bart", &model) != FZ_OK) return -1;
    return fz_program_create(&model, 4, &program) == FZ_OK ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    fz_program_destroy(&program);
    return 0;
}

static void all_legal_layouts_are_found_best_first(void **state)
{
    const fz_mesh_shape any = {0, 0, 0};
    (void)state;
    assert_ok(fz_layouts_find(program, &train, &layout, any, 4, &found));
    assert_int_equal(found.n, 6); /* tp pp dp: 1 1 4, 1 2 2, 1 4 1, 2 1 2, 2 2 1, 4 1 1 */
    for (int i = 0; i < found.n; i++) {
        assert_int_equal(fz_mesh_size(found.choice[i].shape), 4);
        assert_true(found.choice[i].bytes > 0 && found.choice[i].flops > 0);
        if (i > 0) assert_true(found.choice[i - 1].bytes <= found.choice[i].bytes);
    }
}

static void a_given_axis_is_kept(void **state)
{
    const fz_mesh_shape want = {.tp = 2};
    (void)state;
    assert_ok(fz_layouts_find(program, &train, &layout, want, 4, &found));
    assert_int_equal(found.n, 2);
    for (int i = 0; i < found.n; i++)
        assert_int_equal(found.choice[i].shape.tp, 2);
}

static void ranks_that_fit_no_layout_are_an_error(void **state)
{
    const fz_mesh_shape any = {0, 0, 0}, want = {.tp = 8};
    (void)state;
    assert_int_equal(fz_layouts_find(program, &train, &layout, any, 1021, &found), FZ_ERR_USAGE);
    assert_fails(fz_layouts_find(program, &train, &layout, want, 8, &found), FZ_ERR_USAGE,
                 "layout.tp: no layout of 8 ranks with tp 8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_legal_layouts_are_found_best_first),
        cmocka_unit_test(a_given_axis_is_kept),
        cmocka_unit_test(ranks_that_fit_no_layout_are_an_error),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
