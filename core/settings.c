#include "core/settings.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/assert.h"
#include "core/rng.h"

static bool is_null(const char *value)
{
    return strcmp(value, "null") == 0 || strcmp(value, "~") == 0;
}

static void *field(const fz_setting *s, void *config)
{
    return (char *)config + s->offset;
}

static const void *const_field(const fz_setting *s, const void *config)
{
    return (const char *)config + s->offset;
}

/* ---- values from text ---- */

static fz_status check_range(const fz_setting *s, double value, const char *text, const char *where)
{
    FZ_CHECK(value >= s->min && value <= s->max, FZ_ERR_USAGE,
             "%s %s: %s is not between %.10g and %.10g", where, s->key, text, s->min, s->max);
    return FZ_OK;
}

static fz_status set_int(const fz_setting *s, int64_t *out, const char *text, const char *where)
{
    char *end;
    if (s->type == FZ_SET_AUTO && strcmp(text, "auto") == 0) {
        *out = FZ_AUTO;
        return FZ_OK;
    }
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    FZ_CHECK(end != text && *end == '\0' && errno == 0, FZ_ERR_USAGE,
             "%s %s: %s is not a whole number%s", where, s->key, text,
             s->type == FZ_SET_AUTO ? " or auto" : "");
    FZ_TRY(check_range(s, (double)value, text, where));
    *out = value;
    return FZ_OK;
}

static fz_status set_float(const fz_setting *s, double *out, const char *text, const char *where)
{
    char *end;
    if (s->type == FZ_SET_FLOAT_AUTO && strcmp(text, "auto") == 0) {
        *out = FZ_AUTO_FLOAT;
        return FZ_OK;
    }
    const double value = strtod(text, &end);
    FZ_CHECK(end != text && *end == '\0' && isfinite(value), FZ_ERR_USAGE,
             "%s %s: %s is not a number%s", where, s->key, text,
             s->type == FZ_SET_FLOAT_AUTO ? " or auto" : "");
    FZ_TRY(check_range(s, value, text, where));
    *out = value;
    return FZ_OK;
}

static fz_status set_bool(const fz_setting *s, bool *out, const char *text, const char *where)
{
    static const char *const words[2][3] = {{"off", "false", "no"}, {"on", "true", "yes"}};
    for (int value = 0; value < 2; value++)
        for (int i = 0; i < 3; i++)
            if (strcasecmp(text, words[value][i]) == 0) {
                *out = value != 0;
                return FZ_OK;
            }
    return FZ_FAIL(FZ_ERR_USAGE, "%s %s: %s is neither on nor off", where, s->key, text);
}

static fz_status set_choice(const fz_setting *s, int *out, const char *text, const char *where)
{
    const size_t length = strlen(text);
    int index = 0;
    for (const char *at = s->choices; *at; index++) {
        const size_t n = strcspn(at, "|");
        if (n == length && strncmp(at, text, n) == 0) {
            *out = index;
            return FZ_OK;
        }
        at += n + (at[n] == '|');
    }
    return FZ_FAIL(FZ_ERR_USAGE, "%s %s: %s is not one of %s", where, s->key, text, s->choices);
}

/* "D-H:M:S", "H:M:S", "M:S", or a number with s, m, h or d behind it (nothing: seconds). */
static bool parse_time(const char *text, double *seconds)
{
    double days = 0.0, part[3];
    int used = 0;
    unsigned day_count;
    if (sscanf(text, "%u-%n", &day_count, &used) == 1 && used > 0) {
        days = (double)day_count;
        text += used;
    }
    int n = 0;
    for (const char *at = text;; at++) {
        char *end;
        if (n == 3 || !isdigit((unsigned char)*at)) return false;
        part[n++] = strtod(at, &end);
        at = end;
        if (*at == '\0') break;
        if (*at != ':') {
            static const char units[] = "smhd";
            static const double length[] = {1.0, 60.0, 3600.0, 86400.0};
            const char *unit = strchr(units, *at);
            if (n != 1 || used > 0 || !unit || at[1] != '\0') return false;
            *seconds = part[0] * length[unit - units];
            return true;
        }
    }
    /* Behind a day count the parts are hours first, as Slurm reads "1-12:30". */
    while (used > 0 && n < 3)
        part[n++] = 0.0;
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum = sum * 60.0 + part[i];
    *seconds = days * 86400.0 + sum;
    return true;
}

static fz_status set_time(const fz_setting *s, double *out, const char *text, const char *where)
{
    double value;
    if (is_null(text)) {
        *out = FZ_NO_TIME;
        return FZ_OK;
    }
    FZ_CHECK(parse_time(text, &value), FZ_ERR_USAGE,
             "%s %s: %s is not a time like 90, 10m, 1:30:00, 2-00:00 or null", where, s->key, text);
    FZ_TRY(check_range(s, value, text, where));
    *out = value;
    return FZ_OK;
}

static fz_status set_text(const fz_setting *s, char *out, size_t bytes, const char *text,
                          const char *where)
{
    FZ_CHECK(strlen(text) < bytes, FZ_ERR_USAGE, "%s %s: longer than %zu characters", where, s->key,
             bytes - 1);
    snprintf(out, bytes, "%s", is_null(text) ? "" : text);
    return FZ_OK;
}

static fz_status set_list(const fz_setting *s, fz_text_list *out, const char *const *values, int n,
                          const char *where)
{
    FZ_CHECK(n <= FZ_LIST_MAX, FZ_ERR_USAGE, "%s %s: %d entries, at most %d fit", where, s->key, n,
             FZ_LIST_MAX);
    fz_text_list list = {.n = n};
    for (int i = 0; i < n; i++)
        FZ_TRY(set_text(s, list.item[i], sizeof list.item[i], values[i], where));
    *out = list;
    return FZ_OK;
}

static fz_status set_floats(const fz_setting *s, double *out, const char *const *values, int n,
                            const char *where)
{
    const int count = (int)s->max;
    double parsed[FZ_LIST_MAX];
    FZ_ASSERT(count <= FZ_LIST_MAX);
    FZ_CHECK(n == count, FZ_ERR_USAGE, "%s %s: %d numbers where %d belong", where, s->key, n,
             count);
    for (int i = 0; i < n; i++) {
        char *end;
        parsed[i] = strtod(values[i], &end);
        FZ_CHECK(end != values[i] && *end == '\0' && isfinite(parsed[i]), FZ_ERR_USAGE,
                 "%s %s: %s is not a number", where, s->key, values[i]);
    }
    memcpy(out, parsed, (size_t)n * sizeof *out);
    return FZ_OK;
}

/* "[a, b]" or "a" for a key that holds several values. */
static fz_status set_split(const fz_setting *s, void *config, const char *value, const char *where)
{
    char text[FZ_LIST_BYTES];
    const char *part[FZ_LIST_MAX + 1];
    int n = 0;
    const size_t length = strlen(value);
    FZ_CHECK(length < sizeof text, FZ_ERR_USAGE, "%s %s: the list is too long", where, s->key);
    const bool bracketed = length >= 2 && value[0] == '[' && value[length - 1] == ']';
    snprintf(text, sizeof text, "%.*s", (int)(bracketed ? length - 2 : length),
             bracketed ? value + 1 : value);

    char *rest = text;
    while (n <= FZ_LIST_MAX && *(rest += strspn(rest, " "))) {
        char *item = rest, *end = bracketed ? rest + strcspn(rest, ",") : rest + strlen(rest);
        rest = *end ? end + 1 : end;
        while (end > item && end[-1] == ' ')
            end--;
        *end = '\0';
        part[n++] = item;
    }
    if (s->type == FZ_SET_FLOATS) return set_floats(s, field(s, config), part, n, where);
    if (n == 1 && !bracketed && is_null(part[0])) n = 0;
    return set_list(s, field(s, config), part, n, where);
}

static fz_status set_one(const fz_setting *s, void *config, const char *value, const char *where)
{
    void *at = field(s, config);
    switch (s->type) {
    case FZ_SET_INT:
    case FZ_SET_AUTO:
        return set_int(s, at, value, where);
    case FZ_SET_FLOAT:
    case FZ_SET_FLOAT_AUTO:
        return set_float(s, at, value, where);
    case FZ_SET_BOOL:
        return set_bool(s, at, value, where);
    case FZ_SET_TEXT:
        return set_text(s, at, FZ_TEXT_BYTES, value, where);
    case FZ_SET_CHOICE:
        return set_choice(s, at, value, where);
    case FZ_SET_TIME:
        return set_time(s, at, value, where);
    case FZ_SET_LIST:
    case FZ_SET_FLOATS:
        return set_split(s, config, value, where);
    }
    FZ_ASSERT(!"a setting type without a parser");
    return FZ_ERR_ARG;
}

/* ---- keys ---- */

const fz_setting *fz_settings_find(const fz_settings_table *table, const char *key)
{
    for (int i = 0; i < table->n; i++)
        if (strcmp(table->settings[i].key, key) == 0) return &table->settings[i];
    return NULL;
}

static const char *last_part(const char *key)
{
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

/* Levenshtein distance; keys are short. */
static int distance(const char *a, const char *b)
{
    enum { MOST = 96 };
    int row[MOST + 1];
    const int n_a = (int)strlen(a), n_b = (int)strlen(b);
    if (n_a > MOST || n_b > MOST) return MOST;
    for (int j = 0; j <= n_b; j++)
        row[j] = j;
    for (int i = 1; i <= n_a; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n_b; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n_b];
}

const char *fz_settings_nearest(const fz_settings_table *table, const char *key)
{
    /* The right name in the wrong section is nearer than any spelling. */
    const char *nearest = "";
    int least = 1 << 20;
    for (int i = 0; i < table->n; i++) {
        const char *other = table->settings[i].key;
        const int d = strcmp(last_part(other), last_part(key)) == 0 ? -1 : distance(other, key);
        if (d < least) {
            least = d;
            nearest = other;
        }
    }
    return nearest;
}

static fz_status find(const fz_settings_table *table, const char *key, const char *where,
                      const fz_setting **found)
{
    *found = fz_settings_find(table, key);
    FZ_CHECK(*found, FZ_ERR_USAGE, "%s %s: unknown key; the nearest one is %s", where, key,
             fz_settings_nearest(table, key));
    return FZ_OK;
}

void fz_settings_defaults(const fz_settings_table *table, void *config)
{
    for (int i = 0; i < table->n; i++) {
        const fz_setting *s = &table->settings[i];
        FZ_ASSERT(set_one(s, config, s->def, "default") == FZ_OK);
    }
}

fz_status fz_settings_set(const fz_settings_table *table, void *config, const char *key,
                          const char *value, const char *where)
{
    const fz_setting *s;
    FZ_TRY(find(table, key, where, &s));
    return set_one(s, config, value, where);
}

fz_status fz_settings_set_list(const fz_settings_table *table, void *config, const char *key,
                               const char *const *values, int n, const char *where)
{
    const fz_setting *s;
    FZ_TRY(find(table, key, where, &s));
    if (s->type == FZ_SET_FLOATS) return set_floats(s, field(s, config), values, n, where);
    FZ_CHECK(s->type == FZ_SET_LIST, FZ_ERR_USAGE, "%s %s: a list where one value belongs", where,
             key);
    return set_list(s, field(s, config), values, n, where);
}

/* ---- values to text ---- */

/* The shortest decimal that reads back as the same double. */
static void print_double(char *out, size_t bytes, double value)
{
    char text[40] = "";
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    snprintf(out, bytes, "%s", text);
}

static void choice_text(const fz_setting *s, int index, char *out, size_t bytes)
{
    const char *at = s->choices;
    for (; index > 0; index--)
        at += strcspn(at, "|") + 1;
    snprintf(out, bytes, "%.*s", (int)strcspn(at, "|"), at);
}

static void list_text(const fz_text_list *list, char *out, size_t bytes)
{
    size_t used = (size_t)snprintf(out, bytes, "[");
    for (int i = 0; i < list->n && used < bytes; i++)
        used += (size_t)snprintf(out + used, bytes - used, "%s%s", i ? ", " : "", list->item[i]);
    if (used < bytes) snprintf(out + used, bytes - used, "]");
}

static void floats_text(const double *values, int n, char *out, size_t bytes)
{
    size_t used = (size_t)snprintf(out, bytes, "[");
    for (int i = 0; i < n && used < bytes; i++) {
        char number[40];
        print_double(number, sizeof number, values[i]);
        used += (size_t)snprintf(out + used, bytes - used, "%s%s", i ? ", " : "", number);
    }
    if (used < bytes) snprintf(out + used, bytes - used, "]");
}

char *fz_settings_text(const fz_setting *s, const void *config, char *out, size_t bytes)
{
    const void *at = const_field(s, config);
    switch (s->type) {
    case FZ_SET_INT:
    case FZ_SET_AUTO:
        if (s->type == FZ_SET_AUTO && *(const int64_t *)at == FZ_AUTO)
            snprintf(out, bytes, "auto");
        else
            snprintf(out, bytes, "%" PRId64, *(const int64_t *)at);
        break;
    case FZ_SET_FLOAT:
    case FZ_SET_FLOAT_AUTO:
        if (s->type == FZ_SET_FLOAT_AUTO && *(const double *)at == FZ_AUTO_FLOAT)
            snprintf(out, bytes, "auto");
        else
            print_double(out, bytes, *(const double *)at);
        break;
    case FZ_SET_BOOL:
        snprintf(out, bytes, "%s", *(const bool *)at ? "on" : "off");
        break;
    case FZ_SET_TEXT:
        snprintf(out, bytes, "%s", *(const char *)at ? (const char *)at : "null");
        break;
    case FZ_SET_CHOICE:
        choice_text(s, *(const int *)at, out, bytes);
        break;
    case FZ_SET_TIME:
        if (*(const double *)at == FZ_NO_TIME)
            snprintf(out, bytes, "null");
        else
            print_double(out, bytes, *(const double *)at);
        break;
    case FZ_SET_LIST:
        list_text(at, out, bytes);
        break;
    case FZ_SET_FLOATS:
        floats_text(at, (int)s->max, out, bytes);
        break;
    }
    return out;
}

static bool needs_quotes(const char *text)
{
    return *text == '\0' || strpbrk(text, ":#{}[],&*!|>'\"%@`\\ \t") || *text == '-' ||
           *text == '?';
}

static void print_quoted(const char *text, FILE *out)
{
    if (!needs_quotes(text)) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void print_value(const fz_setting *s, const void *config, FILE *out)
{
    char text[FZ_LIST_BYTES];
    if (s->type == FZ_SET_LIST) {
        const fz_text_list *list = const_field(s, config);
        fputc('[', out);
        for (int i = 0; i < list->n; i++) {
            if (i) fputs(", ", out);
            print_quoted(list->item[i], out);
        }
        fputc(']', out);
        return;
    }
    fz_settings_text(s, config, text, sizeof text);
    if (s->type == FZ_SET_TEXT)
        print_quoted(text, out);
    else
        fputs(text, out);
}

/* Length of "section." at the head of a key; 0 for a key without one. */
static size_t section_length(const char *key)
{
    const char *dot = strchr(key, '.');
    return dot ? (size_t)(dot - key) + 1 : 0;
}

static bool starts_section(const fz_settings_table *table, int i)
{
    const char *key = table->settings[i].key;
    const size_t n = section_length(key);
    return n > 0 && (i == 0 || strncmp(table->settings[i - 1].key, key, n) != 0);
}

void fz_settings_print(const fz_settings_table *table, const void *config, FILE *out)
{
    for (int i = 0; i < table->n; i++) {
        const fz_setting *s = &table->settings[i];
        const size_t n = section_length(s->key);
        if (starts_section(table, i)) fprintf(out, "%.*s:\n", (int)n - 1, s->key);
        fprintf(out, "%s%s: ", n ? "  " : "", s->key + n);
        print_value(s, config, out);
        fputc('\n', out);
    }
}

static void print_legal(const fz_setting *s, FILE *out)
{
    switch (s->type) {
    case FZ_SET_INT:
    case FZ_SET_FLOAT:
    case FZ_SET_AUTO:
    case FZ_SET_FLOAT_AUTO:
        fprintf(out, "%.10g .. %.10g%s", s->min, s->max,
                s->type == FZ_SET_AUTO || s->type == FZ_SET_FLOAT_AUTO ? ", auto" : "");
        break;
    case FZ_SET_BOOL:
        fprintf(out, "on|off");
        break;
    case FZ_SET_CHOICE:
        fprintf(out, "%s", s->choices);
        break;
    case FZ_SET_TIME:
        fprintf(out, "time or null");
        break;
    case FZ_SET_TEXT:
        fprintf(out, "text");
        break;
    case FZ_SET_LIST:
        fprintf(out, "list of texts");
        break;
    case FZ_SET_FLOATS:
        fprintf(out, "%d numbers", (int)s->max);
        break;
    }
}

void fz_settings_help(const fz_settings_table *table, FILE *out)
{
    for (int i = 0; i < table->n; i++) {
        const fz_setting *s = &table->settings[i];
        if (starts_section(table, i))
            fprintf(out, "\n%.*s\n", (int)section_length(s->key) - 1, s->key);
        fprintf(out, "  %-26s %s\n  %-26s   (", s->key, s->help, "");
        print_legal(s, out);
        fprintf(out, "; default %s)\n", s->def);
    }
}

uint64_t fz_settings_hash(const fz_settings_table *table, const void *config)
{
    char text[FZ_LIST_BYTES];
    uint64_t hash = 0;
    for (int i = 0; i < table->n; i++) {
        hash = fz_mix64(hash ^ fz_hash_text(table->settings[i].key));
        hash = fz_mix64(
            hash ^ fz_hash_text(fz_settings_text(&table->settings[i], config, text, sizeof text)));
    }
    return hash;
}
