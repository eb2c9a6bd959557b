#include "checkpoint/verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/coverage.h"
#include "checkpoint/directory.h"
#include "checkpoint/disk.h"
#include "checkpoint/manifest.h"
#include "checkpoint/rebuild.h"
#include "checkpoint/row_digest.h"
#include "checkpoint/target.h"
#include "checkpoint/verify_file.h"
#include "core/checksum.h"
#include "core/memory.h"

typedef struct look { /* at one directory */
    fz_verify *verify;
    const char *path;
    bool is_base;
    bool needs_rebuild; /* manifest or index are not to be used */
    bool has_manifest, has_index;
    fz_manifest manifest;
    fz_source source;
} look;

void fz_verify_fault(fz_verify *verify, fz_damage damage, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    verify->n_faults++;
    if (damage > verify->damage) verify->damage = damage;
    if (verify->say) verify->say(verify->context, text);
}

/* What a call complained of; lack of memory is no fault of the directory. */
static fz_status blame(look *l, fz_damage damage, fz_status status)
{
    if (status == FZ_OK || status == FZ_ERR_MEMORY) return status;
    fz_verify_fault(l->verify, damage, "%s", fz_last_error()->text);
    return FZ_OK;
}

/* manifest and index */

static fz_status read_manifest(look *l)
{
    const char *kind = l->is_base ? "base" : "step";
    char path[FZ_PATH_BYTES], *text = NULL;
    size_t bytes = 0;

    fz_status status = fz_disk_join(path, l->path, "MANIFEST");
    if (status == FZ_OK) status = fz_disk_read_file(path, &text, &bytes);
    if (status == FZ_OK) status = fz_manifest_parse(text, bytes, path, &l->manifest);
    fz_free(&text);
    l->has_manifest = status == FZ_OK;
    l->needs_rebuild = !l->has_manifest;
    if (status == FZ_OK && strcmp(l->manifest.kind, kind) != 0) {
        fz_verify_fault(l->verify, FZ_DAMAGE_LOST, "%s is a %s, not a %s", l->path,
                        l->manifest.kind, kind);
    }
    return blame(l, FZ_DAMAGE_MENDABLE, status);
}

static fz_status parse_index(look *l, const char *bytes, size_t n)
{
    fz_source *source = &l->source;

    FZ_CHECK(strlen(l->path) < sizeof source->path, FZ_ERR_ARG, "%s is too long", l->path);
    strcpy(source->path, l->path);
    FZ_TRY(fz_index_read(bytes, n, l->path, &source->index));
    l->has_index = true;
    return fz_rows_chain(source->index.n_tensors, source->index.rows, source->index.n_rows,
                         &source->head, &source->next);
}

/* Where it is wrong nothing else can be looked at, so it may hide more. */
static fz_status read_index(look *l)
{
    char *bytes = NULL;
    size_t n = 0;
    fz_status status = FZ_OK;
    char path[FZ_PATH_BYTES];

    FZ_TRY(fz_disk_join(path, l->path, "index.h5"));
    status = fz_disk_read_file(path, &bytes, &n);
    if (status == FZ_OK) {
        const fz_manifest_file *file = &l->manifest.files[0];
        const uint32_t crc = fz_crc32c(0, bytes, n);
        if ((int64_t)n != file->size)
            status = FZ_FAIL(FZ_ERR_FORMAT, "%s has %zu bytes, its manifest says %lld", path, n,
                             (long long)file->size);
        else if (crc != file->crc)
            status = FZ_FAIL(FZ_ERR_FORMAT,
                             "%s is damaged: crc32c %08" PRIx32 ", its manifest says %08" PRIx32,
                             path, crc, file->crc);
    }
    if (status == FZ_OK) {
        status = parse_index(l, bytes, n);
        l->verify->n_files++;
        l->verify->n_bytes += (int64_t)n;
    }
    fz_free(&bytes);
    l->needs_rebuild |= status != FZ_OK;
    return blame(l, FZ_DAMAGE_MENDABLE, status);
}

/* Manifest and index of one save say the same of its files. */
static fz_status compare_files(const look *l)
{
    const fz_index *index = &l->source.index;
    int64_t n_files = 0;
    char name[FZ_SHARD_NAME_BYTES];

    FZ_CHECK(l->manifest.step == index->info.step &&
                 strcmp(l->manifest.run_id, index->info.run_id) == 0 &&
                 strcmp(l->manifest.base, index->info.base) == 0,
             FZ_ERR_FORMAT, "%s: manifest and index are of different saves", l->path);
    for (int64_t r = 0; r < index->n_files; r++) {
        bool is_there = index->files[r].size == 0;
        n_files += !is_there;
        if (is_there) continue;
        fz_shard_name(name, r);
        if (n_files < l->manifest.n_files) {
            const fz_manifest_file *file = &l->manifest.files[n_files];
            is_there = strcmp(file->name, name) == 0 && file->size == index->files[r].size;
        }
        FZ_CHECK(is_there, FZ_ERR_FORMAT, "%s: manifest and index differ about %s", l->path, name);
    }
    FZ_CHECK(n_files == l->manifest.n_files - 1, FZ_ERR_FORMAT,
             "%s: the manifest names %lld shards, the index %lld", l->path,
             (long long)l->manifest.n_files - 1, (long long)n_files);
    return FZ_OK;
}

/* Fragments' digests add up to their tensor's. */
static fz_status compare_digests(const look *l)
{
    const fz_index *index = &l->source.index;

    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
        for (int t = 0; t < index->n_tensors; t++) {
            const int64_t i = (int64_t)kind * index->n_tensors + t;
            uint64_t digest = 0, n = 0;
            if (!fz_coverage_expects(index, l->is_base, t, kind)) continue;
            for (int64_t row = l->source.head[i]; row >= 0; row = l->source.next[row]) {
                digest += index->row_digests[row];
                n += (uint64_t)(index->rows[row].b - index->rows[row].a);
            }
            FZ_CHECK(digest == index->sums[i][0] && n == index->sums[i][1], FZ_ERR_FORMAT,
                     "%s: digests of fragments do not add up to that of %s of tensor %s", l->path,
                     FZ_KIND_NAMES[kind], index->tensors[t].name);
        }
    return FZ_OK;
}

/* The directory is what its name says. */
static void check_name(look *l)
{
    const fz_index *index = &l->source.index;
    const fz_state state = {.n_tensors = index->n_tensors, .tensors = index->tensors};
    const char *slash = strrchr(l->path, '/'), *name = slash ? slash + 1 : l->path;
    char expected[FZ_STEP_NAME_BYTES];

    if (l->is_base)
        fz_base_name(expected, &state, index->sums);
    else
        fz_step_name(expected, index->info.step);
    if (strcmp(name, expected) != 0)
        fz_verify_fault(l->verify, FZ_DAMAGE_MENDABLE, "%s holds %s: give it that name", l->path,
                        expected);
}

static fz_status look_at_index(look *l)
{
    FZ_TRY(read_index(l));
    if (l->needs_rebuild) return FZ_OK;
    l->verify->n_tensors += l->source.index.n_tensors;
    const fz_state state = {.n_tensors = l->source.index.n_tensors,
                            .tensors = l->source.index.tensors};
    FZ_TRY(blame(l, FZ_DAMAGE_LOST, fz_state_check(&state)));
    FZ_TRY(blame(l, FZ_DAMAGE_LOST, compare_files(l)));
    FZ_TRY(blame(l, FZ_DAMAGE_LOST, compare_digests(l)));
    FZ_TRY(blame(l, FZ_DAMAGE_LOST, fz_coverage_check(&l->source, l->is_base)));
    check_name(l);
    return FZ_OK;
}

/* payload */

static fz_status look_at_shards(look *l)
{
    for (int64_t i = 1; i < l->manifest.n_files; i++)
        FZ_TRY(fz_verify_file(l->verify, l->path, &l->manifest.files[i],
                              l->has_index ? &l->source : NULL));
    return FZ_OK;
}

static fz_status compare_rows(look *l)
{
    const fz_index *index = &l->source.index;
    uint64_t *digests = NULL;

    FZ_TRY(FZ_NEW(&digests, index->n_rows));
    const fz_status status = fz_row_digests(&l->source, digests);
    for (int64_t i = 0; i < index->n_rows && status == FZ_OK; i++) {
        const fz_fragment *row = &index->rows[i];
        char name[FZ_SHARD_NAME_BYTES];
        if (digests[i] == index->row_digests[i]) continue;
        fz_shard_name(name, row->file);
        fz_verify_fault(l->verify, FZ_DAMAGE_LOST,
                        "%s/%s: bytes %lld to %lld have digest %016" PRIx64 ", %016" PRIx64
                        " when they were saved: %s of tensor %s",
                        l->path, name, (long long)row->offset,
                        (long long)(row->offset + (row->b - row->a) * 4), digests[i],
                        index->row_digests[i], FZ_KIND_NAMES[row->kind],
                        index->tensors[row->tensor].name);
    }
    fz_free(&digests);
    return status;
}

/* What is left to hope for without manifest or index. The rebuilt index then serves as the index.
 */
static fz_status try_rebuild(look *l)
{
    fz_rebuilt *rebuilt = NULL;

    FZ_TRY(FZ_NEW(&rebuilt, 1));
    const char *base = l->has_manifest && l->manifest.base[0] ? l->manifest.base : NULL;
    const fz_status status = fz_rebuild_read(l->path, base, rebuilt);
    l->has_index = status == FZ_OK;
    if (status == FZ_OK) {
        fz_verify_fault(l->verify, FZ_DAMAGE_MENDABLE,
                        "%s: its shards are whole: florenz ckpt rebuild-index %s mends it", l->path,
                        l->path);
        fz_source_reset(&l->source);
        l->source = rebuilt->source;
        memset(&rebuilt->source, 0, sizeof rebuilt->source);
        fz_rebuilt_reset(rebuilt);
    } else if (status != FZ_ERR_MEMORY) {
        fz_verify_fault(l->verify, FZ_DAMAGE_LOST, "%s: cannot be rebuilt: %s", l->path,
                        fz_last_error()->text);
    }
    fz_free(&rebuilt);
    return status == FZ_ERR_MEMORY ? status : FZ_OK;
}

/* the base of a step */

static fz_status compare_base(look *l, const char *path)
{
    fz_source *base = NULL;

    FZ_TRY(FZ_NEW(&base, 1));
    fz_status status = fz_source_open_here(path, "base", base);
    if (status == FZ_OK) {
        const fz_index *mine = &l->source.index, *theirs = &base->index;
        const fz_state state = {.n_tensors = mine->n_tensors, .tensors = mine->tensors};
        const int64_t first = (int64_t)FZ_STATE_WEIGHT * mine->n_tensors;
        status = fz_source_check_model(&state, base);
        if (status == FZ_OK && memcmp(mine->sums[first], theirs->sums[first],
                                      (size_t)mine->n_tensors * sizeof *mine->sums) != 0)
            status =
                FZ_FAIL(FZ_ERR_FORMAT, "%s: its frozen weights are not those of %s", l->path, path);
        fz_source_reset(base);
    }
    fz_free(&base);
    return status;
}

static fz_status look_at_base(look *l)
{
    char path[FZ_PATH_BYTES];

    const fz_status status = fz_source_base(&l->source, path);
    if (status != FZ_OK) return blame(l, FZ_DAMAGE_LOST, status);
    if (!path[0]) return FZ_OK;
    if (!fz_disk_is_there(path)) {
        fz_verify_fault(l->verify, FZ_DAMAGE_LOST, "%s is missing: the frozen weights of %s", path,
                        l->path);
        return FZ_OK;
    }
    if (strcmp(path, l->verify->sound_base) != 0) {
        const int64_t n_before = l->verify->n_faults;
        FZ_TRY(fz_verify_directory(l->verify, path)); /* a base has none: no deeper than this */
        if (l->verify->n_faults > n_before) return FZ_OK;
        snprintf(l->verify->sound_base, sizeof l->verify->sound_base, "%s", path);
    }
    return blame(l, FZ_DAMAGE_LOST, compare_base(l, path));
}

static fz_status look_at(look *l)
{
    FZ_TRY(read_manifest(l));
    if (l->has_manifest) FZ_TRY(look_at_index(l));
    if (l->has_manifest) FZ_TRY(look_at_shards(l));
    if (l->needs_rebuild) {
        FZ_TRY(try_rebuild(l));
        return l->has_index && !l->is_base ? look_at_base(l) : FZ_OK;
    }
    if (l->verify->is_deep && l->verify->damage < FZ_DAMAGE_LOST)
        FZ_TRY(blame(l, FZ_DAMAGE_LOST, compare_rows(l)));
    return l->is_base ? FZ_OK : look_at_base(l);
}

fz_status fz_verify_directory(fz_verify *verify, const char *path)
{
    const char *slash = strrchr(path, '/');
    look *l = NULL;

    FZ_TRY(FZ_NEW(&l, 1));
    l->verify = verify;
    l->path = path;
    l->is_base = strncmp(slash ? slash + 1 : path, "base-", 5) == 0;
    const fz_status status = look_at(l);
    fz_manifest_reset(&l->manifest);
    fz_source_reset(&l->source);
    fz_free(&l);
    return status;
}
