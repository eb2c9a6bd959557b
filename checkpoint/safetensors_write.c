#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "checkpoint/block_writer.h"
#include "checkpoint/safetensors.h"
#include "core/memory.h"

enum { HEADER_BYTES = 100 * 1000 * 1000, LENGTH_BYTES = 8 };
/* More than an entry of the header takes besides its name, and a file besides its entries. */
enum { ENTRY_BYTES = 160 + 24 * FZ_SAFETENSOR_AXES, FILE_BYTES = 64 };

typedef struct st_file {
    char path[FZ_PATH_BYTES], tmp[FZ_PATH_BYTES];
    fz_block_file out;    /* of tmp; -1: not open */
    char *header;         /* owned: JSON, padded with spaces */
    int64_t header_bytes; /* of the JSON */
    int64_t bytes;        /* of the file */
} st_file;

struct fz_safetensors_writer {
    char dir[FZ_PATH_BYTES];
    int n_tensors;
    fz_safetensor *tensors; /* borrowed */
    int n_files;
    st_file *files; /* owned; behind them one for the index */
    bool has_index;
    int n_committed; /* files that have their final name */
    bool is_direct;
    fz_block_writer *blocks; /* owned; NULL: nothing is on its way */
};

/* planning */

static fz_status check_tensors(int n, const fz_safetensor *tensors)
{
    for (int i = 0; i < n; i++) {
        const fz_safetensor *t = &tensors[i];
        int64_t elements = 1;
        FZ_CHECK(strcmp(t->name, "__metadata__") != 0, FZ_ERR_ARG, "no tensor can be named %s",
                 t->name);
        FZ_CHECK(t->dtype <= FZ_DTYPE_BF16, FZ_ERR_ARG, "tensor %.200s: %s is not written here",
                 t->name, FZ_DTYPE_NAMES[t->dtype]);
        FZ_CHECK(t->ndim >= 0 && t->ndim <= FZ_SAFETENSOR_AXES, FZ_ERR_ARG,
                 "tensor %.200s has %d axes, at most %d", t->name, t->ndim, FZ_SAFETENSOR_AXES);
        for (int axis = 0; axis < t->ndim; axis++)
            elements *= t->shape[axis];
        FZ_CHECK(elements == t->elements, FZ_ERR_ARG,
                 "tensor %.200s: its shape makes %" PRId64 " elements, it states %" PRId64, t->name,
                 elements, t->elements);
    }
    return FZ_OK;
}

/* Gives every tensor its file: a new one where the next would not fit. Returns how many. */
static int split(int n, fz_safetensor *tensors, int64_t room_bytes, int64_t max_file_bytes)
{
    int64_t bytes = room_bytes;
    int file = 0;
    bool is_new = true;

    for (int i = 0; i < n; i++) {
        fz_safetensor *t = &tensors[i];
        t->bytes = t->elements * (int64_t)fz_dtype_bytes(t->dtype);
        /* JSON may write a byte of a name as \u0000. */
        const int64_t all = t->bytes + ENTRY_BYTES + 6 * (int64_t)strlen(t->name);
        if (!is_new && bytes + all > max_file_bytes) {
            file++;
            bytes = room_bytes;
        }
        t->file = file;
        bytes += all;
        is_new = false;
    }
    return file + 1;
}

/* Wide elements first, so that all are aligned; otherwise in the order given. */
static int compare_places(const void *x, const void *y)
{
    const fz_safetensor *const *a = x, *const *b = y;
    const size_t wide_a = fz_dtype_bytes((*a)->dtype), wide_b = fz_dtype_bytes((*b)->dtype);

    if ((*a)->file != (*b)->file) return (*a)->file < (*b)->file ? -1 : 1;
    if (wide_a != wide_b) return wide_a > wide_b ? -1 : 1;
    return *a < *b ? -1 : *a > *b;
}

/* JSON padded to a multiple of eight bytes with spaces. */
static fz_status dump(const json_t *json, size_t flags, char **text_p, int64_t *bytes_p)
{
    const size_t n = json_dumpb(json, NULL, 0, flags), padded = (n + 7) / 8 * 8;
    char *text = NULL;

    FZ_CHECK(n > 0, FZ_ERR_MEMORY, "no memory for the header of a safetensors file");
    FZ_TRY(fz_alloc((void **)&text, padded, "header of a safetensors file"));
    memset(text, ' ', padded);
    json_dumpb(json, text, n, flags);
    *text_p = text;
    *bytes_p = (int64_t)padded;
    return FZ_OK;
}

static fz_status set(json_t *object, const char *key, json_t *value)
{
    const bool is_new = !json_object_get(object, key);

    if (!is_new) json_decref(value);
    FZ_CHECK(is_new, FZ_ERR_ARG, "%.200s is there twice", key);
    FZ_CHECK(json_object_set_new(object, key, value) == 0, FZ_ERR_ARG,
             "%.200s cannot be written: it is not utf-8, or memory is out", key);
    return FZ_OK;
}

static json_t *describe(const fz_safetensor *t, int64_t at)
{
    json_t *shape = json_array();

    for (int axis = 0; axis < t->ndim; axis++)
        json_array_append_new(shape, json_integer(t->shape[axis]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", FZ_DTYPE_NAMES[t->dtype], "shape", shape,
                     "data_offsets", (json_int_t)at, (json_int_t)(at + t->bytes));
}

static fz_status fill_header(json_t *header, fz_safetensor *const *order, int n,
                             const char *const (*metadata)[2], int64_t *data_bytes)
{
    *data_bytes = 0;
    if (metadata) {
        json_t *texts = json_object();
        FZ_TRY(set(header, "__metadata__", texts));
        for (; (*metadata)[0]; metadata++)
            FZ_TRY(set(texts, (*metadata)[0], json_string((*metadata)[1])));
    }
    for (int i = 0; i < n; i++) {
        order[i]->offset = *data_bytes;
        FZ_TRY(set(header, order[i]->name, describe(order[i], *data_bytes)));
        *data_bytes += order[i]->bytes;
    }
    return FZ_OK;
}

/* One file's header and its tensors' places; order: its tensors. */
static fz_status plan_file(st_file *file, fz_safetensor *const *order, int n,
                           const char *const (*metadata)[2])
{
    json_t *header = json_object();
    int64_t data_bytes = 0;

    fz_status status = fill_header(header, order, n, metadata, &data_bytes);
    if (status == FZ_OK) status = dump(header, JSON_COMPACT, &file->header, &file->header_bytes);
    json_decref(header);
    FZ_TRY(status);
    FZ_CHECK(file->header_bytes <= HEADER_BYTES, FZ_ERR_ARG,
             "%s: its header would have %" PRId64 " bytes, the format allows %d", file->path,
             file->header_bytes, HEADER_BYTES);
    for (int i = 0; i < n; i++)
        order[i]->offset += LENGTH_BYTES + file->header_bytes;
    file->bytes = LENGTH_BYTES + file->header_bytes + data_bytes;
    return FZ_OK;
}

static fz_status plan_files(fz_safetensors_writer *w, fz_safetensor **order,
                            const char *const (*metadata)[2])
{
    for (int i = 0; i < w->n_tensors; i++)
        order[i] = &w->tensors[i];
    qsort(order, (size_t)w->n_tensors, sizeof *order, compare_places);
    for (int f = 0, i = 0; f < w->n_files; f++) {
        const int first = i;
        while (i < w->n_tensors && order[i]->file == f)
            i++;
        FZ_TRY(plan_file(&w->files[f], order + first, i - first, metadata));
    }
    return FZ_OK;
}

/* Also where a name that is in two files is found. */
static fz_status plan_index(fz_safetensors_writer *w)
{
    st_file *index = &w->files[w->n_files];
    json_t *map = json_object();
    int64_t total = 0;
    fz_status status = FZ_OK;

    for (int i = 0; i < w->n_tensors && status == FZ_OK; i++) {
        const fz_safetensor *t = &w->tensors[i];
        status = set(map, t->name, json_string(strrchr(w->files[t->file].path, '/') + 1));
        total += t->bytes;
    }
    json_t *root =
        json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    if (status == FZ_OK) status = dump(root, JSON_INDENT(2), &index->header, &index->bytes);
    json_decref(root);
    return status;
}

static fz_status name_file(st_file *file, const char *dir, const char *name)
{
    char tmp[64];

    file->out = (fz_block_file){.fd = -1, .direct_fd = -1, .path = file->tmp};
    snprintf(tmp, sizeof tmp, "%s.tmp", name);
    FZ_TRY(fz_disk_join(file->path, dir, name));
    return fz_disk_join(file->tmp, dir, tmp);
}

static fz_status name_files(fz_safetensors_writer *w)
{
    char name[48] = "model.safetensors";

    for (int f = 0; f < w->n_files; f++) {
        if (w->has_index)
            snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", f + 1, w->n_files);
        FZ_TRY(name_file(&w->files[f], w->dir, name));
    }
    return name_file(&w->files[w->n_files], w->dir, "model.safetensors.index.json");
}

static fz_status plan(fz_safetensors_writer *w, int64_t max_file_bytes,
                      const char *const (*metadata)[2])
{
    int64_t room_bytes = FILE_BYTES;
    fz_safetensor **order = NULL;

    FZ_TRY(check_tensors(w->n_tensors, w->tensors));
    for (int i = 0; metadata && metadata[i][0]; i++)
        room_bytes += 6 * (int64_t)(strlen(metadata[i][0]) + strlen(metadata[i][1])) + 8;
    const int n_files = split(w->n_tensors, w->tensors, room_bytes, max_file_bytes);
    FZ_TRY(FZ_NEW(&w->files, n_files + 1));
    w->n_files = n_files;
    w->has_index = n_files > 1;
    FZ_TRY(name_files(w));
    FZ_TRY(FZ_NEW(&order, w->n_tensors));
    const fz_status status = plan_files(w, order, metadata);
    fz_free(&order);
    FZ_TRY(status);
    return plan_index(w);
}

fz_status fz_safetensors_writer_create(const char *dir, int n_tensors, fz_safetensor *tensors,
                                       int64_t max_file_bytes, const char *const (*metadata)[2],
                                       fz_safetensors_writer **writer_p)
{
    fz_safetensors_writer *w = NULL;

    FZ_CHECK(strlen(dir) < sizeof w->dir, FZ_ERR_ARG, "the path %s is too long", dir);
    FZ_TRY(FZ_NEW(&w, 1));
    strcpy(w->dir, dir);
    w->n_tensors = n_tensors;
    w->tensors = tensors;
    const fz_status status = plan(w, max_file_bytes, metadata);
    if (status != FZ_OK)
        fz_safetensors_writer_destroy(&w);
    else
        *writer_p = w;
    return status;
}

void fz_safetensors_writer_destroy(fz_safetensors_writer **writer)
{
    fz_safetensors_writer *w = *writer;

    if (!w) return;
    fz_block_writer_destroy(&w->blocks);
    for (int f = 0; f <= w->n_files && w->files; f++) {
        const fz_block_file *out = &w->files[f].out;
        if (out->fd >= 0) close(out->fd);
        if (out->direct_fd >= 0) close(out->direct_fd);
        fz_free(&w->files[f].header);
    }
    fz_free(&w->files);
    fz_free(writer);
}

int fz_safetensors_writer_files(const fz_safetensors_writer *writer)
{
    return writer->n_files;
}

/* writing */

static int n_outputs(const fz_safetensors_writer *w)
{
    return w->n_files + (w->has_index ? 1 : 0);
}

static fz_status start_file(st_file *file)
{
    unsigned char length[LENGTH_BYTES];

    for (int i = 0; i < LENGTH_BYTES; i++)
        length[i] = (unsigned char)(file->header_bytes >> 8 * i & 0xff);
    FZ_TRY(fz_disk_open(file->tmp, true, &file->out.fd));
    const int fd = file->out.fd;
    if (file->header_bytes == 0) /* the index */
        return fz_disk_write(fd, file->tmp, file->header, (size_t)file->bytes, 0);
    FZ_TRY(fz_disk_reserve(fd, file->tmp, file->bytes));
    FZ_TRY(fz_disk_write(fd, file->tmp, length, sizeof length, 0));
    return fz_disk_write(fd, file->tmp, file->header, (size_t)file->header_bytes, LENGTH_BYTES);
}

/* A reader takes model.safetensors before an index, so neither may be left over. */
static fz_status check_free(const fz_safetensors_writer *w)
{
    char single[FZ_PATH_BYTES];

    FZ_TRY(fz_disk_join(single, w->dir, "model.safetensors"));
    const char *there = fz_disk_is_there(single) ? single : NULL;
    for (int f = 0; f <= w->n_files && !there; f++)
        if (fz_disk_is_there(w->files[f].path)) there = w->files[f].path;
    FZ_CHECK(!there, FZ_ERR_USAGE, "%s is there already: remove it, or name another folder", there);
    return FZ_OK;
}

fz_status fz_safetensors_writer_start(fz_safetensors_writer *writer)
{
    FZ_TRY(fz_disk_make_directory(writer->dir));
    FZ_TRY(check_free(writer));
    for (int f = 0; f < n_outputs(writer); f++)
        FZ_TRY(start_file(&writer->files[f]));
    return FZ_OK;
}

static void narrow(fz_dtype dtype, void *out, const float *x, int64_t n)
{
    double *wide = out;

    if (dtype == FZ_DTYPE_F16) {
        fz_narrow_f16(out, x, n);
    } else if (dtype == FZ_DTYPE_BF16) {
        fz_narrow_bf16(out, x, n);
    } else {
        for (int64_t i = 0; i < n; i++)
            wide[i] = (double)x[i];
    }
}

/* Straight into the blocks. */
static fz_status write_range(fz_safetensors_writer *w, const fz_safetensor *t, int64_t first,
                             int64_t n, const float *x)
{
    const fz_block_file *out = &w->files[t->file].out;
    const int64_t width = (int64_t)fz_dtype_bytes(t->dtype);
    int64_t at = t->offset + first * width;

    if (t->dtype == FZ_DTYPE_F32)
        return fz_block_writer_put(w->blocks, out, at, x, (size_t)n * sizeof *x);
    for (int64_t done = 0, now; done < n; done += now, at += now * width) {
        size_t room = 0;
        char *to = NULL;
        FZ_TRY(fz_block_writer_room(w->blocks, out, at, &to, &room));
        now = (int64_t)room / width; /* one at least: tensors and blocks are aligned */
        if (now > n - done) now = n - done;
        narrow(t->dtype, to, x + done, now);
        fz_block_writer_fill(w->blocks, (size_t)(now * width));
    }
    return FZ_OK;
}

static fz_status open_to_write(fz_safetensors_writer *w, st_file *file)
{
    int64_t bytes = 0;

    if (file->out.fd < 0) FZ_TRY(fz_disk_reopen(file->tmp, &file->out.fd));
    if (w->is_direct && file->out.direct_fd < 0)
        FZ_TRY(fz_disk_open_direct(file->tmp, true, &file->out.direct_fd));
    if (w->blocks) return FZ_OK;
    for (int i = 0; i < w->n_tensors; i++)
        bytes += w->tensors[i].bytes;
    return fz_block_writer_create(bytes, &w->blocks);
}

void fz_safetensors_writer_set_direct(fz_safetensors_writer *writer, bool is_direct)
{
    writer->is_direct = is_direct;
}

fz_status fz_safetensors_write(fz_safetensors_writer *writer, int i, int64_t first, int64_t n,
                               const float *x)
{
    const fz_safetensor *t = &writer->tensors[i];

    FZ_CHECK(first >= 0 && n >= 0 && first <= t->elements && n <= t->elements - first, FZ_ERR_ARG,
             "tensor %.200s has %" PRId64 " elements, given %" PRId64 " from %" PRId64, t->name,
             t->elements, n, first);
    FZ_TRY(open_to_write(writer, &writer->files[t->file]));
    return write_range(writer, t, first, n, x);
}

/* ending */

static fz_status sync_file(st_file *file)
{
    fz_block_file *out = &file->out;

    if (out->fd < 0) return FZ_OK;
    fz_status status = fz_disk_sync(out->fd, file->tmp), closed = FZ_OK;
    if (out->direct_fd >= 0) closed = fz_disk_close(out->direct_fd, file->tmp);
    if (status == FZ_OK) status = closed;
    closed = fz_disk_close(out->fd, file->tmp);
    out->fd = out->direct_fd = -1;
    return status == FZ_OK ? closed : status;
}

fz_status fz_safetensors_writer_sync(fz_safetensors_writer *writer)
{
    if (writer->blocks) FZ_TRY(fz_block_writer_wait(writer->blocks));
    fz_block_writer_destroy(&writer->blocks);
    for (int f = 0; f < n_outputs(writer); f++)
        FZ_TRY(sync_file(&writer->files[f]));
    return FZ_OK;
}

fz_status fz_safetensors_writer_commit(fz_safetensors_writer *writer)
{
    for (; writer->n_committed < n_outputs(writer); writer->n_committed++) {
        const st_file *file = &writer->files[writer->n_committed];
        FZ_TRY(fz_disk_rename(file->tmp, file->path));
    }
    return fz_disk_sync_directory(writer->dir);
}

void fz_safetensors_writer_abandon(fz_safetensors_writer *writer)
{
    fz_block_writer_destroy(&writer->blocks);
    for (int f = 0; f < n_outputs(writer); f++)
        fz_disk_remove(f < writer->n_committed ? writer->files[f].path : writer->files[f].tmp);
}
