#include "launch/export_config.h"

#include <math.h>
#include <stdlib.h>

#include <jansson.h>

#include "core/log.h"
#include "core/memory.h"

/* Ids of the two tokenizers (model.md 6.3): Gemma's for the decoder, BART's for the encoder. */
enum { DEC_PAD = 0, DEC_EOS = 1, DEC_BOS = 2, ENC_BOS = 0, ENC_PAD = 1, ENC_EOS = 2 };
enum { UNUSED_POSITIONS = 2, GEMMA_POSITIONS = 8192, HEAD_CHANNELS = 32 };

static json_t *numbers(const int64_t *x, int64_t divisor)
{
    json_t *list = json_array();
    for (int s = 0; s < FZ_VISION_STAGES; s++)
        json_array_append_new(list, json_integer((json_int_t)(x[s] / divisor)));
    return list;
}

static json_t *vision_config(const fz_model_config *c)
{
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:o, s:f, s:[i,i,i,i], s:[i,i,i,i], s:[i,i,i,i], s:[b,b,b,b],"
        " s:i, s:b, s:I, s:{s:s, s:i}, s:{s:s, s:i}, s:[s,s]}",
        "model_type", "davit", "_attn_implementation", "eager", "dim_embed",
        numbers(c->vision_dims, 1), "depths", numbers(c->vision_depths, 1), "num_heads",
        numbers(c->vision_dims, HEAD_CHANNELS), "num_groups",
        numbers(c->vision_dims, HEAD_CHANNELS), "drop_path_rate", c->drop_path, "patch_size", 7, 3,
        3, 3, "patch_stride", 4, 2, 2, 2, "patch_padding", 3, 1, 1, 1, "patch_prenorm", 0, 1, 1, 1,
        "window_size", 12, "enable_checkpoint", 0, "projection_dim", (json_int_t)c->enc_width,
        "visual_temporal_embedding", "type", "COSINE", "max_temporal_embeddings", 100,
        "image_pos_embed", "type", "learned_abs_2d", "max_pos_embeddings", 50,
        "image_feature_source", "spatial_avg_pool", "temporal_avg_pool");
}

/* null where there is no cap. */
static json_t *cap(double value)
{
    return value > 0 ? json_real(value) : json_null();
}

/* Public configs have whole numbers here, and loaders that insist on them. */
static json_t *number(double value)
{
    return value == floor(value) ? json_integer((json_int_t)value) : json_real(value);
}

static json_t *gemma_config(const fz_model_config *c)
{
    return json_pack("{s:s, s:s, s:[s], s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:f, s:f, s:f, s:o,"
                     " s:o, s:o, s:I, s:s, s:s, s:b, s:f, s:I, s:I, s:b, s:i, s:i, s:i, s:b}",
                     "model_type", "gemma2", "_attn_implementation", "eager", "architectures",
                     "Gemma2ForCausalLM", "vocab_size", (json_int_t)c->dec_vocab, "hidden_size",
                     (json_int_t)c->dec_width, "intermediate_size", (json_int_t)c->dec_ffn,
                     "num_hidden_layers", (json_int_t)c->dec_layers, "num_attention_heads",
                     (json_int_t)c->dec_heads, "num_key_value_heads", (json_int_t)c->dec_kv_heads,
                     "head_dim", (json_int_t)c->dec_head_dim, "max_position_embeddings",
                     GEMMA_POSITIONS, "initializer_range", c->init_std, "rms_norm_eps", 1e-6,
                     "rope_theta", c->rope_theta, "attn_logit_softcapping", cap(c->attn_softcap),
                     "final_logit_softcapping", cap(c->final_softcap), "query_pre_attn_scalar",
                     number(c->query_scalar), "sliding_window", (json_int_t)c->sliding_window,
                     "hidden_act", "gelu_pytorch_tanh", "hidden_activation", "gelu_pytorch_tanh",
                     "attention_bias", 0, "attention_dropout", 0.0, "encoder_hidden_size",
                     (json_int_t)c->enc_width, "encoder_attn_every_x_layers",
                     (json_int_t)c->cross_every, "tie_word_embeddings", 1, "pad_token_id", DEC_PAD,
                     "bos_token_id", DEC_BOS, "eos_token_id", DEC_EOS, "use_cache", 1);
}

/* Florence-2's text part: the encoder, and the decoder where it is Florence-2's. */
static json_t *text_config(const fz_model_config *c)
{
    const bool is_bart = c->family == FZ_DECODER_BART;
    json_t *text = json_pack(
        "{s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f,"
        " s:f, s:f, s:f, s:f, s:f, s:b, s:b, s:b}",
        "model_type", "florence2_language", "_attn_implementation", "eager",
        "use_encoder_tokenizer", is_bart, "vocab_size", (json_int_t)c->dec_vocab,
        "encoder_vocab_size", (json_int_t)c->enc_vocab, "d_model", (json_int_t)c->enc_width,
        "encoder_layers", (json_int_t)c->enc_layers, "encoder_attention_heads",
        (json_int_t)c->enc_heads, "encoder_ffn_dim", (json_int_t)c->enc_ffn, "decoder_layers",
        (json_int_t)(is_bart ? c->dec_layers : c->enc_layers), "decoder_attention_heads",
        (json_int_t)(is_bart ? c->dec_heads : c->enc_heads), "decoder_ffn_dim",
        (json_int_t)(is_bart ? c->dec_ffn : c->enc_ffn), "num_hidden_layers",
        (json_int_t)c->enc_layers, "max_position_embeddings",
        (json_int_t)(c->enc_positions - UNUSED_POSITIONS), "num_labels", (json_int_t)3,
        "activation_function", "gelu", "dropout", c->dropout, "attention_dropout", c->attn_dropout,
        "activation_dropout", c->act_dropout, "classifier_dropout", 0.0, "encoder_layerdrop", 0.0,
        "decoder_layerdrop", 0.0, "init_std", c->init_std, "scale_embedding", 0, "normalize_before",
        0, "add_final_layer_norm", 0);
    json_t *ids = json_pack(
        "{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:b, s:b}", "pad_token_id", DEC_PAD,
        "bos_token_id", DEC_BOS, "eos_token_id", DEC_EOS, "decoder_start_token_id", DEC_EOS,
        "forced_bos_token_id", DEC_BOS, "forced_eos_token_id", DEC_EOS, "encoder_pad_token_id",
        ENC_PAD, "encoder_bos_token_id", ENC_BOS, "encoder_eos_token_id", ENC_EOS,
        "is_encoder_decoder", 1, "tie_word_embeddings", 1, "tie_encoder_decoder", 0);
    json_object_update(text, ids);
    json_decref(ids);
    if (!is_bart) json_object_set_new(text, "gemma_config", gemma_config(c));
    return text;
}

static json_t *own_config(const fz_model_config *c)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f}", "variant", c->variant, "family",
                     c->family == FZ_DECODER_BART ? "bart" : "gemma", "image_size",
                     (json_int_t)c->image_size, "max_prompt", (json_int_t)c->max_prompt,
                     "max_output", (json_int_t)c->max_output, "enc_positions",
                     (json_int_t)c->enc_positions, "dec_positions", (json_int_t)c->dec_positions,
                     "final_softcap", c->final_softcap);
}

static void warn(const fz_model_config *c)
{
    const bool is_bart = c->family == FZ_DECODER_BART;
    if (is_bart && (c->enc_width != c->dec_width || c->enc_positions != c->dec_positions))
        fz_warn("the authors' code has one width and one number of positions for encoder and "
                "decoder, this model has %lld and %lld, %lld and %lld: it will not open there",
                (long long)c->enc_width, (long long)c->dec_width, (long long)c->enc_positions,
                (long long)c->dec_positions);
    if (is_bart && c->final_softcap != 30.0)
        fz_warn("model.final_softcap: the authors' code caps this family's logits at 30, this "
                "model at %g: its numbers will differ there",
                c->final_softcap);
}

fz_status fz_export_config(const fz_model_config *c, fz_dtype dtype, char **json_p)
{
    const char *type = dtype == FZ_DTYPE_F16    ? "float16"
                       : dtype == FZ_DTYPE_BF16 ? "bfloat16"
                                                : "float32";
    json_t *config = json_pack(
        "{s:[s], s:s, s:b, s:b, s:i, s:I, s:I, s:I, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:o,"
        " s:o, s:o}",
        "architectures", "Florence2ForConditionalGeneration", "model_type", "florence2",
        "is_encoder_decoder", 1, "tie_word_embeddings", 1, "ignore_index", -100, "vocab_size",
        (json_int_t)c->dec_vocab, "encoder_vocab_size", (json_int_t)c->enc_vocab, "projection_dim",
        (json_int_t)c->enc_width, "torch_dtype", type, "pad_token_id", DEC_PAD, "bos_token_id",
        DEC_BOS, "eos_token_id", DEC_EOS, "decoder_start_token_id", DEC_EOS, "forced_bos_token_id",
        DEC_BOS, "forced_eos_token_id", DEC_EOS, "use_encoder_tokenizer",
        c->family == FZ_DECODER_BART, "vision_config", vision_config(c), "text_config",
        text_config(c), "florenz", own_config(c));
    char *text = config ? json_dumps(config, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    json_decref(config);
    FZ_CHECK(text, FZ_ERR_MEMORY, "write config.json");
    const fz_status status = fz_strdup(json_p, text);
    free(text);
    if (status == FZ_OK) warn(c);
    return status;
}
