#include "data/csv_build.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "core/memory.h"
#include "data/csv.h"
#include "data/image_internal.h"
#include "data/index.h"
#include "data/shard.h"

enum column { COLUMN_IMAGE, COLUMN_LANG, COLUMN_TYPE, COLUMN_PROMPT, COLUMN_OUTPUT, N_COLUMNS };
static const char *const column_names[N_COLUMNS] = {"image", "lang", "type", "prompt", "output"};

typedef struct annotation {
    const char *field[N_COLUMNS]; /* borrowed from the text */
    int64_t line;
    int64_t image_line; /* of the first row of the same image */
} annotation;

/* One of the two series of shards that are written. */
typedef struct series {
    const char *name;
    fz_shard_writer *writer; /* owned; NULL between shards */
    int n_in_shard, n_shards;
    int64_t n_images;
} series;

typedef struct build {
    const fz_csv_build_config *config;
    fz_buffer text, file, pixels;
    annotation *rows; /* owned */
    int64_t n_rows, max_rows;
    series train, eval;
} build;

/* ---- reading ---- */

/* Which field of a row is which column. */
static fz_status read_header(fz_csv *csv, int place[N_COLUMNS], int *n_fields_p)
{
    fz_csv_row row;

    FZ_TRY(fz_csv_next(csv, &row));
    FZ_CHECK(row.n > 0, FZ_ERR_FORMAT, "%s: the file is empty", csv->name);
    for (int c = 0; c < N_COLUMNS; c++)
        place[c] = -1;
    for (int f = 0; f < row.n; f++) {
        int c = 0;
        while (c < N_COLUMNS && strcmp(row.field[f], column_names[c]) != 0)
            c++;
        FZ_CHECK(c < N_COLUMNS, FZ_ERR_FORMAT,
                 "%s:%lld: unknown column \"%.60s\"; the columns are image,lang,type,prompt,output",
                 csv->name, (long long)row.line, row.field[f]);
        FZ_CHECK(place[c] < 0, FZ_ERR_FORMAT, "%s:%lld: column \"%s\" is there twice", csv->name,
                 (long long)row.line, column_names[c]);
        place[c] = f;
    }
    for (int c = 0; c < N_COLUMNS; c++)
        FZ_CHECK(place[c] >= 0, FZ_ERR_FORMAT, "%s:%lld: column \"%s\" is missing", csv->name,
                 (long long)row.line, column_names[c]);
    *n_fields_p = row.n;
    return FZ_OK;
}

static bool is_utf8(const char *text)
{
    json_t *string = json_string(text);
    json_decref(string);
    return string != NULL;
}

static fz_status check_row(const fz_csv *csv, const annotation *a)
{
    const long long line = a->line;

    for (int c = 0; c < N_COLUMNS; c++) {
        FZ_CHECK(c == COLUMN_PROMPT || a->field[c][0] != '\0', FZ_ERR_FORMAT,
                 "%s:%lld: %s is empty", csv->name, line, column_names[c]);
        FZ_CHECK(is_utf8(a->field[c]), FZ_ERR_FORMAT, "%s:%lld: %s is not UTF-8", csv->name, line,
                 column_names[c]);
    }
    FZ_CHECK(a->field[COLUMN_IMAGE][0] != '/', FZ_ERR_FORMAT,
             "%s:%lld: %.200s: write image paths relative to the images' folder", csv->name, line,
             a->field[COLUMN_IMAGE]);
    FZ_CHECK(strlen(a->field[COLUMN_TYPE]) + strlen(a->field[COLUMN_LANG]) + 2 <= FZ_CLASS_BYTES,
             FZ_ERR_FORMAT, "%s:%lld: type and lang have more than %d bytes together", csv->name,
             line, FZ_CLASS_BYTES - 2);
    return FZ_OK;
}

static fz_status read_rows(build *b, fz_csv *csv)
{
    int place[N_COLUMNS], n_fields = 0;
    fz_csv_row row;

    FZ_TRY(read_header(csv, place, &n_fields));
    for (;;) {
        FZ_TRY(fz_csv_next(csv, &row));
        if (row.n == 0) break;
        FZ_CHECK(row.n == n_fields, FZ_ERR_FORMAT,
                 "%s:%lld: %d fields, the header has %d (quote a field with a comma inside)",
                 csv->name, (long long)row.line, row.n, n_fields);
        if (b->n_rows == b->max_rows) {
            b->max_rows = 2 * b->max_rows + 1024;
            FZ_TRY(
                fz_realloc((void **)&b->rows, (size_t)b->max_rows * sizeof *b->rows, "CSV rows"));
        }
        annotation *a = &b->rows[b->n_rows++];
        *a = (annotation){.line = row.line, .image_line = row.line};
        for (int c = 0; c < N_COLUMNS; c++)
            a->field[c] = row.field[place[c]];
        FZ_TRY(check_row(csv, a));
    }
    FZ_CHECK(b->n_rows > 0, FZ_ERR_FORMAT, "%s: no rows after the header", csv->name);
    return FZ_OK;
}

/* ---- grouping ---- */

static int compare_lines(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int by_image(const void *left, const void *right)
{
    const annotation *a = left, *b = right;
    const int order = strcmp(a->field[COLUMN_IMAGE], b->field[COLUMN_IMAGE]);
    return order != 0 ? order : compare_lines(a->line, b->line);
}

static int by_first_appearance(const void *left, const void *right)
{
    const annotation *a = left, *b = right;
    const int order = compare_lines(a->image_line, b->image_line);
    return order != 0 ? order : compare_lines(a->line, b->line);
}

/* Rows of an image together, images in the order in which they first appear. */
static void group_rows(build *b)
{
    qsort(b->rows, (size_t)b->n_rows, sizeof *b->rows, by_image);
    for (int64_t i = 1; i < b->n_rows; i++)
        if (strcmp(b->rows[i].field[COLUMN_IMAGE], b->rows[i - 1].field[COLUMN_IMAGE]) == 0)
            b->rows[i].image_line = b->rows[i - 1].image_line;
    qsort(b->rows, (size_t)b->n_rows, sizeof *b->rows, by_first_appearance);
}

/* ---- writing ---- */

static json_t *json_of(const annotation *rows, int64_t n)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < n; i++)
        json_array_append_new(
            list,
            json_pack("{ssssssssss}", "prompt", rows[i].field[COLUMN_PROMPT], "output",
                      rows[i].field[COLUMN_OUTPUT], "lang", rows[i].field[COLUMN_LANG], "type",
                      rows[i].field[COLUMN_TYPE], "file", rows[i].field[COLUMN_IMAGE]));
    return list;
}

static fz_status finish_shard(series *s)
{
    if (s->writer == NULL) return FZ_OK;
    const fz_status status = fz_shard_writer_finish(s->writer);
    fz_shard_writer_destroy(&s->writer);
    s->n_in_shard = 0;
    return status;
}

static fz_status open_shard(build *b, series *s)
{
    char path[PATH_MAX];

    if (s->n_in_shard == b->config->images_per_shard) FZ_TRY(finish_shard(s));
    if (s->writer != NULL) return FZ_OK;
    const int n =
        snprintf(path, sizeof path, "%s/%s-%05d.tar", b->config->out, s->name, s->n_shards);
    FZ_CHECK(n >= 0 && n < (int)sizeof path, FZ_ERR_IO, "%.100s...: path too long", b->config->out);
    FZ_TRY(fz_shard_writer_create(path, &s->writer));
    s->n_shards++;
    return FZ_OK;
}

static fz_status write_sample(build *b, series *s, size_t image_bytes, const annotation *rows,
                              int64_t n)
{
    const uint8_t *image = b->file.bytes;
    const char *extension = image[0] == 0xff ? "jpg" : image[0] == 0x89 ? "png" : "webp";
    char name[40];

    FZ_TRY(open_shard(b, s));
    snprintf(name, sizeof name, "%08lld.%s", (long long)s->n_images, extension);
    FZ_TRY(fz_shard_writer_add(s->writer, name, image, image_bytes));

    json_t *list = json_of(rows, n);
    char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    FZ_CHECK(text != NULL, FZ_ERR_MEMORY, "%s: no memory for JSON", name);
    snprintf(name, sizeof name, "%08lld.json", (long long)s->n_images);
    const fz_status status = fz_shard_writer_add(s->writer, name, text, strlen(text));
    free(text);
    s->n_images++;
    s->n_in_shard++;
    return status;
}

/* All rows of one image. */
static fz_status add_image(build *b, int64_t number, const annotation *rows, int64_t n)
{
    const int every = b->config->eval_every;
    series *s = every > 0 && number % every == every - 1 ? &b->eval : &b->train;
    char path[PATH_MAX];
    size_t bytes = 0;
    int width = 0, height = 0;

    const int length =
        snprintf(path, sizeof path, "%s/%s", b->config->images, rows->field[COLUMN_IMAGE]);
    FZ_CHECK(length >= 0 && length < (int)sizeof path, FZ_ERR_FORMAT, "%s:%lld: path too long",
             b->config->csv, (long long)rows->line);
    fz_status status = fz_buffer_read_file(path, &b->file, &bytes);
    if (status != FZ_OK)
        return FZ_FAIL(status == FZ_ERR_IO ? FZ_ERR_FORMAT : status, "%s:%lld: %s", b->config->csv,
                       (long long)rows->line, fz_last_error()->text);
    status = fz_image_decode_into(b->file.bytes, bytes, &b->pixels, &width, &height);
    if (status != FZ_OK)
        return FZ_FAIL(status, "%s:%lld: %s: %s", b->config->csv, (long long)rows->line, path,
                       fz_last_error()->text);
    return write_sample(b, s, bytes, rows, n);
}

static fz_status write_shards(build *b)
{
    int64_t number = 0;

    for (int64_t i = 0; i < b->n_rows; number++) {
        int64_t end = i + 1;
        while (end < b->n_rows && b->rows[end].image_line == b->rows[i].image_line)
            end++;
        FZ_TRY(add_image(b, number, b->rows + i, end - i));
        i = end;
    }
    FZ_TRY(finish_shard(&b->train));
    return finish_shard(&b->eval);
}

/* ---- the folder ---- */

/* Shards of an earlier build would be read together with the new ones. */
static fz_status clear_old(const fz_csv_build_config *config, const char *name, bool force)
{
    static const char *const endings[] = {"tar", "tar.idx"};
    char pattern[PATH_MAX];
    fz_status status = FZ_OK;

    for (int e = 0; e < 2 && status == FZ_OK; e++) {
        glob_t found = {0};
        const int n =
            snprintf(pattern, sizeof pattern, "%s/%s-[0-9]*.%s", config->out, name, endings[e]);
        FZ_CHECK(n >= 0 && n < (int)sizeof pattern, FZ_ERR_IO, "%.100s...: path too long",
                 config->out);
        if (glob(pattern, 0, NULL, &found) == 0) {
            if (!force)
                status = FZ_FAIL(FZ_ERR_USAGE, "%s is there already; use --force to replace it",
                                 found.gl_pathv[0]);
            for (size_t i = 0; status == FZ_OK && i < found.gl_pathc; i++)
                if (unlink(found.gl_pathv[i]) != 0)
                    status =
                        FZ_FAIL(FZ_ERR_IO, "remove %s: %s", found.gl_pathv[i], strerror(errno));
        }
        globfree(&found);
    }
    return status;
}

static fz_status run(build *b)
{
    const fz_csv_build_config *config = b->config;
    size_t bytes = 0;
    fz_csv csv;

    FZ_CHECK(config->images_per_shard >= 1, FZ_ERR_USAGE, "images per shard: %d is less than 1",
             config->images_per_shard);
    FZ_CHECK(config->eval_every == 0 || config->eval_every >= 2, FZ_ERR_USAGE,
             "eval every: %d holds out everything; use 0 or at least 2", config->eval_every);
    FZ_TRY(fz_buffer_read_file(config->csv, &b->text, &bytes));
    fz_csv_init(&csv, b->text.bytes, bytes, config->csv);
    FZ_TRY(read_rows(b, &csv));
    group_rows(b);
    FZ_CHECK(mkdir(config->out, 0777) == 0 || errno == EEXIST, FZ_ERR_IO, "create %s: %s",
             config->out, strerror(errno));
    FZ_TRY(clear_old(config, b->train.name, config->force));
    FZ_TRY(clear_old(config, b->eval.name, config->force));
    const fz_status status = write_shards(b);
    if (status != FZ_OK) {
        const fz_error error = *fz_last_error();
        fz_shard_writer_destroy(&b->train.writer);
        fz_shard_writer_destroy(&b->eval.writer);
        (void)clear_old(config, b->train.name, true);
        (void)clear_old(config, b->eval.name, true);
        return FZ_FAIL(status, "%s", error.text);
    }
    return FZ_OK;
}

fz_status fz_data_build(const fz_csv_build_config *config, fz_csv_build_totals *totals_p)
{
    build b = {.config = config, .train = {.name = "train"}, .eval = {.name = "eval"}};
    const fz_status status = run(&b);

    if (status == FZ_OK)
        *totals_p = (fz_csv_build_totals){.n_images = b.train.n_images,
                                          .n_eval_images = b.eval.n_images,
                                          .n_annotations = b.n_rows,
                                          .n_shards = b.train.n_shards,
                                          .n_eval_shards = b.eval.n_shards};
    fz_free(&b.rows);
    fz_buffer_reset(&b.text);
    fz_buffer_reset(&b.file);
    fz_buffer_reset(&b.pixels);
    return status;
}
