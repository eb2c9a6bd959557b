#include "data/synth_files.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"

/* The tokenizers see as much text for 100 pictures as for 100,000, so that their words do not
 * depend on how many pictures were asked for. */
enum { TEXT_SCENES = 2500, WORD_SCENES = 800, ENC_VOCAB = 480, DEC_VOCAB = 1200 };

static const char *const OURS[] = {
    "train-[0-9]*.tar",
    "train-[0-9]*.tar.tmp",
    "train-[0-9]*.tar.idx",
    "eval-[0-9]*.tar",
    "eval-[0-9]*.tar.tmp",
    "eval-[0-9]*.tar.idx",
    "enc.model",
    "dec.model",
    "enc.words",
    "dec.words",
    "enc.text",
    "dec.text",
    "config.yaml",
    "config.yaml.tmp",
    "README",
};

fz_status fz_synth_path(const fz_synth_config *config, const char *name,
                        char path[FZ_SYNTH_PATH_BYTES])
{
    const int n = snprintf(path, FZ_SYNTH_PATH_BYTES, "%s/%s", config->out, name);

    FZ_CHECK(n > 0 && n < FZ_SYNTH_PATH_BYTES, FZ_ERR_USAGE, "--out %.80s...: the path is too long",
             config->out);
    return FZ_OK;
}

static fz_status make_folder(const char *out)
{
    char path[FZ_SYNTH_PATH_BYTES];
    const int n = snprintf(path, sizeof path, "%s", out);

    FZ_CHECK(n > 0 && n < FZ_SYNTH_PATH_BYTES, FZ_ERR_USAGE, "--out: a folder must be named");
    for (char *slash = path + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(path, 0777); /* if this one fails, the last one does and says so */
        *slash = '/';
    }
    FZ_CHECK(mkdir(path, 0777) == 0 || errno == EEXIST, FZ_ERR_IO, "create folder %s: %s", out,
             strerror(errno));
    return FZ_OK;
}

static bool is_ours(const char *name)
{
    for (size_t i = 0; i < sizeof OURS / sizeof *OURS; i++)
        if (fnmatch(OURS[i], name, 0) == 0) return true;
    return false;
}

fz_status fz_synth_folder(const fz_synth_config *config)
{
    FZ_TRY(make_folder(config->out));
    DIR *folder = opendir(config->out);
    FZ_CHECK(folder != NULL, FZ_ERR_IO, "open folder %s: %s", config->out, strerror(errno));

    fz_status status = FZ_OK;
    for (struct dirent *entry; status == FZ_OK && (entry = readdir(folder)) != NULL;) {
        char path[FZ_SYNTH_PATH_BYTES];

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (!config->force) {
            status = FZ_FAIL(FZ_ERR_USAGE,
                             "--out %s: the folder holds other files (%s); name another one, or "
                             "--force to write over an earlier data set",
                             config->out, entry->d_name);
        } else if (is_ours(entry->d_name)) {
            status = fz_synth_path(config, entry->d_name, path);
            if (status == FZ_OK && unlink(path) != 0)
                status = FZ_FAIL(FZ_ERR_IO, "remove %s: %s", path, strerror(errno));
        }
    }
    closedir(folder);
    return status;
}

const char *fz_synth_tokenizer_name(bool is_encoder)
{
    if (fz_tokenizer_has_sentencepiece()) return is_encoder ? "enc.model" : "dec.model";
    return is_encoder ? "enc.words" : "dec.words";
}

static fz_status close_file(FILE *file, const char *path)
{
    const bool failed = ferror(file) != 0;
    const int saved = errno;

    FZ_CHECK(fclose(file) == 0 && !failed, FZ_ERR_IO, "write %s: %s", path,
             strerror(failed ? saved : errno));
    return FZ_OK;
}

/* A word a line. Unigram training takes as candidates what is followed by different characters; in
 * sentences as regular as ours "small" is always followed by a space and would fall to pieces. */
static void write_words(FILE *file, const char *text)
{
    static const char *const separators = " .,:";

    while (*text != '\0') {
        const size_t n = strcspn(text, separators);

        if (n > 0) fprintf(file, "%.*s\n", (int)n, text);
        text += n;
        text += strspn(text, separators);
    }
}

static fz_status write_text(const fz_synth_config *config, const char *path, bool is_encoder)
{
    FILE *file = fopen(path, "wb");
    fz_status status = FZ_OK;

    FZ_CHECK(file != NULL, FZ_ERR_IO, "create %s: %s", path, strerror(errno));
    for (uint64_t n = 0; n < TEXT_SCENES && status == FZ_OK; n++) {
        const fz_scene scene = fz_scene_draw(config->seed, FZ_SPLIT_TRAIN, n);
        fz_annotation annotations[FZ_MAX_ANNOTATIONS];
        int count = 0;

        status = fz_synth_annotate(&scene, config->seed, FZ_SPLIT_TRAIN, n, annotations, &count);
        for (int i = 0; i < count; i++) {
            const char *text = is_encoder ? annotations[i].prompt : annotations[i].output;

            fprintf(file, "%s\n", text);
            if (n < WORD_SCENES) write_words(file, text);
        }
    }
    const fz_status closed = close_file(file, path);
    return status != FZ_OK ? status : closed;
}

fz_status fz_synth_train_tokenizers(const fz_synth_config *config)
{
    for (int i = 0; i < 2; i++) {
        const bool is_encoder = i == 0;
        char text[FZ_SYNTH_PATH_BYTES], model[FZ_SYNTH_PATH_BYTES];

        FZ_TRY(fz_synth_path(config, is_encoder ? "enc.text" : "dec.text", text));
        FZ_TRY(fz_synth_path(config, fz_synth_tokenizer_name(is_encoder), model));
        fz_info("synth: %s: training %s on the text of %d scenes", config->out,
                fz_synth_tokenizer_name(is_encoder), TEXT_SCENES);
        FZ_TRY(write_text(config, text, is_encoder));
        const fz_status status =
            fz_tokenizer_train(text, model, is_encoder ? ENC_VOCAB : DEC_VOCAB, is_encoder);
        unlink(text);
        FZ_TRY(status);
    }
    return FZ_OK;
}

static void print_config(FILE *file, const fz_synth_config *config, const fz_synth_summary *summary)
{
    fprintf(file,
            "# A tiny Florenz on the pictures beside this file (data paths: from this folder).\n"
            "run:\n"
            "  seed: 44595\n"
            "model:\n"
            "  variant: tiny-gemma\n"
            "  image_size: %d\n"
            "  vision_depths: [1, 1, 1, 1]\n"
            "  enc_layers: 1\n"
            "  dec_layers: 2\n"
            "  query_scalar: 16\n"
            "  init_std: 0.07\n" /* 0.02 is for wide models */
            "  drop_path: 0\n"   /* the run is too short to overfit */
            "  dropout: 0\n"
            "  attn_dropout: 0\n"
            "  act_dropout: 0\n"
            "  enc_vocab: %" PRId64 "\n"
            "  dec_vocab: %" PRId64 "\n"
            "  max_prompt: %" PRId64 "\n"
            "  max_output: %" PRId64 "\n",
            config->image_size < 48 ? config->image_size : 48, summary->enc_vocab,
            summary->dec_vocab, summary->longest.prompt, summary->longest.output);
    fprintf(file,
            "data:\n"
            "  train: \"train-*.tar\"\n"
            "  eval: \"eval-*.tar\"\n"
            "  enc_tokenizer: %s\n"
            "  dec_tokenizer: %s\n"
            "train:\n"
            "  steps: 600\n"
            "  global_batch: 16\n"
            "  loss_batch: 16\n"
            "  micro_batch: 4\n"
            "optimizer:\n"
            "  lr: 2.0e-3\n"
            "  warmup: 30\n"
            "checkpoint:\n"
            "  every: 100\n"
            "  keep: 3\n",
            fz_synth_tokenizer_name(true), fz_synth_tokenizer_name(false));
}

static void print_readme(FILE *file, const fz_synth_config *config, const fz_synth_summary *summary)
{
    fprintf(
        file,
        "Rendered scenes with captions and translations, written by\n"
        "  florenz data synth --images %" PRId64 " --seed %" PRIu64 " --image-size %d\n\n"
        "train-*.tar  %" PRId64 " pictures; captions in en de, translations en -> de fr es ru zh\n"
        "eval-*.tar   %" PRId64 " held-out pictures; captions in en de fr es ru zh, translations\n"
        "%-12s words of prompts (%" PRId64 " ids): <s> 0, pad 1, </s> 2, unknown 3\n"
        "%-12s words of outputs (%" PRId64 " ids): pad 0, eos 1, bos 2, unknown 3\n"
        "config.yaml  a tiny model for them: florenz train config.yaml\n\n"
        "A picture is KEY.jpg and KEY.json: a list of {prompt_ids, output_ids, lang, type,\n"
        "prompt, output}. The same images, seed and size give the same bytes.\n",
        config->n_images, config->seed, config->image_size, summary->n_train, summary->n_eval,
        fz_synth_tokenizer_name(true), summary->enc_vocab, fz_synth_tokenizer_name(false),
        summary->dec_vocab);
}

fz_status fz_synth_write_notes(const fz_synth_config *config, const fz_synth_summary *summary)
{
    char path[FZ_SYNTH_PATH_BYTES], final_path[FZ_SYNTH_PATH_BYTES];

    FZ_TRY(fz_synth_path(config, "README", path));
    FILE *file = fopen(path, "wb");
    FZ_CHECK(file != NULL, FZ_ERR_IO, "create %s: %s", path, strerror(errno));
    print_readme(file, config, summary);
    FZ_TRY(close_file(file, path));

    FZ_TRY(fz_synth_path(config, "config.yaml.tmp", path));
    FZ_TRY(fz_synth_path(config, "config.yaml", final_path));
    file = fopen(path, "wb");
    FZ_CHECK(file != NULL, FZ_ERR_IO, "create %s: %s", path, strerror(errno));
    print_config(file, config, summary);
    FZ_TRY(close_file(file, path));
    FZ_CHECK(rename(path, final_path) == 0, FZ_ERR_IO, "rename %s: %s", path, strerror(errno));
    return FZ_OK;
}
