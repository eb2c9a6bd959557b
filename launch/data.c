/* florenz data: make, index and check shards. One process. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"
#include "data/image.h"
#include "data/index.h"
#include "data/sample_reader.h"
#include "data/synth.h"
#include "launch/commands.h"
#include "launch/config_yaml.h"
#include "launch/exit_codes.h"
#include "launch/json.h"
#include "launch/session.h"

static int finish(fz_status status)
{
    return fz_exit_with(status, false);
}

/* ---- synth ---- */

static const fz_option synth_options[] = {
    {"--out", "DIR", "directory to fill (needed)", false},
    {"--images", "N", "training images; held-out ones come on top; default 2000", false},
    {"--seed", "S", "default 1: the same seed, the same bytes", false},
    {"--image-size", "P", "pixels of a side; default 96", false},
    {"--images-per-shard", "N", "default 500", false},
    {"--threads", "N", "default: one per core", false},
    {"--force", NULL, "write into a directory that holds other files", false},
};
static const fz_command synth_command = {
    .usage = "florenz data synth --out DIR [OPTION]...",
    .about = "Writes WebDataset shards of rendered scenes with captions (en de) and translations\n"
             "(en to de fr es ru zh), held-out shards with captions in all six languages,\n"
             "tokenizers, and a config.yaml that trains on them.",
    .options = synth_options,
    .n_options = sizeof synth_options / sizeof *synth_options,
};

static fz_status synth(const fz_options *options)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    long long images = 2000, seed = 1, size = 96, per_shard = 500, threads = cores > 0 ? cores : 1;
    const char *out = fz_options_get(options, "--out");
    FZ_CHECK(out, FZ_ERR_USAGE, "--out DIR is missing; usage: %s", synth_command.usage);
    FZ_TRY(fz_options_int(options, "--images", 1, &images));
    FZ_TRY(fz_options_int(options, "--seed", 0, &seed));
    FZ_TRY(fz_options_int(options, "--image-size", 16, &size));
    FZ_TRY(fz_options_int(options, "--images-per-shard", 1, &per_shard));
    FZ_TRY(fz_options_int(options, "--threads", 1, &threads));
    FZ_CHECK(size <= 2048 && per_shard <= 1 << 20 && threads <= 256, FZ_ERR_USAGE,
             "at most 2048 pixels, %d images a shard and 256 threads", 1 << 20);
    const fz_synth_config config = {.out = out,
                                    .n_images = images,
                                    .seed = (uint64_t)seed,
                                    .image_size = (int)size,
                                    .images_per_shard = (int)per_shard,
                                    .n_threads = (int)threads,
                                    .force = fz_options_get(options, "--force") != NULL};
    return fz_synth_run(&config);
}

/* ---- index ---- */

static const fz_command index_command = {
    .usage = "florenz data index PATTERN...",
    .about = "Writes SHARD.idx beside each shard of the globs, so that a run need not read the tars\n"
             "to know what is in them.",
    .least_args = 1,
    .most_args = FZ_OPTION_ARGS,
};

static fz_status write_indices(const fz_options *options)
{
    for (int i = 0; i < options->n_args; i++) {
        fz_index *index = NULL;
        FZ_TRY(fz_index_write(options->arg[i]));
        FZ_TRY(fz_index_build(options->arg[i], &index));
        printf("%s: %d shards, %lld images, %lld samples, %d classes\n", options->arg[i],
               index->n_shards, (long long)index->n_images, (long long)index->n_annotations,
               index->n_classes);
        fz_index_destroy(&index);
    }
    return FZ_OK;
}

/* ---- check ---- */

static const fz_option check_options[] = {
    {"--set", "KEY=VALUE", "overrides a key of the config", true},
    {"--most", "N", "bad samples that are told one by one; default 20", false},
    {"--json", NULL, "one object on standard output", false},
};
static const fz_command check_command = {
    .usage = "florenz data check CONFIG [OPTION]...",
    .about = "Reads every image and every sample of data.train and data.eval as a run would, and\n"
             "names what is bad. Leaves with 65 if anything is.",
    .least_args = 1,
    .most_args = 1,
    .options = check_options,
    .n_options = sizeof check_options / sizeof *check_options,
};

typedef struct check {
    fz_config config;
    fz_model_config model;
    fz_tokenizer *enc_tokenizer, *dec_tokenizer; /* owned */
    float *pixels;  /* owned (P, P, 3) */
    int32_t *ids;   /* owned: prompt, then labels */
    bool is_json;
    long long most; /* told one by one */
    int64_t n_images, n_samples, n_bad;
    json_t *bad;    /* owned */
} check;

static void tell(check *c)
{
    const char *text = fz_last_error()->text;
    if (c->n_bad++ >= c->most) return;
    if (c->is_json)
        json_array_append_new(c->bad, fz_json_text(text));
    else
        printf("bad: %s\n", text);
}

static fz_status check_image(check *c, fz_sample_reader *reader, const fz_sample_rules *rules,
                             int64_t image)
{
    const fz_index_image *entry = &reader->index->images[image];
    fz_status status = fz_sample_reader_pixels(reader, image, c->pixels);
    if (status == FZ_ERR_MEMORY) return status;
    if (status != FZ_OK) tell(c);
    for (int32_t a = 0; a < entry->n_annotations; a++) {
        fz_sample_ids ids = {.prompt = c->ids, .labels = c->ids + c->model.max_prompt};
        status = fz_sample_reader_ids(reader, image, a, rules, &ids);
        if (status == FZ_ERR_MEMORY) return status;
        if (status != FZ_OK) tell(c);
    }
    c->n_images++;
    c->n_samples += entry->n_annotations;
    return FZ_OK;
}

static fz_status check_list(check *c, const fz_text_list *list)
{
    char pattern[FZ_LIST_BYTES];
    fz_sample_reader reader;
    fz_index *index = NULL;
    const fz_sample_rules rules = {.max_prompt = c->model.max_prompt,
                                   .max_output = c->model.max_output,
                                   .enc_vocab = c->model.enc_vocab,
                                   .dec_vocab = c->model.dec_vocab,
                                   .dec_eos = 1,
                                   .enc_tokenizer = c->enc_tokenizer,
                                   .dec_tokenizer = c->dec_tokenizer};
    if (list->n == 0) return FZ_OK;
    FZ_TRY(fz_index_build(fz_config_pattern(list, pattern, sizeof pattern), &index));
    fz_status status = fz_sample_reader_init(&reader, index, (int)c->model.image_size);
    for (int64_t i = 0; status == FZ_OK && i < index->n_images; i++)
        status = check_image(c, &reader, &rules, i);
    fz_sample_reader_reset(&reader);
    fz_index_destroy(&index);
    return status;
}

static fz_status check_run(check *c, const fz_options *options)
{
    const char *set[FZ_OPTION_ARGS];
    c->most = 20;
    c->is_json = fz_options_get(options, "--json") != NULL;
    FZ_TRY(fz_options_int(options, "--most", 0, &c->most));
    FZ_TRY(fz_config_load(&c->config, options->arg[0], set, fz_session_sets(options, set), NULL));
    FZ_TRY(fz_config_blame(&c->config, fz_config_model(&c->config, &c->model)));
    FZ_CHECK(c->config.data.train.n + c->config.data.eval.n > 0, FZ_ERR_USAGE,
             "%s: data.train and data.eval are empty: there is nothing to check", c->config.path);
    if (c->config.data.enc_tokenizer[0])
        FZ_TRY(fz_tokenizer_load(c->config.data.enc_tokenizer, &c->enc_tokenizer));
    if (c->config.data.dec_tokenizer[0])
        FZ_TRY(fz_tokenizer_load(c->config.data.dec_tokenizer, &c->dec_tokenizer));
    FZ_TRY(FZ_NEW(&c->pixels, c->model.image_size * c->model.image_size * 3));
    FZ_TRY(FZ_NEW(&c->ids, c->model.max_prompt + c->model.max_output));
    FZ_TRY(check_list(c, &c->config.data.train));
    FZ_TRY(check_list(c, &c->config.data.eval));

    if (c->is_json)
        fz_json_print(json_pack("{s:I,s:I,s:I,s:O}", "images", (json_int_t)c->n_images, "samples",
                                (json_int_t)c->n_samples, "bad", (json_int_t)c->n_bad, "first_bad",
                                c->bad));
    else
        printf("%lld images, %lld samples, %lld bad\n", (long long)c->n_images,
               (long long)c->n_samples, (long long)c->n_bad);
    FZ_CHECK(c->n_bad == 0, FZ_ERR_FORMAT,
             "%lld bad images or samples; leave them out, or train with data.on_bad_sample: skip",
             (long long)c->n_bad);
    return FZ_OK;
}

static fz_status check_data(const fz_options *options)
{
    static check c; /* large, and there is one */
    c.bad = json_array();
    const fz_status status = check_run(&c, options);
    json_decref(c.bad);
    fz_tokenizer_destroy(&c.enc_tokenizer);
    fz_tokenizer_destroy(&c.dec_tokenizer);
    fz_free(&c.pixels);
    fz_free(&c.ids);
    return status;
}

/* ---- the command ---- */

static const struct {
    const char *name;
    const fz_command *command;
    fz_status (*run)(const fz_options *options);
} parts[] = {{"synth", &synth_command, synth},
             {"index", &index_command, write_indices},
             {"check", &check_command, check_data}};

int fz_cmd_data(int argc, char **argv)
{
    static const char usage[] = "usage: florenz data synth | index | check [ARGUMENT]...\n"
                                "each has --help";
    fz_options options;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        puts(usage);
        return FZ_EXIT_DONE;
    }
    for (size_t i = 0; argc > 1 && i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(argv[1], parts[i].name) != 0) continue;
        fz_status status = fz_options_parse(parts[i].command, argc - 1, argv + 1, &options);
        if (options.wants_help) {
            fz_command_help(parts[i].command, stdout);
            return FZ_EXIT_DONE;
        }
        if (status == FZ_OK) status = parts[i].run(&options);
        return finish(status);
    }
    return finish(FZ_FAIL(FZ_ERR_USAGE, "data %s: not one of synth, index, check",
                          argc > 1 ? argv[1] : ""));
}
