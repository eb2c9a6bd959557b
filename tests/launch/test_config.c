#include "tests/support/unit.h"

#include "launch/config.h"

static fz_config c;

static int start(void **state)
{
    (void)state;
    fz_config_init(&c, "config.yaml");
    return 0;
}

static void every_keys_default_parses_and_prints_back(void **state)
{
    char text[FZ_LIST_BYTES];
    (void)state;
    const fz_config before = c;
    for (int i = 0; i < fz_config_table.n; i++) {
        const fz_setting *s = &fz_config_table.settings[i];
        fz_settings_text(s, &before, text, sizeof text);
        assert_ok(fz_settings_set(&fz_config_table, &c, s->key, text, "test"));
        assert_true(s->help && s->help[0]);
        assert_non_null(strchr(s->key, '.'));
    }
    assert_memory_equal(&c, &before, sizeof c);
}

static void keys_are_unique_and_grouped_by_section(void **state)
{
    (void)state;
    for (int i = 0; i < fz_config_table.n; i++) {
        const char *key = fz_config_table.settings[i].key;
        const size_t n = strcspn(key, ".") + 1;
        bool ended = false;
        for (int j = i + 1; j < fz_config_table.n; j++) {
            const char *other = fz_config_table.settings[j].key;
            assert_string_not_equal(key, other);
            if (strncmp(key, other, n) != 0)
                ended = true;
            else
                assert_false(ended);
        }
    }
}

static void change_classes_are_those_of_the_design(void **state)
{
    static const struct {
        const char *key;
        fz_change change;
    } known[] = {
        {"layout.tp", FZ_CHANGE_FREE},
        {"layout.pp", FZ_CHANGE_FREE},
        {"layout.dp", FZ_CHANGE_FREE},
        {"layout.schedule", FZ_CHANGE_FREE},
        {"run.device", FZ_CHANGE_FREE},
        {"run.dir", FZ_CHANGE_FREE},
        {"run.log_every", FZ_CHANGE_FREE},
        {"checkpoint.every", FZ_CHANGE_FREE},
        {"train.steps", FZ_CHANGE_ANNOUNCED},
        {"optimizer.lr", FZ_CHANGE_ANNOUNCED},
        {"optimizer.schedule", FZ_CHANGE_ANNOUNCED},
        {"model.freeze", FZ_CHANGE_ANNOUNCED},
        {"numerics.shards", FZ_CHANGE_ANNOUNCED},
        {"numerics.lanes", FZ_CHANGE_ANNOUNCED},
        {"train.micro_batch", FZ_CHANGE_ANNOUNCED},
        {"run.seed", FZ_CHANGE_REFUSED},
        {"train.global_batch", FZ_CHANGE_REFUSED},
        {"train.loss_batch", FZ_CHANGE_REFUSED},
        {"data.window", FZ_CHANGE_REFUSED},
        {"data.balance", FZ_CHANGE_REFUSED},
        {"model.variant", FZ_CHANGE_NEVER},
        {"model.dec_layers", FZ_CHANGE_NEVER},
        {"model.enc_width", FZ_CHANGE_NEVER},
        {"model.vision_dims", FZ_CHANGE_NEVER},
    };
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const fz_setting *s = fz_settings_find(&fz_config_table, known[i].key);
        assert_non_null(s);
        assert_int_equal(s->change, known[i].change);
    }
}

static void sizes_by_hand_replace_the_variants(void **state)
{
    fz_model_config variant, model;
    (void)state;
    assert_ok(fz_model_variant("tiny-bart", &variant));
    assert_ok(fz_config_set(&c, "model.variant=tiny-bart"));
    assert_ok(fz_config_model(&c, &model));
    assert_memory_equal(&model, &variant, sizeof model);

    assert_ok(fz_config_set(&c, "model.dec_layers=5"));
    assert_ok(fz_config_set(&c, "model.dropout=0"));
    assert_ok(fz_config_set(&c, "model.vision_dims=[32, 32, 64, 64]"));
    assert_ok(fz_config_set(&c, "model.freeze=[recipe, encoder.*]"));
    assert_ok(fz_config_model(&c, &model));
    assert_true(model.dec_layers == 5 && model.dropout == 0.0 && model.vision_dims[3] == 64);
    assert_true(model.freeze_recipe && model.n_freeze == 1);
    assert_string_equal(model.freeze[0], "encoder.*");
    assert_true(model.enc_layers == variant.enc_layers);
}

static void every_size_of_the_model_has_a_key(void **state)
{
    static const char *const names[] = {
        "image_size",     "enc_layers",   "enc_width",  "enc_heads",     "enc_ffn",
        "enc_positions",  "enc_vocab",    "dec_layers", "dec_width",     "dec_heads",
        "dec_kv_heads",   "dec_head_dim", "dec_ffn",    "dec_positions", "dec_vocab",
        "sliding_window", "cross_every",  "max_prompt", "max_output"};
    fz_model_config before, after;
    (void)state;
    assert_ok(fz_config_model(&c, &before));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char key[64];
        snprintf(key, sizeof key, "model.%s", names[i]);
        start(NULL);
        assert_ok(fz_settings_set(&fz_config_table, &c, key, "160", "test"));
        /* Whether 160 makes a model is another question: the number must arrive. */
        (void)fz_config_model(&c, &after);
        assert_memory_not_equal(&before, &after, sizeof before);
    }
}

static void the_resolved_config_has_no_auto_but_what_the_machine_decides(void **state)
{
    char text[FZ_LIST_BYTES];
    fz_model_config before, after;
    (void)state;
    assert_ok(fz_config_model(&c, &before));
    assert_ok(fz_config_resolve(&c));
    assert_ok(fz_config_model(&c, &after));
    assert_memory_equal(&before, &after, sizeof before);
    for (int i = 0; i < fz_config_table.n; i++) {
        const fz_setting *s = &fz_config_table.settings[i];
        fz_settings_text(s, &c, text, sizeof text);
        /* What the machine decides, each time anew. */
        if (strncmp(s->key, "layout.", 7) != 0 && strcmp(s->key, "run.device") != 0 &&
            strcmp(s->key, "checkpoint.io") != 0)
            assert_null(strstr(text, "auto"));
        assert_ok(fz_settings_set(&fz_config_table, &c, s->key, text, "resolved"));
    }
    assert_true(c.numerics.lanes == 8 && c.numerics.shards == fz_model_auto_shards(&before));
}

static void an_error_found_later_names_where_the_key_was_set(void **state)
{
    const char *value = "3";
    (void)state;
    assert_ok(fz_config_apply(&c, "layout.tp", &value, 1, false, 14));
    fz_status status = FZ_FAIL(FZ_ERR_USAGE, "layout.tp: 3 does not divide 4 shards");
    assert_fails(fz_config_blame(&c, status), FZ_ERR_USAGE,
                 "config.yaml:14 layout.tp: 3 does not divide 4 shards");
    assert_ok(fz_config_set(&c, "layout.tp=5"));
    status = FZ_FAIL(FZ_ERR_USAGE, "layout.tp: 5 does not divide 4 shards");
    assert_fails(fz_config_blame(&c, status), FZ_ERR_USAGE, "--set layout.tp: 5");
    status = FZ_FAIL(FZ_ERR_USAGE, "layout.pp: 9 stages");
    assert_fails(fz_config_blame(&c, status), FZ_ERR_USAGE, "config.yaml (default) layout.pp: 9");
    status = FZ_FAIL(FZ_ERR_IO, "open x: no such file");
    assert_fails(fz_config_blame(&c, status), FZ_ERR_IO, "open x");
    assert_string_equal(fz_last_error()->text, "open x: no such file");
}

static void a_layout_must_fit_the_ranks(void **state)
{
    fz_model_config model;
    fz_program *program = NULL;
    fz_layout_config layout;
    (void)state;
    assert_ok(fz_config_model(&c, &model));
    assert_ok(fz_program_create(&model, fz_model_auto_shards(&model), &program));
    assert_ok(fz_config_set(&c, "layout.tp=2"));
    assert_ok(fz_config_layout(&c, program, 6, &layout));
    assert_true(layout.shape.tp == 2 && layout.shape.pp == 1 && layout.shape.dp == 3);
    assert_fails(fz_config_layout(&c, program, 3, &layout), FZ_ERR_USAGE,
                 "layout.tp: tp 2 x pp 1 does not divide 3 ranks");
    assert_ok(fz_config_set(&c, "layout.dp=4"));
    assert_fails(fz_config_layout(&c, program, 6, &layout), FZ_ERR_USAGE, "layout.dp");
    assert_fails(fz_config_layout(&c, program, 6, &layout), FZ_ERR_USAGE, "use 3 or auto");
    assert_ok(fz_config_set(&c, "layout.dp=auto"));
    assert_ok(fz_config_set(&c, "layout.tp=auto"));
    assert_ok(fz_config_layout(&c, program, 4, &layout));
    assert_int_equal(fz_mesh_size(layout.shape), 4);
    assert_int_equal(layout.shape.pp, 1);
    fz_program_destroy(&program);
}

static void shards_and_lanes_are_powers_of_two(void **state)
{
    fz_model_config model;
    int64_t shards, lanes;
    (void)state;
    assert_ok(fz_config_model(&c, &model));
    assert_ok(fz_config_set(&c, "numerics.shards=6"));
    assert_fails(fz_config_numerics(&c, &model, &shards, &lanes), FZ_ERR_USAGE,
                 "numerics.shards: 6 is not a power of two");
    assert_ok(fz_config_set(&c, "numerics.shards=2"));
    assert_ok(fz_config_set(&c, "numerics.lanes=12"));
    assert_fails(fz_config_numerics(&c, &model, &shards, &lanes), FZ_ERR_USAGE,
                 "numerics.lanes: 12");
}

static void data_paths_are_anchored_and_others_are_not(void **state)
{
    const char *globs[] = {"train-*.tar", "/abs/x.tar"}, *name = "enc.model";
    (void)state;
    assert_ok(fz_config_apply(&c, "data.train", globs, 2, true, 3));
    assert_ok(fz_config_apply(&c, "data.enc_tokenizer", &name, 1, false, 4));
    assert_ok(fz_config_set(&c, "data.eval=eval.tar"));
    assert_ok(fz_config_anchor(&c, "/data/set", "/home/me"));
    assert_string_equal(c.data.train.item[0], "/data/set/train-*.tar");
    assert_string_equal(c.data.train.item[1], "/abs/x.tar");
    assert_string_equal(c.data.eval.item[0], "/home/me/eval.tar");
    assert_string_equal(c.data.enc_tokenizer, "/data/set/enc.model");
    assert_string_equal(c.data.dec_tokenizer, "");
    assert_string_equal(c.run.dir, "runs/florenz");
    char pattern[FZ_LIST_BYTES];
    assert_string_equal(fz_config_pattern(&c.data.train, pattern, sizeof pattern),
                        "/data/set/train-*.tar,/abs/x.tar");
}

static void the_training_config_is_what_the_keys_say(void **state)
{
    fz_train_config train;
    (void)state;
    assert_ok(fz_config_set(&c, "run.seed=7"));
    assert_ok(fz_config_set(&c, "optimizer.betas=[0.5, 0.75]"));
    assert_ok(fz_config_set(&c, "optimizer.schedule=linear"));
    fz_config_train(&c, &train);
    assert_true(train.seed == 7 && train.beta1 == 0.5 && train.beta2 == 0.75);
    assert_true(train.lr_kind == FZ_LR_LINEAR && train.global_batch == 32 && train.clip == 1.0);
    assert_true(train.warmup == 100 && train.micro_batch == 8 && train.steps == 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_keys_default_parses_and_prints_back, start),
        cmocka_unit_test_setup(keys_are_unique_and_grouped_by_section, start),
        cmocka_unit_test_setup(change_classes_are_those_of_the_design, start),
        cmocka_unit_test_setup(sizes_by_hand_replace_the_variants, start),
        cmocka_unit_test_setup(every_size_of_the_model_has_a_key, start),
        cmocka_unit_test_setup(the_resolved_config_has_no_auto_but_what_the_machine_decides, start),
        cmocka_unit_test_setup(an_error_found_later_names_where_the_key_was_set, start),
        cmocka_unit_test_setup(a_layout_must_fit_the_ranks, start),
        cmocka_unit_test_setup(shards_and_lanes_are_powers_of_two, start),
        cmocka_unit_test_setup(data_paths_are_anchored_and_others_are_not, start),
        cmocka_unit_test_setup(the_training_config_is_what_the_keys_say, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
