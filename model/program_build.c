#include "model/program_build.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/assert.h"
#include "core/memory.h"
#include "model/blocks/bart.h"
#include "model/blocks/davit.h"
#include "model/blocks/gemma.h"
#include "model/blocks/head.h"

enum { BART_PAD = 1, GEMMA_PAD = 0 }; /* every Florenz decodes with Gemma's tokenizer */

typedef struct builder {
    fz_program *program;
    int64_t S;
    fz_block *block; /* the one being built */
} builder;

static int64_t count_blocks(const fz_model_config *c)
{
    int64_t n = 0;
    for (int s = 0; s < FZ_VISION_STAGES; s++)
        n += 1 + 2 * c->vision_depths[s];
    return n + 1 + 1 + c->enc_layers + 1 + c->dec_layers + 1;
}

static fz_status check_divides(const char *key, int64_t value, int64_t n_shards)
{
    FZ_CHECK(value % n_shards == 0, FZ_ERR_USAGE,
             "numerics.shards: %lld does not divide model.%s %lld; use a power of two that does",
             (long long)n_shards, key, (long long)value);
    return FZ_OK;
}

fz_status fz_program_check_shards(const fz_model_config *c, int64_t n_shards)
{
    FZ_CHECK(n_shards >= 1 && (n_shards & (n_shards - 1)) == 0, FZ_ERR_USAGE,
             "numerics.shards: %lld is not a power of two; use 1, 2, 4 or 8", (long long)n_shards);
    FZ_TRY(check_divides("enc_heads", c->enc_heads, n_shards));
    FZ_TRY(check_divides("enc_ffn", c->enc_ffn, n_shards));
    FZ_TRY(check_divides("dec_heads", c->dec_heads, n_shards));
    FZ_TRY(check_divides("dec_ffn", c->dec_ffn, n_shards));
    FZ_CHECK(c->dec_kv_heads % n_shards == 0 || n_shards % c->dec_kv_heads == 0, FZ_ERR_USAGE,
             "numerics.shards: %lld and model.dec_kv_heads %lld: one must divide the other",
             (long long)n_shards, (long long)c->dec_kv_heads);
    return FZ_OK;
}

static fz_block *start_block(builder *b, const fz_block_kind *kind, fz_stream writes,
                             const char *format, ...) __attribute__((format(printf, 4, 5)));

static fz_block *start_block(builder *b, const fz_block_kind *kind, fz_stream writes,
                             const char *format, ...)
{
    fz_program *p = b->program;
    fz_block *block = &p->blocks[p->n_blocks];
    va_list args;
    va_start(args, format);
    vsnprintf(block->name, sizeof block->name, format, args);
    va_end(args);
    block->kind = kind;
    block->index = p->n_blocks++;
    block->writes = writes;
    block->first_use = p->n_uses;
    block->site = (uint32_t)block->index * 64;
    b->block = block;
    return block;
}

static void use(builder *b, int param)
{
    fz_program *p = b->program;
    FZ_ASSERT(b->block->n_uses < FZ_BLOCK_USES);
    p->uses[p->n_uses++] = (fz_use){.param = param, .block = b->block->index};
    b->block->n_uses++;
}

/* Adds a parameter of one or two axes and uses it. cols 0: one axis. */
static fz_param *add(builder *b, const char *name, int64_t rows, int64_t cols, fz_cut cut,
                     fz_init init)
{
    fz_program *p = b->program;
    fz_param *param = &p->params[p->n_params];
    const size_t length = strlen(name);
    FZ_ASSERT(length < sizeof param->name);
    memcpy(param->name, name, length + 1);
    param->ndim = cols > 0 ? 2 : 1;
    param->shape[0] = rows;
    if (cols > 0) param->shape[1] = cols;
    param->cut = cut;
    param->replicas = 1;
    param->init = init;
    param->std = (float)p->config.init_std;
    param->by_images = b->block->writes == FZ_STREAM_VISION;
    param->decay = true;
    use(b, p->n_params++);
    return param;
}

static fz_param *addf(builder *b, int64_t rows, int64_t cols, fz_cut cut, fz_init init,
                      const char *format, ...) __attribute__((format(printf, 6, 7)));

static fz_param *addf(builder *b, int64_t rows, int64_t cols, fz_cut cut, fz_init init,
                      const char *format, ...)
{
    char name[FZ_NAME_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return add(b, name, rows, cols, cut, init);
}

/* LayerNorm and biases are outside the recipe's decay mask; RMSNorm weights and gates inside. */
static void undecayed(fz_param *param)
{
    param->decay = false;
}

static void layer_norm(builder *b, const char *prefix, int64_t width)
{
    undecayed(addf(b, width, 0, FZ_CUT_NONE, FZ_INIT_ONE, "%s.weight", prefix));
    undecayed(addf(b, width, 0, FZ_CUT_NONE, FZ_INIT_ZERO, "%s.bias", prefix));
}

/* y = x W^T + b with W [out, in]. A column-split weight (FZ_CUT_COLS) has its bias added once. */
static void linear(builder *b, const char *prefix, int64_t out, int64_t in, fz_cut cut)
{
    addf(b, out, in, cut, FZ_INIT_NORMAL, "%s.weight", prefix);
    undecayed(addf(b, out, 0, cut == FZ_CUT_ROWS ? FZ_CUT_ROWS : FZ_CUT_NONE, FZ_INIT_ZERO,
                   "%s.bias", prefix));
}

static void convolution(builder *b, const char *prefix, int64_t out, int64_t in, int64_t k)
{
    fz_param *w = addf(b, out, in, FZ_CUT_NONE, FZ_INIT_NORMAL, "%s.weight", prefix);
    w->ndim = 4;
    w->shape[2] = w->shape[3] = k;
    undecayed(addf(b, out, 0, FZ_CUT_NONE, FZ_INIT_ZERO, "%s.bias", prefix));
}

/* ---- vision ---- */

static void build_patch(builder *b, int s)
{
    const fz_model_config *c = &b->program->config;
    const int64_t side = fz_vision_side(c, s), in = s == 0 ? 3 : c->vision_dims[s - 1];
    char prefix[FZ_NAME_BYTES];
    fz_block *block =
        start_block(b, &fz_block_vision_patch, FZ_STREAM_VISION, "vision.patch[%d]", s);
    block->layer = s;
    block->out_rows_per_image = side * side;
    block->out_width = c->vision_dims[s];
    snprintf(prefix, sizeof prefix, "vision_tower.convs.%d.proj", s);
    convolution(b, prefix, c->vision_dims[s], in, s == 0 ? 7 : 3);
    snprintf(prefix, sizeof prefix, "vision_tower.convs.%d.norm", s);
    layer_norm(b, prefix, s == 0 ? c->vision_dims[0] : in);
}

static void build_sub_block(builder *b, int s, int depth, bool channel, int k)
{
    const fz_model_config *c = &b->program->config;
    const int64_t C = c->vision_dims[s], side = fz_vision_side(c, s);
    const char *attention = channel ? "channel_attn" : "window_attn";
    char at[64], prefix[FZ_NAME_BYTES];
    fz_block *block = start_block(b, channel ? &fz_block_vision_channel : &fz_block_vision_spatial,
                                  FZ_STREAM_VISION, "vision.%s[%d.%d]",
                                  channel ? "channel" : "spatial", s, depth);
    block->layer = s;
    block->sub = depth;
    block->sub_global = k;
    block->out_rows_per_image = side * side;
    block->out_width = C;
    snprintf(at, sizeof at, "vision_tower.blocks.%d.%d.%s", s, depth,
             channel ? "channel_block" : "spatial_block");
    snprintf(prefix, sizeof prefix, "%s.conv1.fn.dw", at);
    convolution(b, prefix, C, 1, 3);
    snprintf(prefix, sizeof prefix, "%s.%s.norm", at, attention);
    layer_norm(b, prefix, C);
    snprintf(prefix, sizeof prefix, "%s.%s.fn.qkv", at, attention);
    linear(b, prefix, 3 * C, C, FZ_CUT_NONE);
    snprintf(prefix, sizeof prefix, "%s.%s.fn.proj", at, attention);
    linear(b, prefix, C, C, FZ_CUT_NONE);
    snprintf(prefix, sizeof prefix, "%s.conv2.fn.dw", at);
    convolution(b, prefix, C, 1, 3);
    snprintf(prefix, sizeof prefix, "%s.ffn.norm", at);
    layer_norm(b, prefix, C);
    snprintf(prefix, sizeof prefix, "%s.ffn.fn.net.fc1", at);
    linear(b, prefix, 4 * C, C, FZ_CUT_NONE);
    snprintf(prefix, sizeof prefix, "%s.ffn.fn.net.fc2", at);
    linear(b, prefix, C, 4 * C, FZ_CUT_NONE);
}

static void build_vision(builder *b)
{
    const fz_model_config *c = &b->program->config;
    int k = 0;
    for (int s = 0; s < FZ_VISION_STAGES; s++) {
        build_patch(b, s);
        for (int d = 0; d < c->vision_depths[s]; d++) {
            build_sub_block(b, s, d, false, k++);
            build_sub_block(b, s, d, true, k++);
        }
    }
    const int64_t C = c->vision_dims[FZ_VISION_STAGES - 1];
    fz_block *block = start_block(b, &fz_block_projector, FZ_STREAM_VISION, "projector");
    block->out_rows_per_image = fz_image_tokens(c);
    block->out_width = c->enc_width;
    addf(b, C, c->enc_width, FZ_CUT_NONE, FZ_INIT_NORMAL, "image_projection");
    layer_norm(b, "image_proj_norm", c->enc_width);
    addf(b, 50, C / 2, FZ_CUT_NONE, FZ_INIT_NORMAL, "image_pos_embed.row_embeddings.weight");
    addf(b, 50, C / 2, FZ_CUT_NONE, FZ_INIT_NORMAL, "image_pos_embed.column_embeddings.weight");
}

/* ---- BART ---- */

static void embedding(builder *b, const char *side, int64_t vocab, int64_t width, int64_t pad)
{
    fz_param *table = addf(b, vocab, width, FZ_CUT_VOCAB, FZ_INIT_EMBEDDING,
                           "language_model.model.%s.embed_tokens.weight", side);
    table->pad_row = pad;
}

static void bart_embed(builder *b, const char *side, int64_t vocab, int64_t positions,
                       int64_t width, int64_t pad)
{
    char prefix[FZ_NAME_BYTES];
    embedding(b, side, vocab, width, pad);
    addf(b, positions, width, FZ_CUT_NONE, FZ_INIT_NORMAL,
         "language_model.model.%s.embed_positions.weight", side);
    snprintf(prefix, sizeof prefix, "language_model.model.%s.layernorm_embedding", side);
    layer_norm(b, prefix, width);
}

static void bart_attention(builder *b, const char *layer, const char *attention, int64_t width,
                           int64_t kv_width)
{
    char prefix[FZ_NAME_BYTES];
    const struct {
        const char *name;
        int64_t in;
    } parts[] = {{"q_proj", width}, {"k_proj", kv_width}, {"v_proj", kv_width}};
    for (int i = 0; i < 3; i++) {
        snprintf(prefix, sizeof prefix, "%s.%s.%s", layer, attention, parts[i].name);
        linear(b, prefix, width, parts[i].in, FZ_CUT_ROWS);
    }
    snprintf(prefix, sizeof prefix, "%s.%s.out_proj", layer, attention);
    linear(b, prefix, width, width, FZ_CUT_COLS);
    snprintf(prefix, sizeof prefix, "%s.%s_layer_norm", layer, attention);
    layer_norm(b, prefix, width);
}

static void bart_ffn(builder *b, const char *layer, int64_t width, int64_t ffn)
{
    char prefix[FZ_NAME_BYTES];
    snprintf(prefix, sizeof prefix, "%s.fc1", layer);
    linear(b, prefix, ffn, width, FZ_CUT_ROWS);
    snprintf(prefix, sizeof prefix, "%s.fc2", layer);
    linear(b, prefix, width, ffn, FZ_CUT_COLS);
    snprintf(prefix, sizeof prefix, "%s.final_layer_norm", layer);
    layer_norm(b, prefix, width);
}

static void build_encoder(builder *b)
{
    const fz_model_config *c = &b->program->config;
    fz_block *block = start_block(b, &fz_block_encoder_embed, FZ_STREAM_ENC, "encoder.embed");
    block->out_width = c->enc_width;
    bart_embed(b, "encoder", c->enc_vocab, c->enc_positions, c->enc_width, BART_PAD);
    for (int l = 0; l < c->enc_layers; l++) {
        char layer[64];
        snprintf(layer, sizeof layer, "language_model.model.encoder.layers.%d", l);
        block = start_block(b, &fz_block_encoder_layer, FZ_STREAM_ENC, "encoder.layer[%d]", l);
        block->layer = l;
        block->out_width = c->enc_width;
        bart_attention(b, layer, "self_attn", c->enc_width, c->enc_width);
        bart_ffn(b, layer, c->enc_width, c->enc_ffn);
    }
}

static void build_bart_decoder(builder *b)
{
    const fz_model_config *c = &b->program->config;
    fz_block *block = start_block(b, &fz_block_bart_decoder_embed, FZ_STREAM_DEC, "decoder.embed");
    block->out_width = c->dec_width;
    bart_embed(b, "decoder", c->dec_vocab, c->dec_positions, c->dec_width, GEMMA_PAD);
    for (int l = 0; l < c->dec_layers; l++) {
        char layer[64];
        snprintf(layer, sizeof layer, "language_model.model.decoder.layers.%d", l);
        block = start_block(b, &fz_block_bart_decoder_layer, FZ_STREAM_DEC, "decoder.layer[%d]", l);
        block->layer = l;
        block->out_width = c->dec_width;
        block->reads_enc = true;
        bart_attention(b, layer, "self_attn", c->dec_width, c->dec_width);
        bart_attention(b, layer, "encoder_attn", c->dec_width, c->enc_width);
        bart_ffn(b, layer, c->dec_width, c->dec_ffn);
    }
}

/* ---- Gemma ---- */

static void weight(builder *b, const char *layer, const char *name, int64_t out, int64_t in,
                   fz_cut cut)
{
    addf(b, out, in, cut, FZ_INIT_NORMAL, "%s.%s.weight", layer, name);
}

static void rms_norm(builder *b, const char *layer, const char *name, int64_t width)
{
    addf(b, width, 0, FZ_CUT_NONE, FZ_INIT_ZERO, "%s.%s.weight", layer, name);
}

/* Key and value rows: by shard, or replicated where there are fewer heads than shards. */
static void kv_weight(builder *b, const char *layer, const char *name, int64_t in)
{
    const fz_model_config *c = &b->program->config;
    const bool replicate = c->dec_kv_heads < b->S;
    fz_param *param =
        addf(b, c->dec_kv_heads * c->dec_head_dim, in, replicate ? FZ_CUT_HEADS : FZ_CUT_ROWS,
             FZ_INIT_NORMAL, "%s.%s.weight", layer, name);
    if (replicate) param->replicas = (int)(b->S / c->dec_kv_heads);
}

static void gemma_layer(builder *b, int l)
{
    const fz_model_config *c = &b->program->config;
    const int64_t d = c->dec_width, q = c->dec_heads * c->dec_head_dim;
    char at[64];
    snprintf(at, sizeof at, "language_model.model.decoder.layers.%d", l);
    rms_norm(b, at, "input_layernorm", d);
    weight(b, at, "self_attn.q_proj", q, d, FZ_CUT_ROWS);
    kv_weight(b, at, "self_attn.k_proj", d);
    kv_weight(b, at, "self_attn.v_proj", d);
    weight(b, at, "self_attn.o_proj", d, q, FZ_CUT_COLS);
    rms_norm(b, at, "post_attention_layernorm", d);
    rms_norm(b, at, "pre_feedforward_layernorm", d);
    weight(b, at, "mlp.gate_proj", c->dec_ffn, d, FZ_CUT_ROWS);
    weight(b, at, "mlp.up_proj", c->dec_ffn, d, FZ_CUT_ROWS);
    weight(b, at, "mlp.down_proj", d, c->dec_ffn, FZ_CUT_COLS);
    rms_norm(b, at, "post_feedforward_layernorm", d);
    if (l % c->cross_every != 0) return;
    b->block->reads_enc = true;
    weight(b, at, "encoder_attn.q_proj", q, d, FZ_CUT_ROWS);
    kv_weight(b, at, "encoder_attn.k_proj", c->enc_width);
    kv_weight(b, at, "encoder_attn.v_proj", c->enc_width);
    weight(b, at, "encoder_attn.o_proj", d, q, FZ_CUT_COLS);
    addf(b, 1, 0, FZ_CUT_NONE, FZ_INIT_ZERO, "%s.encoder_attn_gate", at);
    rms_norm(b, at, "post_encoder_attention_layernorm", d);
}

static void build_gemma_decoder(builder *b)
{
    const fz_model_config *c = &b->program->config;
    fz_block *block = start_block(b, &fz_block_gemma_decoder_embed, FZ_STREAM_DEC, "decoder.embed");
    block->out_width = c->dec_width;
    embedding(b, "decoder", c->dec_vocab, c->dec_width, GEMMA_PAD);
    for (int l = 0; l < c->dec_layers; l++) {
        block =
            start_block(b, &fz_block_gemma_decoder_layer, FZ_STREAM_DEC, "decoder.layer[%d]", l);
        block->layer = l;
        block->out_width = c->dec_width;
        gemma_layer(b, l);
    }
}

static void build_head(builder *b)
{
    const fz_model_config *c = &b->program->config;
    const char *tied = "language_model.model.decoder.embed_tokens.weight";
    fz_block *block = start_block(b, &fz_block_head, FZ_STREAM_DEC, "head.loss");
    block->out_width = c->dec_width;
    for (int i = 0; i < b->program->n_params; i++)
        if (strcmp(b->program->params[i].name, tied) == 0) use(b, i);
    if (c->family == FZ_DECODER_GEMMA)
        rms_norm(b, "language_model.model.decoder", "norm", c->dec_width);
}

/* ---- freezing, decay ---- */

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The published recipe (model.md 14): vision, projector and image positions are frozen; of a Gemma
 * decoder all but the cross-attention, its norm and gate, and the tied embedding. */
static bool frozen_by_recipe(const fz_model_config *c, const char *name)
{
    if (starts_with(name, "vision_tower.") || starts_with(name, "image_")) return true;
    if (c->family != FZ_DECODER_GEMMA) return false;
    if (!starts_with(name, "language_model.model.decoder.")) return false;
    return strstr(name, "embed_tokens") == NULL && strstr(name, "encoder_att") == NULL;
}

static void mark_params(fz_program *program)
{
    const fz_model_config *c = &program->config;
    for (int i = 0; i < program->n_params; i++) {
        fz_param *param = &program->params[i];
        param->trainable = !(c->freeze_recipe && frozen_by_recipe(c, param->name));
        for (int f = 0; f < c->n_freeze; f++)
            if (fnmatch(c->freeze[f], param->name, 0) == 0) param->trainable = false;
        if (c->forward_only) param->trainable = false;
        if (c->decay == FZ_DECAY_ALL) param->decay = true;
        if (c->decay == FZ_DECAY_MATRICES) param->decay = param->ndim >= 2;
        program->n_elements += fz_param_elements(param);
        if (param->trainable) program->n_trainable += fz_param_elements(param);
    }
}

fz_status fz_program_build(fz_program *program)
{
    const fz_model_config *c = &program->config;
    const int64_t n_blocks = count_blocks(c);
    builder b = {.program = program, .S = program->n_shards};

    FZ_TRY(FZ_NEW(&program->blocks, n_blocks));
    FZ_TRY(FZ_NEW(&program->params, n_blocks * 28)); /* a BART decoder layer has the most: 26 */
    FZ_TRY(FZ_NEW(&program->uses, n_blocks * 28));
    build_vision(&b);
    build_encoder(&b);
    if (c->family == FZ_DECODER_BART)
        build_bart_decoder(&b);
    else
        build_gemma_decoder(&b);
    build_head(&b);
    FZ_ASSERT(program->n_blocks == n_blocks);
    mark_params(program);
    for (int f = 0; f < c->n_freeze; f++) {
        bool matched = false;
        for (int i = 0; i < program->n_params && !matched; i++)
            matched = fnmatch(c->freeze[f], program->params[i].name, 0) == 0;
        FZ_CHECK(matched, FZ_ERR_USAGE, "model.freeze: pattern '%s' matches no tensor",
                 c->freeze[f]);
    }
    return FZ_OK;
}

static bool block_trains(const fz_program *program, const fz_block *block)
{
    for (int u = block->first_use; u < block->first_use + block->n_uses; u++)
        if (program->params[program->uses[u].param].trainable) return true;
    return false;
}

bool fz_program_trains(const fz_program *program, int first, int last)
{
    for (int b = first; b < last; b++)
        if (program->blocks[b].trains) return true;
    return false;
}

void fz_program_mark_training(fz_program *program)
{
    bool chain[FZ_N_STREAMS] = {false}; /* somebody upstream of this stream trains */
    for (int b = 0; b < program->n_blocks; b++) {
        fz_block *block = &program->blocks[b];
        block->trains = block_trains(program, block);
        block->dropout_active = block->trains || program->config.frozen_dropout;
        /* encoder.embed turns VISION into ENC; decoder.embed reads no stream. */
        bool below = chain[block->writes];
        if (block->kind == &fz_block_encoder_embed) below = chain[FZ_STREAM_VISION];
        block->wants_input_grad = below;
        block->wants_enc_grad = block->reads_enc && chain[FZ_STREAM_ENC];
        chain[block->writes] = below || block->trains || block->wants_enc_grad;
    }
}
