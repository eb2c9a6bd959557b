#include "checkpoint/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/manifest.h"
#include "core/checksum.h"
#include "core/memory.h"

static fz_status read_index(const char *path, const fz_manifest_file *file, char **bytes_p,
                            size_t *n_p)
{
    char name[FZ_PATH_BYTES], *bytes;
    size_t n;

    FZ_TRY(fz_disk_join(name, path, file->name));
    FZ_TRY(fz_disk_read_file(name, &bytes, &n));
    const uint32_t crc = fz_crc32c(0, bytes, n);
    if (crc != file->crc) {
        fz_free(&bytes);
        return FZ_FAIL(FZ_ERR_FORMAT,
                       "%s is damaged: crc32c %08" PRIx32 ", its manifest says %08" PRIx32, name,
                       crc, file->crc);
    }
    *bytes_p = bytes;
    *n_p = n;
    return FZ_OK;
}

fz_status fz_source_read_index(const char *path, const char *kind, char **bytes_p, size_t *n_p)
{
    fz_manifest manifest;

    FZ_TRY(fz_manifest_accept(path, &manifest));
    fz_status status = FZ_OK;
    if (strcmp(manifest.kind, kind) != 0)
        status = FZ_FAIL(FZ_ERR_FORMAT, "%s is a %s, not a %s", path, manifest.kind, kind);
    if (status == FZ_OK) status = read_index(path, &manifest.files[0], bytes_p, n_p);
    fz_manifest_reset(&manifest);
    return status;
}

static fz_status parse(const char *path, const char *bytes, size_t n, fz_source *source)
{
    FZ_TRY(fz_disk_join(source->path, path, "")); /* checks the length */
    strcpy(source->path, path);
    FZ_TRY(fz_index_read(bytes, n, path, &source->index));
    return fz_rows_chain(source->index.n_tensors, source->index.rows, source->index.n_rows,
                         &source->head, &source->next);
}

fz_status fz_source_open_here(const char *path, const char *kind, fz_source *source)
{
    char *bytes = NULL;
    size_t n = 0;

    memset(source, 0, sizeof *source);
    FZ_TRY(fz_source_read_index(path, kind, &bytes, &n));
    const fz_status status = parse(path, bytes, n, source);
    fz_free(&bytes);
    if (status != FZ_OK) fz_source_reset(source);
    return status;
}

fz_status fz_source_open(const fz_group *world, const char *path, const char *kind,
                         fz_source *source)
{
    const bool is_first = fz_group_rank(world) == 0;
    char *bytes = NULL;
    size_t n = 0;

    memset(source, 0, sizeof *source);
    FZ_TRY(fz_agree(world, is_first ? fz_source_read_index(path, kind, &bytes, &n) : FZ_OK));
    int64_t size = (int64_t)n;
    fz_status status = fz_broadcast(world, &size, sizeof size, 0);
    if (status == FZ_OK) {
        if (!is_first) status = fz_alloc((void **)&bytes, (size_t)size, "index");
        status = fz_agree(world, status);
    }
    if (status == FZ_OK) status = fz_broadcast(world, bytes, (size_t)size, 0);
    if (status == FZ_OK) status = fz_agree(world, parse(path, bytes, (size_t)size, source));
    fz_free(&bytes);
    if (status != FZ_OK) fz_source_reset(source);
    return status;
}

void fz_source_reset(fz_source *source)
{
    fz_index_reset(&source->index);
    fz_free(&source->head);
    fz_free(&source->next);
}

/* the model */

static void write_shape(char *text, size_t bytes, const fz_state_tensor *tensor)
{
    size_t n = (size_t)snprintf(text, bytes, "(");
    for (int axis = 0; axis < tensor->ndim && n < bytes; axis++)
        n += (size_t)snprintf(text + n, bytes - n, axis ? ", %" PRId64 : "%" PRId64,
                              tensor->shape[axis]);
    if (n < bytes) snprintf(text + n, bytes - n, ")");
}

fz_status fz_source_check_model(const fz_state *state, const fz_source *source)
{
    const fz_index *index = &source->index;
    const int n = state->n_tensors < index->n_tensors ? state->n_tensors : index->n_tensors;
    char here[128], there[128];

    for (int t = 0; t < n; t++) {
        const fz_state_tensor *mine = &state->tensors[t], *theirs = &index->tensors[t];
        const fz_box my_box = fz_box_of_tensor(mine), their_box = fz_box_of_tensor(theirs);
        write_shape(here, sizeof here, mine);
        write_shape(there, sizeof there, theirs);
        FZ_CHECK(strcmp(mine->name, theirs->name) == 0, FZ_ERR_FORMAT,
                 "%s is of another model: its tensor %d is %s %s, here it is %s %s", source->path,
                 t, theirs->name, there, mine->name, here);
        FZ_CHECK(mine->ndim == theirs->ndim &&
                     memcmp(my_box.hi, their_box.hi, sizeof my_box.hi) == 0,
                 FZ_ERR_FORMAT, "%s is of another model: tensor %s is %s there and %s here",
                 source->path, mine->name, there, here);
    }
    FZ_CHECK(state->n_tensors == index->n_tensors, FZ_ERR_FORMAT,
             "%s is of another model: it has %d tensors, here there are %d; the first without a "
             "partner is %s",
             source->path, index->n_tensors, state->n_tensors,
             n < state->n_tensors ? state->tensors[n].name : index->tensors[n].name);
    return FZ_OK;
}

fz_status fz_source_base(const fz_source *step, char path[FZ_PATH_BYTES])
{
    char dir[FZ_PATH_BYTES];
    bool needs_base = false;

    path[0] = 0;
    for (int t = 0; t < step->index.n_tensors; t++)
        needs_base |= !step->index.tensors[t].trainable;
    if (!needs_base) return FZ_OK;
    FZ_CHECK(strncmp(step->index.info.base, "base-", 5) == 0 && !strchr(step->index.info.base, '/'),
             FZ_ERR_FORMAT, "%s names no base for its frozen weights", step->path);
    snprintf(dir, sizeof dir, "%s", step->path);
    char *slash = strrchr(dir, '/');
    if (slash) *slash = 0;
    return fz_disk_join(path, slash ? dir : ".", step->index.info.base);
}
