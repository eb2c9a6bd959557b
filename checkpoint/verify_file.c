#include "checkpoint/verify_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/disk.h"
#include "checkpoint/file_crc.h"
#include "checkpoint/shard_read.h"
#include "core/checksum.h"

typedef struct pass { /* over one file, from front to back */
    fz_verify *verify;
    const fz_source *source; /* NULL: no blocks are known */
    int64_t file;            /* of the source */
    const char *path;
    int kind; /* whose block is being summed; FZ_N_STATE_KINDS: none is left */
    int64_t n_block;
    int64_t begin, end; /* bytes of that block */
    uint32_t crc;       /* of what was seen of it */
    int64_t n_bad;
} pass;

static void set_block(pass *p)
{
    const fz_index_file *file = &p->source->index.files[p->file];

    while (p->kind < FZ_N_STATE_KINDS) {
        const fz_arena_place arena = file->arena[p->kind];
        p->begin = arena.offset + p->n_block * FZ_BLOCK_BYTES;
        p->end = arena.offset + arena.bytes;
        if (p->begin < p->end) break;
        p->kind++;
        p->n_block = 0;
    }
    if (p->end - p->begin > FZ_BLOCK_BYTES) p->end = p->begin + FZ_BLOCK_BYTES;
    p->crc = 0;
}

static void say_bad_block(pass *p, uint32_t expected)
{
    const fz_index *index = &p->source->index;
    int64_t n = 0, first = -1;

    for (int64_t i = 0; i < index->n_rows; i++) {
        const fz_fragment *row = &index->rows[i];
        if (row->file != p->file || row->kind != p->kind || row->offset >= p->end ||
            row->offset + (row->b - row->a) * 4 <= p->begin)
            continue;
        if (n++ == 0) first = i;
    }
    char others[48] = "";
    if (n > 1) snprintf(others, sizeof others, " and %lld more fragments", (long long)n - 1);
    fz_verify_fault(p->verify, FZ_DAMAGE_LOST,
                    "%s is damaged between bytes %lld and %lld (crc32c %08" PRIx32
                    ", should be %08" PRIx32 "): %s of %s%s%s",
                    p->path, (long long)p->begin, (long long)p->end, p->crc, expected,
                    FZ_KIND_NAMES[p->kind], n > 0 ? "tensor " : "no tensor",
                    n > 0 ? index->tensors[index->rows[first].tensor].name : "", others);
}

static void end_block(pass *p)
{
    const fz_index *index = &p->source->index;
    const int64_t block = index->files[p->file].first_block[p->kind] + p->n_block;

    if (p->crc != index->crcs[block]) {
        p->n_bad++;
        say_bad_block(p, index->crcs[block]);
    }
    p->n_block++;
    set_block(p);
}

static void see(void *context, const char *bytes, int64_t offset, int64_t n)
{
    pass *p = context;

    if (!p->source) return;
    while (p->kind < FZ_N_STATE_KINDS && p->begin < offset + n) {
        const int64_t from = p->begin > offset ? p->begin : offset;
        const int64_t to = p->end < offset + n ? p->end : offset + n;
        p->crc = fz_crc32c(p->crc, bytes + (from - offset), (size_t)(to - from));
        if (to < p->end) return;
        end_block(p);
    }
}

/* Whole files that got into a wrong place say so themselves. */
static void say_identity(const pass *p)
{
    const fz_ckpt_info *info = &p->source->index.info;
    fz_shard_content content;

    if (fz_ckpt_shard_identity(p->path, &content) != FZ_OK) return;
    if (content.rank != p->file || content.info.step != info->step ||
        content.world != p->source->index.n_files || strcmp(content.info.run_id, info->run_id) != 0)
        fz_verify_fault(p->verify, FZ_DAMAGE_LOST,
                        "%s is the file of rank %lld of %lld, step %lld, run %s; here belongs "
                        "that of rank %lld of %lld, step %lld, run %s",
                        p->path, (long long)content.rank, (long long)content.world,
                        (long long)content.info.step, content.info.run_id, (long long)p->file,
                        (long long)p->source->index.n_files, (long long)info->step, info->run_id);
    fz_shard_content_reset(&content);
}

/* The file of the source with that name; -1: none. */
static int64_t file_of(const fz_source *source, const char *name)
{
    char other[FZ_SHARD_NAME_BYTES];

    for (int64_t r = 0; r < source->index.n_files; r++) {
        fz_shard_name(other, r);
        if (strcmp(name, other) == 0) return r;
    }
    return -1;
}

/* Arenas in the order of kinds, or their blocks cannot be summed in one pass. */
static bool is_in_order(const fz_index_file *file)
{
    int64_t at = 0;

    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
        if (file->arena[kind].bytes == 0) continue;
        if (file->arena[kind].offset < at) return false;
        at = file->arena[kind].offset + file->arena[kind].bytes;
    }
    return true;
}

static void say_file(pass *p, const fz_manifest_file *file, uint32_t crc)
{
    if (crc == file->crc) return;
    if (p->n_bad > 0) {
        say_identity(p);
        return;
    }
    fz_verify_fault(p->verify, FZ_DAMAGE_MENDABLE,
                    "%s is damaged outside its payload (crc32c %08" PRIx32
                    ", its manifest says %08" PRIx32 "): it still loads, other programs may not "
                    "open it",
                    p->path, crc, file->crc);
}

fz_status fz_verify_file(fz_verify *verify, const char *dir, const fz_manifest_file *file,
                         const fz_source *source)
{
    char path[FZ_PATH_BYTES];
    pass p = {.verify = verify, .path = path};
    int64_t size = 0;
    uint32_t crc = 0;

    FZ_TRY(fz_disk_join(path, dir, file->name));
    if (source) p.file = file_of(source, file->name);
    if (source && p.file >= 0 && is_in_order(&source->index.files[p.file])) {
        p.source = source;
        set_block(&p);
    }
    fz_status status = fz_disk_size(path, &size);
    if (status == FZ_OK && size != file->size) {
        fz_verify_fault(verify, FZ_DAMAGE_LOST, "%s has %lld bytes, its manifest says %lld", path,
                        (long long)size, (long long)file->size);
        if (p.source) say_identity(&p);
        return FZ_OK;
    }
    if (status == FZ_OK) status = fz_file_crc_with(path, see, &p, &size, &crc);
    if (status == FZ_ERR_MEMORY) return status;
    if (status != FZ_OK) {
        fz_verify_fault(verify, FZ_DAMAGE_LOST, "%s", fz_last_error()->text);
        return FZ_OK;
    }
    verify->n_files++;
    verify->n_bytes += size;
    if (p.source)
        say_file(&p, file, crc);
    else if (crc != file->crc)
        fz_verify_fault(verify, FZ_DAMAGE_LOST,
                        "%s is damaged: crc32c %08" PRIx32 ", its manifest says %08" PRIx32, path,
                        crc, file->crc);
    return FZ_OK;
}
