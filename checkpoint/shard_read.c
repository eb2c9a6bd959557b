#include "checkpoint/shard_read.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/disk.h"
#include "checkpoint/h5.h"
#include "core/memory.h"

void fz_shard_content_reset(fz_shard_content *content)
{
    fz_free(&content->rows);
    fz_free(&content->pieces);
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
        fz_free(&content->crcs[kind]);
    *content = (fz_shard_content){.n_rows = 0};
}

/* attributes */

static fz_status get_identity(hid_t file, fz_shard_content *c)
{
    int64_t version = 0;

    FZ_TRY(fz_h5_get_int(file, "format", &version));
    FZ_CHECK(version == FZ_FORMAT_VERSION, FZ_ERR_FORMAT, "a shard of format %lld",
             (long long)version);
    FZ_TRY(fz_h5_get_int(file, "step", &c->info.step));
    FZ_TRY(fz_h5_get_int(file, "rank", &c->rank));
    FZ_TRY(fz_h5_get_int(file, "world", &c->world));
    FZ_CHECK(c->rank >= 0 && c->rank < c->world && c->world <= INT32_MAX, FZ_ERR_FORMAT,
             "a shard of rank %lld of %lld", (long long)c->rank, (long long)c->world);
    return fz_h5_get_text(file, "run_id", c->info.run_id, sizeof c->info.run_id);
}

static fz_status get_small(hid_t file, const char *name, int *value)
{
    int64_t number = 0;

    FZ_TRY(fz_h5_get_int(file, name, &number));
    *value = (int)number;
    return FZ_OK;
}

static fz_status get_attributes(hid_t file, fz_shard_content *c)
{
    fz_ckpt_info *info = &c->info;

    FZ_TRY(get_identity(file, c));
    FZ_TRY(get_small(file, "tp", &info->tp));
    FZ_TRY(get_small(file, "pp", &info->pp));
    FZ_TRY(get_small(file, "dp", &info->dp));
    FZ_TRY(fz_h5_get_int(file, "shards", &info->shards));
    FZ_TRY(fz_h5_get_int(file, "lanes", &info->lanes));
    c->n_tensors = -1;
    if (H5Aexists(file, "tensors") <= 0) return FZ_OK;
    FZ_TRY(fz_h5_get_int(file, "samples", &info->samples));
    FZ_TRY(fz_h5_get_uint(file, "seed", &info->seed));
    FZ_TRY(fz_h5_get_uint(file, "config_hash", &info->config_hash));
    FZ_TRY(fz_h5_get_uint(file, "fingerprint", &info->data_fingerprint));
    FZ_TRY(fz_h5_get_int(file, "global_batch", &info->global_batch));
    FZ_TRY(fz_h5_get_int(file, "micro_batch", &info->micro_batch));
    FZ_TRY(fz_h5_get_text(file, "arithmetic_id", info->arithmetic_id, sizeof info->arithmetic_id));
    return fz_h5_get_int(file, "tensors", &c->n_tensors);
}

/* pieces */

typedef struct walk {
    fz_shard_content *content;
    int64_t room;
    int kind;
    char tensor[FZ_NAME_BYTES];
    fz_status status;
} walk;

static fz_status describe(hid_t set, const char *name, walk *w, fz_shard_piece *piece)
{
    hsize_t dims[FZ_MAX_AXES] = {0};
    const hid_t space = H5Dget_space(set);
    const int ndim = space >= 0 ? H5Sget_simple_extent_ndims(space) : -1;
    const bool fits = ndim >= 0 && ndim <= FZ_MAX_AXES &&
                      H5Sget_simple_extent_dims(space, dims, NULL) >= 0 &&
                      strlen(name) < sizeof piece->name && H5Dget_offset(set) != HADDR_UNDEF;

    if (space >= 0) H5Sclose(space);
    FZ_CHECK(fits, FZ_ERR_FORMAT, "dataset %s of tensor %s is no piece", name, w->tensor);
    *piece = (fz_shard_piece){.offset = (int64_t)H5Dget_offset(set), .kind = w->kind, .ndim = ndim};
    for (int axis = 0; axis < ndim; axis++)
        piece->dims[axis] = (int64_t)dims[axis];
    strcpy(piece->name, name);
    strcpy(piece->tensor, w->tensor);
    return FZ_OK;
}

static fz_status add_piece(hid_t group, const char *name, walk *w)
{
    fz_shard_content *c = w->content;
    const hid_t set = H5Dopen2(group, name, H5P_DEFAULT);

    if (set < 0) return fz_h5_failed("open dataset", name);
    fz_status status = FZ_OK;
    if (c->n_pieces == w->room) {
        w->room = 2 * w->room + 64;
        status = fz_realloc((void **)&c->pieces, (size_t)w->room * sizeof *c->pieces, "pieces");
    }
    if (status == FZ_OK) status = describe(set, name, w, &c->pieces[c->n_pieces]);
    if (status == FZ_OK) c->n_pieces++;
    H5Dclose(set);
    return status;
}

static herr_t each_piece(hid_t group, const char *name, const H5L_info_t *info, void *context)
{
    walk *w = context;

    (void)info;
    w->status = add_piece(group, name, w);
    return w->status == FZ_OK ? 0 : -1;
}

static herr_t each_tensor(hid_t group, const char *name, const H5L_info_t *info, void *context)
{
    walk *w = context;
    const hid_t tensor = H5Gopen2(group, name, H5P_DEFAULT);

    (void)info;
    if (tensor < 0 || strlen(name) >= sizeof w->tensor) {
        w->status = FZ_FAIL(FZ_ERR_FORMAT, "%.100s is no tensor", name);
        if (tensor >= 0) H5Gclose(tensor);
        return -1;
    }
    strcpy(w->tensor, name);
    const herr_t rc = H5Literate(tensor, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, each_piece, context);
    if (rc < 0 && w->status == FZ_OK) w->status = fz_h5_failed("list", name);
    H5Gclose(tensor);
    return rc < 0 ? -1 : 0;
}

static int by_offset(const void *x, const void *y)
{
    const fz_shard_piece *a = x, *b = y;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

static fz_status get_pieces(hid_t file, fz_shard_content *c)
{
    walk w = {.content = c};

    for (; w.kind < FZ_N_STATE_KINDS && w.status == FZ_OK; w.kind++) {
        const char *name = FZ_KIND_NAMES[w.kind];
        if (H5Lexists(file, name, H5P_DEFAULT) <= 0) continue;
        const hid_t group = H5Gopen2(file, name, H5P_DEFAULT);
        if (group < 0) return fz_h5_failed("open group", name);
        if (H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, each_tensor, &w) < 0 &&
            w.status == FZ_OK)
            w.status = fz_h5_failed("list", name);
        H5Gclose(group);
    }
    if (w.status == FZ_OK && c->n_pieces > 1)
        qsort(c->pieces, (size_t)c->n_pieces, sizeof *c->pieces, by_offset);
    return w.status;
}

const fz_shard_piece *fz_shard_piece_at(const fz_shard_content *content, int64_t offset)
{
    const fz_shard_piece key = {.offset = offset};

    if (content->n_pieces == 0) return NULL;
    return bsearch(&key, content->pieces, (size_t)content->n_pieces, sizeof key, by_offset);
}

/* the whole */

static fz_status get_tables(hid_t file, fz_shard_content *c)
{
    const int64_t rows[2] = {0, FZ_FRAGMENT_COLUMNS};

    FZ_TRY(
        fz_h5_get(file, "fragments", H5T_NATIVE_INT64, 8, 2, rows, &c->n_rows, (void **)&c->rows));
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
        char name[32];
        snprintf(name, sizeof name, "crc/%s", FZ_KIND_NAMES[kind]);
        if (H5Lexists(file, name, H5P_DEFAULT) <= 0) continue;
        FZ_TRY(fz_h5_get(file, name, H5T_NATIVE_UINT32, 4, 1, rows, &c->n_crcs[kind],
                         (void **)&c->crcs[kind]));
    }
    return FZ_OK;
}

static fz_status get_all(hid_t file, fz_shard_content *c)
{
    FZ_TRY(get_attributes(file, c));
    FZ_TRY(get_tables(file, c));
    return get_pieces(file, c);
}

static fz_status read_with(const char *path, fz_status (*get)(hid_t, fz_shard_content *),
                           fz_shard_content *content)
{
    hid_t file;

    *content = (fz_shard_content){.n_rows = 0};
    FZ_TRY(fz_disk_size(path, &content->size));
    FZ_TRY(fz_h5_open(path, &file));
    fz_status status = get(file, content);
    H5Fclose(file);
    if (status == FZ_OK) return FZ_OK;
    fz_shard_content_reset(content);
    if (status == FZ_ERR_IO) status = FZ_ERR_FORMAT; /* what HDF5 cannot make sense of */
    return FZ_FAIL(status, "%s: %.300s", path, fz_last_error()->text);
}

fz_status fz_ckpt_shard_read(const char *path, fz_shard_content *content)
{
    return read_with(path, get_all, content);
}

fz_status fz_ckpt_shard_identity(const char *path, fz_shard_content *content)
{
    return read_with(path, get_identity, content);
}
