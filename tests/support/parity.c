#include "tests/support/parity.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "core/memory.h"
#include "launch/config.h"

enum { START_ID = 1 };

/* ---- config ---- */

static const char *value_text(const json_t *value, char text[64])
{
    if (json_is_string(value)) return json_string_value(value);
    if (json_is_integer(value))
        snprintf(text, 64, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(text, 64, "%.17g", json_real_value(value));
    else
        snprintf(text, 64, "%s",
                 json_is_true(value)    ? "on"
                 : json_is_false(value) ? "off"
                                        : "null");
    return text;
}

static fz_status apply(fz_config *config, const char *key, const json_t *value)
{
    char text[FZ_LIST_MAX][64];
    const char *values[FZ_LIST_MAX];
    const bool is_list = json_is_array(value);
    const int n = is_list ? (int)json_array_size(value) : 1;

    FZ_CHECK(n <= FZ_LIST_MAX, FZ_ERR_FORMAT, "%s: %d values", key, n);
    for (int i = 0; i < n; i++)
        values[i] = value_text(is_list ? json_array_get(value, (size_t)i) : value, text[i]);
    return fz_config_apply(config, key, values, n, is_list, FZ_CONFIG_SET);
}

/* The keys of one object of the metadata, each through the parser that the config file goes
 * through. beta1 and beta2 are one key there. */
static fz_status apply_object(const parity_case *c, fz_config *config, const char *name,
                              const char *path)
{
    const char *text = fz_safetensors_metadata(c->st, name);
    json_error_t error;
    const char *key;
    json_t *value;
    fz_status status = FZ_OK;

    FZ_CHECK(text, FZ_ERR_FORMAT, "%s: no %s in __metadata__", path, name);
    json_t *object = json_loads(text, 0, &error);
    if (!json_is_object(object)) {
        json_decref(object);
        return FZ_FAIL(FZ_ERR_FORMAT, "%s: %s is no JSON object: %s", path, name, error.text);
    }
    json_object_foreach(object, key, value)
    {
        char full[128];
        const bool adamw = strcmp(name, "adamw") == 0;
        const bool train = strcmp(key, "steps") == 0 || strcmp(key, "clip") == 0;
        if (strcmp(key, "beta1") == 0)
            config->optimizer.betas[0] = json_number_value(value);
        else if (strcmp(key, "beta2") == 0)
            config->optimizer.betas[1] = json_number_value(value);
        else {
            snprintf(full, sizeof full, "%s%s",
                     !adamw  ? strncmp(key, "model.", 6) == 0 ? "" : "model."
                     : train ? "train."
                             : "optimizer.",
                     key);
            status = apply(config, full, value);
        }
        if (status != FZ_OK) break;
    }
    json_decref(object);
    return status;
}

static fz_status read_config(parity_case *c, const char *path)
{
    static const char *const still[] = {"model.freeze=none", "model.drop_path=0", "model.dropout=0",
                                        "model.attn_dropout=0", "model.act_dropout=0"};
    fz_config config;

    fz_config_init(&config, path);
    for (size_t i = 0; i < sizeof still / sizeof still[0]; i++)
        FZ_TRY(fz_config_set(&config, still[i]));
    FZ_TRY(apply_object(c, &config, "config", path));
    FZ_TRY(apply_object(c, &config, "adamw", path));
    FZ_TRY(fz_config_model(&config, &c->model));
    fz_config_train(&config, &c->train);
    return FZ_OK;
}

/* ---- tensors ---- */

fz_status parity_read(const parity_case *c, const char *kind, const char *name, int ndim,
                      const int64_t *shape, float **values_p, int64_t *n_p)
{
    char full[2 * FZ_NAME_BYTES];
    float *values = NULL;

    snprintf(full, sizeof full, "%s%s%s", kind, name[0] ? "/" : "", name);
    const fz_safetensor *tensor = fz_safetensors_find(c->st, full);
    *values_p = NULL;
    *n_p = 0;
    if (!tensor) return FZ_OK;
    bool same = ndim == 0 || ndim == tensor->ndim;
    for (int a = 0; same && a < ndim; a++)
        same = tensor->shape[a] == shape[a];
    FZ_CHECK(same, FZ_ERR_FORMAT, "%s: %s has another shape than the model's", c->name, full);
    FZ_TRY(FZ_NEW(&values, tensor->elements));
    const fz_status status = fz_safetensors_read_float(c->st, tensor, 0, tensor->elements, values);
    if (status != FZ_OK) {
        fz_free(&values);
        return status;
    }
    *values_p = values;
    *n_p = tensor->elements;
    return FZ_OK;
}

int parity_count(const parity_case *c, const char *kind)
{
    const size_t length = strlen(kind);
    int count = 0;

    for (int i = 0; i < fz_safetensors_count(c->st); i++) {
        const char *name = fz_safetensors_get(c->st, i)->name;
        if (strncmp(name, kind, length) == 0 && name[length] == '/') count++;
    }
    return count;
}

static fz_status read_ids(const parity_case *c, const char *name, int32_t **ids_p, int64_t *n_p)
{
    const fz_safetensor *tensor = fz_safetensors_find(c->st, name);

    FZ_CHECK(tensor && tensor->dtype == FZ_DTYPE_I32 && tensor->ndim == 1, FZ_ERR_FORMAT,
             "%s: no vector %s of I32", c->name, name);
    FZ_TRY(FZ_NEW(ids_p, tensor->elements));
    *n_p = tensor->elements;
    return fz_safetensors_read(c->st, tensor, 0, tensor->elements, *ids_p);
}

/* Starts of sequences of 1 to `most` ids below `vocab`. */
static fz_status check_sequences(const parity_case *c, const char *name, const int32_t *ids,
                                 int64_t n, const int32_t *start, int64_t n_start, int64_t most,
                                 int64_t vocab)
{
    FZ_CHECK(n_start == c->n_samples + 1 && start[0] == 0 && start[c->n_samples] == n,
             FZ_ERR_FORMAT, "%s: input/%s: %lld starts for %lld ids of %lld samples", c->name, name,
             (long long)n_start, (long long)n, (long long)c->n_samples);
    for (int64_t b = 0; b < c->n_samples; b++)
        FZ_CHECK(start[b] < start[b + 1] && start[b + 1] - start[b] <= most, FZ_ERR_FORMAT,
                 "%s: input/%s: sample %lld has %d ids, the config allows 1 to %lld", c->name, name,
                 (long long)b, start[b + 1] - start[b], (long long)most);
    for (int64_t i = 0; i < n; i++)
        FZ_CHECK(ids[i] >= 0 && ids[i] < vocab, FZ_ERR_FORMAT, "%s: input/%s: id %d of %lld",
                 c->name, name, ids[i], (long long)vocab);
    return FZ_OK;
}

static fz_status read_input(parity_case *c)
{
    const fz_safetensor *pixels = fz_safetensors_find(c->st, "input/pixels");
    int64_t n_prompt, n_labels, n_starts;

    FZ_CHECK(pixels && pixels->ndim == 4 && pixels->shape[0] > 0, FZ_ERR_FORMAT,
             "%s: no input/pixels (B, P, P, 3)", c->name);
    c->n_samples = pixels->shape[0];
    const int64_t P = c->model.image_size, shape[] = {c->n_samples, P, P, 3};
    int64_t n_pixels;
    FZ_TRY(parity_read(c, "input", "pixels", 4, shape, &c->pixels, &n_pixels));
    FZ_TRY(read_ids(c, "input/prompt_ids", &c->prompt_ids, &n_prompt));
    FZ_TRY(read_ids(c, "input/prompt_start", &c->prompt_start, &n_starts));
    FZ_TRY(check_sequences(c, "prompt_ids", c->prompt_ids, n_prompt, c->prompt_start, n_starts,
                           c->model.max_prompt, c->model.enc_vocab));
    FZ_TRY(read_ids(c, "input/labels", &c->labels, &n_labels));
    FZ_TRY(read_ids(c, "input/label_start", &c->label_start, &n_starts));
    FZ_TRY(check_sequences(c, "labels", c->labels, n_labels, c->label_start, n_starts,
                           c->model.max_output, c->model.dec_vocab));
    c->train.global_batch = c->train.loss_batch = c->train.micro_batch = c->n_samples;
    return FZ_OK;
}

static fz_status open_case(const char *path, parity_case *c)
{
    FZ_TRY(fz_safetensors_open(path, &c->st));
    FZ_TRY(read_config(c, path));
    return read_input(c);
}

fz_status parity_open(const char *path, parity_case *c)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;

    memset(c, 0, sizeof *c);
    if (strncmp(base, "parity-", 7) == 0) base += 7;
    snprintf(c->name, sizeof c->name, "%s", base);
    char *dot = strrchr(c->name, '.');
    if (dot) *dot = '\0';
    const fz_status status = open_case(path, c);
    if (status != FZ_OK) parity_close(c);
    return status;
}

void parity_close(parity_case *c)
{
    fz_safetensors_close(&c->st);
    fz_free(&c->pixels);
    fz_free(&c->prompt_ids);
    fz_free(&c->prompt_start);
    fz_free(&c->labels);
    fz_free(&c->label_start);
}

/* ---- pieces ---- */

int64_t parity_box(const fz_state_tensor *tensor, const fz_state_view *view, const float *whole,
                   float *box)
{
    const int last = tensor->ndim - 1;
    const int64_t run = view->hi[last] - view->lo[last];
    int64_t index[FZ_MAX_AXES], n = 0;

    for (int a = 0; a <= last; a++)
        if (view->hi[a] <= view->lo[a]) return 0;
    memcpy(index, view->lo, sizeof index);
    for (int axis = 0; axis >= 0;) {
        int64_t at = 0;
        for (int a = 0; a <= last; a++)
            at = at * tensor->shape[a] + index[a];
        memcpy(box + n, whole + at, (size_t)run * sizeof *box);
        n += run;
        for (axis = last - 1; axis >= 0; axis--) {
            if (++index[axis] < view->hi[axis]) break;
            index[axis] = view->lo[axis];
        }
    }
    return n;
}

fz_status parity_load_weights(const parity_case *c, const fz_state *state)
{
    const int n_weights = parity_count(c, "weight");

    FZ_CHECK(n_weights == state->n_tensors, FZ_ERR_FORMAT, "%s: %d weights for a model of %d",
             c->name, n_weights, state->n_tensors);
    for (int v = 0; v < state->n_views; v++) {
        const fz_state_view *view = &state->views[v];
        const fz_state_tensor *tensor = &state->tensors[view->tensor];
        float *whole = NULL;
        int64_t n;
        if (view->kind != FZ_STATE_MASTER && view->kind != FZ_STATE_WEIGHT) continue;
        FZ_TRY(parity_read(c, "weight", tensor->name, tensor->ndim, tensor->shape, &whole, &n));
        FZ_CHECK(whole, FZ_ERR_FORMAT, "%s: no weight/%s", c->name, tensor->name);
        parity_box(tensor, view, whole, view->data);
        fz_free(&whole);
    }
    return FZ_OK;
}

/* ---- the batch ---- */

/* Text of micro-batch m: the case's ids with image tokens in front, the labels shifted right. */
static void fill_text(const parity_case *c, int64_t micro_batch, int64_t m, parity_batch *batch)
{
    const int64_t images = fz_image_tokens(&c->model), first = m * micro_batch;
    fz_microbatch *micro = &batch->micro[m];
    int32_t *enc_start = batch->enc_start + m * (micro_batch + 1);
    int32_t *dec_start = batch->dec_start + m * (micro_batch + 1);
    int32_t *enc_ids = batch->enc_ids + c->prompt_start[first] + first * images;
    int32_t *dec_ids = batch->dec_ids + c->label_start[first];

    for (int64_t i = 0; i < micro_batch; i++) {
        const int32_t *prompt = c->prompt_ids + c->prompt_start[first + i];
        const int32_t *labels = c->labels + c->label_start[first + i];
        const int64_t n_prompt = c->prompt_start[first + i + 1] - c->prompt_start[first + i];
        const int64_t n_labels = c->label_start[first + i + 1] - c->label_start[first + i];
        for (int64_t t = 0; t < images + n_prompt; t++)
            enc_ids[enc_start[i] + t] = t < images ? -1 : prompt[t - images];
        for (int64_t t = 0; t < n_labels; t++)
            dec_ids[dec_start[i] + t] = t == 0 ? START_ID : labels[t - 1];
        enc_start[i + 1] = enc_start[i] + (int32_t)(images + n_prompt);
        dec_start[i + 1] = dec_start[i] + (int32_t)n_labels;
        if (images + n_prompt > micro->sizes.max_enc_len)
            micro->sizes.max_enc_len = images + n_prompt;
        if (n_labels > micro->sizes.max_dec_len) micro->sizes.max_dec_len = n_labels;
    }
    micro->sizes.n_enc = enc_start[micro_batch];
    micro->sizes.n_dec = micro->n_labels = dec_start[micro_batch];
    micro->enc_start = enc_start;
    micro->dec_start = dec_start;
    micro->enc_ids = enc_ids;
    micro->dec_ids = dec_ids;
    micro->labels = c->labels + c->label_start[first];
}

static fz_status take_batch(const parity_case *c, int64_t n_micro, parity_batch *batch)
{
    const int64_t B = c->n_samples;

    FZ_TRY(FZ_NEW(&batch->sample_n, B));
    FZ_TRY(FZ_NEW(&batch->enc_start, B + n_micro));
    FZ_TRY(FZ_NEW(&batch->dec_start, B + n_micro));
    FZ_TRY(FZ_NEW(&batch->enc_ids, c->prompt_start[B] + B * fz_image_tokens(&c->model)));
    FZ_TRY(FZ_NEW(&batch->dec_ids, c->label_start[B]));
    return FZ_NEW(&batch->micro, n_micro);
}

fz_status parity_batch_create(const parity_case *c, const fz_trainer_needs *needs,
                              int64_t micro_batch, parity_batch *batch)
{
    const int64_t B = micro_batch, S = needs->n_shards, n_micro = c->n_samples / B;
    const int64_t per_image = c->model.image_size * c->model.image_size * 3;
    const int64_t image_lo = fz_image_first(B, S, needs->first_shard);
    const int64_t image_hi = fz_image_first(B, S, needs->first_shard + needs->n_local_shards);

    memset(batch, 0, sizeof *batch);
    const fz_status status = take_batch(c, n_micro, batch);
    if (status != FZ_OK) {
        parity_batch_reset(batch);
        return status;
    }
    for (int64_t i = 0; i < c->n_samples; i++)
        batch->sample_n[i] = i;
    for (int64_t m = 0; m < n_micro; m++) {
        fz_microbatch *micro = &batch->micro[m];
        fill_text(c, B, m, batch);
        micro->sizes.n_samples = B;
        micro->sizes.n_local_images = image_hi - image_lo;
        micro->sample_n = batch->sample_n + m * B;
        micro->pixels = needs->pixels ? c->pixels + (m * B + image_lo) * per_image : NULL;
    }
    batch->step = (fz_step_batch){.first_micro = needs->first_micro,
                                  .n_micro = needs->n_micro,
                                  .micro = batch->micro + needs->first_micro};
    return FZ_OK;
}

void parity_batch_reset(parity_batch *batch)
{
    fz_free(&batch->sample_n);
    fz_free(&batch->enc_start);
    fz_free(&batch->enc_ids);
    fz_free(&batch->dec_start);
    fz_free(&batch->dec_ids);
    fz_free(&batch->micro);
}
