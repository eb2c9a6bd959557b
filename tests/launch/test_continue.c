#include "tests/support/unit.h"

#include <unistd.h>

#include "core/log.h"
#include "launch/continue.h"

static fz_config c;
static char stored[1 << 14];
static fz_ckpt_info info;
static const char *log_path = "test_continue.log";

/* A checkpoint of the config as it is by default. */
static int start(void **state)
{
    (void)state;
    fz_config_init(&c, "config.yaml");
    if (fz_config_resolve(&c) != FZ_OK) return -1;
    FILE *out = fmemopen(stored, sizeof stored, "w");
    fz_settings_print(&fz_config_table, &c, out);
    fclose(out);
    info = (fz_ckpt_info){.config = stored, .data_fingerprint = 17, .arithmetic_id = "this"};
    unlink(log_path);
    return fz_log_open(log_path) == FZ_OK ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    fz_log_open(NULL);
    unlink(log_path);
    return 0;
}

static const char *said(void)
{
    static char text[8192];
    FILE *file = fopen(log_path, "r");
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static fz_status check(const char *accept)
{
    return fz_continue_check_config(&c, &info, "this", &accept, accept ? 1 : 0);
}

static void set(const char *assignment)
{
    assert_ok(fz_config_set(&c, assignment));
}

static void nothing_changed_says_nothing(void **state)
{
    (void)state;
    assert_ok(check(NULL));
    assert_string_equal(said(), "");
}

static void free_keys_change_silently(void **state)
{
    (void)state;
    set("layout.tp=2");
    set("run.dir=elsewhere");
    set("checkpoint.every=5");
    assert_ok(check(NULL));
    assert_string_equal(said(), "");
}

/* What the checkpoint's own config says decides: a run that is continued again has dropped them. */
static void moments_are_dropped_once(void **state)
{
    static char dropped[] = "checkpoint: {optimizer: drop}\n";
    bool drops = true;
    (void)state;
    assert_ok(fz_continue_drops_moments(&c, &info, &drops));
    assert_false(drops);
    set("checkpoint.optimizer=drop");
    assert_ok(fz_continue_drops_moments(&c, &info, &drops));
    assert_true(drops);
    assert_ok(check(NULL));
    assert_string_equal(said(), "continues with another checkpoint.optimizer: drop, before keep\n");
    info.config = NULL; /* from before there was such a key */
    assert_ok(fz_continue_drops_moments(&c, &info, &drops));
    assert_true(drops);
    info.config = dropped;
    assert_ok(fz_continue_drops_moments(&c, &info, &drops));
    assert_false(drops);
}

static void announced_keys_are_told_in_one_line_each(void **state)
{
    (void)state;
    set("optimizer.lr=0.5");
    set("train.steps=77");
    assert_ok(check(NULL));
    assert_string_equal(said(), "continues with another train.steps: 77, before 1000\n"
                                "continues with another optimizer.lr: 0.5, before 0.0001\n");
}

static void sums_that_are_grouped_anew_are_told(void **state)
{
    static const char *const keys[] = {"numerics.lanes=4", "numerics.shards=2",
                                       "train.micro_batch=4"};
    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        stop(NULL);
        start(NULL);
        set(keys[i]);
        assert_ok(check(NULL));
        assert_non_null(strstr(said(), "sums are grouped anew"));
    }
}

static void refused_keys_need_to_be_accepted(void **state)
{
    (void)state;
    set("train.global_batch=64");
    assert_fails(check(NULL), FZ_ERR_USAGE,
                 "--set train.global_batch: 64, but the run was started with 32");
    assert_fails(check("train.loss_batch"), FZ_ERR_USAGE, "--accept-change train.global_batch");
    assert_ok(check("train.global_batch"));
    assert_non_null(strstr(said(), "(accepted)"));
}

static void a_models_shape_never_changes(void **state)
{
    (void)state;
    set("model.dec_layers=9");
    assert_fails(check("model.dec_layers"), FZ_ERR_USAGE,
                 "model.dec_layers: 9, but the run's model has 3 and cannot change");
    const char *never = "model.dec_layers", *unknown = "train.global_batc", *fine = "run.seed";
    assert_fails(fz_continue_check_accept(&never, 1), FZ_ERR_USAGE, "cannot change");
    assert_fails(fz_continue_check_accept(&unknown, 1), FZ_ERR_USAGE, "train.global_batch");
    assert_ok(fz_continue_check_accept(&fine, 1));
}

static void other_data_is_refused_like_a_key(void **state)
{
    const char *accept = "data.train";
    (void)state;
    assert_fails(fz_continue_check_data(&c, &info, 18, NULL, 0), FZ_ERR_USAGE,
                 "--accept-change data.train");
    assert_ok(fz_continue_check_data(&c, &info, 18, &accept, 1));
    assert_ok(fz_continue_check_data(&c, &info, 17, NULL, 0));
}

/* Step 0 from elsewhere has seen no data: its batch, its seed and its data are still to be chosen.
 */
static void an_imported_step_is_bound_by_its_model_alone(void **state)
{
    (void)state;
    info.data_fingerprint = 0;
    set("run.seed=7");
    set("train.steps=1234");
    assert_ok(check(NULL));
    assert_string_equal(said(), "");
    assert_ok(fz_continue_check_data(&c, &info, 18, NULL, 0));
    set("model.dec_layers=1");
    assert_fails(check(NULL), FZ_ERR_USAGE, "model.dec_layers");
    info.step = 5;
    assert_fails(fz_continue_check_data(&c, &info, 18, NULL, 0), FZ_ERR_USAGE, "data.train");
}

static void another_arithmetic_is_told(void **state)
{
    (void)state;
    assert_ok(fz_continue_check_config(&c, &info, "that", NULL, 0));
    assert_non_null(strstr(said(), "arithmetic changed: that, before this"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_changed_says_nothing, start, stop),
        cmocka_unit_test_setup_teardown(free_keys_change_silently, start, stop),
        cmocka_unit_test_setup_teardown(moments_are_dropped_once, start, stop),
        cmocka_unit_test_setup_teardown(announced_keys_are_told_in_one_line_each, start, stop),
        cmocka_unit_test_setup_teardown(sums_that_are_grouped_anew_are_told, start, stop),
        cmocka_unit_test_setup_teardown(refused_keys_need_to_be_accepted, start, stop),
        cmocka_unit_test_setup_teardown(a_models_shape_never_changes, start, stop),
        cmocka_unit_test_setup_teardown(other_data_is_refused_like_a_key, start, stop),
        cmocka_unit_test_setup_teardown(an_imported_step_is_bound_by_its_model_alone, start, stop),
        cmocka_unit_test_setup_teardown(another_arithmetic_is_told, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
