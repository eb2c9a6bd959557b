#include "data/csv.h"

#include <string.h>

#include "core/assert.h"

void fz_csv_init(fz_csv *csv, char *text, size_t bytes, const char *name)
{
    *csv = (fz_csv){.at = text, .end = text + bytes, .line = 1, .name = name};
    *csv->end = '\0';
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) csv->at += 3;
}

static bool at_line_end(const fz_csv *csv)
{
    return csv->at == csv->end || *csv->at == '\n' ||
           (*csv->at == '\r' && (csv->at + 1 == csv->end || csv->at[1] == '\n'));
}

static void skip_line_end(fz_csv *csv)
{
    if (csv->at < csv->end && *csv->at == '\r') csv->at++;
    if (csv->at < csv->end && *csv->at == '\n') csv->at++;
    csv->line++;
}

/* From behind the opening quote; the field is moved together over its doubled quotes. */
static fz_status take_quoted(fz_csv *csv, char **end_p)
{
    const int64_t line = csv->line;
    char *to = csv->at;

    for (;; csv->at++) {
        FZ_CHECK(csv->at < csv->end, FZ_ERR_FORMAT, "%s:%lld: a quoted field does not end",
                 csv->name, (long long)line);
        FZ_CHECK(*csv->at != '\0', FZ_ERR_FORMAT, "%s:%lld: a zero byte; is this a text file?",
                 csv->name, (long long)csv->line);
        if (*csv->at == '\n') csv->line++;
        if (*csv->at == '"') {
            if (csv->at + 1 == csv->end || csv->at[1] != '"') break;
            csv->at++;
        }
        *to++ = *csv->at;
    }
    csv->at++;
    FZ_CHECK(at_line_end(csv) || *csv->at == ',', FZ_ERR_FORMAT,
             "%s:%lld: text follows the closing quote of a field; write \"\" for a quote inside",
             csv->name, (long long)csv->line);
    *end_p = to;
    return FZ_OK;
}

static fz_status take_plain(fz_csv *csv, char **end_p)
{
    while (!at_line_end(csv) && *csv->at != ',') {
        FZ_CHECK(*csv->at != '"', FZ_ERR_FORMAT,
                 "%s:%lld: a quote inside a field that does not begin with one", csv->name,
                 (long long)csv->line);
        FZ_CHECK(*csv->at != '\0', FZ_ERR_FORMAT, "%s:%lld: a zero byte; is this a text file?",
                 csv->name, (long long)csv->line);
        csv->at++;
    }
    *end_p = csv->at;
    return FZ_OK;
}

static fz_status take_field(fz_csv *csv, char **field_p, char **end_p)
{
    if (csv->at < csv->end && *csv->at == '"') {
        *field_p = ++csv->at;
        return take_quoted(csv, end_p);
    }
    *field_p = csv->at;
    return take_plain(csv, end_p);
}

fz_status fz_csv_next(fz_csv *csv, fz_csv_row *row)
{
    while (csv->at < csv->end && at_line_end(csv))
        skip_line_end(csv);
    row->line = csv->line;
    row->n = 0;
    if (csv->at == csv->end) return FZ_OK;
    for (;;) {
        char *end = NULL;
        FZ_CHECK(row->n < FZ_CSV_FIELDS_MAX, FZ_ERR_FORMAT, "%s:%lld: more than %d fields",
                 csv->name, (long long)row->line, FZ_CSV_FIELDS_MAX);
        FZ_TRY(take_field(csv, &row->field[row->n++], &end));
        const bool last = at_line_end(csv);
        if (last)
            skip_line_end(csv);
        else
            csv->at++;
        *end = '\0'; /* after the separator was looked at: it may be what is overwritten */
        if (last) return FZ_OK;
    }
}
