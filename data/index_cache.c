#include "data/index_part.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/checksum.h"
#include "core/fault.h"
#include "core/memory.h"

/* Read on a machine of the other byte order, the magic does not match and the file is ignored. */
static const uint64_t MAGIC = UINT64_C(0x0001786469647a66); /* "fzdidx", version 1 */

typedef struct header {
    uint64_t magic;
    uint32_t crc, image_struct_bytes;
    int64_t tar_bytes, mtime_ns;
    int64_t n_images, n_annotations, keys_bytes, n_classes, n_bad;
    char bad_text[256];
} header;

static fz_status cache_path(char *out, size_t bytes, const char *shard)
{
    const int n = snprintf(out, bytes, "%s.idx", shard);
    FZ_CHECK(n >= 0 && (size_t)n < bytes, FZ_ERR_IO, "open %.100s...: path too long", shard);
    return FZ_OK;
}

/* The blocks after the header, in file order. */
typedef struct block {
    void *at;
    size_t bytes;
} block;
enum { N_BLOCKS = 4 };

static void list_blocks(fz_index_part *part, block blocks[N_BLOCKS])
{
    blocks[0] = (block){part->images, (size_t)part->n_images * sizeof *part->images};
    blocks[1] = (block){part->annotation_class, (size_t)part->n_annotations};
    blocks[2] = (block){part->keys, (size_t)part->keys_bytes};
    blocks[3] = (block){part->class_name, (size_t)part->n_classes * sizeof part->class_name[0]};
}

static uint32_t crc_of(header head, const block blocks[N_BLOCKS])
{
    head.crc = 0;
    uint32_t crc = fz_crc32c(0, &head, sizeof head);
    for (int i = 0; i < N_BLOCKS; i++)
        crc = fz_crc32c(crc, blocks[i].at, blocks[i].bytes);
    return crc;
}

/* ---- load ---- */

static bool header_fits(const header *head, const struct stat *tar, const struct stat *cache)
{
    const int64_t mtime_ns = (int64_t)tar->st_mtim.tv_sec * 1000000000 + tar->st_mtim.tv_nsec;
    const int64_t most = cache->st_size;

    if (head->magic != MAGIC || head->image_struct_bytes != sizeof(fz_index_image)) return false;
    if (head->tar_bytes != tar->st_size || head->mtime_ns != mtime_ns) return false;
    if (head->n_images < 0 || head->n_images > most || head->n_annotations < 0 ||
        head->n_annotations > most || head->keys_bytes < 0 || head->keys_bytes > most ||
        head->n_classes < 0 || head->n_classes > FZ_MAX_CLASSES)
        return false;
    return (int64_t)sizeof *head + head->n_images * (int64_t)sizeof(fz_index_image) +
               head->n_annotations + head->keys_bytes + head->n_classes * FZ_CLASS_BYTES ==
           most;
}

static bool read_part(FILE *file, const header *head, fz_index_part *part)
{
    block blocks[N_BLOCKS];

    part->n_images = head->n_images;
    part->n_annotations = head->n_annotations;
    part->keys_bytes = head->keys_bytes;
    part->n_classes = (int)head->n_classes;
    part->n_bad = head->n_bad;
    part->tar_bytes = head->tar_bytes;
    part->mtime_ns = head->mtime_ns;
    memcpy(part->bad_text, head->bad_text, sizeof part->bad_text);
    if (FZ_NEW(&part->images, part->n_images) != FZ_OK ||
        FZ_NEW(&part->annotation_class, part->n_annotations) != FZ_OK ||
        FZ_NEW(&part->keys, part->keys_bytes) != FZ_OK)
        return false;
    list_blocks(part, blocks);
    for (int i = 0; i < N_BLOCKS; i++)
        if (fread(blocks[i].at, 1, blocks[i].bytes, file) != blocks[i].bytes) return false;
    return crc_of(*head, blocks) == head->crc;
}

bool fz_index_part_load(const char *shard, fz_index_part *part_p)
{
    char path[PATH_MAX];
    struct stat tar, cache;
    header head;
    fz_index_part *part = NULL;

    if (cache_path(path, sizeof path, shard) != FZ_OK) return false;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return false;
    bool good = stat(shard, &tar) == 0 && fstat(fileno(file), &cache) == 0 &&
                fread(&head, sizeof head, 1, file) == 1 && header_fits(&head, &tar, &cache) &&
                FZ_NEW(&part, 1) == FZ_OK;
    if (good) {
        good = read_part(file, &head, part);
        if (good)
            *part_p = *part;
        else
            fz_index_part_reset(part);
        fz_free(&part);
    }
    fclose(file);
    return good;
}

/* ---- save ---- */

static bool write_blocks(FILE *file, const header *head, const block blocks[N_BLOCKS])
{
    bool good = fwrite(head, sizeof *head, 1, file) == 1;
    for (int i = 0; good && i < N_BLOCKS; i++)
        good = fwrite(blocks[i].at, 1, blocks[i].bytes, file) == blocks[i].bytes;
    return good && fflush(file) == 0 && fsync(fileno(file)) == 0 && !fz_fault_now(FZ_FAULT_WRITE);
}

fz_status fz_index_part_save(const char *shard, const fz_index_part *part)
{
    char path[PATH_MAX], tmp_path[PATH_MAX + 8];
    block blocks[N_BLOCKS];
    fz_index_part view = *part; /* blocks are listed through a pointer that may be written */
    header head;

    FZ_TRY(cache_path(path, sizeof path, shard));
    snprintf(tmp_path, sizeof tmp_path, "%s.tmp", path);
    memset(&head, 0, sizeof head);
    head.magic = MAGIC;
    head.image_struct_bytes = sizeof(fz_index_image);
    head.tar_bytes = part->tar_bytes;
    head.mtime_ns = part->mtime_ns;
    head.n_images = part->n_images;
    head.n_annotations = part->n_annotations;
    head.keys_bytes = part->keys_bytes;
    head.n_classes = part->n_classes;
    head.n_bad = part->n_bad;
    memcpy(head.bad_text, part->bad_text, sizeof head.bad_text);
    list_blocks(&view, blocks);
    head.crc = crc_of(head, blocks);

    FILE *file = fopen(tmp_path, "wb");
    if (file == NULL) return FZ_FAIL(FZ_ERR_IO, "create %s: %s", tmp_path, strerror(errno));
    const bool written = write_blocks(file, &head, blocks);
    const int code = errno;
    if (fclose(file) != 0 || !written || rename(tmp_path, path) != 0) {
        unlink(tmp_path);
        return FZ_FAIL(FZ_ERR_IO, "write %s: %s", path, strerror(code != 0 ? code : EIO));
    }
    return FZ_OK;
}
