#include "checkpoint/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/disk.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"

enum { PROBE_BLOCK_BYTES = 16 << 20, PROBE_BLOCKS = 8, LEAST_PROBED_BYTES = 1 << 30 };

const char *const FZ_IO_NAMES[FZ_N_IO] = {"auto", "direct", "buffered"};

static fz_io chosen = FZ_IO_AUTO;

void fz_io_set(fz_io io)
{
    chosen = io;
}

/* the probe */

/* Written into a file whose name is gone before its first byte. */
static fz_status write_probe(int fd, int direct_fd, const char *path, const char *data,
                             int n_blocks, size_t block_bytes, double *seconds)
{
    const int to = direct_fd >= 0 ? direct_fd : fd;

    FZ_TRY(fz_disk_reserve(fd, path, (int64_t)block_bytes * n_blocks));
    const double start = fz_clock_s();
    for (int i = 0; i < n_blocks; i++) {
        const int64_t at = (int64_t)block_bytes * i;
        FZ_TRY(fz_disk_write(to, path, data, block_bytes, at));
        if (to == fd) fz_disk_start_sync(fd, at, (int64_t)block_bytes);
    }
    FZ_TRY(fz_disk_sync(fd, path));
    *seconds = fz_clock_s() - start;
    return FZ_OK;
}

static fz_status probe_file(const char *dir, bool is_direct, const char *data, int n_blocks,
                            size_t block_bytes, double *seconds)
{
    char name[48], path[FZ_PATH_BYTES];
    int fd = -1, direct_fd = -1;

    snprintf(name, sizeof name, ".probe.tmp-%ld", (long)getpid());
    FZ_TRY(fz_disk_join(path, dir, name));
    FZ_TRY(fz_disk_open(path, true, &fd));
    fz_status status = is_direct ? fz_disk_open_direct(path, true, &direct_fd) : FZ_OK;
    fz_disk_remove(path);
    if (status == FZ_OK)
        status = write_probe(fd, direct_fd, path, data, n_blocks, block_bytes, seconds);
    if (direct_fd >= 0) close(direct_fd);
    close(fd);
    return status;
}

fz_status fz_io_probe(const char *dir, bool is_direct, int n_blocks, size_t block_bytes,
                      double *seconds)
{
    char *memory = NULL;

    FZ_TRY(fz_alloc((void **)&memory, block_bytes + FZ_DIRECT_BYTES, "a probe of the disk"));
    char *data = memory + (FZ_DIRECT_BYTES - (uintptr_t)memory % FZ_DIRECT_BYTES);
    memset(data, 0x5a, block_bytes); /* a disk may know what to do with zeros */
    const fz_status status = probe_file(dir, is_direct, data, n_blocks, block_bytes, seconds);
    fz_free(&memory);
    return status;
}

/* the decision */

/* The page cache takes a burst faster than the disk can go on for: it must win by a lot. */
static const double LEAST_GAIN = 2;

static bool is_direct_faster(const char *dir)
{
    double direct_s = 0, buffered_s = 0;
    const double mb = (double)PROBE_BLOCKS * PROBE_BLOCK_BYTES / 1e6;

    if (fz_io_probe(dir, true, PROBE_BLOCKS, PROBE_BLOCK_BYTES, &direct_s) != FZ_OK) {
        fz_info("%s is written through the page cache (%s)", dir, fz_last_error()->text);
        return false;
    }
    if (fz_io_probe(dir, false, PROBE_BLOCKS, PROBE_BLOCK_BYTES, &buffered_s) != FZ_OK) return true;
    const bool is_direct = direct_s < LEAST_GAIN * buffered_s;
    fz_info("%s is written %s the page cache: %.0f MB/s direct, %.0f MB/s buffered in a probe", dir,
            is_direct ? "past" : "through", mb / direct_s, mb / buffered_s);
    return is_direct;
}

static bool can_direct(const char *dir)
{
    double unused;

    if (fz_io_probe(dir, true, 1, FZ_DIRECT_BYTES, &unused) == FZ_OK) return true;
    fz_warn("%s is written through the page cache: direct was asked for, but %s", dir,
            fz_last_error()->text);
    return false;
}

static bool choose(const char *dir, int64_t bytes)
{
    /* What a probe found is true of the file system. */
    static bool is_probed, was_faster;
    static dev_t probed;
    struct stat info;

    if (chosen == FZ_IO_BUFFERED) return false;
    if (chosen == FZ_IO_DIRECT) return can_direct(dir);
    if (bytes < LEAST_PROBED_BYTES || stat(dir, &info) != 0) return false;
    if (!is_probed || info.st_dev != probed) was_faster = is_direct_faster(dir);
    is_probed = true;
    probed = info.st_dev;
    return was_faster;
}

fz_status fz_io_choose(const fz_group *world, const char *dir, int64_t bytes, bool *is_direct)
{
    char answer = fz_group_rank(world) == 0 && choose(dir, bytes);

    FZ_TRY(fz_broadcast(world, &answer, sizeof answer, 0));
    *is_direct = answer != 0;
    return FZ_OK;
}
