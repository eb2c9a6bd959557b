#include "checkpoint/rebuild.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/coverage.h"
#include "checkpoint/directory.h"
#include "checkpoint/disk.h"
#include "checkpoint/gather.h"
#include "checkpoint/row_digest.h"
#include "checkpoint/target.h"
#include "core/memory.h"

/* what lies elsewhere */

static int64_t count_gaps(const fz_gather *g)
{
    int64_t n = 0;
    for (int64_t t = 0; t < g->n_tensors; t++)
        n += !g->tensors[t].name[0];
    return n;
}

/* What shards tell of a tensor may end early, where one of them is missing. */
static bool may_be(const fz_state_tensor *known, const fz_state_tensor *whole)
{
    bool fits = strcmp(known->name, whole->name) == 0 && known->ndim == whole->ndim &&
                known->trainable == whole->trainable;

    for (int axis = 0; axis < known->ndim && fits; axis++)
        fits = known->shape[axis] <= whole->shape[axis];
    return fits;
}

/* Whether the other's list of tensors agrees with what is known and fills the gaps. That pieces are
 * missing is for the sweep to find. */
static bool list_fits(const fz_gather *g, int n, const fz_state_tensor *tensors)
{
    if (n < g->n_tensors || (g->is_count_known && n != g->n_tensors)) return false;
    for (int t = 0; t < n; t++) {
        const bool is_known = t < g->n_tensors && g->tensors[t].name[0];
        if (!tensors[t].name[0] || (is_known && !may_be(&g->tensors[t], &tensors[t]))) return false;
    }
    return true;
}

static fz_status take_list(fz_gather *g, int n, const fz_state_tensor *tensors)
{
    FZ_TRY(fz_gather_slots(g, n));
    memcpy(g->tensors, tensors, (size_t)n * sizeof *tensors);
    return FZ_OK;
}

/* The list of tensors of a companion that has lost its index as well. */
static fz_status try_shards(fz_gather *g, const char *path, bool *is_taken)
{
    fz_rebuilt *other = NULL;
    fz_gather shards;

    FZ_TRY(FZ_NEW(&other, 1));
    fz_status status = fz_gather_shards(&shards, path, other);
    if (status == FZ_OK) {
        for (int64_t t = 0; t < g->n_tensors && t < shards.n_tensors; t++)
            if (!shards.tensors[t].name[0]) shards.tensors[t] = g->tensors[t];
        if (list_fits(g, (int)shards.n_tensors, shards.tensors)) {
            status = take_list(g, (int)shards.n_tensors, shards.tensors);
            *is_taken = status == FZ_OK;
        }
    }
    fz_gather_reset(&shards);
    fz_rebuilt_reset(other);
    fz_free(&other);
    return FZ_OK; /* one that cannot be read does not fit */
}

/* A step needs the digests of its base too; a base needs names alone. */
static fz_status take_index(fz_gather *g, const fz_index *theirs, bool *is_taken)
{
    fz_index *index = &g->rebuilt->source.index;

    *is_taken = list_fits(g, theirs->n_tensors, theirs->tensors);
    if (!*is_taken) return FZ_OK;
    FZ_TRY(take_list(g, theirs->n_tensors, theirs->tensors));
    if (g->rebuilt->is_base) return FZ_OK;
    fz_free(&index->sums);
    FZ_TRY(FZ_NEW(&index->sums, FZ_N_STATE_KINDS * theirs->n_tensors));
    memcpy(index->sums, theirs->sums,
           (size_t)theirs->n_tensors * FZ_N_STATE_KINDS * sizeof *index->sums);
    return FZ_OK;
}

/* Neither rebuilds the other's files: what is missing is made in memory. */
static fz_status try_companion(fz_gather *g, const char *path, bool *is_taken)
{
    const bool wants_base = !g->rebuilt->is_base;
    fz_source *other = NULL;
    fz_rebuilt *rebuilt = NULL;

    *is_taken = false;
    FZ_TRY(FZ_NEW(&other, 1));
    fz_status status = FZ_OK;
    if (fz_source_open_here(path, wants_base ? "base" : "step", other) == FZ_OK) {
        status = take_index(g, &other->index, is_taken);
        fz_source_reset(other);
    } else if (!wants_base) {
        status = try_shards(g, path, is_taken);
    } else if (FZ_NEW(&rebuilt, 1) == FZ_OK && fz_rebuild_read(path, NULL, rebuilt) == FZ_OK) {
        status = take_index(g, &rebuilt->source.index, is_taken);
        fz_rebuilt_reset(rebuilt);
    }
    fz_free(&rebuilt);
    fz_free(&other);
    return status;
}

static void parent_of(const char *path, char parent[FZ_PATH_BYTES])
{
    snprintf(parent, FZ_PATH_BYTES, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash)
        *slash = 0;
    else
        strcpy(parent, ".");
}

/* The one beside path that fits; two for a step would be a guess. */
static fz_status search_companion(fz_gather *g, const char *wanted)
{
    const char *prefix = g->rebuilt->is_base ? "step-" : "base-", *path = g->rebuilt->source.path;
    char parent[FZ_PATH_BYTES], other[FZ_PATH_BYTES], found[64] = "";
    const struct dirent *entry;
    fz_status status = FZ_OK;

    parent_of(path, parent);
    DIR *dir = opendir(parent);
    while (dir && status == FZ_OK && (entry = readdir(dir))) {
        bool fits = false;
        if (strncmp(entry->d_name, prefix, 5) != 0 || strlen(entry->d_name) >= sizeof found ||
            (wanted && strcmp(wanted, entry->d_name) != 0) || (found[0] && g->rebuilt->is_base) ||
            fz_disk_join(other, parent, entry->d_name) != FZ_OK)
            continue;
        status = try_companion(g, other, &fits);
        if (status != FZ_OK || !fits) continue;
        if (found[0])
            status = FZ_FAIL(FZ_ERR_USAGE, "%s: %s and %s both fit; say which by --base", path,
                             found, entry->d_name);
        strcpy(found, entry->d_name);
    }
    if (dir) closedir(dir);
    FZ_TRY(status);
    FZ_CHECK(found[0], FZ_ERR_FORMAT,
             g->rebuilt->is_base ? "%s: no step beside it tells the names of trained tensors"
                                 : "%s: no base beside it holds its frozen tensors",
             path);
    if (!g->rebuilt->is_base) strcpy(g->rebuilt->source.index.info.base, found);
    return FZ_OK;
}

/* A step that froze nothing has all its tensors here. */
static fz_status complete_list(fz_gather *g, const char *base)
{
    const bool is_base = g->rebuilt->is_base;
    const bool has_gaps = count_gaps(g) > 0;

    if (!is_base && !base && g->has_manifest && g->manifest.base[0]) base = g->manifest.base;
    if (has_gaps || (base && !is_base)) return search_companion(g, is_base ? NULL : base);
    /* Shards that do not say how many tensors there are: if a base fits, it has the others. */
    if (!g->is_count_known && (is_base || !g->has_manifest)) {
        const fz_status status = search_companion(g, NULL);
        if (status == FZ_ERR_FORMAT) return FZ_OK;
        return status;
    }
    return FZ_OK;
}

/* the index */

static bool is_weights_alone(const fz_index *index)
{
    for (int64_t i = 0; i < index->n_rows; i++)
        if (index->rows[i].kind == FZ_STATE_EXP_AVG || index->rows[i].kind == FZ_STATE_EXP_AVG_SQ)
            return false;
    return true;
}

static fz_status sum_digests(fz_index *index)
{
    for (int64_t i = 0; i < index->n_rows; i++) {
        const fz_fragment *row = &index->rows[i];
        uint64_t *sum = index->sums[row->kind * index->n_tensors + row->tensor];
        sum[0] += index->row_digests[i];
        sum[1] += (uint64_t)(row->b - row->a);
    }
    return FZ_OK;
}

/* A base is named by what it holds. */
static fz_status check_name(const fz_rebuilt *r)
{
    const fz_index *index = &r->source.index;
    const fz_state state = {.n_tensors = index->n_tensors, .tensors = index->tensors};
    const char *slash = strrchr(r->source.path, '/'), *name = slash ? slash + 1 : r->source.path;
    char expected[FZ_STEP_NAME_BYTES];

    if (r->is_base)
        fz_base_name(expected, &state, index->sums);
    else
        fz_step_name(expected, index->info.step);
    FZ_CHECK(strcmp(name, expected) == 0, FZ_ERR_FORMAT, "%s holds what is called %s",
             r->source.path, expected);
    return FZ_OK;
}

/* An index without the checksum that confirms it, but which says what the shards say: the rest of
 * it is worth more than nothing. */
static void take_old_info(fz_rebuilt *r)
{
    fz_index *index = &r->source.index, old;
    char path[FZ_PATH_BYTES], *bytes;
    size_t n;

    if (fz_disk_join(path, r->source.path, "index.h5") != FZ_OK || !fz_disk_is_there(path) ||
        fz_disk_read_file(path, &bytes, &n) != FZ_OK)
        return;
    if (fz_index_read(bytes, n, path, &old) == FZ_OK) {
        const fz_ckpt_info *mine = &index->info, *theirs = &old.info;
        if (old.n_tensors == index->n_tensors && old.n_rows == index->n_rows &&
            memcmp(old.sums, index->sums,
                   (size_t)old.n_tensors * FZ_N_STATE_KINDS * sizeof *old.sums) == 0 &&
            mine->step == theirs->step && strcmp(mine->run_id, theirs->run_id) == 0 &&
            strcmp(mine->base, theirs->base) == 0 &&
            mine->has_weights_alone == theirs->has_weights_alone &&
            (!r->has_numbers || (mine->samples == theirs->samples && mine->seed == theirs->seed &&
                                 mine->config_hash == theirs->config_hash))) {
            index->info = old.info;
            old.info.config = NULL;
            r->has_old_info = r->has_numbers = true;
        }
        fz_index_reset(&old);
    }
    fz_free(&bytes);
}

static fz_status make_index(fz_gather *g, const char *base)
{
    fz_rebuilt *r = g->rebuilt;
    fz_index *index = &r->source.index;

    FZ_TRY(complete_list(g, base));
    FZ_CHECK(count_gaps(g) == 0, FZ_ERR_FORMAT, "%s: tensors are missing", r->source.path);
    index->n_tensors = (int)g->n_tensors;
    index->tensors = g->tensors;
    g->tensors = NULL;
    const fz_state state = {.n_tensors = index->n_tensors, .tensors = index->tensors};
    FZ_TRY(fz_state_check(&state));
    index->info.has_weights_alone = !r->is_base && is_weights_alone(index);
    if (!index->sums) FZ_TRY(FZ_NEW(&index->sums, FZ_N_STATE_KINDS * index->n_tensors));
    FZ_TRY(fz_rows_chain(index->n_tensors, index->rows, index->n_rows, &r->source.head,
                         &r->source.next));
    FZ_TRY(fz_coverage_check(&r->source, r->is_base));
    FZ_TRY(FZ_NEW(&index->row_digests, index->n_rows));
    FZ_TRY(fz_row_digests(&r->source, index->row_digests));
    FZ_TRY(sum_digests(index));
    FZ_TRY(check_name(r));
    take_old_info(r);
    return FZ_OK;
}

fz_status fz_rebuild_read(const char *path, const char *base, fz_rebuilt *rebuilt)
{
    fz_gather g;

    fz_status status = fz_gather_shards(&g, path, rebuilt);
    if (status == FZ_OK) status = make_index(&g, base);
    fz_gather_reset(&g);
    if (status != FZ_OK) fz_rebuilt_reset(rebuilt);
    return status;
}

void fz_rebuilt_reset(fz_rebuilt *rebuilt)
{
    fz_source_reset(&rebuilt->source);
    fz_manifest_reset(&rebuilt->manifest);
}

/* writing */

static fz_status put_in_place(const char *dir, const char *from_name, const char *to_name)
{
    char from[FZ_PATH_BYTES], to[FZ_PATH_BYTES];

    FZ_TRY(fz_disk_join(from, dir, from_name));
    FZ_TRY(fz_disk_join(to, dir, to_name));
    return fz_disk_rename(from, to);
}

fz_status fz_rebuild_write(fz_rebuilt *rebuilt)
{
    static const char NEW_INDEX[] = ".index.h5.tmp", NEW_MANIFEST[] = ".MANIFEST.tmp";
    const char *dir = rebuilt->source.path;
    const fz_ckpt_info *info = &rebuilt->source.index.info;
    fz_manifest *manifest = &rebuilt->manifest;
    fz_manifest_file *file = &manifest->files[0];
    char path[FZ_PATH_BYTES];

    strcpy(file->name, "index.h5");
    FZ_TRY(fz_disk_join(path, dir, NEW_INDEX));
    FZ_TRY(fz_ckpt_index_write(path, &rebuilt->source.index, &file->size, &file->crc));
    strcpy(manifest->kind, rebuilt->is_base ? "base" : "step");
    manifest->step = info->step;
    memcpy(manifest->run_id, info->run_id, sizeof manifest->run_id);
    memcpy(manifest->base, info->base, sizeof manifest->base);
    FZ_TRY(fz_disk_join(path, dir, NEW_MANIFEST));
    FZ_TRY(fz_manifest_write(path, manifest));
    FZ_TRY(put_in_place(dir, NEW_INDEX, "index.h5"));
    FZ_TRY(put_in_place(dir, NEW_MANIFEST, "MANIFEST"));
    return fz_disk_sync_directory(dir);
}
