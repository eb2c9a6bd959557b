#include "model/config.h"

#include <string.h>

/* Numbers of model.md 2.1, 4.1, 5.1 and 7.5; positions are rows of the tables (maximum + 2). */
#define VISION_BASE .image_size = 224, .vision_dims = {128, 256, 512, 1024}, DEPTHS
#define VISION_LARGE .image_size = 224, .vision_dims = {256, 512, 1024, 2048}, DEPTHS
#define DEPTHS .vision_depths = {1, 1, 9, 1}, .drop_path = 0.1
#define ENC_BASE                                                                                   \
    .enc_layers = 6, .enc_width = 768, .enc_heads = 12, .enc_ffn = 3072, .enc_positions = 1026
#define ENC_LARGE                                                                                  \
    .enc_layers = 12, .enc_width = 1024, .enc_heads = 16, .enc_ffn = 4096, .enc_positions = 4098
#define DROPOUT .init_std = 0.02, .dropout = 0.1, .attn_dropout = 0.1, .act_dropout = 0.1
#define GEMMA                                                                                      \
    .family = FZ_DECODER_GEMMA, .query_scalar = 256, .attn_softcap = 50, .final_softcap = 30,      \
    .sliding_window = 4096, .rope_theta = 10000, .cross_every = 1
#define COMMON                                                                                     \
    DROPOUT, .max_prompt = 128, .max_output = 128, .freeze_recipe = true, .frozen_dropout = true,  \
             .decay = FZ_DECAY_RECIPE

static const fz_model_config variants[] = {
    {.variant = "0.4b",
     VISION_BASE,
     ENC_BASE,
     .enc_vocab = 51328,
     .family = FZ_DECODER_BART,
     .dec_layers = 6,
     .dec_width = 768,
     .dec_heads = 12,
     .dec_kv_heads = 12,
     .dec_head_dim = 64,
     .dec_ffn = 3072,
     .dec_positions = 1026,
     .dec_vocab = 257024,
     .query_scalar = 64,
     .final_softcap = 30,
     .cross_every = 1,
     COMMON},
    {.variant = "1.0b",
     VISION_LARGE,
     ENC_LARGE,
     .enc_vocab = 51328,
     .family = FZ_DECODER_BART,
     .dec_layers = 12,
     .dec_width = 1024,
     .dec_heads = 16,
     .dec_kv_heads = 16,
     .dec_head_dim = 64,
     .dec_ffn = 4096,
     .dec_positions = 4098,
     .dec_vocab = 257024,
     .query_scalar = 64,
     .final_softcap = 30,
     .cross_every = 1,
     COMMON},
    {.variant = "3.5b",
     VISION_LARGE,
     ENC_LARGE,
     .enc_vocab = 51289,
     GEMMA,
     .dec_layers = 26,
     .dec_width = 2304,
     .dec_heads = 8,
     .dec_kv_heads = 4,
     .dec_head_dim = 256,
     .dec_ffn = 9216,
     .dec_vocab = 256000,
     COMMON},
    {.variant = "11.2b",
     VISION_LARGE,
     ENC_LARGE,
     .enc_vocab = 51289,
     GEMMA,
     .dec_layers = 42,
     .dec_width = 3584,
     .dec_heads = 16,
     .dec_kv_heads = 8,
     .dec_head_dim = 256,
     .dec_ffn = 14336,
     .dec_vocab = 256000,
     COMMON},
    /* Awkward on purpose: windows need padding at every stage, the vocabulary is odd, Hq * hd is
     * not the width, there are fewer key/value heads than shards, the sliding window bites. */
    {.variant = "tiny-bart",
     .image_size = 72,
     .vision_dims = {32, 64, 96, 128},
     .vision_depths = {1, 1, 2, 1},
     .drop_path = 0.1,
     .enc_layers = 2,
     .enc_width = 64,
     .enc_heads = 4,
     .enc_ffn = 148,
     .enc_positions = 130,
     .enc_vocab = 509,
     .family = FZ_DECODER_BART,
     .dec_layers = 2,
     .dec_width = 64,
     .dec_heads = 4,
     .dec_kv_heads = 4,
     .dec_head_dim = 16,
     .dec_ffn = 148,
     .dec_positions = 130,
     .dec_vocab = 509,
     .query_scalar = 16,
     .final_softcap = 30,
     .cross_every = 1,
     DROPOUT,
     .max_prompt = 40,
     .max_output = 40,
     .freeze_recipe = false,
     .frozen_dropout = true,
     .decay = FZ_DECAY_RECIPE},
    {.variant = "tiny-gemma",
     .image_size = 72,
     .vision_dims = {32, 64, 96, 128},
     .vision_depths = {1, 1, 2, 1},
     .drop_path = 0.1,
     .enc_layers = 2,
     .enc_width = 64,
     .enc_heads = 4,
     .enc_ffn = 148,
     .enc_positions = 130,
     .enc_vocab = 509,
     .family = FZ_DECODER_GEMMA,
     .dec_layers = 3,
     .dec_width = 96,
     .dec_heads = 8,
     .dec_kv_heads = 2,
     .dec_head_dim = 16,
     .dec_ffn = 180,
     .dec_vocab = 509,
     .query_scalar = 24,
     .attn_softcap = 50,
     .final_softcap = 30,
     .sliding_window = 8,
     .rope_theta = 10000,
     .cross_every = 1,
     DROPOUT,
     .max_prompt = 40,
     .max_output = 40,
     .freeze_recipe = false,
     .frozen_dropout = true,
     .decay = FZ_DECAY_RECIPE},
};

const char *fz_model_variant_names(void)
{
    return "0.4b, 1.0b, 3.5b, 11.2b, tiny-bart, tiny-gemma";
}

fz_status fz_model_variant(const char *name, fz_model_config *config)
{
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        if (strcmp(variants[i].variant, name) == 0) {
            *config = variants[i];
            return FZ_OK;
        }
    }
    return FZ_FAIL(FZ_ERR_USAGE, "model.variant: unknown variant '%s'; use one of %s", name,
                   fz_model_variant_names());
}

int64_t fz_vision_side(const fz_model_config *config, int stage)
{
    int64_t side = (config->image_size + 3) / 4;
    for (int s = 0; s < stage; s++)
        side = (side + 1) / 2;
    return side;
}

int64_t fz_image_tokens(const fz_model_config *config)
{
    const int64_t side = fz_vision_side(config, FZ_VISION_STAGES - 1);
    return 1 + side * side;
}

int64_t fz_model_auto_shards(const fz_model_config *config)
{
    int64_t shards = 8;
    while (shards > 1 && (config->enc_heads % shards != 0 || config->dec_heads % shards != 0))
        shards /= 2;
    return shards;
}

#define REQUIRE(cond, ...) FZ_CHECK(cond, FZ_ERR_USAGE, __VA_ARGS__)

static fz_status check_vision(const fz_model_config *c)
{
    REQUIRE(c->image_size >= 32 && c->image_size <= 1600,
            "model.image_size: %lld pixels; the map must have 1 to 50 cells a side, use 32 to 1600",
            (long long)c->image_size);
    for (int s = 0; s < FZ_VISION_STAGES; s++) {
        REQUIRE(c->vision_dims[s] >= 32 && c->vision_dims[s] % 32 == 0,
                "model.vision_dims: stage %d has %lld channels; use a multiple of 32 (heads of 32)",
                s, (long long)c->vision_dims[s]);
        REQUIRE(c->vision_depths[s] >= 1, "model.vision_depths: stage %d has %lld blocks; use >= 1",
                s, (long long)c->vision_depths[s]);
    }
    REQUIRE(c->drop_path >= 0 && c->drop_path < 1, "model.drop_path: %g; use 0 <= rate < 1",
            c->drop_path);
    return FZ_OK;
}

static fz_status check_text(const fz_model_config *c)
{
    REQUIRE(c->enc_layers >= 1 && c->dec_layers >= 1, "model.%s: at least one layer is needed",
            c->enc_layers < 1 ? "enc_layers" : "dec_layers");
    REQUIRE(c->enc_heads >= 1 && c->enc_width % c->enc_heads == 0,
            "model.enc_width: %lld is not a multiple of %lld heads", (long long)c->enc_width,
            (long long)c->enc_heads);
    REQUIRE(c->dec_heads >= 1 && c->dec_kv_heads >= 1 && c->dec_heads % c->dec_kv_heads == 0,
            "model.dec_kv_heads: %lld does not divide %lld query heads", (long long)c->dec_kv_heads,
            (long long)c->dec_heads);
    REQUIRE(c->enc_vocab >= 4 && c->dec_vocab >= 4, "model.%s: at least 4 ids are needed",
            c->enc_vocab < 4 ? "enc_vocab" : "dec_vocab");
    REQUIRE(c->max_prompt >= 1 && c->max_output >= 1, "model.%s: at least 1 token is needed",
            c->max_prompt < 1 ? "max_prompt" : "max_output");
    REQUIRE(c->enc_positions >= fz_image_tokens(c) + c->max_prompt + 2,
            "model.enc_positions: %lld rows; %lld image tokens and %lld prompt tokens need %lld",
            (long long)c->enc_positions, (long long)fz_image_tokens(c), (long long)c->max_prompt,
            (long long)(fz_image_tokens(c) + c->max_prompt + 2));
    return FZ_OK;
}

static fz_status check_decoder(const fz_model_config *c)
{
    if (c->family == FZ_DECODER_BART) {
        REQUIRE(c->dec_width == c->dec_heads * c->dec_head_dim && c->dec_kv_heads == c->dec_heads,
                "model.dec_width: %lld is not %lld heads of %lld", (long long)c->dec_width,
                (long long)c->dec_heads, (long long)c->dec_head_dim);
        REQUIRE(c->dec_positions >= c->max_output + 2,
                "model.dec_positions: %lld rows; %lld output tokens need %lld",
                (long long)c->dec_positions, (long long)c->max_output,
                (long long)(c->max_output + 2));
        REQUIRE(c->enc_width == c->dec_width || c->enc_width > 0, "model.enc_width: must be > 0");
        return FZ_OK;
    }
    REQUIRE(c->dec_head_dim >= 2 && c->dec_head_dim % 2 == 0,
            "model.dec_head_dim: %lld is odd; rotary pairs need an even size",
            (long long)c->dec_head_dim);
    REQUIRE(c->query_scalar > 0, "model.query_scalar: %g; use > 0", c->query_scalar);
    REQUIRE(c->rope_theta > 1, "model.rope_theta: %g; use > 1", c->rope_theta);
    REQUIRE(c->cross_every >= 1 && c->cross_every <= c->dec_layers,
            "model.cross_every: %lld; use 1 to %lld", (long long)c->cross_every,
            (long long)c->dec_layers);
    return FZ_OK;
}

static fz_status check_rates(const fz_model_config *c)
{
    const struct {
        const char *key;
        double rate;
    } rates[] = {{"dropout", c->dropout},
                 {"attn_dropout", c->attn_dropout},
                 {"act_dropout", c->act_dropout}};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++)
        REQUIRE(rates[i].rate >= 0 && rates[i].rate < 1, "model.%s: %g; use 0 <= rate < 1",
                rates[i].key, rates[i].rate);
    REQUIRE(c->init_std > 0 && c->init_std <= 1, "model.init_std: %g; use 0 < std <= 1",
            c->init_std);
    return FZ_OK;
}

fz_status fz_model_config_check(const fz_model_config *config)
{
    FZ_TRY(check_vision(config));
    FZ_TRY(check_text(config));
    FZ_TRY(check_decoder(config));
    return check_rates(config);
}
