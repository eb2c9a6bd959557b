#include "checkpoint/index_file.h"

#include <string.h>

#include "checkpoint/disk.h"
#include "checkpoint/h5.h"
#include "core/checksum.h"
#include "core/memory.h"

static const char FRAGMENT_COLUMNS[] =
    "tensor kind file offset a b lo0 lo1 lo2 lo3 lo4 hi0 hi1 hi2 hi3 hi4";
static const char FILE_COLUMNS[] =
    "size master_offset master_bytes exp_avg_offset exp_avg_bytes exp_avg_sq_offset "
    "exp_avg_sq_bytes weight_offset weight_bytes master_block exp_avg_block exp_avg_sq_block "
    "weight_block";
_Static_assert(sizeof(fz_index_file) == 13 * 8, "a file is a row of int64");

void fz_shard_name(char name[FZ_SHARD_NAME_BYTES], int64_t rank)
{
    snprintf(name, FZ_SHARD_NAME_BYTES, "s%02d/rank-%05d.h5", (int)(rank / 256), (int)rank);
}

void fz_index_reset(fz_index *index)
{
    fz_free(&index->tensors);
    fz_free(&index->rows);
    fz_free(&index->row_digests);
    fz_free(&index->files);
    fz_free(&index->crcs);
    fz_free(&index->sums);
    fz_ckpt_info_reset(&index->info);
    *index = (fz_index){.n_tensors = 0};
}

/* writing */

typedef struct columns { /* /tensors as plain columns */
    char (*name)[FZ_NAME_BYTES];
    int64_t *ndim, (*shape)[FZ_MAX_AXES];
    uint8_t *trainable;
} columns;

static void reset_columns(columns *c)
{
    fz_free(&c->name);
    fz_free(&c->ndim);
    fz_free(&c->shape);
    fz_free(&c->trainable);
}

static hid_t name_type(void)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0) H5Tset_size(type, FZ_NAME_BYTES);
    return type;
}

static fz_status put_columns(hid_t group, const fz_index *index, columns *c)
{
    const int64_t dims[2] = {index->n_tensors, FZ_MAX_AXES};

    FZ_TRY(FZ_NEW(&c->name, dims[0]));
    FZ_TRY(FZ_NEW(&c->ndim, dims[0]));
    FZ_TRY(FZ_NEW(&c->shape, dims[0]));
    FZ_TRY(FZ_NEW(&c->trainable, dims[0]));
    for (int t = 0; t < index->n_tensors; t++) {
        const fz_box whole = fz_box_of_tensor(&index->tensors[t]);
        memcpy(c->name[t], index->tensors[t].name, FZ_NAME_BYTES);
        memcpy(c->shape[t], whole.hi, sizeof whole.hi);
        c->ndim[t] = index->tensors[t].ndim;
        c->trainable[t] = index->tensors[t].trainable;
    }
    const hid_t type = name_type();
    fz_status status = fz_h5_put(group, "name", type, type, 1, dims, c->name);
    H5Tclose(type);
    FZ_TRY(status);
    FZ_TRY(fz_h5_put(group, "ndim", H5T_STD_I64LE, H5T_NATIVE_INT64, 1, dims, c->ndim));
    FZ_TRY(fz_h5_put(group, "shape", H5T_STD_I64LE, H5T_NATIVE_INT64, 2, dims, c->shape));
    return fz_h5_put(group, "trainable", H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, dims, c->trainable);
}

static fz_status put_tensors(hid_t file, const fz_index *index)
{
    columns c = {.name = NULL};
    hid_t group;

    FZ_TRY(fz_h5_group(file, "tensors", &group));
    const fz_status status = put_columns(group, index, &c);
    reset_columns(&c);
    H5Gclose(group);
    return status;
}

static fz_status put_tables(hid_t file, const fz_index *index)
{
    const int64_t rows[2] = {index->n_rows, FZ_FRAGMENT_COLUMNS};
    const int64_t files[2] = {index->n_files, sizeof(fz_index_file) / 8};

    FZ_TRY(fz_h5_put(file, "fragments", H5T_STD_I64LE, H5T_NATIVE_INT64, 2, rows, index->rows));
    FZ_TRY(fz_h5_put_text(file, "fragments_columns", FRAGMENT_COLUMNS));
    FZ_TRY(fz_h5_put(file, "fragment_digests", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, rows,
                     index->row_digests));
    FZ_TRY(fz_h5_put(file, "files", H5T_STD_I64LE, H5T_NATIVE_INT64, 2, files, index->files));
    FZ_TRY(fz_h5_put_text(file, "files_columns", FILE_COLUMNS));
    return fz_h5_put(file, "crc", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, &index->n_blocks,
                     index->crcs);
}

static fz_status put_sums(hid_t file, const fz_index *index)
{
    const int64_t dims[2] = {index->n_tensors, 2};
    fz_status status = FZ_OK;
    hid_t group;

    FZ_TRY(fz_h5_group(file, "digest", &group));
    for (int kind = 0; kind < FZ_N_STATE_KINDS && status == FZ_OK; kind++)
        status = fz_h5_put(group, FZ_KIND_NAMES[kind], H5T_STD_U64LE, H5T_NATIVE_UINT64, 2, dims,
                           index->sums[kind * index->n_tensors]);
    H5Gclose(group);
    return status;
}

/* The attributes of /state, /data and /layout: one table serves writing and reading. */
typedef struct attribute {
    const char *group, *name;
    int64_t *number;
    uint64_t *word;
    int *small;
    char *text;
    size_t text_bytes;
} attribute;
enum { N_ATTRIBUTES = 15 };

static void list_attributes(fz_ckpt_info *info, attribute list[N_ATTRIBUTES])
{
    const attribute all[] = {
        {.group = "state", .name = "step", .number = &info->step},
        {.group = "state", .name = "seed", .word = &info->seed},
        {.group = "state", .name = "config_hash", .word = &info->config_hash},
        {.group = "state", .name = "run_id", .text = info->run_id, .text_bytes = 64},
        {.group = "state", .name = "arithmetic_id", .text = info->arithmetic_id, .text_bytes = 256},
        {.group = "state", .name = "base", .text = info->base, .text_bytes = 64},
        {.group = "data", .name = "samples", .number = &info->samples},
        {.group = "data", .name = "fingerprint", .word = &info->data_fingerprint},
        {.group = "data", .name = "global_batch", .number = &info->global_batch},
        {.group = "data", .name = "micro_batch", .number = &info->micro_batch},
        {.group = "layout", .name = "tp", .small = &info->tp},
        {.group = "layout", .name = "pp", .small = &info->pp},
        {.group = "layout", .name = "dp", .small = &info->dp},
        {.group = "layout", .name = "shards", .number = &info->shards},
        {.group = "layout", .name = "lanes", .number = &info->lanes},
    };
    _Static_assert(sizeof all / sizeof *all == N_ATTRIBUTES, "the table is complete");
    memcpy(list, all, sizeof all);
}

static fz_status put_attribute(hid_t group, const attribute *a)
{
    if (a->number) return fz_h5_put_int(group, a->name, *a->number);
    if (a->small) return fz_h5_put_int(group, a->name, *a->small);
    if (a->word) return fz_h5_put_uint(group, a->name, *a->word);
    return fz_h5_put_text(group, a->name, a->text);
}

static const char WEIGHTS_ALONE[] = "weights_alone"; /* of /state; absent: 0 */
static const char MOMENTS_START[] = "moments_start"; /* likewise */

static fz_status put_info(hid_t file, const fz_index *index)
{
    fz_ckpt_info info = index->info;
    attribute list[N_ATTRIBUTES];
    fz_status status = FZ_OK;
    hid_t group = -1;

    list_attributes(&info, list);
    for (int i = 0; i < N_ATTRIBUTES && status == FZ_OK; i++) {
        if (i == 0 || strcmp(list[i].group, list[i - 1].group) != 0) {
            if (group >= 0) H5Gclose(group);
            FZ_TRY(fz_h5_group(file, list[i].group, &group));
        }
        status = put_attribute(group, &list[i]);
        if (i == 0 && info.has_weights_alone && status == FZ_OK)
            status = fz_h5_put_int(group, WEIGHTS_ALONE, 1);
        if (i == 0 && info.moments_start != 0 && status == FZ_OK)
            status = fz_h5_put_int(group, MOMENTS_START, info.moments_start);
    }
    if (group >= 0) H5Gclose(group);
    FZ_TRY(status);
    FZ_TRY(fz_h5_put_int(file, "format", FZ_FORMAT_VERSION));
    FZ_TRY(fz_h5_put_int(file, "block_bytes", FZ_BLOCK_BYTES));
    return fz_h5_put_string(file, "config", info.config ? info.config : "");
}

static fz_status put_all(hid_t file, const fz_index *index)
{
    FZ_TRY(put_info(file, index));
    FZ_TRY(put_tensors(file, index));
    FZ_TRY(put_tables(file, index));
    return put_sums(file, index);
}

static fz_status sync_and_sum(const char *path, int fd, int64_t *size, uint32_t *crc)
{
    char *bytes;
    size_t n;

    FZ_TRY(fz_disk_sync(fd, path));
    FZ_TRY(fz_disk_read_file(path, &bytes, &n));
    *size = (int64_t)n;
    *crc = fz_crc32c(0, bytes, n);
    fz_free(&bytes);
    return FZ_OK;
}

fz_status fz_ckpt_index_write(const char *path, const fz_index *index, int64_t *size, uint32_t *crc)
{
    int fd;
    hid_t file;

    FZ_TRY(fz_disk_open(path, true, &fd)); /* HDF5 opens it again: faults are met here */
    fz_status status = fz_h5_create(path, 65536, &file);
    if (status == FZ_OK) {
        status = fz_h5_blame(put_all(file, index), path);
        const fz_status closed = fz_h5_close(file, path);
        if (status == FZ_OK) status = closed;
    }
    if (status == FZ_OK) status = sync_and_sum(path, fd, size, crc);
    const fz_status closed = fz_disk_close(fd, path);
    return status != FZ_OK ? status : closed;
}

/* reading */

/* So few elements that their bytes can be counted. */
static bool shape_is_sound(const fz_state_tensor *tensor)
{
    int64_t elements = 1;

    for (int axis = 0; axis < tensor->ndim; axis++) {
        const int64_t n = tensor->shape[axis];
        if (n < 0 || (n > 0 && elements > INT64_MAX / 16 / n)) return false;
        if (n > 0) elements *= n;
    }
    return true;
}

static fz_status get_columns(hid_t group, fz_index *index, columns *c)
{
    const int64_t width[2] = {0, FZ_MAX_AXES};
    int64_t n[4] = {0};

    const hid_t type = name_type();
    fz_status status =
        fz_h5_get(group, "name", type, FZ_NAME_BYTES, 1, width, &n[0], (void **)&c->name);
    H5Tclose(type);
    FZ_TRY(status);
    FZ_TRY(fz_h5_get(group, "ndim", H5T_NATIVE_INT64, 8, 1, width, &n[1], (void **)&c->ndim));
    FZ_TRY(fz_h5_get(group, "shape", H5T_NATIVE_INT64, 8, 2, width, &n[2], (void **)&c->shape));
    FZ_TRY(fz_h5_get(group, "trainable", H5T_NATIVE_UINT8, 1, 1, width, &n[3],
                     (void **)&c->trainable));
    FZ_CHECK(n[0] == n[1] && n[0] == n[2] && n[0] == n[3] && n[0] < INT32_MAX, FZ_ERR_FORMAT,
             "index: columns of /tensors have different lengths");
    FZ_TRY(FZ_NEW(&index->tensors, n[0]));
    index->n_tensors = (int)n[0];
    for (int t = 0; t < index->n_tensors; t++) {
        fz_state_tensor *tensor = &index->tensors[t];
        memcpy(tensor->name, c->name[t], FZ_NAME_BYTES);
        tensor->name[FZ_NAME_BYTES - 1] = 0;
        FZ_CHECK(c->ndim[t] >= 0 && c->ndim[t] <= FZ_MAX_AXES, FZ_ERR_FORMAT,
                 "index: tensor %s has %lld axes", tensor->name, (long long)c->ndim[t]);
        tensor->ndim = (int)c->ndim[t];
        tensor->trainable = c->trainable[t] != 0;
        memcpy(tensor->shape, c->shape[t], sizeof tensor->shape);
        FZ_CHECK(shape_is_sound(tensor), FZ_ERR_FORMAT, "index: tensor %s has no such shape",
                 tensor->name);
    }
    return FZ_OK;
}

static fz_status get_tensors(hid_t file, fz_index *index)
{
    columns c = {.name = NULL};
    const hid_t group = H5Gopen2(file, "tensors", H5P_DEFAULT);

    if (group < 0) return fz_h5_failed("open group", "tensors");
    const fz_status status = get_columns(group, index, &c);
    reset_columns(&c);
    H5Gclose(group);
    return status;
}

static fz_status get_tables(hid_t file, fz_index *index)
{
    const int64_t rows[2] = {0, FZ_FRAGMENT_COLUMNS}, pair[2] = {0, 2};
    const int64_t files[2] = {0, sizeof(fz_index_file) / 8};
    int64_t n;

    FZ_TRY(fz_h5_get(file, "fragments", H5T_NATIVE_INT64, 8, 2, rows, &index->n_rows,
                     (void **)&index->rows));
    FZ_TRY(fz_h5_get(file, "fragment_digests", H5T_NATIVE_UINT64, 8, 1, rows, &n,
                     (void **)&index->row_digests));
    FZ_CHECK(n == index->n_rows, FZ_ERR_FORMAT, "index: %lld digests of %lld fragments",
             (long long)n, (long long)index->n_rows);
    FZ_TRY(fz_h5_get(file, "files", H5T_NATIVE_INT64, 8, 2, files, &index->n_files,
                     (void **)&index->files));
    FZ_TRY(fz_h5_get(file, "crc", H5T_NATIVE_UINT32, 4, 1, rows, &index->n_blocks,
                     (void **)&index->crcs));
    FZ_TRY(FZ_NEW(&index->sums, FZ_N_STATE_KINDS * index->n_tensors));
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
        char name[32];
        uint64_t *sums;
        snprintf(name, sizeof name, "digest/%s", FZ_KIND_NAMES[kind]);
        FZ_TRY(fz_h5_get(file, name, H5T_NATIVE_UINT64, 8, 2, pair, &n, (void **)&sums));
        if (n == index->n_tensors)
            memcpy(index->sums[kind * index->n_tensors], sums, (size_t)n * 16);
        fz_free(&sums);
        FZ_CHECK(n == index->n_tensors, FZ_ERR_FORMAT, "index: %s has %lld rows", name,
                 (long long)n);
    }
    return FZ_OK;
}

static fz_status get_attribute(hid_t group, const attribute *a)
{
    int64_t number = 0;

    if (a->number) return fz_h5_get_int(group, a->name, a->number);
    if (a->word) return fz_h5_get_uint(group, a->name, a->word);
    if (a->text) return fz_h5_get_text(group, a->name, a->text, a->text_bytes);
    FZ_TRY(fz_h5_get_int(group, a->name, &number));
    *a->small = (int)number;
    return FZ_OK;
}

/* A number of /state that is there only where it is not 0. */
static fz_status get_if_there(hid_t file, const char *name, int64_t *value_p)
{
    const htri_t is_there = H5Aexists_by_name(file, "state", name, H5P_DEFAULT);

    *value_p = 0;
    if (is_there < 0) return fz_h5_failed("look for attribute", name);
    if (is_there == 0) return FZ_OK;
    const hid_t group = H5Gopen2(file, "state", H5P_DEFAULT);
    if (group < 0) return fz_h5_failed("open group", "state");
    const fz_status status = fz_h5_get_int(group, name, value_p);
    H5Gclose(group);
    return status;
}

static fz_status get_moments(hid_t file, fz_ckpt_info *info)
{
    int64_t has_none = 0;

    FZ_TRY(get_if_there(file, WEIGHTS_ALONE, &has_none));
    FZ_TRY(get_if_there(file, MOMENTS_START, &info->moments_start));
    info->has_weights_alone = has_none != 0;
    FZ_CHECK(info->moments_start >= 0 && info->moments_start <= info->step, FZ_ERR_FORMAT,
             "index: moments from step %lld in a checkpoint of step %lld",
             (long long)info->moments_start, (long long)info->step);
    return FZ_OK;
}

static fz_status get_info(hid_t file, fz_index *index)
{
    attribute list[N_ATTRIBUTES];
    int64_t version = 0, block_bytes = 0;

    FZ_TRY(fz_h5_get_int(file, "format", &version));
    FZ_TRY(fz_h5_get_int(file, "block_bytes", &block_bytes));
    FZ_CHECK(version == FZ_FORMAT_VERSION && block_bytes == FZ_BLOCK_BYTES, FZ_ERR_FORMAT,
             "index: format %lld with blocks of %lld bytes; this program reads format %d with %d",
             (long long)version, (long long)block_bytes, FZ_FORMAT_VERSION, FZ_BLOCK_BYTES);
    list_attributes(&index->info, list);
    for (int i = 0; i < N_ATTRIBUTES; i++) {
        const hid_t group = H5Gopen2(file, list[i].group, H5P_DEFAULT);
        if (group < 0) return fz_h5_failed("open group", list[i].group);
        const fz_status status = get_attribute(group, &list[i]);
        H5Gclose(group);
        FZ_TRY(status);
    }
    FZ_TRY(get_moments(file, &index->info));
    return fz_h5_get_string(file, "config", &index->info.config);
}

static bool row_is_sound(const fz_index *index, const fz_fragment *row)
{
    if (row->tensor < 0 || row->tensor >= index->n_tensors || row->kind < 0 ||
        row->kind >= FZ_N_STATE_KINDS || row->file < 0 || row->file >= index->n_files)
        return false;
    const fz_box whole = fz_box_of_tensor(&index->tensors[row->tensor]);
    for (int axis = 0; axis < FZ_MAX_AXES; axis++)
        if (row->lo[axis] < 0 || row->lo[axis] >= row->hi[axis] || row->hi[axis] > whole.hi[axis])
            return false;
    const fz_box box = fz_box_of_fragment(row);
    const fz_arena_place arena = index->files[row->file].arena[row->kind];
    return row->a >= 0 && row->a < row->b && row->b <= fz_box_elements(&box) &&
           row->offset >= arena.offset && (row->offset - arena.offset) % 4 == 0 &&
           row->offset - arena.offset <= arena.bytes &&
           row->b - row->a <= (arena.bytes - (row->offset - arena.offset)) / 4;
}

static fz_status check_rows(const fz_index *index)
{
    for (int64_t f = 0; f < index->n_files; f++)
        for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
            const fz_arena_place arena = index->files[f].arena[kind];
            const int64_t first = index->files[f].first_block[kind];
            FZ_CHECK(arena.offset >= 0 && arena.bytes >= 0 && first >= 0 &&
                         index->files[f].size <= INT64_MAX / 2 &&
                         arena.offset <= index->files[f].size &&
                         arena.bytes <= index->files[f].size - arena.offset &&
                         first <= index->n_blocks &&
                         fz_blocks_of(arena.bytes) <= index->n_blocks - first,
                     FZ_ERR_FORMAT, "index: file %lld: its arena of %s lies outside", (long long)f,
                     FZ_KIND_NAMES[kind]);
        }
    for (int64_t i = 0; i < index->n_rows; i++)
        FZ_CHECK(row_is_sound(index, &index->rows[i]), FZ_ERR_FORMAT,
                 "index: fragment %lld lies outside its tensor or its file", (long long)i);
    return FZ_OK;
}

fz_status fz_index_read(const char *bytes, size_t size, const char *name, fz_index *index)
{
    hid_t file;

    *index = (fz_index){.n_tensors = 0};
    FZ_TRY(fz_h5_open_image(bytes, size, name, &file));
    fz_status status = get_info(file, index);
    if (status == FZ_OK) status = get_tensors(file, index);
    if (status == FZ_OK) status = get_tables(file, index);
    H5Fclose(file);
    if (status == FZ_OK) status = check_rows(index);
    if (status != FZ_OK) fz_index_reset(index);
    return status;
}
