#include "launch/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/disk.h"
#include "core/fault.h"
#include "core/memory.h"

enum { PATH_BYTES = 1024 };

fz_status fz_make_dirs(const char *path)
{
    char part[PATH_BYTES];
    FZ_CHECK(strlen(path) > 0 && strlen(path) < sizeof part, FZ_ERR_USAGE,
             "make directory %s: a path of 1 to %d characters is needed", path, PATH_BYTES - 1);
    for (size_t i = 1; i <= strlen(path); i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        snprintf(part, sizeof part, "%.*s", (int)i, path);
        const bool is_new = mkdir(part, 0777) == 0;
        FZ_CHECK(is_new || errno == EEXIST, FZ_ERR_IO, "make directory %s: %s", part,
                 strerror(errno));
        if (is_new) FZ_TRY(fz_disk_sync_parent(part)); /* what it will hold may be synced */
    }
    struct stat info;
    FZ_CHECK(stat(path, &info) == 0 && S_ISDIR(info.st_mode), FZ_ERR_IO,
             "make directory %s: there is a file of that name", path);
    return FZ_OK;
}

static fz_status read_all(FILE *file, const char *path, char **bytes_p, size_t *n_p)
{
    struct stat info;
    char *bytes = NULL;
    FZ_CHECK(fstat(fileno(file), &info) == 0 && S_ISREG(info.st_mode), FZ_ERR_IO,
             "read %s: not a file", path);
    const size_t n = (size_t)info.st_size;
    FZ_TRY(fz_alloc((void **)&bytes, n + 1, path));
    if (fread(bytes, 1, n, file) != n) {
        fz_free(&bytes);
        return FZ_FAIL(FZ_ERR_IO, "read %s: %s", path, strerror(errno));
    }
    *bytes_p = bytes;
    *n_p = n;
    return FZ_OK;
}

fz_status fz_file_read(const char *path, char **bytes_p, size_t *n_p)
{
    *bytes_p = NULL;
    *n_p = 0;
    FILE *file = fopen(path, "rb");
    if (!file && errno == ENOENT) return FZ_OK;
    FZ_CHECK(file, FZ_ERR_IO, "open %s: %s", path, strerror(errno));
    const fz_status status = read_all(file, path, bytes_p, n_p);
    fclose(file);
    return status;
}

static fz_status write_all(int fd, const char *path, const char *bytes, size_t n)
{
    while (n > 0) {
        FZ_CHECK(!fz_fault_now(FZ_FAULT_WRITE), FZ_ERR_IO, "write %s: %s", path, strerror(ENOSPC));
        const ssize_t wrote = write(fd, bytes, n);
        FZ_CHECK(wrote > 0 || errno == EINTR, FZ_ERR_IO, "write %s: %s", path, strerror(errno));
        if (wrote < 0) continue;
        bytes += wrote;
        n -= (size_t)wrote;
    }
    FZ_CHECK(fsync(fd) == 0, FZ_ERR_IO, "fsync %s: %s", path, strerror(errno));
    return FZ_OK;
}

static fz_status sync_directory_of(const char *path)
{
    char dir[PATH_BYTES];
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FZ_CHECK(fd >= 0, FZ_ERR_IO, "open %s: %s", dir, strerror(errno));
    const int failed = fsync(fd);
    const int why = errno;
    close(fd);
    /* Some file systems cannot sync a directory and say EINVAL; there is nothing more to do then.
     */
    FZ_CHECK(failed == 0 || why == EINVAL, FZ_ERR_IO, "fsync %s: %s", dir, strerror(why));
    return FZ_OK;
}

fz_status fz_file_replace(const char *path, const void *bytes, size_t n)
{
    char beside[PATH_BYTES];
    FZ_CHECK((size_t)snprintf(beside, sizeof beside, "%s.new", path) < sizeof beside, FZ_ERR_USAGE,
             "write %s: the path is too long", path);
    const int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    FZ_CHECK(fd >= 0, FZ_ERR_IO, "open %s: %s", beside, strerror(errno));
    fz_status status = write_all(fd, beside, bytes, n);
    close(fd);
    if (status == FZ_OK && rename(beside, path) != 0)
        status = FZ_FAIL(FZ_ERR_IO, "rename %s to %s: %s", beside, path, strerror(errno));
    if (status != FZ_OK) {
        unlink(beside);
        return status;
    }
    return sync_directory_of(path);
}
