#include "tests/support/unit.h"

#include <math.h>

#include "core/settings.h"

typedef struct config {
    int64_t steps, tp, batch;
    double lr, dropout, betas[2], max_time;
    bool async;
    int device;
    char dir[FZ_TEXT_BYTES];
    fz_text_list train;
} config;

#define AT(field) offsetof(config, field)
static const fz_setting rows[] = {
    {"run.dir", FZ_SET_TEXT, AT(dir), "runs/demo", 0, 0, NULL, FZ_CHANGE_FREE, "run directory"},
    {"run.device", FZ_SET_CHOICE, AT(device), "auto", 0, 0, "auto|cpu|cuda", FZ_CHANGE_FREE, ""},
    {"run.max_time", FZ_SET_TIME, AT(max_time), "null", 0, 1e9, NULL, FZ_CHANGE_FREE, ""},
    {"train.steps", FZ_SET_INT, AT(steps), "100", 1, 1e12, NULL, FZ_CHANGE_ANNOUNCED, ""},
    {"train.batch", FZ_SET_INT, AT(batch), "32", 1, 4096, NULL, FZ_CHANGE_REFUSED, ""},
    {"data.train", FZ_SET_LIST, AT(train), "null", 0, 0, NULL, FZ_CHANGE_REFUSED, ""},
    {"optimizer.lr", FZ_SET_FLOAT, AT(lr), "1e-4", 0, 10, NULL, FZ_CHANGE_ANNOUNCED, ""},
    {"optimizer.betas", FZ_SET_FLOATS, AT(betas), "[0.9, 0.999]", 0, 2, NULL, FZ_CHANGE_FREE, ""},
    {"layout.tp", FZ_SET_AUTO, AT(tp), "auto", 1, 64, NULL, FZ_CHANGE_FREE, ""},
    {"model.dropout", FZ_SET_FLOAT_AUTO, AT(dropout), "auto", 0, 1, NULL, FZ_CHANGE_ANNOUNCED, ""},
    {"checkpoint.async", FZ_SET_BOOL, AT(async), "on", 0, 0, NULL, FZ_CHANGE_FREE, ""},
};
static const fz_settings_table table = {rows, sizeof rows / sizeof *rows};
static config c;

static int start(void **state)
{
    (void)state;
    memset(&c, 0, sizeof c);
    fz_settings_defaults(&table, &c);
    return 0;
}

static fz_status set(const char *key, const char *value)
{
    return fz_settings_set(&table, &c, key, value, "config.yaml:14");
}

static void defaults_fill_every_field(void **state)
{
    (void)state;
    assert_string_equal(c.dir, "runs/demo");
    assert_true(c.steps == 100 && c.tp == FZ_AUTO && c.batch == 32 && c.device == 0 && c.async);
    assert_true(c.lr == 1e-4 && c.betas[0] == 0.9 && c.betas[1] == 0.999);
    assert_true(c.dropout == FZ_AUTO_FLOAT);
    assert_true(c.max_time == FZ_NO_TIME && c.train.n == 0);
}

static void values_of_every_type_are_read(void **state)
{
    (void)state;
    assert_ok(set("run.dir", "/scratch/a b"));
    assert_ok(set("run.device", "cuda"));
    assert_ok(set("train.steps", "7"));
    assert_ok(set("layout.tp", "8"));
    assert_ok(set("optimizer.lr", "2.5e-5"));
    assert_ok(set("optimizer.betas", "[0.8, 0.95]"));
    assert_ok(set("model.dropout", "0.25"));
    assert_ok(set("checkpoint.async", "off"));
    assert_ok(set("data.train", "[a.tar, b-*.tar]"));
    assert_string_equal(c.dir, "/scratch/a b");
    assert_true(c.device == 2 && c.steps == 7 && c.tp == 8 && c.lr == 2.5e-5 && !c.async);
    assert_true(c.betas[0] == 0.8 && c.betas[1] == 0.95 && c.dropout == 0.25);
    assert_int_equal(c.train.n, 2);
    assert_string_equal(c.train.item[1], "b-*.tar");
    assert_ok(set("data.train", "only one.tar"));
    assert_int_equal(c.train.n, 1);
    assert_string_equal(c.train.item[0], "only one.tar");
}

static void times_are_read_as_slurm_and_people_write_them(void **state)
{
    static const struct {
        const char *text;
        double seconds;
    } known[] = {{"90", 90},        {"10m", 600},       {"2h", 7200},        {"1d", 86400},
                 {"1:30:00", 5400}, {"1:30", 90},       {"2-00:00", 172800}, {"0", 0},
                 {"1-2", 93600},    {"1-2:3:4", 93784}, {"null", -1},        {"1.5h", 5400}};
    const char *const wrong[] = {"", "x", "10x", "1:2:3:4", "-5", "1h30", ":30", "auto", "1-2m"};
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_ok(set("run.max_time", known[i].text));
        assert_true(c.max_time == known[i].seconds);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_fails(set("run.max_time", wrong[i]), FZ_ERR_USAGE, "is not a time");
    assert_ok(set("run.max_time", "1-02:30"));
    assert_true(c.max_time == 86400 + 2 * 3600 + 30 * 60);
}

static void errors_name_place_key_value_and_what_is_legal(void **state)
{
    (void)state;
    assert_fails(set("layout.tp", "three"), FZ_ERR_USAGE,
                 "config.yaml:14 layout.tp: three is not a whole number or auto");
    assert_fails(set("layout.tp", "0"), FZ_ERR_USAGE, "0 is not between 1 and 64");
    assert_fails(set("layout.tp", "65"), FZ_ERR_USAGE, "65 is not between 1 and 64");
    assert_fails(set("train.steps", "auto"), FZ_ERR_USAGE, "auto is not a whole number");
    assert_fails(set("train.steps", "1e3"), FZ_ERR_USAGE, "is not a whole number");
    assert_fails(set("train.steps", "99999999999999999999"), FZ_ERR_USAGE, "whole number");
    assert_fails(set("optimizer.lr", "nan"), FZ_ERR_USAGE, "nan is not a number");
    assert_fails(set("optimizer.betas", "0.9"), FZ_ERR_USAGE, "1 numbers where 2 belong");
    assert_fails(set("run.device", "gpu"), FZ_ERR_USAGE, "gpu is not one of auto|cpu|cuda");
    assert_fails(set("run.device", "cp"), FZ_ERR_USAGE, "is not one of");
    assert_fails(set("checkpoint.async", "maybe"), FZ_ERR_USAGE, "neither on nor off");
    const char *const two[] = {"1", "2"};
    assert_fails(fz_settings_set_list(&table, &c, "layout.tp", two, 2, "config.yaml:3"),
                 FZ_ERR_USAGE, "config.yaml:3 layout.tp: a list where one value belongs");
    assert_true(c.tp == FZ_AUTO && c.betas[0] == 0.9);
}

static void an_unknown_key_names_the_nearest(void **state)
{
    (void)state;
    assert_fails(set("layout.tpp", "2"), FZ_ERR_USAGE,
                 "config.yaml:14 layout.tpp: unknown key; the nearest one is layout.tp");
    assert_fails(set("train.lr", "2"), FZ_ERR_USAGE, "nearest one is optimizer.lr");
    assert_fails(set("trian.step", "2"), FZ_ERR_USAGE, "nearest one is train.steps");
}

static void printed_text_sets_the_same_value_again(void **state)
{
    char text[512];
    (void)state;
    assert_ok(set("optimizer.lr", "0.1"));
    assert_ok(set("optimizer.betas", "[0.30000000000000004, 1e-7]"));
    assert_ok(set("data.train", "[a, b]"));
    assert_ok(set("run.max_time", "1:00:00"));
    const config before = c;
    const uint64_t hash = fz_settings_hash(&table, &c);
    for (int i = 0; i < table.n; i++) {
        fz_settings_text(&rows[i], &before, text, sizeof text);
        assert_ok(set(rows[i].key, text));
    }
    assert_memory_equal(&c, &before, sizeof c);
    assert_true(fz_settings_hash(&table, &c) == hash);
    assert_ok(set("layout.tp", "2"));
    assert_true(fz_settings_hash(&table, &c) != hash);
    assert_string_equal(fz_settings_text(&rows[6], &before, text, sizeof text), "0.1");
}

static void the_effective_config_is_yaml_by_section(void **state)
{
    char text[2048] = "";
    (void)state;
    assert_ok(set("run.dir", "a: \"b\""));
    FILE *out = fmemopen(text, sizeof text, "w");
    fz_settings_print(&table, &c, out);
    fclose(out);
    assert_string_equal(text,
                        "run:\n  dir: \"a: \\\"b\\\"\"\n  device: auto\n  max_time: null\n"
                        "train:\n  steps: 100\n  batch: 32\ndata:\n  train: []\n"
                        "optimizer:\n  lr: 0.0001\n  betas: [0.9, 0.999]\n"
                        "layout:\n  tp: auto\nmodel:\n  dropout: auto\ncheckpoint:\n  async: on\n");
}

static void help_names_every_key_and_its_default(void **state)
{
    char text[8192] = "";
    (void)state;
    FILE *out = fmemopen(text, sizeof text, "w");
    fz_settings_help(&table, out);
    fclose(out);
    for (int i = 0; i < table.n; i++)
        assert_non_null(strstr(text, rows[i].key));
    assert_non_null(strstr(text, "1 .. 64, auto; default auto"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(defaults_fill_every_field, start),
        cmocka_unit_test_setup(values_of_every_type_are_read, start),
        cmocka_unit_test_setup(times_are_read_as_slurm_and_people_write_them, start),
        cmocka_unit_test_setup(errors_name_place_key_value_and_what_is_legal, start),
        cmocka_unit_test_setup(an_unknown_key_names_the_nearest, start),
        cmocka_unit_test_setup(printed_text_sets_the_same_value_again, start),
        cmocka_unit_test_setup(the_effective_config_is_yaml_by_section, start),
        cmocka_unit_test_setup(help_names_every_key_and_its_default, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
