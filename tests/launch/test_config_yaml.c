#include "tests/support/unit.h"

#include <unistd.h>

#include "core/log.h"
#include "core/memory.h"
#include "launch/config_yaml.h"

static fz_config c;

static fz_status parse(const char *text)
{
    fz_config_init(&c, "config.yaml");
    return fz_config_parse(&c, text, strlen(text), false);
}

static void a_config_is_read(void **state)
{
    (void)state;
    assert_ok(parse("# comment\nrun: {dir: runs/a b, seed: 7}\nmodel:\n  variant: tiny-bart\n"
                    "data:\n  train: [a-*.tar, 'b.tar']\n  eval: c.tar\n"
                    "optimizer:\n  betas: [0.8, 0.9]\n  lr: 1.0e-4\nlayout:\n"));
    assert_string_equal(c.run.dir, "runs/a b");
    assert_string_equal(c.model.variant, "tiny-bart");
    assert_int_equal(c.run.seed, 7);
    assert_int_equal(c.data.train.n, 2);
    assert_string_equal(c.data.train.item[1], "b.tar");
    assert_string_equal(c.data.eval.item[0], "c.tar");
    assert_true(c.optimizer.betas[1] == 0.9 && c.optimizer.lr == 1e-4);
}

static void an_empty_file_means_the_defaults(void **state)
{
    (void)state;
    assert_ok(parse(""));
    assert_ok(parse("# nothing\n"));
    assert_int_equal(c.train.global_batch, 32);
}

static void every_error_has_its_line(void **state)
{
    static const struct {
        const char *text, *error;
    } wrong[] = {
        {"run:\n  sed: 3\n", "config.yaml:2 run.sed: unknown key; the nearest one is run.seed"},
        {"train:\n  lr: 3\n",
         "config.yaml:2 train.lr: unknown key; the nearest one is optimizer.lr"},
        {"optimiser:\n  lr: 3\n", "config.yaml:1 optimiser: unknown section"},
        {"layout:\n\n  tp: three\n",
         "config.yaml:3 layout.tp: three is not a whole number or auto"},
        {"layout:\n  tp: 0\n", "config.yaml:2 layout.tp: 0 is not between"},
        {"run:\n  seed: 1\n  dir: x\n  seed: 2\n",
         "config.yaml:4 run.seed: the key is there twice (first in line 2)"},
        {"run:\n  seed: 1\nrun:\n  seed: 2\n", "config.yaml:4 run.seed: the key is there twice"},
        {"run:\n  seed: {a: 1}\n", "config.yaml:2 run.seed: a value or a list belongs here"},
        {"run:\n  seed: [1, 2]\n", "config.yaml:2 run.seed: a list where one value belongs"},
        {"data:\n  train: [[a]]\n", "config.yaml:2 data.train: a list of plain values"},
        {"run: 3\n", "config.yaml:1 run: keys belong here"},
        {"- run\n", "config.yaml:1: not a config"},
        {"just text\n", "config.yaml:1: not a config"},
        {"run:\n  seed: [1\n", "config.yaml:"},
        {"run:\n\tseed: 1\n", "config.yaml:2:"},
        {"run: &a {seed: 1}\nrun: *a\n", "config.yaml:2: aliases are not read"},
        {"run: {seed: 1}\n---\nrun: {seed: 2}\n", "a second document"},
        {"optimizer:\n  betas: [0.9]\n", "config.yaml:2 optimizer.betas: 1 numbers where 2 belong"},
        {"optimizer:\n  schedule: step\n", "is not one of cosine|linear|constant"},
        {"run:\n  max_time: soon\n", "config.yaml:2 run.max_time: soon is not a time"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_fails(parse(wrong[i].text), FZ_ERR_USAGE, wrong[i].error);
}

static void the_printed_config_reads_back_as_itself(void **state)
{
    char text[1 << 14];
    (void)state;
    assert_ok(parse("run: {dir: \"a: #b\", max_time: 1:30:00}\ndata: {train: ['x, y', z]}\n"));
    assert_ok(fz_config_resolve(&c));
    FILE *out = fmemopen(text, sizeof text, "w");
    fz_settings_print(&fz_config_table, &c, out);
    fclose(out);
    const fz_config before = c;
    assert_ok(parse(text));
    assert_true(fz_settings_hash(&fz_config_table, &c) ==
                fz_settings_hash(&fz_config_table, &before));
    assert_string_equal(c.run.dir, "a: #b");
    assert_int_equal(c.data.train.n, 2);
}

static void unknown_keys_are_left_out_where_that_is_wanted(void **state)
{
    const char text[] = "run: {seed: 3, colour: {a: [1, {b: 2}]}, dir: d}\nzero:\n  stage: 1\n";
    (void)state;
    fz_log_set_level(FZ_LOG_ERROR);
    fz_config_init(&c, "stored");
    assert_ok(fz_config_parse(&c, text, strlen(text), true));
    fz_log_set_level(FZ_LOG_INFO);
    assert_int_equal(c.run.seed, 3);
    assert_string_equal(c.run.dir, "d");
}

static void loading_applies_set_and_anchors_paths(void **state)
{
    const char *const set[] = {"run.seed=9", "data.eval=e.tar"}, *const wrong[] = {"run.seed"};
    char cwd[512], expected[600];
    (void)state;
    FILE *file = fopen("test_config_yaml.yaml", "w");
    fputs("run: {seed: 8}\ndata: {train: t.tar}\n", file);
    fclose(file);
    assert_ok(fz_config_load(&c, "test_config_yaml.yaml", set, 2, NULL));
    assert_int_equal(c.run.seed, 9);
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(expected, sizeof expected, "%s/t.tar", cwd);
    assert_string_equal(c.data.train.item[0], expected);
    assert_fails(fz_config_load(&c, "test_config_yaml.yaml", wrong, 1, NULL), FZ_ERR_USAGE,
                 "--set run.seed: not of the form key=value");
    unlink("test_config_yaml.yaml");
    assert_fails(fz_config_load(&c, "nowhere.yaml", NULL, 0, NULL), FZ_ERR_USAGE,
                 "open nowhere.yaml: No such file");
    assert_fails(fz_config_load(&c, "/tmp", NULL, 0, NULL), FZ_ERR_USAGE, "not a config file");
    assert_int_equal(fz_memory_get().n_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_config_is_read),
        cmocka_unit_test(an_empty_file_means_the_defaults),
        cmocka_unit_test(every_error_has_its_line),
        cmocka_unit_test(the_printed_config_reads_back_as_itself),
        cmocka_unit_test(unknown_keys_are_left_out_where_that_is_wanted),
        cmocka_unit_test(loading_applies_set_and_anchors_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
