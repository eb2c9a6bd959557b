/* florenz score: how likely the model finds given texts for given pictures. */
#include <stdio.h>
#include <string.h>

#include "core/batch.h"
#include "core/memory.h"
#include "data/image.h"
#include "data/image_internal.h"
#include "data/sample.h"
#include "launch/commands.h"
#include "launch/exit_codes.h"
#include "launch/files.h"
#include "launch/json.h"
#include "launch/session.h"
#include "launch/share.h"
#include "parallel/generator.h"

static const fz_option options_table[] = {
    {"--set", "KEY=VALUE", "overrides a key of the config", true},
    {"--top", "N", "the N best tokens at every place of the text too; default 0", false},
};
static const fz_command command = {
    .usage = "florenz score CONFIG LINES.jsonl [OPTION]...",
    .about =
        "Log-probability of given texts under run.dir's newest checkpoint. A line of LINES is an\n"
        "object: image (a file, from the current folder), prompt or prompt_ids, output or\n"
        "output_ids, as in the shards. For each one line on standard output: image, ids (what was\n"
        "scored, bos and eos included), log_prob (natural logarithm, of all of them) and, with\n"
        "--top, top: for every id a list of [id, log_prob] of the most likely ones there.",
    .least_args = 2,
    .most_args = 2,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

enum { DEC_EOS = 1, DEC_START = 1 };

typedef struct score {
    fz_session session;
    fz_ckpt_info info;
    fz_trainer_needs needs;
    fz_sample_rules rules;
    char *lines; /* owned */
    size_t n_bytes;
    long long n_top;
    fz_generator *generator;  /* owned; NULL: no --top */
    fz_candidate *candidates; /* owned (n_top) */
    json_t *top;              /* owned: of the line in work */

    /* one sample */
    fz_sample_ids ids;                   /* owned arrays */
    int32_t *enc_ids, *dec_ids;          /* owned: with image tokens; shifted */
    float *pixels;                       /* owned (P, P, 3); NULL where nobody needs them */
    fz_buffer file, rgb, resize, small;  /* owned */
    fz_microbatch *micro;                /* owned (needs.n_micro): it and empty ones */
    double *sample_loss, *sample_labels; /* owned (global_batch) */
    int32_t enc_start[2], dec_start[2];
    int64_t sample_n;
} score;

static fz_status take_memory(score *s)
{
    const fz_model_config *m = &s->session.model;
    const int64_t batch = s->session.train.global_batch;
    s->needs = fz_trainer_get_needs(s->session.trainer);
    s->rules = (fz_sample_rules){.max_prompt = m->max_prompt,
                                 .max_output = m->max_output,
                                 .enc_vocab = m->enc_vocab,
                                 .dec_vocab = m->dec_vocab,
                                 .dec_eos = DEC_EOS,
                                 .enc_tokenizer = s->session.enc_tokenizer,
                                 .dec_tokenizer = s->session.dec_tokenizer};
    FZ_TRY(FZ_NEW(&s->ids.prompt, m->max_prompt));
    FZ_TRY(FZ_NEW(&s->ids.labels, m->max_output));
    FZ_TRY(FZ_NEW(&s->enc_ids, fz_image_tokens(m) + m->max_prompt));
    FZ_TRY(FZ_NEW(&s->dec_ids, m->max_output));
    FZ_TRY(FZ_NEW(&s->micro, s->needs.n_micro));
    FZ_TRY(FZ_NEW(&s->sample_loss, batch));
    FZ_TRY(FZ_NEW(&s->sample_labels, batch));
    if (s->needs.pixels) FZ_TRY(FZ_NEW(&s->pixels, m->image_size * m->image_size * 3));
    if (s->n_top == 0) return FZ_OK;
    const fz_generator_sizes sizes = {
        .n_samples = 1, .beams = 1, .max_tokens = m->max_output, .n_candidates = s->n_top};
    FZ_TRY(FZ_NEW(&s->candidates, s->n_top));
    return fz_generator_create(s->session.trainer, &sizes, &s->generator);
}

static void release(score *s)
{
    fz_generator_destroy(&s->generator);
    json_decref(s->top);
    fz_free(&s->candidates);
    fz_free(&s->ids.prompt);
    fz_free(&s->ids.labels);
    fz_free(&s->enc_ids);
    fz_free(&s->dec_ids);
    fz_free(&s->micro);
    fz_free(&s->sample_loss);
    fz_free(&s->sample_labels);
    fz_free(&s->pixels);
    fz_free(&s->lines);
    fz_buffer_reset(&s->file);
    fz_buffer_reset(&s->rgb);
    fz_buffer_reset(&s->resize);
    fz_buffer_reset(&s->small);
    fz_ckpt_info_reset(&s->info);
}

/* ---- one line ---- */

static fz_status read_pixels(score *s, const char *path)
{
    const int side = (int)s->session.model.image_size;
    int width = 0, height = 0;
    size_t n = 0;
    FZ_TRY(fz_buffer_read_file(path, &s->file, &n));
    if (fz_image_decode_into(s->file.bytes, n, &s->rgb, &width, &height) != FZ_OK)
        return FZ_FAIL(FZ_ERR_FORMAT, "%s: %s", path, fz_last_error()->text);
    FZ_TRY(fz_buffer_need(&s->small, (size_t)side * (size_t)side * 3, "a resized image"));
    FZ_TRY(fz_image_resize_into(s->rgb.bytes, width, height, side, &s->resize, s->small.bytes));
    fz_image_normalise(s->small.bytes, side, s->pixels);
    return FZ_OK;
}

/* The sample as a micro-batch of one. */
static fz_microbatch pack(score *s)
{
    const int64_t image_tokens = fz_image_tokens(&s->session.model), n = s->ids.n_labels;
    const fz_trainer_needs *needs = &s->needs;
    const int64_t end = needs->first_shard + needs->n_local_shards;
    for (int64_t i = 0; i < image_tokens; i++)
        s->enc_ids[i] = -1;
    memcpy(s->enc_ids + image_tokens, s->ids.prompt, (size_t)s->ids.n_prompt * sizeof *s->enc_ids);
    s->dec_ids[0] = DEC_START;
    memcpy(s->dec_ids + 1, s->ids.labels, (size_t)(n - 1) * sizeof *s->dec_ids);
    s->enc_start[1] = (int32_t)(image_tokens + s->ids.n_prompt);
    s->dec_start[1] = (int32_t)n;
    return (fz_microbatch){
        .sizes = {.n_samples = 1,
                  .n_local_images = fz_image_first(1, needs->n_shards, end) -
                                    fz_image_first(1, needs->n_shards, needs->first_shard),
                  .n_enc = s->enc_start[1],
                  .n_dec = n,
                  .max_enc_len = s->enc_start[1],
                  .max_dec_len = n},
        .sample_n = &s->sample_n,
        .enc_start = s->enc_start,
        .enc_ids = s->enc_ids,
        .dec_start = s->dec_start,
        .dec_ids = s->dec_ids,
        .labels = s->ids.labels,
        .pixels = s->pixels,
        .n_labels = n};
}

/* The sample is position 0 of a batch that is empty else. */
static fz_status find_log_prob(score *s, const fz_microbatch *sample, double *log_prob)
{
    static const int32_t none[1];
    const fz_microbatch empty = {.sample_n = &s->sample_n,
                                 .enc_start = none,
                                 .enc_ids = none,
                                 .dec_start = none,
                                 .dec_ids = none,
                                 .labels = none,
                                 .pixels = s->pixels};
    fz_step_batch batch = {
        .first_micro = s->needs.first_micro, .n_micro = s->needs.n_micro, .micro = s->micro};
    for (int64_t i = 0; i < batch.n_micro; i++)
        s->micro[i] = batch.first_micro + i == 0 ? *sample : empty;
    FZ_TRY(fz_trainer_eval(s->session.trainer, &batch, s->sample_loss, s->sample_labels));
    *log_prob = -s->sample_loss[0];
    return FZ_OK;
}

/* Walks along the text and writes down what would have been likely. */
static fz_status find_top(score *s, const fz_microbatch *sample)
{
    json_decref(s->top);
    s->top = json_array();
    FZ_TRY(fz_generator_start(s->generator, sample, 1));
    for (int64_t at = 0; at < s->ids.n_labels; at++) {
        const fz_generator_step step = {.ids = s->dec_ids + at};
        FZ_TRY(fz_generator_next(s->generator, &step, s->candidates));
        json_t *best = json_array();
        for (long long i = 0; i < s->n_top && s->candidates[i].id >= 0; i++)
            json_array_append_new(best, json_pack("[i,o]", (int)s->candidates[i].id,
                                                  fz_json_real(s->candidates[i].log_prob)));
        json_array_append_new(s->top, best);
    }
    return FZ_OK;
}

static void print_line(const score *s, const char *image, double log_prob)
{
    json_t *ids = json_array();
    for (int64_t i = 0; i < s->ids.n_labels; i++)
        json_array_append_new(ids, json_integer(s->ids.labels[i]));
    json_t *line = json_pack("{s:o,s:o,s:o}", "image", fz_json_text(image), "ids", ids, "log_prob",
                             fz_json_real(log_prob));
    if (s->generator) json_object_set(line, "top", s->top);
    fz_json_print(line);
}

/* annotations: a list of the line's object alone. */
static fz_status score_sample(score *s, const char *annotations, const char *image)
{
    double log_prob = 0.0;
    fz_status status = fz_sample_read(annotations, strlen(annotations), 0, &s->rules, &s->ids);
    if (status == FZ_OK && s->needs.pixels) status = read_pixels(s, image);
    FZ_TRY(fz_agree(s->session.world.group, status));
    const fz_microbatch sample = pack(s);
    FZ_TRY(find_log_prob(s, &sample, &log_prob));
    if (s->generator) FZ_TRY(find_top(s, &sample));
    if (s->session.world.rank == 0) print_line(s, image, log_prob);
    return FZ_OK;
}

static fz_status score_line(score *s, const char *line)
{
    json_error_t error;
    json_t *object = json_loads(line, 0, &error);
    FZ_CHECK(object, FZ_ERR_FORMAT, "not JSON: %s", error.text);
    const char *image = json_string_value(json_object_get(object, "image"));
    json_t *list = json_pack("[O]", object);
    char *annotations = list ? json_dumps(list, JSON_COMPACT) : NULL;
    fz_status status = FZ_OK;
    if (!image)
        status = FZ_FAIL(FZ_ERR_FORMAT, "has no image: a text, the path of a file");
    else if (!annotations)
        status = FZ_FAIL(FZ_ERR_MEMORY, "a line of %zu bytes", strlen(line));
    else
        status = score_sample(s, annotations, image);
    free(annotations);
    json_decref(list);
    json_decref(object);
    return status;
}

/* ---- all ---- */

static fz_status read_lines(score *s, const char *path)
{
    fz_status status = FZ_OK;
    void *bytes = NULL;
    if (s->session.world.rank == 0) {
        status = fz_file_read(path, &s->lines, &s->n_bytes);
        if (status == FZ_OK && !s->lines) status = FZ_FAIL(FZ_ERR_USAGE, "%s: no such file", path);
        if (status == FZ_OK) s->n_bytes++; /* the zero behind it travels too */
    }
    bytes = s->lines;
    status = fz_share_bytes(s->session.world.group, status, &bytes, &s->n_bytes, "the lines");
    s->lines = bytes;
    return status;
}

static fz_status score_all(score *s, const char *path)
{
    char *at = s->lines;
    for (int number = 1; at && *at; number++) {
        char *end = strchr(at, '\n');
        if (end) *end = '\0';
        if (at[strspn(at, " \t\r")] != '\0') {
            const fz_status status = score_line(s, at);
            if (status != FZ_OK)
                return FZ_FAIL(status, "%s:%d: %s", path, number, fz_last_error()->text);
        }
        at = end ? end + 1 : NULL;
    }
    return FZ_OK;
}

static fz_status run(score *s, const fz_options *options)
{
    fz_session *session = &s->session;
    FZ_TRY(fz_options_int(options, "--top", 0, &s->n_top));
    FZ_TRY(fz_session_start(session, options));
    FZ_TRY(fz_session_build(session, FZ_FOR_ONE_LANE));
    FZ_TRY(fz_config_blame(&session->config, fz_session_load_newest(session, &s->info)));
    FZ_TRY(fz_session_tokenizers(session));
    FZ_CHECK(s->n_top <= session->model.dec_vocab, FZ_ERR_USAGE,
             "--top: %lld of a vocabulary of %lld", s->n_top, (long long)session->model.dec_vocab);
    FZ_TRY(fz_agree(session->world.group, take_memory(s)));
    FZ_TRY(read_lines(s, options->arg[1]));
    return score_all(s, options->arg[1]);
}

int fz_cmd_score(int argc, char **argv)
{
    static score s; /* large, and there is one */
    fz_options options;
    int code;
    if (!fz_command_begins(&command, argc, argv, &options, &code)) return code;
    fz_status status = run(&s, &options);
    release(&s);
    s.session.can_continue = false; /* there is nothing to run again */
    return fz_session_exit(&s.session, status);
}
