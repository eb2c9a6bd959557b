#include "checkpoint/file_crc.h"

#include "checkpoint/disk.h"
#include "core/checksum.h"
#include "core/memory.h"

enum { PART_BYTES = 4 << 20 };

static fz_status read_all(int fd, const char *path, int64_t size, char *part, fz_file_bytes *see,
                          void *context, uint32_t *crc)
{
    for (int64_t at = 0; at < size;) {
        const int64_t n = size - at < PART_BYTES ? size - at : PART_BYTES;
        fz_disk_prefetch(fd, at + n, PART_BYTES);
        FZ_TRY(fz_disk_read(fd, path, part, (size_t)n, at));
        *crc = fz_crc32c(*crc, part, (size_t)n);
        if (see) see(context, part, at, n);
        at += n;
    }
    return FZ_OK;
}

fz_status fz_file_crc_with(const char *path, fz_file_bytes *see, void *context, int64_t *size_p,
                           uint32_t *crc_p)
{
    char *part = NULL;
    int64_t size = 0;
    uint32_t crc = 0;
    int fd;

    FZ_TRY(fz_disk_size(path, &size));
    FZ_TRY(fz_disk_open(path, false, &fd));
    fz_status status = fz_alloc((void **)&part, PART_BYTES, "part of a file");
    if (status == FZ_OK) status = read_all(fd, path, size, part, see, context, &crc);
    fz_free(&part);
    const fz_status closed = fz_disk_close(fd, path);
    if (status == FZ_OK) status = closed;
    if (status != FZ_OK) return status;
    *size_p = size;
    *crc_p = crc;
    return FZ_OK;
}

fz_status fz_file_crc(const char *path, int64_t *size_p, uint32_t *crc_p)
{
    return fz_file_crc_with(path, NULL, NULL, size_p, crc_p);
}
