/* florenz data: make, build, index and check shards. One process. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"
#include "data/check.h"
#include "data/csv_build.h"
#include "data/csv_tokenizers.h"
#include "data/index.h"
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
    .about =
        "Writes SHARD.idx beside each shard of the globs, so that a run need not read the tars\n"
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
    fz_tokenizer *enc_tokenizer, *dec_tokenizer; /* owned */
    fz_check_config rules;
    fz_check_totals totals; /* of both lists */
    bool is_json;
} check;

static fz_status check_list(check *c, const fz_text_list *list)
{
    char pattern[FZ_LIST_BYTES];
    fz_check_totals totals = {0};
    if (list->n == 0) return FZ_OK;
    c->rules.pattern = fz_config_pattern(list, pattern, sizeof pattern);
    const fz_status status = fz_data_check(&c->rules, &totals);
    c->totals.n_shards += totals.n_shards;
    c->totals.n_images += totals.n_images;
    c->totals.n_annotations += totals.n_annotations;
    c->totals.n_problems += totals.n_problems;
    c->totals.n_too_long += totals.n_too_long;
    c->totals.bytes += totals.bytes;
    /* Problems are counted, so that the second list is looked at too. */
    return status == FZ_ERR_FORMAT && totals.n_problems > 0 ? FZ_OK : status;
}

static fz_status check_load(check *c, const fz_options *options)
{
    const char *set[FZ_OPTION_ARGS];
    fz_model_config model;
    long long most = 20;
    c->is_json = fz_options_get(options, "--json") != NULL;
    FZ_TRY(fz_options_int(options, "--most", 0, &most));
    FZ_TRY(fz_config_load(&c->config, options->arg[0], set, fz_session_sets(options, set), NULL));
    FZ_TRY(fz_config_blame(&c->config, fz_config_model(&c->config, &model)));
    FZ_CHECK(c->config.data.train.n + c->config.data.eval.n > 0, FZ_ERR_USAGE,
             "%s: data.train and data.eval are empty: there is nothing to check", c->config.path);
    FZ_TRY(fz_config_blame(&c->config,
                           fz_session_tokenizer("data.enc_tokenizer", c->config.data.enc_tokenizer,
                                                true, model.enc_vocab, &c->enc_tokenizer)));
    FZ_TRY(fz_config_blame(&c->config,
                           fz_session_tokenizer("data.dec_tokenizer", c->config.data.dec_tokenizer,
                                                false, model.dec_vocab, &c->dec_tokenizer)));
    c->rules = (fz_check_config){.rules = {.max_prompt = model.max_prompt,
                                           .max_output = model.max_output,
                                           .enc_vocab = model.enc_vocab,
                                           .dec_vocab = model.dec_vocab,
                                           .dec_eos = FZ_DEC_EOS,
                                           .enc_tokenizer = c->enc_tokenizer,
                                           .dec_tokenizer = c->dec_tokenizer},
                                 .out = c->is_json ? stderr : stdout,
                                 .max_lines = most};
    return FZ_OK;
}

static fz_status check_run(check *c, const fz_options *options)
{
    FZ_TRY(check_load(c, options));
    FZ_TRY(check_list(c, &c->config.data.train));
    FZ_TRY(check_list(c, &c->config.data.eval));
    const fz_check_totals *t = &c->totals;
    if (c->is_json)
        fz_json_print(json_pack("{s:I,s:I,s:I,s:I,s:I}", "shards", (json_int_t)t->n_shards,
                                "images", (json_int_t)t->n_images, "samples",
                                (json_int_t)t->n_annotations, "problems", (json_int_t)t->n_problems,
                                "cut", (json_int_t)t->n_too_long));
    FZ_CHECK(t->n_problems == 0, FZ_ERR_FORMAT,
             "%lld problems in the data; leave bad samples out, or train with data.on_bad_sample: "
             "skip",
             (long long)t->n_problems);
    return FZ_OK;
}

static fz_status check_data(const fz_options *options)
{
    static check c; /* large, and there is one */
    const fz_status status = check_run(&c, options);
    fz_tokenizer_destroy(&c.enc_tokenizer);
    fz_tokenizer_destroy(&c.dec_tokenizer);
    return status;
}

/* ---- build ---- */

static const fz_option build_options[] = {
    {"--images", "DIR", "folder of the pictures (needed)", false},
    {"--csv", "FILE", "columns image,lang,type,prompt,output in any order (needed)", false},
    {"--out", "DIR", "folder for train-*.tar and eval-*.tar (needed)", false},
    {"--images-per-shard", "N", "default 1000", false},
    {"--eval-every", "N", "every N-th picture is held out; 0: none; default 20", false},
    {"--force", NULL, "remove shards that are there already", false},
};
static const fz_command build_command = {
    .usage = "florenz data build --images DIR --csv FILE --out DIR [OPTION]...",
    .about = "Packs an own folder of pictures and a CSV of captions or translations into shards.\n"
             "Rows of the same picture become one sample; errors name the line of the CSV.",
    .options = build_options,
    .n_options = sizeof build_options / sizeof *build_options,
};

static fz_status build(const fz_options *options)
{
    long long per_shard = 1000, eval_every = 20;
    fz_csv_build_totals totals;
    fz_csv_build_config config = {.images = fz_options_get(options, "--images"),
                                  .csv = fz_options_get(options, "--csv"),
                                  .out = fz_options_get(options, "--out"),
                                  .force = fz_options_get(options, "--force") != NULL};
    FZ_CHECK(config.images && config.csv && config.out, FZ_ERR_USAGE, "%s is missing; usage: %s",
             !config.images ? "--images DIR"
             : !config.csv  ? "--csv FILE"
                            : "--out DIR",
             build_command.usage);
    FZ_TRY(fz_options_int(options, "--images-per-shard", 1, &per_shard));
    FZ_TRY(fz_options_int(options, "--eval-every", 0, &eval_every));
    FZ_CHECK(per_shard <= 1 << 20 && eval_every <= 1 << 30, FZ_ERR_USAGE,
             "at most %d images a shard and every %d-th held out", 1 << 20, 1 << 30);
    config.images_per_shard = (int)per_shard;
    config.eval_every = (int)eval_every;
    FZ_TRY(fz_data_build(&config, &totals));
    printf("%s: %lld pictures in %d training shards, %lld in %d held-out shards, %lld samples\n",
           config.out, (long long)totals.n_images, totals.n_shards, (long long)totals.n_eval_images,
           totals.n_eval_shards, (long long)totals.n_annotations);
    return FZ_OK;
}

/* ---- tokenizers ---- */

static const fz_option tokenizers_options[] = {
    {"--csv", "FILE", "as for data build (needed)", false},
    {"--out", "DIR", "folder of the shards (needed)", false},
    {"--vocab", "N", "ids of each tokenizer; default 1000", false},
};
static const fz_command tokenizers_command = {
    .usage = "florenz data tokenizers --csv FILE --out DIR [OPTION]...",
    .about = "Trains a tokenizer for the prompts and one for the outputs of a CSV, and writes a\n"
             "config.yaml that trains a small Florenz on the shards beside it.",
    .options = tokenizers_options,
    .n_options = sizeof tokenizers_options / sizeof *tokenizers_options,
};

static fz_status tokenizers(const fz_options *options)
{
    long long vocab = 1000;
    fz_csv_tokenizers_totals totals;
    fz_csv_tokenizers_config config = {.csv = fz_options_get(options, "--csv"),
                                       .out = fz_options_get(options, "--out")};
    FZ_CHECK(config.csv && config.out, FZ_ERR_USAGE, "%s is missing; usage: %s",
             !config.csv ? "--csv FILE" : "--out DIR", tokenizers_command.usage);
    FZ_TRY(fz_options_int(options, "--vocab", 16, &vocab));
    FZ_CHECK(vocab <= 1 << 20, FZ_ERR_USAGE, "--vocab %lld: at most %d", vocab, 1 << 20);
    config.vocab = (int)vocab;
    FZ_TRY(fz_csv_tokenizers(&config, &totals));
    printf("%s: enc.model %lld ids, dec.model %lld ids; longest prompt %lld, longest output %lld; "
           "config.yaml %s\n",
           config.out, (long long)totals.enc_vocab, (long long)totals.dec_vocab,
           (long long)totals.max_prompt, (long long)totals.max_output,
           totals.wrote_config ? "written" : "was there and is left alone");
    return FZ_OK;
}

/* ---- the command ---- */

static const struct {
    const char *name;
    const fz_command *command;
    fz_status (*run)(const fz_options *options);
} parts[] = {{"synth", &synth_command, synth},
             {"index", &index_command, write_indices},
             {"check", &check_command, check_data},
             {"build", &build_command, build},
             {"tokenizers", &tokenizers_command, tokenizers}};

int fz_cmd_data(int argc, char **argv)
{
    static const char usage[] =
        "usage: florenz data synth | build | tokenizers | index | check [ARGUMENT]...\n"
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
    return finish(FZ_FAIL(FZ_ERR_USAGE,
                          "data %s: not one of synth, build, tokenizers, index, check",
                          argc > 1 ? argv[1] : ""));
}
