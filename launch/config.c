#include "launch/config.h"

#include <stdlib.h>
#include <string.h>

#include "core/assert.h"
#include "launch/layouts.h"

enum { AUTO_LANES = 8 }; /* never taken from the layout: the sums would follow it (design 5) */

void fz_config_init(fz_config *config, const char *path)
{
    memset(config, 0, sizeof *config);
    snprintf(config->path, sizeof config->path, "%s", path);
    fz_settings_defaults(&fz_config_table, config);
}

/* "config.yaml:14", "--set", or "config.yaml (default)". */
static char *place_text(const fz_config *config, int line, char *out, size_t bytes)
{
    if (line == FZ_CONFIG_SET)
        snprintf(out, bytes, "--set");
    else if (line == FZ_CONFIG_DEFAULT)
        snprintf(out, bytes, "%s (default)", config->path);
    else
        snprintf(out, bytes, "%s:%d", config->path, line);
    return out;
}

fz_status fz_config_apply(fz_config *config, const char *key, const char *const *values, int n,
                          bool is_list, int line)
{
    char where[FZ_TEXT_BYTES + 32];
    place_text(config, line, where, sizeof where);
    if (is_list)
        FZ_TRY(fz_settings_set_list(&fz_config_table, config, key, values, n, where));
    else
        FZ_TRY(fz_settings_set(&fz_config_table, config, key, values[0], where));
    config->line[fz_settings_find(&fz_config_table, key) - fz_config_table.settings] = line;
    return FZ_OK;
}

fz_status fz_config_set(fz_config *config, const char *assignment)
{
    char key[128];
    const char *equal = strchr(assignment, '=');
    FZ_CHECK(equal && equal > assignment && (size_t)(equal - assignment) < sizeof key, FZ_ERR_USAGE,
             "--set %s: not of the form key=value", assignment);
    snprintf(key, sizeof key, "%.*s", (int)(equal - assignment), assignment);
    const char *value = equal + 1;
    return fz_config_apply(config, key, &value, 1, false, FZ_CONFIG_SET);
}

static fz_status anchor_one(const char *key, char *path, size_t bytes, const char *folder)
{
    char whole[2 * FZ_TEXT_BYTES];
    if (path[0] == '/' || path[0] == '\0') return FZ_OK;
    const int n = snprintf(whole, sizeof whole, "%s/%s", folder, path);
    FZ_CHECK(n > 0 && (size_t)n < bytes, FZ_ERR_USAGE, "%s: %s is longer than %zu characters", key,
             whole, bytes - 1);
    memcpy(path, whole, (size_t)n + 1);
    return FZ_OK;
}

fz_status fz_config_anchor(fz_config *config, const char *folder, const char *current)
{
    for (int i = 0; i < fz_config_table.n; i++) {
        const fz_setting *s = &fz_config_table.settings[i];
        const char *from = config->line[i] == FZ_CONFIG_SET ? current : folder;
        char *at = (char *)config + s->offset;
        if (strncmp(s->key, "data.", 5) != 0) continue;
        if (s->type == FZ_SET_TEXT) FZ_TRY(anchor_one(s->key, at, FZ_TEXT_BYTES, from));
        if (s->type != FZ_SET_LIST) continue;
        fz_text_list *list = (fz_text_list *)(void *)at;
        for (int k = 0; k < list->n; k++)
            FZ_TRY(anchor_one(s->key, list->item[k], sizeof list->item[k], from));
    }
    return FZ_OK;
}

fz_status fz_config_blame(const fz_config *config, fz_status status)
{
    const char *text = fz_last_error()->text;
    char where[FZ_TEXT_BYTES + 32];
    if (status == FZ_OK) return status;
    for (int i = 0; i < fz_config_table.n; i++) {
        const char *key = fz_config_table.settings[i].key;
        const size_t n = strlen(key);
        if (strncmp(text, key, n) != 0 || (text[n] != ':' && text[n] != ' ')) continue;
        return FZ_FAIL(status, "%s %s", place_text(config, config->line[i], where, sizeof where),
                       text);
    }
    return status;
}

/* ---- model ---- */

#define PAIR(name)                                                                                 \
    {                                                                                              \
        offsetof(fz_config, model.name), offsetof(fz_model_config, name)                           \
    }
typedef struct pair {
    size_t from, to;
} pair;
static const pair sizes[] = {
    PAIR(image_size),  PAIR(enc_layers),    PAIR(enc_width),    PAIR(enc_heads),
    PAIR(enc_ffn),     PAIR(enc_positions), PAIR(enc_vocab),    PAIR(dec_layers),
    PAIR(dec_width),   PAIR(dec_heads),     PAIR(dec_kv_heads), PAIR(dec_head_dim),
    PAIR(dec_ffn),     PAIR(dec_positions), PAIR(dec_vocab),    PAIR(sliding_window),
    PAIR(cross_every), PAIR(max_prompt),    PAIR(max_output),
};
static const pair rates[] = {
    PAIR(drop_path),  PAIR(init_std), PAIR(query_scalar), PAIR(attn_softcap), PAIR(final_softcap),
    PAIR(rope_theta), PAIR(dropout),  PAIR(attn_dropout), PAIR(act_dropout),
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static fz_status read_stages(const char *key, const fz_text_list *list, int64_t *out)
{
    if (list->n == 1 && strcmp(list->item[0], "auto") == 0) return FZ_OK;
    FZ_CHECK(list->n == FZ_VISION_STAGES, FZ_ERR_USAGE, "%s: %d numbers where %d belong", key,
             list->n, FZ_VISION_STAGES);
    for (int i = 0; i < list->n; i++) {
        char *end;
        out[i] = strtoll(list->item[i], &end, 10);
        FZ_CHECK(end != list->item[i] && *end == '\0' && out[i] > 0, FZ_ERR_USAGE,
                 "%s: %s is not a whole number above 0", key, list->item[i]);
    }
    return FZ_OK;
}

static fz_status read_freeze(const fz_text_list *list, fz_model_config *model)
{
    if (list->n == 1 && strcmp(list->item[0], "auto") == 0) return FZ_OK;
    model->freeze_recipe = false;
    model->n_freeze = 0;
    for (int i = 0; i < list->n; i++) {
        const char *item = list->item[i];
        if (strcmp(item, "none") == 0 || strcmp(item, "auto") == 0) {
            FZ_CHECK(list->n == 1, FZ_ERR_USAGE, "model.freeze: %s stands beside other entries",
                     item);
        } else if (strcmp(item, "recipe") == 0) {
            model->freeze_recipe = true;
        } else {
            FZ_CHECK(strlen(item) < FZ_PATTERN_BYTES, FZ_ERR_USAGE,
                     "model.freeze: a pattern is longer than %d characters", FZ_PATTERN_BYTES - 1);
            snprintf(model->freeze[model->n_freeze++], FZ_PATTERN_BYTES, "%s", item);
        }
    }
    return FZ_OK;
}

_Static_assert((int)FZ_LIST_MAX <= (int)FZ_PATTERNS_MAX, "a full list of patterns fits");

fz_status fz_config_model(const fz_config *config, fz_model_config *model)
{
    FZ_TRY(fz_model_variant(config->model.variant, model));
    for (size_t i = 0; i < COUNT(sizes); i++) {
        int64_t value;
        memcpy(&value, (const char *)config + sizes[i].from, sizeof value);
        if (value != FZ_AUTO) memcpy((char *)model + sizes[i].to, &value, sizeof value);
    }
    for (size_t i = 0; i < COUNT(rates); i++) {
        double value;
        memcpy(&value, (const char *)config + rates[i].from, sizeof value);
        if (value != FZ_AUTO_FLOAT) memcpy((char *)model + rates[i].to, &value, sizeof value);
    }
    if (config->model.family > 0) model->family = (fz_decoder_family)(config->model.family - 1);
    FZ_TRY(read_stages("model.vision_dims", &config->model.vision_dims, model->vision_dims));
    FZ_TRY(read_stages("model.vision_depths", &config->model.vision_depths, model->vision_depths));
    FZ_TRY(read_freeze(&config->model.freeze, model));
    model->frozen_dropout = config->model.frozen_dropout;
    model->decay = config->optimizer.decay_mask;
    return fz_model_config_check(model);
}

static void write_stages(fz_text_list *list, const int64_t *values)
{
    list->n = FZ_VISION_STAGES;
    for (int i = 0; i < list->n; i++)
        snprintf(list->item[i], sizeof list->item[i], "%lld", (long long)values[i]);
}

static void write_freeze(fz_text_list *list, const fz_model_config *model)
{
    list->n = 0;
    if (model->freeze_recipe) snprintf(list->item[list->n++], sizeof list->item[0], "recipe");
    for (int i = 0; i < model->n_freeze && list->n < FZ_LIST_MAX; i++)
        snprintf(list->item[list->n++], sizeof list->item[0], "%s", model->freeze[i]);
    if (list->n == 0) snprintf(list->item[list->n++], sizeof list->item[0], "none");
}

fz_status fz_config_resolve(fz_config *config)
{
    fz_model_config model;
    FZ_TRY(fz_config_model(config, &model));
    for (size_t i = 0; i < COUNT(sizes); i++)
        memcpy((char *)config + sizes[i].from, (const char *)&model + sizes[i].to, sizeof(int64_t));
    for (size_t i = 0; i < COUNT(rates); i++)
        memcpy((char *)config + rates[i].from, (const char *)&model + rates[i].to, sizeof(double));
    config->model.family = (int)model.family + 1;
    write_stages(&config->model.vision_dims, model.vision_dims);
    write_stages(&config->model.vision_depths, model.vision_depths);
    write_freeze(&config->model.freeze, &model);
    return fz_config_numerics(config, &model, &config->numerics.shards, &config->numerics.lanes);
}

/* ---- training and layout ---- */

void fz_config_train(const fz_config *config, fz_train_config *train)
{
    *train = (fz_train_config){
        .seed = (uint64_t)config->run.seed,
        .steps = config->train.steps,
        .global_batch = config->train.global_batch,
        .loss_batch = config->train.loss_batch,
        .micro_batch = config->train.micro_batch,
        .clip = config->train.clip,
        .lr = config->optimizer.lr,
        .weight_decay = config->optimizer.weight_decay,
        .beta1 = config->optimizer.betas[0],
        .beta2 = config->optimizer.betas[1],
        .eps = config->optimizer.eps,
        .warmup = config->optimizer.warmup,
        .lr_kind = (fz_lr_kind)config->optimizer.schedule,
    };
}

fz_status fz_config_numerics(const fz_config *config, const fz_model_config *model,
                             int64_t *n_shards, int64_t *n_lanes)
{
    const int64_t shards = config->numerics.shards, lanes = config->numerics.lanes;
    FZ_CHECK(shards == FZ_AUTO || (shards & (shards - 1)) == 0, FZ_ERR_USAGE,
             "numerics.shards: %lld is not a power of two; use 1, 2, 4, 8, ... or auto",
             (long long)shards);
    FZ_CHECK(lanes == FZ_AUTO || (lanes & (lanes - 1)) == 0, FZ_ERR_USAGE,
             "numerics.lanes: %lld is not a power of two; use 1, 2, 4, 8, ... or auto",
             (long long)lanes);
    *n_shards = shards == FZ_AUTO ? fz_model_auto_shards(model) : shards;
    *n_lanes = lanes == FZ_AUTO ? AUTO_LANES : lanes;
    return FZ_OK;
}

fz_status fz_config_layout(const fz_config *config, const fz_program *program, int n_ranks,
                           fz_layout_config *layout)
{
    const int64_t tp = config->layout.tp, pp = config->layout.pp, dp = config->layout.dp;
    const int known = (int)((tp == FZ_AUTO ? 1 : tp) * (pp == FZ_AUTO ? 1 : pp));
    fz_layouts layouts;
    fz_train_config train;

    *layout = (fz_layout_config){.schedule = (fz_schedule_kind)config->layout.schedule,
                                 .has_snapshot = config->checkpoint.async};
    FZ_TRY(fz_config_numerics(config, &program->config, &layout->n_shards, &layout->n_lanes));
    if (tp != FZ_AUTO && pp != FZ_AUTO) {
        FZ_CHECK(n_ranks % known == 0, FZ_ERR_USAGE,
                 "layout.tp: tp %lld x pp %lld does not divide %d ranks; use auto, or start a "
                 "multiple of %d",
                 (long long)tp, (long long)pp, n_ranks, known);
        FZ_CHECK(dp == FZ_AUTO || dp * known == n_ranks, FZ_ERR_USAGE,
                 "layout.dp: tp %lld x pp %lld x dp %lld is %lld, but there are %d ranks; use %d "
                 "or auto",
                 (long long)tp, (long long)pp, (long long)dp, (long long)dp * known, n_ranks,
                 n_ranks / known);
        layout->shape = (fz_mesh_shape){.pp = (int)pp, .dp = n_ranks / known, .tp = (int)tp};
        return FZ_OK;
    }
    fz_config_train(config, &train);
    const fz_mesh_shape want = {.pp = pp == FZ_AUTO ? 0 : (int)pp,
                                .dp = dp == FZ_AUTO ? 0 : (int)dp,
                                .tp = tp == FZ_AUTO ? 0 : (int)tp};
    FZ_TRY(fz_layouts_find(program, &train, layout, want, n_ranks, &layouts));
    layout->shape = layouts.choice[0].shape;
    return FZ_OK;
}

char *fz_config_pattern(const fz_text_list *list, char *out, size_t bytes)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < list->n && used < bytes; i++)
        used += (size_t)snprintf(out + used, bytes - used, "%s%s", i ? "," : "", list->item[i]);
    FZ_ASSERT(used < bytes);
    return out;
}
