/* What a Florenz model is, as numbers; and the variants as data (model.md 1, 2.1, 4.1, 5.1, 8). */
#ifndef FZ_MODEL_CONFIG_H
#define FZ_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

typedef enum fz_decoder_family { FZ_DECODER_BART, FZ_DECODER_GEMMA } fz_decoder_family;

enum { FZ_VISION_STAGES = 4, FZ_PATTERNS_MAX = 32, FZ_PATTERN_BYTES = 128 };

typedef struct fz_model_config {
    char variant[32];
    /* vision: DaViT, heads and groups of 32 channels, window 12, MLP ratio 4 */
    int64_t image_size; /* P, pixels, square */
    int64_t vision_dims[FZ_VISION_STAGES];
    int64_t vision_depths[FZ_VISION_STAGES];
    double drop_path; /* last sub-block's rate; linear from 0 */
    /* BART encoder */
    int64_t enc_layers, enc_width, enc_heads, enc_ffn, enc_positions, enc_vocab;
    /* decoder of either family */
    fz_decoder_family family;
    int64_t dec_layers, dec_width, dec_heads, dec_kv_heads, dec_head_dim, dec_ffn;
    int64_t dec_positions; /* rows of the position table; BART only */
    int64_t dec_vocab;
    double query_scalar; /* query_pre_attn_scalar: scale = query_scalar^-0.5; Gemma only */
    double attn_softcap, final_softcap;
    int64_t sliding_window; /* on even layers; Gemma only */
    double rope_theta;
    int64_t cross_every; /* Gemma: layers l with l mod cross_every == 0 have cross-attention */
    double dropout, attn_dropout, act_dropout; /* BART parts, encoder and decoder */
    double init_std; /* of every normal initial value (model.md 12: 0.02) */
    /* text limits, tokens per sample */
    int64_t max_prompt, max_output; /* prompt ids with <s> </s>; labels with bos eos */
    /* freezing */
    bool freeze_recipe; /* the published recipe's set (model.md 14) */
    int n_freeze;       /* and every tensor whose name matches one of these (fnmatch) */
    char freeze[FZ_PATTERNS_MAX][FZ_PATTERN_BYTES];
    bool frozen_dropout; /* dropout and drop-path stay active in frozen parts */
    bool forward_only;   /* nothing is trained whatever the above says: evaluation, generation */
    /* weight decay mask: which tensors AdamW decays */
    int decay; /* fz_decay */
} fz_model_config;

typedef enum fz_decay {
    FZ_DECAY_RECIPE,   /* all but biases and LayerNorm; RMSNorm weights and gates are decayed */
    FZ_DECAY_MATRICES, /* only tensors with two or more axes */
    FZ_DECAY_ALL,
} fz_decay;

/* Fills config with variant's numbers: "0.4b" "1.0b" "3.5b" "11.2b" "tiny-bart" "tiny-gemma".
 * FZ_ERR_USAGE names the known ones. */
fz_status fz_model_variant(const char *name, fz_model_config *config);
/* "0.4b, 1.0b, ..." */
const char *fz_model_variant_names(void);
/* Checks that sizes go together (widths by heads, image side, head dims even, ...). FZ_ERR_USAGE
 * names the key and legal values. */
fz_status fz_model_config_check(const fz_model_config *config);
/* Largest power of two <= 8 that divides every query-head count of encoder and decoder. */
int64_t fz_model_auto_shards(const fz_model_config *config);

/* Side of the vision map after stage s (0..3): P/4 rounded up, then halves rounded up. */
int64_t fz_vision_side(const fz_model_config *config, int stage);
/* 1 + side^2: image tokens the encoder sees per image. */
int64_t fz_image_tokens(const fz_model_config *config);

#endif
