#include "checkpoint/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/disk.h"
#include "core/checksum.h"
#include "core/memory.h"

enum { LINE_BYTES = 160 };

/* An empty word is written as a dash, so that every line has its words. */
static const char *word(const char *text)
{
    return text[0] ? text : "-";
}

fz_status fz_manifest_write(const char *path, const fz_manifest *manifest)
{
    const size_t room = (size_t)(manifest->n_files + 8) * LINE_BYTES;
    char *text;

    FZ_TRY(fz_alloc((void **)&text, room, "manifest"));
    size_t n = (size_t)snprintf(
        text, room, "florenz-checkpoint 1\nkind %s\nstep %" PRId64 "\nrun %s\nbase %s\n",
        manifest->kind, manifest->step, word(manifest->run_id), word(manifest->base));
    for (int64_t i = 0; i < manifest->n_files; i++) {
        const fz_manifest_file *file = &manifest->files[i];
        n += (size_t)snprintf(text + n, room - n, "file %s %" PRId64 " %08" PRIx32 "\n", file->name,
                              file->size, file->crc);
    }
    n += (size_t)snprintf(text + n, room - n, "crc %08" PRIx32 "\n", fz_crc32c(0, text, n));
    const fz_status status = fz_disk_write_file(path, text, n);
    fz_free(&text);
    return status;
}

void fz_manifest_reset(fz_manifest *manifest)
{
    fz_free(&manifest->files);
    *manifest = (fz_manifest){.n_files = 0};
}

/* Copies the next line without its newline; false at the end or for one that is too long. */
static bool next_line(const char **at, const char *end, char line[LINE_BYTES])
{
    const char *stop = *at < end ? memchr(*at, '\n', (size_t)(end - *at)) : NULL;

    if (!stop || stop - *at >= LINE_BYTES) return false;
    memcpy(line, *at, (size_t)(stop - *at));
    line[stop - *at] = 0;
    *at = stop + 1;
    return true;
}

/* The rest of a line "key value"; the dash is the empty word. */
static bool value_of(const char *line, const char *key, char *value, size_t bytes)
{
    const size_t n = strlen(key);

    if (strncmp(line, key, n) != 0 || line[n] != ' ' || strlen(line + n + 1) >= bytes) return false;
    strcpy(value, strcmp(line + n + 1, "-") == 0 ? "" : line + n + 1);
    return true;
}

static bool parse_file(const char *line, fz_manifest_file *file)
{
    int end = 0;
    const int n = sscanf(line, "file %63s %" SCNd64 " %8" SCNx32 "%n", file->name, &file->size,
                         &file->crc, &end);
    /* Names come from a file: they must not lead out of its directory. */
    return n == 3 && line[end] == 0 && file->size >= 0 && file->name[0] != '/' &&
           !strstr(file->name, "..");
}

static bool parse_lines(const char *text, const char *end, fz_manifest *m)
{
    char line[LINE_BYTES], number[32], *stop;
    const char *at = text;

    if (!next_line(&at, end, line) || strcmp(line, "florenz-checkpoint 1") != 0) return false;
    if (!next_line(&at, end, line) || !value_of(line, "kind", m->kind, sizeof m->kind))
        return false;
    if (!next_line(&at, end, line) || !value_of(line, "step", number, sizeof number)) return false;
    errno = 0;
    m->step = strtoll(number, &stop, 10);
    if (errno != 0 || *stop || stop == number || m->step < 0) return false;
    if (!next_line(&at, end, line) || !value_of(line, "run", m->run_id, sizeof m->run_id))
        return false;
    if (!next_line(&at, end, line) || !value_of(line, "base", m->base, sizeof m->base))
        return false;
    while (at < end) {
        if (!next_line(&at, end, line) || !parse_file(line, &m->files[m->n_files])) return false;
        m->n_files++;
    }
    /* The base lies beside the step, under its own kind of name. */
    if (m->base[0] && (strncmp(m->base, "base-", 5) != 0 || strchr(m->base, '/'))) return false;
    return m->n_files > 0 && strcmp(m->files[0].name, "index.h5") == 0;
}

fz_status fz_manifest_parse(const char *text, size_t bytes, const char *path, fz_manifest *manifest)
{
    enum { CRC_LINE = sizeof "crc 01234567\n" - 1 };
    char expected[CRC_LINE + 1];
    int64_t n_lines = 0;

    *manifest = (fz_manifest){.n_files = 0};
    FZ_CHECK(bytes > CRC_LINE, FZ_ERR_FORMAT, "%s is cut off: %zu bytes", path, bytes);
    const char *end = text + bytes - CRC_LINE;
    snprintf(expected, sizeof expected, "crc %08" PRIx32 "\n",
             fz_crc32c(0, text, bytes - CRC_LINE));
    FZ_CHECK(memcmp(end, expected, CRC_LINE) == 0, FZ_ERR_FORMAT,
             "%s is damaged or cut off: its last line is not %.12s", path, expected);
    for (const char *at = text; at < end; at++)
        n_lines += *at == '\n';
    FZ_TRY(FZ_NEW(&manifest->files, n_lines));
    if (!memchr(text, 0, bytes) && parse_lines(text, end, manifest)) return FZ_OK;
    fz_manifest_reset(manifest);
    return FZ_FAIL(FZ_ERR_FORMAT, "%s is not a manifest of format 1", path);
}

static fz_status compare_sizes(const char *dir, const fz_manifest *manifest)
{
    char path[FZ_PATH_BYTES];

    for (int64_t i = 0; i < manifest->n_files; i++) {
        int64_t size = 0;
        FZ_TRY(fz_disk_join(path, dir, manifest->files[i].name));
        FZ_TRY(fz_disk_size(path, &size));
        FZ_CHECK(size == manifest->files[i].size, FZ_ERR_FORMAT,
                 "%s has %lld bytes, its manifest says %lld", path, (long long)size,
                 (long long)manifest->files[i].size);
    }
    return FZ_OK;
}

fz_status fz_manifest_accept(const char *dir, fz_manifest *manifest)
{
    char path[FZ_PATH_BYTES], *text;
    size_t bytes;

    FZ_TRY(fz_disk_join(path, dir, "MANIFEST"));
    FZ_TRY(fz_disk_read_file(path, &text, &bytes));
    const fz_status parsed = fz_manifest_parse(text, bytes, path, manifest);
    fz_free(&text);
    FZ_TRY(parsed);
    const fz_status status = compare_sizes(dir, manifest);
    if (status != FZ_OK) fz_manifest_reset(manifest);
    return status;
}
