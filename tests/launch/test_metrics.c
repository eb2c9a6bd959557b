#include "tests/support/unit.h"

#include <math.h>
#include <unistd.h>

#include <jansson.h>

#include "core/fault.h"
#include "launch/metrics.h"

static const char *path = "test_metrics.jsonl";
static fz_metrics metrics;

static int start(void **state)
{
    (void)state;
    unlink(path);
    return fz_metrics_open(path, &metrics) == FZ_OK ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    fz_metrics_close(&metrics);
    unlink(path);
    return 0;
}

static json_t *line(int number)
{
    static char text[1 << 15];
    FILE *file = fopen(path, "r");
    for (int i = 0; i <= number; i++)
        assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    json_error_t error;
    json_t *object = json_loads(text, 0, &error);
    if (!object) fail_msg("%s: %s", error.text, text);
    return object;
}

static const fz_step_result result = {.step = 3,
                                      .loss = 2.5f,
                                      .grad_norm = 1.0f,
                                      .lr = 0.125f,
                                      .n_tokens = 600,
                                      .n_labels = 200,
                                      .flops = 4e9};

static void a_step_is_one_line_with_the_documented_keys(void **state)
{
    fz_metrics_row row = {.result = &result,
                          .samples = 96,
                          .step_samples = 32,
                          .seconds = 2.0,
                          .share_s = {0.5, 1.0, 0.25, 0.0, 0.25}};
    (void)state;
    assert_ok(fz_metrics_write(&metrics, &row));
    assert_ok(fz_metrics_write(&metrics, &row));
    assert_ok(fz_metrics_sync(&metrics));
    json_t *object = line(1), *shares = json_object_get(object, "shares");
    assert_int_equal(json_integer_value(json_object_get(object, "step")), 3);
    assert_string_equal(json_string_value(json_object_get(object, "loss_bits")), "40200000");
    assert_string_equal(json_string_value(json_object_get(object, "grad_norm_bits")), "3f800000");
    assert_true(json_number_value(json_object_get(object, "loss")) == 2.5);
    assert_true(json_number_value(json_object_get(object, "lr")) == 0.125);
    assert_int_equal(json_integer_value(json_object_get(object, "samples")), 96);
    assert_true(json_number_value(json_object_get(object, "images_per_s")) == 16.0);
    assert_true(json_number_value(json_object_get(object, "tokens_per_s")) == 300.0);
    assert_true(json_number_value(json_object_get(object, "flops_per_s")) == 2e9);
    assert_true(json_integer_value(json_object_get(object, "peak_bytes")) > 0);
    assert_true(json_number_value(json_object_get(shares, "data")) == 0.25);
    double sum = 0.0;
    const char *key;
    json_t *value;
    json_object_foreach(shares, key, value) sum += json_number_value(value);
    assert_true(fabs(sum - 1.0) < 1e-5);
    assert_int_equal(json_object_size(shares), FZ_N_SHARES);
    json_decref(object);
}

static void a_loss_that_is_no_number_is_null_and_keeps_its_bits(void **state)
{
    fz_step_result broken = result;
    broken.loss = NAN;
    broken.grad_norm = INFINITY;
    const fz_metrics_row row = {.result = &broken, .seconds = 1.0, .share_s = {1.0}};
    (void)state;
    assert_ok(fz_metrics_write(&metrics, &row));
    json_t *object = line(0);
    assert_true(json_is_null(json_object_get(object, "loss")));
    assert_string_equal(json_string_value(json_object_get(object, "grad_norm_bits")), "7f800000");
    json_decref(object);
}

static void held_out_losses_are_a_line_by_class(void **state)
{
    fz_evaluation e = {.n_classes = 3, .loss = 1.5, .n_samples = 10};
    (void)state;
    snprintf(e.classes[0].name, FZ_CLASS_BYTES, "caption/de");
    e.classes[0].loss = 2.0;
    e.classes[0].n_samples = 9;
    snprintf(e.classes[1].name, FZ_CLASS_BYTES, "none/of");
    snprintf(e.classes[2].name, FZ_CLASS_BYTES, "a\"b\\\n/x");
    e.classes[2].n_samples = 1;
    assert_ok(fz_metrics_write_eval(&metrics, 7, &e));
    json_t *object = line(0), *eval = json_object_get(object, "eval");
    assert_int_equal(json_integer_value(json_object_get(object, "step")), 7);
    assert_true(json_number_value(json_object_get(object, "eval_loss")) == 1.5);
    assert_true(json_number_value(json_object_get(eval, "caption/de")) == 2.0);
    assert_null(json_object_get(eval, "none/of"));
    assert_non_null(json_object_get(eval, "a\"b\\\n/x"));
    json_decref(object);
}

static void a_full_disk_is_an_error_that_names_the_file(void **state)
{
    const fz_metrics_row row = {.result = &result, .seconds = 1.0, .share_s = {1.0}};
    (void)state;
    assert_ok(fz_fault_set("write:1"));
    assert_fails(fz_metrics_write(&metrics, &row), FZ_ERR_IO, "write test_metrics.jsonl: No space");
    assert_ok(fz_fault_set(NULL));
    fz_metrics other;
    assert_fails(fz_metrics_open("/nowhere/m.jsonl", &other), FZ_ERR_IO, "open /nowhere/m.jsonl");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_step_is_one_line_with_the_documented_keys, start, stop),
        cmocka_unit_test_setup_teardown(a_loss_that_is_no_number_is_null_and_keeps_its_bits, start,
                                        stop),
        cmocka_unit_test_setup_teardown(held_out_losses_are_a_line_by_class, start, stop),
        cmocka_unit_test_setup_teardown(a_full_disk_is_an_error_that_names_the_file, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
