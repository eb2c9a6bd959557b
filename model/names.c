#include "model/names.h"

#include <stdio.h>
#include <string.h>

const char *const FZ_NAMES_WORDS[FZ_N_NAMES] = {"florenz", "original", "native", "gemma"};
const char *const FZ_NAMES_MODELS[FZ_N_NAMES] = {
    "a Florenz model", "a Florence-2 model (Microsoft's names)",
    "a Florence-2 model (transformers' names)", "a Gemma-2 model"};

typedef struct pair {
    const char *theirs, *ours;
} pair;

/* N: heads of names. The first that fits counts. */
static const pair native_heads[] = {
    {"model.vision_tower.", "vision_tower."},
    {"model.multi_modal_projector.image_position_embed.", "image_pos_embed."},
    {"model.multi_modal_projector.visual_temporal_embed.", "visual_temporal_embed."},
    {"model.multi_modal_projector.image_proj", "image_proj"},
    {"model.language_model.", "language_model.model."},
    {"lm_head.", "language_model.lm_head."},
};

/* N: what follows vision_tower.blocks.S.B.{spatial,channel}_block; @ is that block's attention. */
static const pair native_parts[] = {
    {"conv1.", "conv1.fn.dw."},      {"norm1.", "@.norm."},           {"@.qkv.", "@.fn.qkv."},
    {"@.proj.", "@.fn.proj."},       {"conv2.", "conv2.fn.dw."},      {"norm2.", "ffn.norm."},
    {"ffn.fc1.", "ffn.fn.net.fc1."}, {"ffn.fc2.", "ffn.fn.net.fc2."},
};

static const pair gemma_heads[] = {
    {"model.", FZ_NAME_DECODER},
    {"lm_head.", "language_model.lm_head."},
};

#define N_OF(array) ((int)(sizeof array / sizeof *array))

static bool starts_with(const char *text, const char *head)
{
    return strncmp(text, head, strlen(head)) == 0;
}

static bool ends_with(const char *text, const char *tail)
{
    const size_t n = strlen(text), m = strlen(tail);
    return n >= m && strcmp(text + n - m, tail) == 0;
}

/* Replaces the head of text by the first pair's that fits, in either direction. out may not be
 * text. false: none fits, or the result is too long. */
static bool swap_head(const pair *pairs, int n, bool to_ours, const char *text,
                      char out[FZ_NAME_BYTES])
{
    for (int i = 0; i < n; i++) {
        const char *from = to_ours ? pairs[i].theirs : pairs[i].ours;
        const char *to = to_ours ? pairs[i].ours : pairs[i].theirs;
        if (!starts_with(text, from)) continue;
        const int used = snprintf(out, FZ_NAME_BYTES, "%s%s", to, text + strlen(from));
        return used < FZ_NAME_BYTES;
    }
    return false;
}

/* A pattern with the attention's name in place of @. */
static void spell(const char *pattern, const char *attention, char out[64])
{
    const bool has = pattern[0] == '@';
    snprintf(out, 64, "%s%s", has ? attention : "", pattern + has);
}

/* Vision names, which differ in the middle. name holds F's prefix already or still. */
static bool swap_vision(bool to_ours, char name[FZ_NAME_BYTES])
{
    char out[FZ_NAME_BYTES], head[FZ_NAME_BYTES], theirs[N_OF(native_parts)][64],
        ours[N_OF(native_parts)][64];
    pair pairs[N_OF(native_parts)];
    const char *spatial = strstr(name, ".spatial_block."),
               *channel = strstr(name, ".channel_block.");
    const char *block = spatial ? spatial : channel;
    int stage = 0, used = 0;
    if (sscanf(name, "vision_tower.convs.%d.%n", &stage, &used) == 1 && used > 0) {
        static const pair conv[] = {{"conv.", "proj."}, {"norm.", "norm."}};
        if (!swap_head(conv, N_OF(conv), to_ours, name + used, out)) return false;
    } else if (block) {
        for (int i = 0; i < N_OF(native_parts); i++) {
            const char *attention = spatial ? "window_attn" : "channel_attn";
            spell(native_parts[i].theirs, attention, theirs[i]);
            spell(native_parts[i].ours, attention, ours[i]);
            pairs[i] = (pair){theirs[i], ours[i]};
        }
        used = (int)(block + strlen(".spatial_block.") - name);
        if (!swap_head(pairs, N_OF(pairs), to_ours, name + used, out)) return false;
    } else {
        return false;
    }
    memcpy(head, name, (size_t)used);
    head[used] = '\0';
    return snprintf(name, FZ_NAME_BYTES, "%s%.*s", head, FZ_NAME_BYTES - 1, out) < FZ_NAME_BYTES;
}

static bool is_buffer(const char *name)
{
    static const char *const tails[] = {
        "visual_temporal_embed.pos_idx_to_embed", ".inv_freq",        ".position_ids",
        "language_model.final_logits_bias",       ".encoder.version", ".decoder.version"};
    for (int i = 0; i < N_OF(tails); i++)
        if (ends_with(name, tails[i])) return true;
    return false;
}

/* The four names of the table that O and N have once. */
static bool is_table(const char *name)
{
    return strcmp(name, FZ_NAME_SHARED) == 0 || strcmp(name, FZ_NAME_ENC_TABLE) == 0 ||
           strcmp(name, FZ_NAME_DEC_TABLE) == 0 ||
           strcmp(name, "language_model.lm_head.weight") == 0;
}

/* Names of a layout in F's manner. */
static bool to_florenz(fz_names layout, const char *name, char out[FZ_NAME_BYTES])
{
    switch (layout) {
    case FZ_NAMES_FLORENZ:
    case FZ_NAMES_ORIGINAL:
    case FZ_N_NAMES:
        return snprintf(out, FZ_NAME_BYTES, "%s", name) < FZ_NAME_BYTES;
    case FZ_NAMES_GEMMA:
        return swap_head(gemma_heads, N_OF(gemma_heads), true, name, out);
    case FZ_NAMES_NATIVE:
        if (strcmp(name, "model.multi_modal_projector.image_projection.weight") == 0) {
            snprintf(out, FZ_NAME_BYTES, "image_projection");
            return true;
        }
        return swap_head(native_heads, N_OF(native_heads), true, name, out) &&
               (!starts_with(out, "vision_tower.") || swap_vision(true, out));
    }
    return false;
}

fz_name_role fz_name_read(fz_names layout, const char *name, char param[FZ_NAME_BYTES])
{
    const bool is_florence = layout == FZ_NAMES_ORIGINAL || layout == FZ_NAMES_NATIVE;
    param[0] = '\0';
    if (is_buffer(name)) return FZ_NAME_BUFFER;
    if (!to_florenz(layout, name, param)) return FZ_NAME_STRANGE;
    if (is_florence && is_table(param)) {
        strcpy(param, FZ_NAME_SHARED);
        return FZ_NAME_TABLE;
    }
    if (strcmp(param, "language_model.lm_head.weight") == 0) strcpy(param, FZ_NAME_DEC_TABLE);
    if (layout == FZ_NAMES_NATIVE && strcmp(param, "image_projection") == 0)
        return FZ_NAME_TRANSPOSED;
    return FZ_NAME_PARAM;
}

bool fz_name_write(fz_names layout, const char *param, char name[FZ_NAME_BYTES])
{
    const bool is_florence = layout == FZ_NAMES_ORIGINAL || layout == FZ_NAMES_NATIVE;
    char ours[FZ_NAME_BYTES];
    if (snprintf(ours, sizeof ours, "%s", param) >= FZ_NAME_BYTES) return false;
    if (is_florence && strcmp(param, FZ_NAME_SHARED) != 0 && is_table(param)) return false;
    switch (layout) {
    case FZ_NAMES_FLORENZ:
    case FZ_NAMES_ORIGINAL:
    case FZ_N_NAMES:
        break;
    case FZ_NAMES_GEMMA:
        return !strstr(param, ".encoder_attn") && !strstr(param, ".post_encoder_att") &&
               swap_head(gemma_heads, N_OF(gemma_heads), false, ours, name);
    case FZ_NAMES_NATIVE:
        if (strcmp(param, "image_projection") == 0)
            strcpy(ours, "image_projection.weight");
        else if (starts_with(param, "vision_tower.") && !swap_vision(false, ours))
            return false;
        return swap_head(native_heads, N_OF(native_heads), false, ours, name);
    }
    strcpy(name, ours);
    return true;
}

static bool has(int n, const char *const *names, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

bool fz_names_detect(int n, const char *const *names, fz_names *layout_p)
{
    bool original = false, native = false;
    for (int i = 0; i < n; i++) {
        original = original || starts_with(names[i], "vision_tower.");
        native = native || starts_with(names[i], "model.vision_tower.") ||
                 starts_with(names[i], "model.multi_modal_projector.");
    }
    if (native)
        *layout_p = FZ_NAMES_NATIVE;
    else if (original) /* a table of the encoder's own, and none in common: Florenz */
        *layout_p = !has(n, names, FZ_NAME_SHARED) && has(n, names, FZ_NAME_ENC_TABLE) &&
                            !has(n, names, "language_model.final_logits_bias")
                        ? FZ_NAMES_FLORENZ
                        : FZ_NAMES_ORIGINAL;
    else if (has(n, names, "model.layers.0.pre_feedforward_layernorm.weight") &&
             !has(n, names, "model.layers.0.self_attn.q_norm.weight"))
        *layout_p = FZ_NAMES_GEMMA;
    else
        return false;
    return true;
}
