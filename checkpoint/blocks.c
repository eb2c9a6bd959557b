#include "checkpoint/blocks.h"

#include <inttypes.h>
#include <string.h>

#include "checkpoint/cut.h"
#include "core/checksum.h"
#include "core/memory.h"

fz_status fz_blocks_open(fz_blocks *blocks, const fz_source *source, int64_t file)
{
    char name[FZ_SHARD_NAME_BYTES];

    FZ_TRY(fz_blocks_close(blocks));
    fz_shard_name(name, file);
    FZ_TRY(fz_disk_join(blocks->path, source->path, name));
    FZ_TRY(fz_disk_open(blocks->path, false, &blocks->fd));
    blocks->source = source;
    blocks->file = file;
    return FZ_OK;
}

fz_status fz_blocks_close(fz_blocks *blocks)
{
    if (!blocks->source) return FZ_OK;
    blocks->source = NULL;
    blocks->begin = blocks->end = 0;
    return fz_disk_close(blocks->fd, blocks->path);
}

void fz_blocks_reset(fz_blocks *blocks)
{
    fz_blocks_close(blocks); /* it was only read: a bad close loses nothing */
    fz_free(&blocks->block);
    blocks->block_bytes = 0;
}

static fz_status make_room(fz_blocks *blocks, size_t bytes)
{
    if (bytes <= blocks->block_bytes) return FZ_OK;
    blocks->block_bytes = 0;
    fz_free(&blocks->block);
    FZ_TRY(fz_alloc((void **)&blocks->block, bytes, "block of a checkpoint"));
    blocks->block_bytes = bytes;
    return FZ_OK;
}

/* A bad block is read once more: what a network or a cache broke may come back right. */
fz_status fz_blocks_read(fz_blocks *blocks, const fz_fragment *row, int64_t at)
{
    const fz_index *index = &blocks->source->index;
    const fz_index_file *file = &index->files[blocks->file];
    const fz_arena_place arena = file->arena[row->kind];
    const int64_t n = (at - arena.offset) / FZ_BLOCK_BYTES;
    const uint32_t expected = index->crcs[file->first_block[row->kind] + n];
    const int64_t begin = arena.offset + n * FZ_BLOCK_BYTES;
    const int64_t rest = arena.offset + arena.bytes - begin;
    const size_t bytes = (size_t)(rest < FZ_BLOCK_BYTES ? rest : FZ_BLOCK_BYTES);
    uint32_t crc = 0;

    blocks->begin = blocks->end = 0;
    FZ_TRY(make_room(blocks, bytes));
    for (int attempt = 0; attempt < 2; attempt++) {
        FZ_TRY(fz_disk_read(blocks->fd, blocks->path, blocks->block, bytes, begin));
        crc = fz_crc32c(0, blocks->block, bytes);
        blocks->begin = begin;
        blocks->end = begin + (int64_t)bytes;
        if (crc == expected) return FZ_OK;
    }
    blocks->begin = blocks->end = 0;
    return FZ_FAIL(FZ_ERR_FORMAT,
                   "%s is damaged between bytes %lld and %lld (crc32c %08" PRIx32
                   ", should be %08" PRIx32 "): %s of tensor %s",
                   blocks->path, (long long)begin, (long long)begin + (long long)bytes, crc,
                   expected, FZ_KIND_NAMES[row->kind], index->tensors[row->tensor].name);
}

void fz_blocks_copy(const fz_blocks *blocks, const fz_fragment *row, const fz_box *wanted,
                    float *data)
{
    fz_cut_copy(row, wanted, blocks->begin, blocks->end, blocks->block, data);
}
