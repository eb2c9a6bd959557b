/* The program: parameter counts to the last digit, cuts, live streams, freezing, initial values. */
#include "tests/support/unit.h"

#include "model/program.h"

static fz_program *make(const char *variant, int64_t shards)
{
    fz_model_config config;
    fz_program *program = NULL;
    assert_int_equal(fz_model_variant(variant, &config), FZ_OK);
    if (shards == 0) shards = fz_model_auto_shards(&config);
    assert_int_equal(fz_program_create(&config, shards, &program), FZ_OK);
    return program;
}

static int64_t count(const fz_program *program, const char *prefix, int64_t *n_tensors)
{
    int64_t elements = 0;
    *n_tensors = 0;
    for (int i = 0; i < program->n_params; i++) {
        if (strncmp(program->params[i].name, prefix, strlen(prefix)) != 0) continue;
        elements += fz_param_elements(&program->params[i]);
        ++*n_tensors;
    }
    return elements;
}

/* model.md 8: every total, trained and not, and the parts with their tensor counts. */
static void variants_have_the_published_counts(void **state)
{
    static const struct {
        const char *name;
        int64_t total, trainable, davit, projector, encoder, n_encoder, decoder, n_decoder;
    } rows[] = {
        {"0.4b", 428838400, 337631232, 90368000, 839168, 43316736 + 39419904, 99 + 1,
         57500160 + 197394432, 159 + 1},
        {"1.0b", 1039697920, 676864000, 360632320, 2201600, 155353088 + 52559872, 195 + 1,
         205758464 + 263192576, 315 + 1},
        {"3.5b", 3485001498, 1097649690, 360632320, 2201600, 155353088 + 52519936, 195 + 1,
         INT64_C(2024517888) + 299952666 + 589824000, 444},
        {"11.2b", INT64_C(11221849642), INT64_C(2534813738), 360632320, 2201600,
         155353088 + 52519936, 195 + 1, INT64_C(8324201984) + 1409436714 + 917504000, 716},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fz_program *p = make(rows[i].name, 0);
        int64_t n;
        assert_int_equal(p->n_elements, rows[i].total);
        assert_int_equal(p->n_trainable, rows[i].trainable);
        assert_int_equal(count(p, "vision_tower.", &n), rows[i].davit);
        assert_int_equal(n, 400);
        assert_int_equal(count(p, "image_", &n), rows[i].projector);
        assert_int_equal(count(p, "language_model.model.encoder.", &n), rows[i].encoder);
        assert_int_equal(n, rows[i].n_encoder);
        assert_int_equal(count(p, "language_model.model.decoder.", &n), rows[i].decoder);
        assert_int_equal(n, rows[i].n_decoder);
        fz_program_destroy(&p);
    }
}

static void automatic_shards_divide_every_query_head_count(void **state)
{
    fz_model_config config;
    (void)state;
    assert_int_equal(fz_model_variant("0.4b", &config), FZ_OK);
    assert_int_equal(fz_model_auto_shards(&config), 4);
    assert_int_equal(fz_model_variant("3.5b", &config), FZ_OK);
    assert_int_equal(fz_model_auto_shards(&config), 8);
    assert_int_equal(fz_model_variant("11.2b", &config), FZ_OK);
    assert_int_equal(fz_model_auto_shards(&config), 8);
}

/* Every logical element is held by exactly `replicas` pieces, at every shard count. */
static void pieces_tile_every_tensor(void **state)
{
    (void)state;
    for (int64_t S = 1; S <= 4; S *= 2) {
        fz_program *p = make("tiny-gemma", S);
        for (int i = 0; i < p->n_params; i++) {
            const fz_param *param = &p->params[i];
            int64_t held = 0;
            for (int64_t s = 0; s < fz_param_pieces(param, S); s++) {
                int64_t lo[FZ_MAX_AXES], hi[FZ_MAX_AXES], n = 1;
                fz_param_piece_box(param, S, s, lo, hi);
                for (int a = 0; a < FZ_MAX_AXES; a++)
                    n *= hi[a] - lo[a];
                assert_true(n <= fz_param_piece_elements(param, S));
                held += n;
            }
            assert_int_equal(held, fz_param_elements(param) * param->replicas);
        }
        fz_program_destroy(&p);
    }
}

/* What piece_tile says about boxes, initial values must follow: the same number at every S. */
static void initial_values_do_not_depend_on_the_shard_count(void **state)
{
    fz_program *whole = make("tiny-gemma", 1), *cut = make("tiny-gemma", 4);
    float *a = malloc(sizeof *a * 200000), *b = malloc(sizeof *b * 200000);
    (void)state;
    for (int i = 0; i < whole->n_params; i++) {
        const fz_param *one = &whole->params[i], *four = &cut->params[i];
        fz_param_init_piece(one, 1, 0, 7, a);
        for (int64_t s = 0; s < fz_param_pieces(four, 4); s++) {
            int64_t lo[FZ_MAX_AXES], hi[FZ_MAX_AXES];
            fz_param_piece_box(four, 4, s, lo, hi);
            fz_param_init_piece(four, 4, s, 7, b);
            const int64_t rest = fz_param_elements(one) / one->shape[0];
            const int64_t cols = one->ndim == 2 ? hi[1] - lo[1] : rest;
            const int64_t width = one->ndim == 2 ? one->shape[1] : rest;
            const int64_t col0 = one->ndim == 2 ? lo[1] : 0;
            for (int64_t r = lo[0]; r < hi[0]; r++)
                assert_memory_equal(a + r * width + col0, b + (r - lo[0]) * cols,
                                    (size_t)cols * sizeof *a);
        }
    }
    free(a);
    free(b);
    fz_program_destroy(&whole);
    fz_program_destroy(&cut);
}

static int find(const fz_program *p, const char *name)
{
    for (int b = 0; b < p->n_blocks; b++)
        if (strcmp(p->blocks[b].name, name) == 0) return b;
    fail_msg("no block %s", name);
    return -1;
}

static void live_streams_are_those_written_before_and_read_after(void **state)
{
    fz_program *p = make("tiny-bart", 4);
    fz_live live[FZ_N_STREAMS];
    (void)state;
    assert_int_equal(fz_program_live(p, find(p, "vision.channel[2.0]"), live), 1);
    assert_int_equal(live[0].stream, FZ_STREAM_VISION);
    assert_int_equal(live[0].rows_per_image, 5 * 5);
    assert_int_equal(live[0].width, 96);
    assert_int_equal(fz_program_live(p, find(p, "encoder.embed"), live), 1);
    assert_int_equal(live[0].rows_per_image, 10);
    assert_int_equal(live[0].width, 64);
    assert_int_equal(fz_program_live(p, find(p, "decoder.embed"), live), 1);
    assert_int_equal(live[0].stream, FZ_STREAM_ENC);
    assert_true(live[0].needs_grad);
    assert_int_equal(fz_program_live(p, find(p, "decoder.layer[1]"), live), 2);
    assert_int_equal(fz_program_live(p, find(p, "head.loss"), live), 1);
    assert_int_equal(live[0].stream, FZ_STREAM_DEC);
    fz_program_destroy(&p);
}

static void freezing_stops_gradients_where_nothing_below_trains(void **state)
{
    fz_model_config config;
    fz_program *p = NULL;
    fz_live live[FZ_N_STREAMS];
    (void)state;
    assert_int_equal(fz_model_variant("tiny-gemma", &config), FZ_OK);
    config.freeze_recipe = true;
    assert_int_equal(fz_program_create(&config, 4, &p), FZ_OK);
    assert_false(fz_block_keeps(&p->blocks[find(p, "vision.patch[3]")]));
    assert_false(p->blocks[find(p, "encoder.embed")].wants_input_grad);
    assert_true(p->blocks[find(p, "encoder.embed")].trains);
    fz_program_live(p, find(p, "encoder.embed"), live);
    assert_false(live[0].needs_grad);
    assert_true(p->blocks[find(p, "decoder.layer[0]")].wants_enc_grad);
    fz_program_destroy(&p);

    /* Only the gates train: enc needs no gradient; dec does from the first layer's gate on. */
    config.n_freeze = 0;
    config.freeze_recipe = true;
    strcpy(config.freeze[config.n_freeze++], "language_model.model.encoder.*");
    strcpy(config.freeze[config.n_freeze++], "*embed_tokens*");
    assert_int_equal(fz_program_create(&config, 4, &p), FZ_OK);
    assert_false(p->blocks[find(p, "decoder.layer[0]")].wants_enc_grad);
    assert_false(p->blocks[find(p, "decoder.layer[0]")].wants_input_grad);
    assert_true(p->blocks[find(p, "decoder.layer[1]")].wants_input_grad);
    fz_program_live(p, find(p, "decoder.layer[1]"), live);
    assert_false(live[0].needs_grad);
    assert_true(live[1].needs_grad);
    fz_program_destroy(&p);

    /* Frozen decoder embedding, training encoder: lower layers carry d(enc). */
    config.n_freeze = 0;
    strcpy(config.freeze[config.n_freeze++], "language_model.model.decoder.*");
    assert_int_equal(fz_program_create(&config, 4, &p), FZ_OK);
    assert_false(p->blocks[find(p, "decoder.layer[0]")].wants_input_grad);
    assert_true(p->blocks[find(p, "decoder.layer[1]")].wants_input_grad);
    assert_false(p->blocks[find(p, "decoder.layer[1]")].trains);
    fz_program_destroy(&p);
}

static void unusable_sizes_are_refused_with_the_key(void **state)
{
    fz_model_config config;
    fz_program *p = NULL;
    (void)state;
    assert_int_equal(fz_model_variant("0.4b", &config), FZ_OK);
    assert_int_equal(fz_program_create(&config, 8, &p), FZ_ERR_USAGE);
    assert_non_null(
        strstr(fz_last_error()->text, "numerics.shards: 8 does not divide model.enc_heads 12"));
    assert_int_equal(fz_program_create(&config, 3, &p), FZ_ERR_USAGE);
    config.enc_positions = 100;
    assert_int_equal(fz_program_create(&config, 4, &p), FZ_ERR_USAGE);
    assert_non_null(strstr(fz_last_error()->text, "model.enc_positions"));
    assert_int_equal(fz_model_variant("0.5b", &config), FZ_ERR_USAGE);
    assert_non_null(strstr(fz_last_error()->text, "11.2b"));
    assert_int_equal(fz_model_variant("tiny-bart", &config), FZ_OK);
    config.n_freeze = 1;
    strcpy(config.freeze[0], "no_such_tensor*");
    assert_int_equal(fz_program_create(&config, 4, &p), FZ_ERR_USAGE);
    assert_null(p);
}

/* The recipe's decay mask: biases and LayerNorm outside, RMSNorm weights and gates inside. */
static void decay_mask_follows_the_setting(void **state)
{
    fz_program *p = make("tiny-gemma", 4);
    (void)state;
    for (int i = 0; i < p->n_params; i++) {
        const char *name = p->params[i].name;
        if (strstr(name, ".bias") || strstr(name, "layernorm_embedding") ||
            (strstr(name, "encoder.layers") && strstr(name, "_layer_norm")))
            assert_false(p->params[i].decay);
        if (strstr(name, "gate") || strstr(name, "input_layernorm"))
            assert_true(p->params[i].decay);
    }
    fz_program_destroy(&p);

    fz_model_config config;
    assert_ok(fz_model_variant("tiny-gemma", &config));
    config.decay = FZ_DECAY_MATRICES;
    assert_ok(fz_program_create(&config, 4, &p));
    for (int i = 0; i < p->n_params; i++)
        assert_int_equal(p->params[i].decay, p->params[i].ndim >= 2);
    fz_program_destroy(&p);
    config.decay = FZ_DECAY_ALL;
    assert_ok(fz_program_create(&config, 4, &p));
    for (int i = 0; i < p->n_params; i++)
        assert_true(p->params[i].decay);
    fz_program_destroy(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variants_have_the_published_counts),
        cmocka_unit_test(automatic_shards_divide_every_query_head_count),
        cmocka_unit_test(pieces_tile_every_tensor),
        cmocka_unit_test(initial_values_do_not_depend_on_the_shard_count),
        cmocka_unit_test(live_streams_are_those_written_before_and_read_after),
        cmocka_unit_test(freezing_stops_gradients_where_nothing_below_trains),
        cmocka_unit_test(unusable_sizes_are_refused_with_the_key),
        cmocka_unit_test(decay_mask_follows_the_setting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
