#define _GNU_SOURCE /* sync_file_range, fallocate, O_DIRECT */
#include "checkpoint/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fault.h"
#include "core/log.h"
#include "core/memory.h"

/* Before every call that changes the disk. True: the call shall fail as on a full disk. */
static bool fails_here(void)
{
    fz_fault_now(FZ_FAULT_KILL_SAVE);
    if (!fz_fault_now(FZ_FAULT_WRITE)) return false;
    errno = ENOSPC;
    return true;
}

static fz_status failed(const char *verb, const char *path)
{
    return FZ_FAIL(FZ_ERR_IO, "%s %s: %s", verb, path, strerror(errno));
}

fz_status fz_disk_join(char *path, const char *dir, const char *name)
{
    const int n = snprintf(path, FZ_PATH_BYTES, "%s/%s", dir, name);
    FZ_CHECK(n < FZ_PATH_BYTES, FZ_ERR_ARG, "the path %s/%s is too long", dir, name);
    return FZ_OK;
}

fz_status fz_disk_open(const char *path, bool is_new, int *fd_p)
{
    if (is_new && fails_here()) return failed("create", path);
    const int flags = is_new ? O_RDWR | O_CREAT | O_TRUNC : O_RDONLY;
    const int fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd < 0 && !is_new && errno == ENOENT)
        return FZ_FAIL(FZ_ERR_FORMAT, "open %s: no such file", path);
    if (fd < 0) return failed(is_new ? "create" : "open", path);
    *fd_p = fd;
    return FZ_OK;
}

fz_status fz_disk_reopen(const char *path, int *fd_p)
{
    if (fails_here()) return failed("open", path);
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return failed("open", path);
    *fd_p = fd;
    return FZ_OK;
}

fz_status fz_disk_open_direct(const char *path, bool writes, int *fd_p)
{
#ifdef O_DIRECT
    const int fd = open(path, (writes ? O_WRONLY : O_RDONLY) | O_DIRECT | O_CLOEXEC);
    if (fd < 0) return failed("open past the page cache", path);
    *fd_p = fd;
    return FZ_OK;
#else
    (void)writes, (void)fd_p;
    errno = ENOTSUP;
    return failed("open past the page cache", path);
#endif
}

fz_status fz_disk_reserve(int fd, const char *path, int64_t bytes)
{
    if (fails_here()) return failed("reserve space for", path);
    if (bytes > 0) {
#ifdef FALLOC_FL_KEEP_SIZE
        int result;
        while ((result = fallocate(fd, 0, 0, (off_t)bytes)) != 0 && errno == EINTR) {
        }
        /* Not posix_fallocate: where the file system cannot, that writes into every block. */
        if (result != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
            return FZ_FAIL(FZ_ERR_IO,
                           "reserve %lld bytes for %s: %s; make room or name another disk",
                           (long long)bytes, path, strerror(errno));
#endif
    }
    return ftruncate(fd, (off_t)bytes) == 0 ? FZ_OK : failed("resize", path);
}

fz_status fz_disk_close(int fd, const char *path)
{
    return close(fd) == 0 ? FZ_OK : failed("close", path);
}

fz_status fz_disk_write(int fd, const char *path, const void *data, size_t bytes, int64_t offset)
{
    if (fails_here()) return failed("write", path);
    for (const char *at = data; bytes > 0;) {
        const ssize_t n = pwrite(fd, at, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed("write", path);
        at += n;
        offset += n;
        bytes -= (size_t)n;
    }
    return FZ_OK;
}

fz_status fz_disk_read(int fd, const char *path, void *data, size_t bytes, int64_t offset)
{
    if (fz_fault_now(FZ_FAULT_READ)) {
        errno = EIO;
        return failed("read", path);
    }
    for (char *at = data; bytes > 0;) {
        const ssize_t n = pread(fd, at, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed("read", path);
        FZ_CHECK(n > 0, FZ_ERR_FORMAT, "%s is cut off at byte %lld, %zu more are needed", path,
                 (long long)offset, bytes);
        at += n;
        offset += n;
        bytes -= (size_t)n;
    }
    return FZ_OK;
}

void fz_disk_prefetch(int fd, int64_t offset, int64_t bytes)
{
    posix_fadvise(fd, (off_t)offset, (off_t)bytes, POSIX_FADV_WILLNEED);
}

void fz_disk_start_sync(int fd, int64_t offset, int64_t bytes)
{
#ifdef SYNC_FILE_RANGE_WRITE
    /* 0 bytes would mean all that follow. */
    if (bytes > 0) sync_file_range(fd, (off_t)offset, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
#else
    (void)fd, (void)offset, (void)bytes;
#endif
}

fz_status fz_disk_sync(int fd, const char *path)
{
    if (fails_here()) return failed("sync", path);
    return fsync(fd) == 0 ? FZ_OK : failed("sync", path);
}

fz_status fz_disk_size(const char *path, int64_t *size)
{
    struct stat info;

    if (stat(path, &info) != 0) {
        if (errno == ENOENT) return FZ_FAIL(FZ_ERR_FORMAT, "%s is missing", path);
        return failed("look at", path);
    }
    *size = (int64_t)info.st_size;
    return FZ_OK;
}

bool fz_disk_is_there(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

fz_status fz_disk_write_file(const char *path, const void *data, size_t bytes)
{
    int fd;

    FZ_TRY(fz_disk_open(path, true, &fd));
    fz_status status = fz_disk_write(fd, path, data, bytes, 0);
    if (status == FZ_OK) status = fz_disk_sync(fd, path);
    if (close(fd) != 0 && status == FZ_OK) status = failed("close", path);
    return status;
}

fz_status fz_disk_read_file(const char *path, char **data_p, size_t *bytes_p)
{
    int64_t size = 0;
    char *data = NULL;
    int fd;

    FZ_TRY(fz_disk_size(path, &size));
    FZ_TRY(fz_disk_open(path, false, &fd));
    fz_status status = fz_alloc((void **)&data, (size_t)size + 1, path);
    if (status == FZ_OK) status = fz_disk_read(fd, path, data, (size_t)size, 0);
    close(fd);
    if (status != FZ_OK) {
        fz_free(&data);
        return status;
    }
    *data_p = data;
    *bytes_p = (size_t)size;
    return FZ_OK;
}

fz_status fz_disk_make_directory(const char *path)
{
    if (fails_here()) return failed("make directory", path);
    if (mkdir(path, 0755) != 0 && errno != EEXIST) return failed("make directory", path);
    return FZ_OK;
}

fz_status fz_disk_sync_directory(const char *path)
{
    if (fails_here()) return failed("sync directory", path);
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return failed("open directory", path);
    /* Some file systems have no fsync of directories (EINVAL) and need none. */
    const bool is_bad = fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP;
    const fz_status status = is_bad ? failed("sync directory", path) : FZ_OK;
    close(fd);
    return status;
}

fz_status fz_disk_sync_parent(const char *path)
{
    char parent[FZ_PATH_BYTES];

    FZ_CHECK(strlen(path) < sizeof parent, FZ_ERR_ARG, "the path %s is too long", path);
    strcpy(parent, path);
    for (size_t n = strlen(parent); n > 1 && parent[n - 1] == '/'; n--)
        parent[n - 1] = 0;
    char *slash = strrchr(parent, '/');
    if (!slash)
        strcpy(parent, ".");
    else
        slash[slash == parent] = 0;
    return access(parent, R_OK) == 0 ? fz_disk_sync_directory(parent) : FZ_OK;
}

fz_status fz_disk_rename(const char *from, const char *to)
{
    if (fails_here()) return failed("rename to", to);
    return rename(from, to) == 0 ? FZ_OK : failed("rename to", to);
}

void fz_disk_remove(const char *path)
{
    fz_fault_now(FZ_FAULT_KILL_SAVE);
    if (unlink(path) != 0 && errno != ENOENT) fz_warn("remove %s: %s", path, strerror(errno));
}

static void remove_below(const char *path, int depth)
{
    DIR *dir = depth < 8 ? opendir(path) : NULL;
    const struct dirent *entry;
    char child[FZ_PATH_BYTES];

    if (!dir) return;
    while ((entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (fz_disk_join(child, path, entry->d_name) != FZ_OK) continue;
        fz_fault_now(FZ_FAULT_KILL_SAVE);
        if (unlink(child) == 0) continue;
        remove_below(child, depth + 1);
        rmdir(child);
    }
    closedir(dir);
}

void fz_disk_remove_tree(const char *path)
{
    fz_fault_now(FZ_FAULT_KILL_SAVE);
    remove_below(path, 0);
    if (rmdir(path) != 0 && errno != ENOENT) fz_warn("remove %s: %s", path, strerror(errno));
}
