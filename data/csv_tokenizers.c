#include "data/csv_tokenizers.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"
#include "data/buffer.h"
#include "data/csv.h"
#include "data/prompt.h"
#include "data/tokenizer.h"

enum { LONGEST_IDS = 65536 };

/* One column of the CSV: what is trained on, and what came of it. */
typedef struct side {
    const char *column, *name;
    bool is_encoder;
    int64_t vocab, longest;
} side;

/* Calls seen for the text of a side, as it will be tokenized: prompts without their macros. */
static fz_status see(const side *s, const char *text, fz_buffer *room,
                     fz_status (*seen)(void *context, const char *text), void *context)
{
    if (!s->is_encoder) return seen(context, text);
    FZ_TRY(fz_buffer_need(room, strlen(text) + FZ_PROMPT_ROOM, "a prompt"));
    FZ_TRY(fz_prompt_expand(text, room->bytes, room->size));
    return seen(context, room->bytes);
}

/* Of every row. */
static fz_status each(const char *path, const side *s,
                      fz_status (*seen)(void *context, const char *text), void *context)
{
    const char *column = s->column;
    fz_buffer buffer = {0}, room = {0};
    fz_csv csv;
    fz_csv_row row;
    size_t n = 0;
    int place = -1;
    fz_status status = fz_buffer_read_file(path, &buffer, &n);
    if (status == FZ_OK) {
        fz_csv_init(&csv, buffer.bytes, n, path);
        status = fz_csv_next(&csv, &row);
    }
    for (int f = 0; status == FZ_OK && f < row.n; f++)
        if (strcmp(row.field[f], column) == 0) place = f;
    if (status == FZ_OK && place < 0)
        status = FZ_FAIL(FZ_ERR_FORMAT, "%s: column \"%s\" is missing", path, column);
    while (status == FZ_OK && (status = fz_csv_next(&csv, &row)) == FZ_OK && row.n > 0) {
        if (place >= row.n)
            status = FZ_FAIL(FZ_ERR_FORMAT, "%s:%lld: %d fields are too few", path,
                             (long long)row.line, row.n);
        else if ((status = see(s, row.field[place], &room, seen, context)) != FZ_OK)
            status =
                FZ_FAIL(status, "%s:%lld: %s", path, (long long)row.line, fz_last_error()->text);
    }
    fz_buffer_reset(&buffer);
    fz_buffer_reset(&room);
    return status;
}

static fz_status write_line(void *context, const char *text)
{
    for (const char *c = text; *c; c++)
        fputc(*c == '\n' || *c == '\r' ? ' ' : *c, context);
    fputc('\n', context);
    return FZ_OK;
}

typedef struct measure {
    const fz_tokenizer *tokenizer;
    int32_t *ids;
    int64_t longest;
} measure;

static fz_status measure_text(void *context, const char *text)
{
    measure *m = context;
    int64_t n = 0;
    FZ_TRY(fz_tokenizer_encode(m->tokenizer, text, m->ids, LONGEST_IDS, &n));
    if (n + 2 > m->longest) m->longest = n + 2; /* bos and eos */
    return FZ_OK;
}

static fz_status train(const fz_csv_tokenizers_config *config, side *s)
{
    char text[PATH_MAX], model[PATH_MAX];
    measure m = {0};
    fz_tokenizer *tokenizer = NULL;
    FZ_CHECK(snprintf(text, sizeof text, "%s/%s.text", config->out, s->name) < PATH_MAX &&
                 snprintf(model, sizeof model, "%s/%s.model", config->out, s->name) < PATH_MAX,
             FZ_ERR_ARG, "%s: the path is too long", config->out);
    FILE *file = fopen(text, "wb");
    FZ_CHECK(file != NULL, FZ_ERR_IO, "create %s: %s", text, strerror(errno));
    fz_status status = each(config->csv, s, write_line, file);
    if (fclose(file) != 0 && status == FZ_OK)
        status = FZ_FAIL(FZ_ERR_IO, "write %s: %s", text, strerror(errno));
    if (status == FZ_OK) status = fz_tokenizer_train(text, model, config->vocab, s->is_encoder);
    unlink(text);
    if (status != FZ_OK && strstr(fz_last_error()->text, "required_chars"))
        return FZ_FAIL(FZ_ERR_USAGE,
                       "--vocab %d is too small for the characters of column %s in %s; "
                       "use 1000 or more",
                       config->vocab, s->column, config->csv);
    if (status == FZ_OK) status = fz_tokenizer_load(model, &tokenizer);
    if (status == FZ_OK) status = FZ_NEW(&m.ids, LONGEST_IDS);
    if (status == FZ_OK) {
        m.tokenizer = tokenizer;
        status = each(config->csv, s, measure_text, &m);
        s->vocab = fz_tokenizer_vocab(tokenizer);
        s->longest = m.longest;
    }
    fz_free(&m.ids);
    fz_tokenizer_destroy(&tokenizer);
    return status;
}

/* "x": never over a config that somebody wrote. */
static fz_status write_config(const char *out, const side *enc, const side *dec, bool *wrote)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/config.yaml", out);
    FILE *file = fopen(path, "wx");
    *wrote = file != NULL;
    if (file == NULL) {
        FZ_CHECK(errno == EEXIST, FZ_ERR_IO, "create %s: %s", path, strerror(errno));
        return FZ_OK;
    }
    fprintf(
        file,
        "# A small Florenz on the shards beside this file; florenz train --help-config has every "
        "key.\nmodel:\n  variant: tiny-bart\n  enc_vocab: %lld\n  dec_vocab: %lld\n"
        "  enc_positions: %lld\n  dec_positions: %lld\n  max_prompt: %lld\n  max_output: %lld\n"
        "data:\n  train: \"train-*.tar\"\n  eval: \"eval-*.tar\"\n"
        "  enc_tokenizer: enc.model\n  dec_tokenizer: dec.model\n"
        "train:\n  steps: 1000\noptimizer:\n  lr: 1.0e-3\ncheckpoint:\n  every: 200\n",
        (long long)enc->vocab, (long long)dec->vocab, (long long)enc->longest + 100,
        (long long)dec->longest + 100, (long long)enc->longest, (long long)dec->longest);
    FZ_CHECK(fclose(file) == 0, FZ_ERR_IO, "write %s: %s", path, strerror(errno));
    return FZ_OK;
}

fz_status fz_csv_tokenizers(const fz_csv_tokenizers_config *config,
                            fz_csv_tokenizers_totals *totals_p)
{
    side enc = {.column = "prompt", .name = "enc", .is_encoder = true};
    side dec = {.column = "output", .name = "dec"};
    fz_csv_tokenizers_totals totals = {0};
    FZ_TRY(train(config, &enc));
    FZ_TRY(train(config, &dec));
    FZ_TRY(write_config(config->out, &enc, &dec, &totals.wrote_config));
    totals.enc_vocab = enc.vocab;
    totals.dec_vocab = dec.vocab;
    totals.max_prompt = enc.longest;
    totals.max_output = dec.longest;
    *totals_p = totals;
    return FZ_OK;
}
