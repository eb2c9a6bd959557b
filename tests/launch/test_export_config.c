/* config.json: the numbers that the authors' configurations have for the published sizes. */
#include "tests/support/unit.h"

#include <jansson.h>

#include "core/log.h"
#include "core/memory.h"
#include "launch/export_config.h"

static json_t *make(const char *variant, fz_dtype dtype)
{
    fz_model_config model;
    char *text = NULL;
    assert_ok(fz_model_variant(variant, &model));
    assert_ok(fz_export_config(&model, dtype, &text));
    json_t *config = json_loads(text, 0, NULL);
    assert_non_null(config);
    fz_free(&text);
    assert_int_equal(fz_memory_get().n_live, 0);
    return config;
}

/* The value at a path of keys, "text_config.d_model". */
static const json_t *at(const json_t *config, const char *path)
{
    char keys[128], *rest = keys;
    snprintf(keys, sizeof keys, "%s", path);
    for (const char *key; (key = strtok_r(rest, ".", &rest)) != NULL;)
        config = json_object_get(config, key);
    if (!config) fail_msg("no %s", path);
    return config;
}

static json_int_t number(const json_t *config, const char *path)
{
    return json_integer_value(at(config, path));
}

static void a_small_model_has_florence_2_s_decoder(void **state)
{
    json_t *c = make("0.4b", FZ_DTYPE_F16);
    (void)state;
    assert_string_equal(json_string_value(at(c, "model_type")), "florence2");
    assert_string_equal(json_string_value(at(c, "torch_dtype")), "float16");
    assert_int_equal(number(c, "vocab_size"), 257024);
    assert_int_equal(number(c, "text_config.encoder_vocab_size"), 51328);
    assert_int_equal(number(c, "text_config.d_model"), 768);
    assert_int_equal(number(c, "text_config.decoder_layers"), 6);
    assert_int_equal(number(c, "text_config.decoder_attention_heads"), 12);
    assert_int_equal(number(c, "text_config.max_position_embeddings"), 1024);
    assert_int_equal(number(c, "text_config.decoder_start_token_id"), 1);
    assert_int_equal(number(c, "text_config.encoder_pad_token_id"), 1);
    assert_int_equal(number(c, "vision_config.projection_dim"), 768);
    assert_int_equal(json_integer_value(json_array_get(at(c, "vision_config.dim_embed"), 3)), 1024);
    assert_int_equal(json_integer_value(json_array_get(at(c, "vision_config.num_heads"), 3)), 32);
    assert_int_equal(json_integer_value(json_array_get(at(c, "vision_config.depths"), 2)), 9);
    assert_true(json_is_false(json_array_get(at(c, "vision_config.patch_prenorm"), 0)));
    assert_true(json_is_true(at(c, "text_config.use_encoder_tokenizer")));
    assert_null(json_object_get(at(c, "text_config"), "gemma_config"));
    json_decref(c);
}

static void a_large_model_has_gemma_2_s(void **state)
{
    json_t *c = make("11.2b", FZ_DTYPE_BF16);
    (void)state;
    assert_string_equal(json_string_value(at(c, "torch_dtype")), "bfloat16");
    assert_int_equal(number(c, "text_config.d_model"), 1024);
    assert_int_equal(number(c, "text_config.max_position_embeddings"), 4096);
    assert_int_equal(number(c, "text_config.gemma_config.hidden_size"), 3584);
    assert_int_equal(number(c, "text_config.gemma_config.intermediate_size"), 14336);
    assert_int_equal(number(c, "text_config.gemma_config.num_hidden_layers"), 42);
    assert_int_equal(number(c, "text_config.gemma_config.num_attention_heads"), 16);
    assert_int_equal(number(c, "text_config.gemma_config.num_key_value_heads"), 8);
    assert_int_equal(number(c, "text_config.gemma_config.head_dim"), 256);
    assert_int_equal(number(c, "text_config.gemma_config.vocab_size"), 256000);
    assert_int_equal(number(c, "text_config.gemma_config.encoder_hidden_size"), 1024);
    assert_int_equal(number(c, "text_config.gemma_config.sliding_window"), 4096);
    assert_true(json_real_value(at(c, "text_config.gemma_config.attn_logit_softcapping")) == 50.0);
    assert_true(json_number_value(at(c, "text_config.gemma_config.query_pre_attn_scalar")) ==
                256.0);
    json_decref(c);
}

/* Their code has one number where this program has two, and a cap that is no setting. */
static void what_their_code_cannot_follow_is_told(void **state)
{
    static const char path[] = "test_export_config.log";
    char said[4096] = "", *text = NULL;
    fz_model_config model;
    (void)state;
    remove(path);
    assert_ok(fz_log_open(path));
    assert_ok(fz_model_variant("0.4b", &model));
    model.dec_positions = 300;
    model.final_softcap = 0;
    assert_ok(fz_export_config(&model, FZ_DTYPE_F32, &text));
    fz_free(&text);
    fz_log_open(NULL);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    said[fread(said, 1, sizeof said - 1, file)] = '\0';
    fclose(file);
    remove(path);
    assert_non_null(strstr(said, "1026 and 300"));
    assert_non_null(strstr(said, "model.final_softcap"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_model_has_florence_2_s_decoder),
        cmocka_unit_test(a_large_model_has_gemma_2_s),
        cmocka_unit_test(what_their_code_cannot_follow_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
