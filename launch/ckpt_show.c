/* florenz ckpt show: what a checkpoint says of itself. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/source.h"
#include "core/memory.h"
#include "launch/ckpt_config.h"
#include "launch/ckpt_tools.h"
#include "launch/json.h"

static const fz_option options_table[] = {
    {"--tensors", NULL, "every tensor: shape, trained or frozen, digests", false},
    {"--config", NULL, "the run's config", false},
    {"--config-diff", "FILE", "only the keys in which a config file differs from the run's", false},
    {"--json", NULL, "one object on standard output", false},
};
static const fz_command command = {
    .usage = "florenz ckpt show PATH [OPTION]...",
    .about = "Shows a step or a base (a directory stands for its newest step): where the run was,\n"
             "how it was laid out, sizes, arithmetic. --config-diff tells for each key what a\n"
             "continuation does: free (nothing), announced (a line), refused (without\n"
             "--accept-change), never (stops).",
    .least_args = 1,
    .most_args = 1,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

typedef struct shower {
    char path[FZ_PATH_BYTES];
    bool is_base;
    fz_source source;
    json_t *object, *list; /* NULL: lines; the array that is being filled */
    int n_changes;
} shower;

typedef struct totals {
    int64_t n_elements[2], n_files, payload_bytes; /* frozen, trained */
    int n_tensors[2];
} totals;

static totals count(const fz_index *index)
{
    totals sum = {.n_files = 0};

    for (int t = 0; t < index->n_tensors; t++) {
        const fz_box whole = fz_box_of_tensor(&index->tensors[t]);
        sum.n_tensors[index->tensors[t].trainable]++;
        sum.n_elements[index->tensors[t].trainable] += fz_box_elements(&whole);
    }
    for (int64_t f = 0; f < index->n_files; f++) {
        sum.n_files += index->files[f].size > 0;
        for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
            sum.payload_bytes += index->files[f].arena[kind].bytes;
    }
    return sum;
}

/* ---- the summary ---- */

static void summary_lines(const shower *s, const totals *sum)
{
    const fz_ckpt_info *i = &s->source.index.info;

    printf("%s\n", s->path);
    printf("step           %lld\n", (long long)i->step);
    printf("samples        %lld\n", (long long)i->samples);
    printf("seed           %" PRIu64 "\n", i->seed);
    printf("run            %s\n", i->run_id);
    printf("written on     %lld ranks: tp %d, pp %d, dp %d\n", (long long)s->source.index.n_files,
           i->tp, i->pp, i->dp);
    printf("numerics       %lld shards, %lld lanes\n", (long long)i->shards, (long long)i->lanes);
    printf("batch          %lld, micro %lld\n", (long long)i->global_batch,
           (long long)i->micro_batch);
    printf("trained        %d tensors, %lld elements%s\n", sum->n_tensors[1],
           (long long)sum->n_elements[1], i->has_weights_alone ? ", weights alone" : "");
    printf("frozen         %d tensors, %lld elements%s%s\n", sum->n_tensors[0],
           (long long)sum->n_elements[0], i->base[0] ? ", in " : "", i->base);
    printf("payload        %lld bytes in %lld files, %lld fragments\n",
           (long long)sum->payload_bytes, (long long)sum->n_files,
           (long long)s->source.index.n_rows);
    printf("data           fingerprint %016" PRIx64 "\n", i->data_fingerprint);
    printf("config         hash %016" PRIx64 "\n", i->config_hash);
    printf("arithmetic     %s\n", i->arithmetic_id);
}

static json_t *hex(uint64_t value)
{
    char text[20];
    snprintf(text, sizeof text, "%016" PRIx64, value);
    return json_string(text);
}

static void summary_json(const shower *s, const totals *sum)
{
    const fz_ckpt_info *i = &s->source.index.info;
    json_t *o = s->object;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"step", i->step},
        {"samples", i->samples},
        {"ranks", s->source.index.n_files},
        {"tp", i->tp},
        {"pp", i->pp},
        {"dp", i->dp},
        {"shards", i->shards},
        {"lanes", i->lanes},
        {"global_batch", i->global_batch},
        {"micro_batch", i->micro_batch},
        {"trained_tensors", sum->n_tensors[1]},
        {"trained_elements", sum->n_elements[1]},
        {"frozen_tensors", sum->n_tensors[0]},
        {"frozen_elements", sum->n_elements[0]},
        {"payload_bytes", sum->payload_bytes},
        {"files", sum->n_files},
        {"fragments", s->source.index.n_rows},
    };

    json_object_set_new(o, "path", fz_json_text(s->path));
    json_object_set_new(o, "kind", json_string(s->is_base ? "base" : "step"));
    for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++)
        json_object_set_new(o, numbers[n].name, json_integer((json_int_t)numbers[n].value));
    char seed[24]; /* a text: 64 bits are more than readers of JSON keep */
    snprintf(seed, sizeof seed, "%" PRIu64, i->seed);
    json_object_set_new(o, "seed", json_string(seed));
    json_object_set_new(o, "run_id", fz_json_text(i->run_id));
    json_object_set_new(o, "weights_alone", json_boolean(i->has_weights_alone));
    json_object_set_new(o, "base", i->base[0] ? fz_json_text(i->base) : json_null());
    json_object_set_new(o, "data_fingerprint", hex(i->data_fingerprint));
    json_object_set_new(o, "config_hash", hex(i->config_hash));
    json_object_set_new(o, "arithmetic_id", fz_json_text(i->arithmetic_id));
}

/* ---- tensors ---- */

static void tensor_line(const fz_index *index, int t)
{
    const fz_state_tensor *tensor = &index->tensors[t];

    printf("%-80s  (", tensor->name);
    for (int axis = 0; axis < tensor->ndim; axis++)
        printf(axis ? ", %lld" : "%lld", (long long)tensor->shape[axis]);
    printf(")  %s", tensor->trainable ? "trained" : "frozen");
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
        const uint64_t *sum = index->sums[(int64_t)kind * index->n_tensors + t];
        if (sum[1] > 0) printf("  %s %016" PRIx64, FZ_KIND_NAMES[kind], sum[0]);
    }
    printf("\n");
}

static json_t *tensor_json(const fz_index *index, int t)
{
    const fz_state_tensor *tensor = &index->tensors[t];
    json_t *shape = json_array(), *digests = json_object();

    for (int axis = 0; axis < tensor->ndim; axis++)
        json_array_append_new(shape, json_integer((json_int_t)tensor->shape[axis]));
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
        const uint64_t *sum = index->sums[(int64_t)kind * index->n_tensors + t];
        if (sum[1] > 0) json_object_set_new(digests, FZ_KIND_NAMES[kind], hex(sum[0]));
    }
    return json_pack("{s:o, s:o, s:b, s:o}", "name", fz_json_text(tensor->name), "shape", shape,
                     "trained", (int)tensor->trainable, "digests", digests);
}

static void show_tensors(const shower *s)
{
    json_t *list = s->object ? json_array() : NULL;

    for (int t = 0; t < s->source.index.n_tensors; t++) {
        if (list)
            json_array_append_new(list, tensor_json(&s->source.index, t));
        else
            tensor_line(&s->source.index, t);
    }
    if (list) json_object_set_new(s->object, "tensors", list);
}

/* ---- the config ---- */

static void say_change(void *context, const char *key, const char *stored, const char *file,
                       const char *change)
{
    shower *s = context;

    s->n_changes++;
    if (s->list)
        json_array_append_new(s->list, json_pack("{s:s, s:o, s:o, s:s}", "key", key, "stored",
                                                 fz_json_text(stored), "file", fz_json_text(file),
                                                 "change", change));
    else
        printf("%s: %s, in the file %s (%s)\n", key, stored, file, change);
}

static fz_status show_diff(shower *s, const char *file)
{
    if (s->object) s->list = json_array();
    const fz_status status = fz_ckpt_config_diff(s->source.index.info.config, file, say_change, s);
    if (status != FZ_OK) {
        json_decref(s->list);
        return status;
    }
    if (s->object)
        json_object_set_new(s->object, "config_diff", s->list);
    else
        printf("%d %s\n", s->n_changes, s->n_changes == 1 ? "key differs" : "keys differ");
    return FZ_OK;
}

static fz_status show(shower *s, const fz_options *options)
{
    const totals sum = count(&s->source.index);
    const char *file = fz_options_get(options, "--config-diff");
    const char *config = s->source.index.info.config;

    if (s->object)
        summary_json(s, &sum);
    else if (!file)
        summary_lines(s, &sum);
    if (fz_options_get(options, "--tensors")) show_tensors(s);
    if (fz_options_get(options, "--config")) {
        if (s->object)
            json_object_set_new(s->object, "config", fz_json_text(config ? config : ""));
        else
            printf("%s", config ? config : "");
    }
    return file ? show_diff(s, file) : FZ_OK;
}

static fz_status run(const fz_options *options, int *code)
{
    shower *s = NULL;

    (void)code;
    FZ_TRY(FZ_NEW(&s, 1));
    fz_status status = fz_ckpt_path(options->arg[0], s->path);
    if (status == FZ_OK) {
        s->is_base = fz_ckpt_is_base(s->path);
        if (!s->is_base) status = fz_ckpt_step(options->arg[0], s->path);
    }
    if (status == FZ_OK)
        status = fz_source_open_here(s->path, s->is_base ? "base" : "step", &s->source);
    if (status == FZ_OK) {
        if (fz_options_get(options, "--json")) s->object = json_object();
        status = show(s, options);
        fz_source_reset(&s->source);
    }
    if (s->object && status == FZ_OK)
        fz_json_print(s->object);
    else
        json_decref(s->object);
    fz_free(&s);
    return status;
}

int fz_ckpt_show(int argc, char **argv)
{
    return fz_ckpt_tool(&command, argc, argv, run);
}
