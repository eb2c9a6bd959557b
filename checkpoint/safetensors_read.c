#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "checkpoint/disk.h"
#include "checkpoint/safetensors.h"
#include "core/memory.h"

/* The format allows headers of this size at most. */
enum { HEADER_BYTES = 100 * 1000 * 1000 };
/* Reading goes in chunks, and the disk is asked for what comes further behind: when the last chunk
 * is there, the next tensor is on its way, whatever is done with this one in between. */
enum { CHUNK_BYTES = 1 << 20, AHEAD_BYTES = 256 << 20, AHEAD_STEP_BYTES = 8 << 20 };

typedef struct st_file {
    char path[FZ_PATH_BYTES];
    const char *name; /* in path, behind the folder */
    int fd;           /* -1: not open */
    int64_t bytes;    /* of the file */
    fz_safetensors_header header;
    _Atomic int64_t
        asked; /* the disk was asked for everything up to here, or for what came before */
} st_file;

struct fz_safetensors {
    int n_files;
    st_file *files;         /* owned */
    int n_tensors;          /* of all files */
    fz_safetensor *tensors; /* owned, sorted by name; names belong to the files' headers */
};

static int compare_names(const void *x, const void *y)
{
    const fz_safetensor *a = x, *b = y;
    return strcmp(a->name, b->name);
}

static const fz_safetensor *find(const fz_safetensor *sorted, int n, const char *name)
{
    const fz_safetensor key = {.name = name};
    return n > 0 ? bsearch(&key, sorted, (size_t)n, sizeof key, compare_names) : NULL;
}

/* one file */

/* Says which file an error is about. */
static fz_status in_file(const char *path, fz_status status)
{
    char text[sizeof fz_last_error()->text];

    if (status == FZ_OK || status == FZ_ERR_MEMORY) return status;
    memcpy(text, fz_last_error()->text, sizeof text);
    return FZ_FAIL(status, "%.200s: %s", path, text);
}

static fz_status read_header(st_file *file)
{
    unsigned char length[8];
    int64_t size = 0, n = 0;
    char *json = NULL;

    FZ_TRY(fz_disk_size(file->path, &size));
    FZ_CHECK(size >= (int64_t)sizeof length, FZ_ERR_FORMAT,
             "%s is no safetensors file: it has %" PRId64 " bytes", file->path, size);
    FZ_TRY(fz_disk_read(file->fd, file->path, length, sizeof length, 0));
    for (int i = 7; i >= 0; i--)
        n = n > INT64_MAX >> 8 ? INT64_MAX : n << 8 | length[i];
    file->bytes = size;
    const int64_t data = size - (int64_t)sizeof length - n;
    FZ_CHECK(n <= HEADER_BYTES && data >= 0, FZ_ERR_FORMAT,
             "%s is no safetensors file, or cut off: it states a header of %" PRId64
             " bytes and has %" PRId64,
             file->path, n, size);
    FZ_TRY(fz_alloc((void **)&json, (size_t)n, "header of a safetensors file"));
    fz_status status = fz_disk_read(file->fd, file->path, json, (size_t)n, sizeof length);
    if (status == FZ_OK)
        status = in_file(file->path, fz_safetensors_parse(json, (size_t)n, data, &file->header));
    fz_free(&json);
    for (int i = 0; i < file->header.n_tensors; i++)
        file->header.tensors[i].offset += (int64_t)sizeof length + n;
    return status;
}

static fz_status open_file(st_file *file) /* path is set */
{
    struct stat info;

    const char *slash = strrchr(file->path, '/');
    file->name = slash ? slash + 1 : file->path;
    FZ_CHECK(stat(file->path, &info) != 0 || S_ISREG(info.st_mode), FZ_ERR_FORMAT,
             "%s is not a file", file->path);
    FZ_TRY(fz_disk_open(file->path, false, &file->fd));
    posix_fadvise(file->fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* advice: it may be refused */
    return read_header(file);
}

static fz_status make_files(fz_safetensors *st, int n)
{
    FZ_TRY(FZ_NEW(&st->files, n));
    st->n_files = n;
    for (int i = 0; i < n; i++)
        st->files[i].fd = -1;
    return FZ_OK;
}

/* the index */

static int compare_texts(const void *x, const void *y)
{
    const char *const *a = x, *const *b = y;
    return strcmp(*a, *b);
}

/* File names of the map, each once. list: room for all. */
static fz_status list_files(json_t *map, const char **list, int *n_p)
{
    const char *tensor;
    json_t *file;
    int n = 0, kept = 0;

    json_object_foreach(map, tensor, file)
    {
        const char *name = json_string_value(file);
        FZ_CHECK(name, FZ_ERR_FORMAT, "weight_map names no file for tensor %.200s", tensor);
        FZ_CHECK(name[0] && name[0] != '.' && !strchr(name, '/'), FZ_ERR_FORMAT,
                 "tensor %.200s: %.200s is not the name of a file in this folder", tensor, name);
        list[n++] = name;
    }
    qsort(list, (size_t)n, sizeof *list, compare_texts);
    for (int i = 0; i < n; i++)
        if (i == 0 || strcmp(list[i], list[kept - 1]) != 0) list[kept++] = list[i];
    *n_p = kept;
    return FZ_OK;
}

/* The map and the files say the same of every tensor. */
static fz_status compare_map(const fz_safetensors *st, json_t *map)
{
    const char *tensor;
    json_t *value;

    for (int i = 0; i < st->n_files; i++)
        for (int t = 0; t < st->files[i].header.n_tensors; t++) {
            const char *name = st->files[i].header.tensors[t].name;
            const char *there = json_string_value(json_object_get(map, name));
            FZ_CHECK(there, FZ_ERR_FORMAT, "%.100s holds tensor %.200s, weight_map lacks it",
                     st->files[i].name, name);
            FZ_CHECK(strcmp(there, st->files[i].name) == 0, FZ_ERR_FORMAT,
                     "%.100s holds tensor %.200s, weight_map says %.100s does", st->files[i].name,
                     name, there);
        }
    json_object_foreach(map, tensor, value)
    {
        const fz_safetensor *found = NULL;
        for (int i = 0; i < st->n_files && !found; i++) {
            const fz_safetensors_header *header = &st->files[i].header;
            if (strcmp(st->files[i].name, json_string_value(value)) == 0)
                found = find(header->tensors, header->n_tensors, tensor);
        }
        FZ_CHECK(found, FZ_ERR_FORMAT, "weight_map says tensor %.200s is in %.100s, it is not",
                 tensor, json_string_value(value));
    }
    return FZ_OK;
}

static fz_status open_listed(fz_safetensors *st, const char *dir, json_t *map)
{
    const char **list = NULL;
    int n = 0;

    FZ_CHECK(json_is_object(map), FZ_ERR_FORMAT, "weight_map is missing");
    FZ_TRY(FZ_NEW(&list, json_object_size(map)));
    fz_status status = list_files(map, list, &n);
    if (status == FZ_OK) status = make_files(st, n);
    for (int i = 0; i < n && status == FZ_OK; i++) {
        status = fz_disk_join(st->files[i].path, dir, list[i]);
        if (status == FZ_OK) status = open_file(&st->files[i]);
    }
    fz_free(&list);
    return status == FZ_OK ? compare_map(st, map) : status;
}

static fz_status open_index(fz_safetensors *st, const char *dir, const char *path)
{
    json_error_t error;
    char *text = NULL;
    size_t n = 0;

    FZ_TRY(fz_disk_read_file(path, &text, &n));
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    fz_free(&text);
    FZ_CHECK(root, FZ_ERR_FORMAT, "%s is not json: %.200s (byte %d)", path, error.text,
             error.position);
    const fz_status status =
        in_file(path, open_listed(st, dir, json_object_get(root, "weight_map")));
    json_decref(root);
    return status;
}

/* opening and closing */

static fz_status open_folder(fz_safetensors *st, const char *dir)
{
    char single[FZ_PATH_BYTES], index[FZ_PATH_BYTES];

    FZ_TRY(fz_disk_join(single, dir, "model.safetensors"));
    FZ_TRY(fz_disk_join(index, dir, "model.safetensors.index.json"));
    if (!fz_disk_is_there(single) && fz_disk_is_there(index)) return open_index(st, dir, index);
    FZ_CHECK(fz_disk_is_there(single), FZ_ERR_USAGE,
             "%s holds neither model.safetensors nor model.safetensors.index.json", dir);
    FZ_TRY(make_files(st, 1));
    strcpy(st->files[0].path, single);
    return open_file(&st->files[0]);
}

/* The tensors of all files in one list. */
static fz_status gather_tensors(fz_safetensors *st)
{
    int64_t n = 0;

    for (int i = 0; i < st->n_files; i++)
        n += st->files[i].header.n_tensors;
    FZ_CHECK(n < INT32_MAX, FZ_ERR_FORMAT, "%s: too many tensors", st->files[0].path);
    FZ_TRY(FZ_NEW(&st->tensors, n));
    for (int i = 0; i < st->n_files; i++)
        for (int t = 0; t < st->files[i].header.n_tensors; t++) {
            st->tensors[st->n_tensors] = st->files[i].header.tensors[t];
            st->tensors[st->n_tensors++].file = i;
        }
    qsort(st->tensors, (size_t)n, sizeof *st->tensors, compare_names);
    return FZ_OK;
}

static fz_status open_path(fz_safetensors *st, const char *path)
{
    struct stat info;

    FZ_CHECK(strlen(path) < FZ_PATH_BYTES, FZ_ERR_ARG, "the path %s is too long", path);
    FZ_CHECK(stat(path, &info) == 0, FZ_ERR_USAGE, "open %s: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode)) {
        FZ_TRY(open_folder(st, path));
    } else {
        FZ_TRY(make_files(st, 1));
        strcpy(st->files[0].path, path);
        FZ_TRY(open_file(&st->files[0]));
    }
    return gather_tensors(st);
}

fz_status fz_safetensors_open(const char *path, fz_safetensors **st_p)
{
    fz_safetensors *st = NULL;

    FZ_TRY(FZ_NEW(&st, 1));
    const fz_status status = open_path(st, path);
    if (status != FZ_OK)
        fz_safetensors_close(&st);
    else
        *st_p = st;
    return status;
}

void fz_safetensors_close(fz_safetensors **st)
{
    if (!*st) return;
    for (int i = 0; i < (*st)->n_files; i++) {
        st_file *file = &(*st)->files[i];
        if (file->fd >= 0) close(file->fd);
        fz_safetensors_header_reset(&file->header);
    }
    fz_free(&(*st)->files);
    fz_free(&(*st)->tensors);
    fz_free(st);
}

/* looking */

int fz_safetensors_count(const fz_safetensors *st)
{
    return st->n_tensors;
}

const fz_safetensor *fz_safetensors_get(const fz_safetensors *st, int i)
{
    return &st->tensors[i];
}

const fz_safetensor *fz_safetensors_find(const fz_safetensors *st, const char *name)
{
    return find(st->tensors, st->n_tensors, name);
}

const char *fz_safetensors_file(const fz_safetensors *st, int file)
{
    return st->files[file].path;
}

const char *fz_safetensors_metadata(const fz_safetensors *st, const char *key)
{
    for (int i = 0; i < st->n_files; i++) {
        const fz_safetensors_header *header = &st->files[i].header;
        for (int k = 0; k < header->n_metadata; k++)
            if (strcmp(header->keys[k], key) == 0) return header->values[k];
    }
    return NULL;
}

/* reading */

static fz_status check_range(const fz_safetensor *tensor, int64_t first, int64_t n)
{
    FZ_CHECK(first >= 0 && n >= 0 && first <= tensor->elements && n <= tensor->elements - first,
             FZ_ERR_ARG,
             "tensor %.200s has %" PRId64 " elements, asked for %" PRId64 " from %" PRId64,
             tensor->name, tensor->elements, n, first);
    return FZ_OK;
}

typedef struct chunks { /* of a tensor's bytes */
    st_file *file;
    int64_t at, end;
} chunks;

static chunks chunks_of(const fz_safetensors *st, const fz_safetensor *tensor, int64_t first,
                        int64_t n)
{
    const int64_t width = (int64_t)fz_dtype_bytes(tensor->dtype);
    const int64_t at = tensor->offset + first * width;
    return (chunks){&st->files[tensor->file], at, at + n * width};
}

/* The next chunk, of at most `most` bytes. */
static fz_status read_chunk(chunks *c, int64_t most, void *out, int64_t *bytes_p)
{
    const int64_t bytes = c->end - c->at < most ? c->end - c->at : most;

    /* Each place once: threads that meet here may ask twice, which costs little. */
    int64_t ahead = c->file->asked > c->at ? c->file->asked : c->at;
    for (; ahead < c->at + AHEAD_BYTES && ahead < c->file->bytes; ahead += AHEAD_STEP_BYTES)
        fz_disk_prefetch(c->file->fd, ahead, AHEAD_STEP_BYTES);
    c->file->asked = ahead;
    FZ_TRY(fz_disk_read(c->file->fd, c->file->path, out, (size_t)bytes, c->at));
    c->at += bytes;
    *bytes_p = bytes;
    return FZ_OK;
}

fz_status fz_safetensors_read(const fz_safetensors *st, const fz_safetensor *tensor, int64_t first,
                              int64_t n, void *out)
{
    char *to = out;

    FZ_TRY(check_range(tensor, first, n));
    chunks c = chunks_of(st, tensor, first, n);
    for (int64_t bytes = 0; c.at < c.end; to += bytes)
        FZ_TRY(read_chunk(&c, AHEAD_STEP_BYTES, to, &bytes));
    return FZ_OK;
}

static void widen(fz_dtype dtype, float *out, const void *x, int64_t n)
{
    const double *wide = x;

    if (dtype == FZ_DTYPE_F16) {
        fz_widen_f16(out, x, n);
    } else if (dtype == FZ_DTYPE_BF16) {
        fz_widen_bf16(out, x, n);
    } else {
        for (int64_t i = 0; i < n; i++)
            out[i] = (float)wide[i];
    }
}

fz_status fz_safetensors_read_float(const fz_safetensors *st, const fz_safetensor *tensor,
                                    int64_t first, int64_t n, float *out)
{
    const int64_t width = (int64_t)fz_dtype_bytes(tensor->dtype);
    void *buffer = NULL;

    if (tensor->dtype == FZ_DTYPE_F32) return fz_safetensors_read(st, tensor, first, n, out);
    FZ_CHECK(tensor->dtype <= FZ_DTYPE_BF16, FZ_ERR_FORMAT,
             "%s: tensor %.200s holds %s, not floating-point numbers", st->files[tensor->file].path,
             tensor->name, FZ_DTYPE_NAMES[tensor->dtype]);
    FZ_TRY(check_range(tensor, first, n));
    FZ_TRY(fz_alloc(&buffer, CHUNK_BYTES, "buffer for reading safetensors"));
    chunks c = chunks_of(st, tensor, first, n);
    fz_status status = FZ_OK;
    for (int64_t bytes = 0; c.at < c.end && status == FZ_OK; out += bytes / width) {
        status = read_chunk(&c, CHUNK_BYTES, buffer, &bytes);
        if (status == FZ_OK) widen(tensor->dtype, out, buffer, bytes / width);
    }
    fz_free(&buffer);
    return status;
}
