#include "launch/config_yaml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <yaml.h>

#include "core/log.h"
#include "core/memory.h"
#include "launch/share.h"

enum { MOST_BYTES = 1 << 20 };

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    fz_config *config;
    bool lenient;
    bool seen[FZ_CONFIG_KEYS];
} reader;

#define HERE(r) (r)->config->path, (int)(r)->event.start_mark.line + 1

static fz_status next(reader *r)
{
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = yaml_parser_parse(&r->parser, &r->event) != 0;
    FZ_CHECK(r->has_event, FZ_ERR_USAGE, "%s:%d: %s%s%s", r->config->path,
             (int)r->parser.problem_mark.line + 1,
             r->parser.problem ? r->parser.problem : "not YAML", r->parser.context ? " " : "",
             r->parser.context ? r->parser.context : "");
    FZ_CHECK(r->event.type != YAML_ALIAS_EVENT, FZ_ERR_USAGE, "%s:%d: aliases are not read",
             HERE(r));
    return FZ_OK;
}

static const char *scalar(const reader *r)
{
    return (const char *)r->event.data.scalar.value;
}

/* A quoted "null" is the word, an unquoted nothing is null. */
static const char *value_text(const reader *r)
{
    const bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return plain && scalar(r)[0] == '\0' ? "null" : scalar(r);
}

/* Sets one key; the event is its first value. Leaves the event at the last of it. */
static fz_status read_value(reader *r, const char *key, int line)
{
    if (r->event.type == YAML_SCALAR_EVENT) {
        const char *value = value_text(r);
        return fz_config_apply(r->config, key, &value, 1, false, line);
    }
    FZ_CHECK(r->event.type == YAML_SEQUENCE_START_EVENT, FZ_ERR_USAGE,
             "%s:%d %s: a value or a list belongs here, not another level", HERE(r), key);

    char text[FZ_LIST_MAX + 1][FZ_TEXT_BYTES];
    const char *values[FZ_LIST_MAX + 1];
    int n = 0;
    for (;;) {
        FZ_TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT) break;
        FZ_CHECK(r->event.type == YAML_SCALAR_EVENT, FZ_ERR_USAGE,
                 "%s:%d %s: a list of plain values belongs here", HERE(r), key);
        FZ_CHECK(n <= FZ_LIST_MAX, FZ_ERR_USAGE, "%s:%d %s: more than %d entries", HERE(r), key,
                 FZ_LIST_MAX);
        FZ_CHECK(strlen(scalar(r)) < FZ_TEXT_BYTES, FZ_ERR_USAGE, "%s:%d %s: an entry is too long",
                 HERE(r), key);
        snprintf(text[n], sizeof text[n], "%s", scalar(r));
        values[n] = text[n];
        n++;
    }
    return fz_config_apply(r->config, key, values, n, true, line);
}

static fz_status skip_value(reader *r)
{
    int depth = 0;
    for (;;) {
        const yaml_event_type_t type = r->event.type;
        depth += (type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT) -
                 (type == YAML_SEQUENCE_END_EVENT || type == YAML_MAPPING_END_EVENT);
        if (depth == 0) return FZ_OK;
        FZ_TRY(next(r));
    }
}

static fz_status read_key(reader *r, const char *section)
{
    char key[128];
    const int line = (int)r->event.start_mark.line + 1;
    FZ_CHECK(r->event.type == YAML_SCALAR_EVENT, FZ_ERR_USAGE, "%s:%d: a key belongs here",
             HERE(r));
    snprintf(key, sizeof key, "%s.%s", section, scalar(r));
    const fz_setting *setting = fz_settings_find(&fz_config_table, key);
    if (!setting && r->lenient) {
        fz_warn("%s: %s is not known to this version and left out", r->config->path, key);
        FZ_TRY(next(r));
        return skip_value(r);
    }
    FZ_CHECK(setting, FZ_ERR_USAGE, "%s:%d %s: unknown key; the nearest one is %s", HERE(r), key,
             fz_settings_nearest(&fz_config_table, key));
    bool *seen = &r->seen[setting - fz_config_table.settings];
    FZ_CHECK(!*seen, FZ_ERR_USAGE, "%s:%d %s: the key is there twice (first in line %d)", HERE(r),
             key, r->config->line[setting - fz_config_table.settings]);
    *seen = true;
    FZ_TRY(next(r));
    return read_value(r, key, line);
}

static bool has_section(const char *name)
{
    const size_t n = strlen(name);
    for (int i = 0; i < fz_config_table.n; i++)
        if (strncmp(fz_config_table.settings[i].key, name, n) == 0 &&
            fz_config_table.settings[i].key[n] == '.')
            return true;
    return false;
}

static fz_status read_section(reader *r)
{
    char section[96];
    FZ_CHECK(r->event.type == YAML_SCALAR_EVENT, FZ_ERR_USAGE, "%s:%d: a section belongs here",
             HERE(r));
    snprintf(section, sizeof section, "%s", scalar(r));
    if (!has_section(section) && !r->lenient) {
        const char *nearest = fz_settings_nearest(&fz_config_table, section);
        return FZ_FAIL(FZ_ERR_USAGE,
                       "%s:%d %s: unknown section; keys stand in sections like %.*s: (%s)", HERE(r),
                       section, (int)strcspn(nearest, "."), nearest, nearest);
    }
    FZ_TRY(next(r));
    if (r->event.type == YAML_SCALAR_EVENT && value_text(r)[0] != '\0' &&
        strcmp(value_text(r), "null") == 0)
        return FZ_OK; /* "run:" and nothing behind it */
    FZ_CHECK(r->event.type == YAML_MAPPING_START_EVENT, FZ_ERR_USAGE,
             "%s:%d %s: keys belong here, as in %s: {key: value}", HERE(r), section, section);
    for (;;) {
        FZ_TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) return FZ_OK;
        FZ_TRY(read_key(r, section));
    }
}

static fz_status read_document(reader *r)
{
    FZ_TRY(next(r)); /* stream start */
    FZ_TRY(next(r));
    if (r->event.type == YAML_STREAM_END_EVENT) return FZ_OK; /* an empty file: all defaults */
    FZ_TRY(next(r));
    FZ_CHECK(r->event.type == YAML_MAPPING_START_EVENT, FZ_ERR_USAGE,
             "%s:%d: not a config: sections like run: belong here", HERE(r));
    for (;;) {
        FZ_TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) break;
        FZ_TRY(read_section(r));
    }
    FZ_TRY(next(r)); /* document end */
    FZ_TRY(next(r));
    FZ_CHECK(r->event.type == YAML_STREAM_END_EVENT, FZ_ERR_USAGE,
             "%s:%d: a second document in one file", HERE(r));
    return FZ_OK;
}

fz_status fz_config_parse(fz_config *config, const char *bytes, size_t n, bool lenient)
{
    reader r = {.config = config, .lenient = lenient};
    FZ_CHECK(yaml_parser_initialize(&r.parser), FZ_ERR_MEMORY, "start the YAML parser");
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)bytes, n);
    const fz_status status = read_document(&r);
    if (r.has_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return status;
}

static fz_status read_file(const char *path, void **bytes_p, size_t *n_p)
{
    struct stat info;
    FILE *file = fopen(path, "rb");
    FZ_CHECK(file, FZ_ERR_USAGE, "open %s: %s", path, strerror(errno));
    void *bytes = NULL;
    fz_status status = FZ_OK;
    if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > MOST_BYTES)
        status = FZ_FAIL(FZ_ERR_USAGE, "%s: not a config file (a text of at most 1 MiB)", path);
    if (status == FZ_OK) status = fz_alloc(&bytes, (size_t)info.st_size + 1, path);
    if (status == FZ_OK && fread(bytes, 1, (size_t)info.st_size, file) != (size_t)info.st_size) {
        status = FZ_FAIL(FZ_ERR_IO, "read %s: %s", path, strerror(errno));
        fz_free(&bytes);
    }
    fclose(file);
    if (status != FZ_OK) return status;
    *bytes_p = bytes;
    *n_p = (size_t)info.st_size;
    return FZ_OK;
}

/* What rank 0 tells the others: the two folders that relative paths start from, and the file. */
typedef struct file_text {
    char folder[FZ_TEXT_BYTES], current[FZ_TEXT_BYTES];
    char yaml[];
} file_text;

static fz_status read_text(const char *path, void **bytes_p, size_t *n_p)
{
    char folder[FZ_TEXT_BYTES], *whole = NULL;
    void *yaml = NULL;
    size_t n = 0;
    file_text *text = NULL;
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1,
             slash ? path : ".");
    FZ_TRY(read_file(path, &yaml, &n));
    fz_status status = fz_alloc((void **)&text, sizeof *text + n + 1, path);
    if (status == FZ_OK) {
        memcpy(text->yaml, yaml, n);
        whole = realpath(folder, NULL);
        if (!whole || strlen(whole) >= sizeof text->folder ||
            !getcwd(text->current, sizeof text->current))
            status = FZ_FAIL(FZ_ERR_IO, "%s: its folder has no path of at most %d characters", path,
                             FZ_TEXT_BYTES - 1);
        else
            snprintf(text->folder, sizeof text->folder, "%s", whole);
    }
    free(whole);
    fz_free(&yaml);
    if (status != FZ_OK) {
        fz_free(&text);
        return status;
    }
    *bytes_p = text;
    *n_p = sizeof *text + n;
    return FZ_OK;
}

static fz_status parse_all(fz_config *config, const file_text *text, size_t n,
                           const char *const *set, int n_set)
{
    FZ_TRY(fz_config_parse(config, text->yaml, n - sizeof *text, false));
    for (int i = 0; i < n_set; i++)
        FZ_TRY(fz_config_set(config, set[i]));
    FZ_TRY(fz_config_blame(config, fz_config_anchor(config, text->folder, text->current)));
    return fz_config_blame(config, fz_config_resolve(config));
}

fz_status fz_config_load(fz_config *config, const char *path, const char *const *set, int n_set,
                         const fz_group *group)
{
    void *bytes = NULL;
    size_t n = 0;
    fz_status status = FZ_OK;
    fz_config_init(config, path);
    if (!group || fz_group_rank(group) == 0) status = read_text(path, &bytes, &n);
    status = fz_share_bytes(group, status, &bytes, &n, path);
    if (status != FZ_OK) {
        fz_free(&bytes);
        return status;
    }
    status = parse_all(config, bytes, n, set, n_set);
    fz_free(&bytes);
    FZ_TRY(fz_share_status(group, status));
    if (!group) return FZ_OK;
    /* The file's bytes are the same everywhere, but --set comes from each rank's command line. */
    const uint64_t hash = fz_settings_hash(&fz_config_table, config);
    return fz_same(group, &hash, sizeof hash, "effective config (--set differs between ranks)");
}
