#include "checkpoint/gather.h"

#include <string.h>

#include "checkpoint/disk.h"
#include "checkpoint/file_crc.h"
#include "checkpoint/shard_list.h"
#include "checkpoint/shard_read.h"
#include "core/memory.h"

/* tensors, from the names of datasets */

fz_status fz_gather_slots(fz_gather *g, int64_t n)
{
    if (n <= g->n_tensors) return FZ_OK;
    FZ_CHECK(n < INT32_MAX / 64, FZ_ERR_FORMAT, "%lld tensors", (long long)n);
    FZ_TRY(fz_realloc((void **)&g->tensors, (size_t)n * sizeof *g->tensors, "tensors"));
    g->n_tensors = n;
    return FZ_OK;
}

/* The row must say what the dataset at its place is. */
static fz_status take_tensor(fz_gather *g, const fz_fragment *row, const fz_shard_piece *piece,
                             const char *path)
{
    FZ_CHECK(piece && piece->kind == row->kind && row->tensor >= 0 && row->tensor < INT32_MAX / 64,
             FZ_ERR_FORMAT, "%s: no dataset lies at byte %lld, where a fragment should", path,
             (long long)row->offset);
    FZ_TRY(fz_gather_slots(g, row->tensor + 1));
    fz_state_tensor *tensor = &g->tensors[row->tensor];
    const bool is_new = !tensor->name[0];
    if (is_new) {
        strcpy(tensor->name, piece->tensor);
        tensor->ndim = piece->ndim;
        tensor->trainable = row->kind != FZ_STATE_WEIGHT;
    }
    bool fits = strcmp(tensor->name, piece->tensor) == 0 && tensor->ndim == piece->ndim &&
                tensor->trainable == (row->kind != FZ_STATE_WEIGHT) && row->a == 0;
    int64_t elements = 1;
    for (int axis = 0; axis < piece->ndim && fits; axis++) {
        fits = row->lo[axis] >= 0 && row->hi[axis] - row->lo[axis] == piece->dims[axis];
        elements *= piece->dims[axis];
        if (fits && row->hi[axis] > tensor->shape[axis]) tensor->shape[axis] = row->hi[axis];
    }
    FZ_CHECK(fits && row->b == elements, FZ_ERR_FORMAT,
             "%s: a fragment of %s of tensor %s is not what its dataset is", path,
             FZ_KIND_NAMES[row->kind], piece->tensor);
    return FZ_OK;
}

/* one file */

static fz_status take_blocks(fz_gather *g, const fz_shard_content *shard, fz_index_file *file,
                             const char *path)
{
    fz_index *index = &g->rebuilt->source.index;

    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
        const int64_t n = shard->n_crcs[kind];
        FZ_CHECK(n == fz_blocks_of(file->arena[kind].bytes), FZ_ERR_FORMAT,
                 "%s: %lld checksums of %s for %lld bytes", path, (long long)n, FZ_KIND_NAMES[kind],
                 (long long)file->arena[kind].bytes);
        file->first_block[kind] = index->n_blocks;
        if (n == 0) continue;
        if (index->n_blocks + n > g->blocks_room) {
            g->blocks_room = 2 * (index->n_blocks + n);
            FZ_TRY(fz_realloc((void **)&index->crcs, (size_t)g->blocks_room * 4, "checksums"));
        }
        memcpy(index->crcs + index->n_blocks, shard->crcs[kind], (size_t)n * 4);
        index->n_blocks += n;
    }
    return FZ_OK;
}

static fz_status take_rows(fz_gather *g, const fz_shard_content *shard, fz_index_file *file,
                           const char *path)
{
    fz_index *index = &g->rebuilt->source.index;

    if (index->n_rows + shard->n_rows > g->rows_room) {
        g->rows_room = 2 * (index->n_rows + shard->n_rows);
        FZ_TRY(fz_realloc((void **)&index->rows, (size_t)g->rows_room * sizeof *index->rows,
                          "fragments"));
    }
    for (int64_t i = 0; i < shard->n_pieces; i++) { /* by offset: an arena's come together */
        const fz_shard_piece *piece = &shard->pieces[i];
        fz_arena_place *arena = &file->arena[piece->kind];
        int64_t bytes = 4;
        for (int axis = 0; axis < piece->ndim; axis++)
            bytes *= piece->dims[axis];
        if (arena->bytes == 0) arena->offset = piece->offset;
        FZ_CHECK(piece->offset == arena->offset + arena->bytes &&
                     bytes <= shard->size - piece->offset,
                 FZ_ERR_FORMAT, "%s: %s of tensor %s lies in a wrong place", path,
                 FZ_KIND_NAMES[piece->kind], piece->tensor);
        arena->bytes += bytes;
    }
    FZ_CHECK(shard->n_pieces == shard->n_rows, FZ_ERR_FORMAT,
             "%s: %lld datasets and %lld fragments", path, (long long)shard->n_pieces,
             (long long)shard->n_rows);
    for (int64_t i = 0; i < shard->n_rows; i++) {
        const fz_fragment *row = &shard->rows[i];
        FZ_TRY(take_tensor(g, row, fz_shard_piece_at(shard, row->offset), path));
        FZ_CHECK(row->file == shard->rank, FZ_ERR_FORMAT, "%s: a fragment of file %lld", path,
                 (long long)row->file);
        index->rows[index->n_rows++] = *row;
    }
    return FZ_OK;
}

/* The first file gives the numbers, the others must agree. */
static fz_status take_info(fz_gather *g, const fz_shard_content *shard, const char *path)
{
    fz_index *index = &g->rebuilt->source.index;

    if (index->n_files == 0) {
        index->info = shard->info;
        index->n_files = shard->world;
        g->rebuilt->has_numbers = shard->n_tensors >= 0;
        FZ_TRY(FZ_NEW(&index->files, index->n_files));
    }
    FZ_CHECK(shard->info.step == index->info.step && shard->world == index->n_files &&
                 strcmp(shard->info.run_id, index->info.run_id) == 0,
             FZ_ERR_FORMAT,
             "%s is of step %lld of run %s on %lld ranks, others are of step %lld of run %s on "
             "%lld",
             path, (long long)shard->info.step, shard->info.run_id, (long long)shard->world,
             (long long)index->info.step, index->info.run_id, (long long)index->n_files);
    if (shard->n_tensors >= 0) {
        FZ_TRY(fz_gather_slots(g, shard->n_tensors));
        g->is_count_known = true;
    }
    return FZ_OK;
}

static fz_status take_shard(fz_gather *g, int64_t rank)
{
    fz_shard_content shard;
    char path[FZ_PATH_BYTES], name[FZ_SHARD_NAME_BYTES];

    fz_shard_name(name, rank);
    FZ_TRY(fz_disk_join(path, g->rebuilt->source.path, name));
    FZ_TRY(fz_ckpt_shard_read(path, &shard));
    fz_status status = take_info(g, &shard, path);
    if (status == FZ_OK && shard.rank != rank)
        status = FZ_FAIL(FZ_ERR_FORMAT, "%s is the file of rank %lld", path, (long long)shard.rank);
    if (status == FZ_OK) {
        fz_index_file *file = &g->rebuilt->source.index.files[rank];
        file->size = shard.size;
        status = take_rows(g, &shard, file, path);
        if (status == FZ_OK) status = take_blocks(g, &shard, file, path);
    }
    fz_shard_content_reset(&shard);
    return status;
}

/* the directory */

static fz_status add_file(fz_gather *g, int64_t rank)
{
    fz_manifest *manifest = &g->rebuilt->manifest;
    fz_manifest_file *file = &manifest->files[manifest->n_files];
    char path[FZ_PATH_BYTES];

    fz_shard_name(file->name, rank);
    FZ_TRY(fz_disk_join(path, g->rebuilt->source.path, file->name));
    FZ_TRY(fz_file_crc(path, &file->size, &file->crc));
    manifest->n_files++;
    return FZ_OK;
}

/* A manifest that is whole names the files and their checksums. */
static fz_status compare_with_manifest(const fz_gather *g)
{
    const fz_manifest *made = &g->rebuilt->manifest, *old = &g->manifest;

    if (!g->has_manifest) return FZ_OK;
    for (int64_t i = 1; i < old->n_files; i++) {
        const fz_manifest_file *file = &old->files[i];
        bool is_same = false;
        for (int64_t k = 1; k < made->n_files && !is_same; k++)
            is_same = strcmp(made->files[k].name, file->name) == 0 &&
                      made->files[k].size == file->size && made->files[k].crc == file->crc;
        FZ_CHECK(is_same, FZ_ERR_FORMAT, "%s/%s is not there, or not the one of the manifest",
                 g->rebuilt->source.path, file->name);
    }
    FZ_CHECK(old->n_files == made->n_files, FZ_ERR_FORMAT,
             "%s has %lld files, its manifest names %lld", g->rebuilt->source.path,
             (long long)made->n_files - 1, (long long)old->n_files - 1);
    return FZ_OK;
}

static fz_status take_shards(fz_gather *g)
{
    int64_t *ranks = NULL, n = 0;

    FZ_TRY(fz_ckpt_shards(g->rebuilt->source.path, &ranks, &n));
    fz_status status = FZ_NEW(&g->rebuilt->manifest.files, n + 1);
    g->rebuilt->manifest.n_files = 1;
    if (status == FZ_OK && n == 0)
        status = FZ_FAIL(FZ_ERR_FORMAT, "%s has no shards", g->rebuilt->source.path);
    for (int64_t i = 0; i < n && status == FZ_OK; i++)
        status = add_file(g, ranks[i]);
    if (status == FZ_OK) status = compare_with_manifest(g);
    for (int64_t i = 0; i < n && status == FZ_OK; i++)
        status = take_shard(g, ranks[i]);
    fz_free(&ranks);
    return status;
}

/* A manifest that holds, or none. */
static void read_manifest(fz_gather *g)
{
    char path[FZ_PATH_BYTES], *text;
    size_t bytes;

    if (fz_disk_join(path, g->rebuilt->source.path, "MANIFEST") != FZ_OK) return;
    if (!fz_disk_is_there(path) || fz_disk_read_file(path, &text, &bytes) != FZ_OK) return;
    g->has_manifest = fz_manifest_parse(text, bytes, path, &g->manifest) == FZ_OK;
    fz_free(&text);
}

fz_status fz_gather_shards(fz_gather *gather, const char *path, fz_rebuilt *rebuilt)
{
    const char *name = strrchr(path, '/');

    *gather = (fz_gather){.rebuilt = rebuilt};
    memset(rebuilt, 0, sizeof *rebuilt);
    FZ_CHECK(strlen(path) < sizeof rebuilt->source.path, FZ_ERR_ARG, "the path %s is too long",
             path);
    strcpy(rebuilt->source.path, path);
    name = name ? name + 1 : path;
    rebuilt->is_base = strncmp(name, "base-", 5) == 0;
    FZ_CHECK(rebuilt->is_base || strncmp(name, "step-", 5) == 0, FZ_ERR_USAGE,
             "%s: name a step-* or a base-* directory", path);
    read_manifest(gather);
    return take_shards(gather);
}

void fz_gather_reset(fz_gather *gather)
{
    fz_manifest_reset(&gather->manifest);
    fz_free(&gather->tensors);
}
