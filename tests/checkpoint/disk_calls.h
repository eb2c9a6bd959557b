/* The system calls that change a disk, taken over by the program that includes this, for everything
 * in it: the checkpoint code, HDF5 and threads. Two functions of the program see each call. Include
 * it once. _GNU_SOURCE must be defined.
 *
 *   int disk_before(disk_call *call)     0: go on; an errno: the call fails with it. It may die.
 *   void disk_after(const disk_call *call)   the call has succeeded
 *
 * A vector of parts is written as far as its first part, which callers must bear anyway.
 */
#ifndef FZ_TESTS_DISK_CALLS_H
#define FZ_TESTS_DISK_CALLS_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

typedef enum disk_verb {
    DISK_CREATE, /* a file that may be there already, and is emptied */
    DISK_WRITE,
    DISK_RESIZE,  /* to offset bytes */
    DISK_RESERVE, /* at least offset + bytes long afterwards */
    DISK_SYNC,
    DISK_RENAME,
    DISK_MKDIR,
    DISK_UNLINK,
    DISK_RMDIR
} disk_verb;

typedef struct disk_call {
    disk_verb verb;
    int fd;           /* -1: by path */
    const char *path; /* NULL: by fd */
    const char *to;   /* of a rename */
    const void *data;
    size_t bytes;
    int64_t offset;
} disk_call;

static int disk_before(disk_call *call);
static void disk_after(const disk_call *call);

/* What /proc calls the file behind fd. */
static inline void disk_path_of(int fd, char *path, size_t bytes)
{
    char link[64];

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, bytes - 1);
    path[n > 0 ? n : 0] = 0;
}

#define DISK_CALL(call, type, expression)                                                          \
    do {                                                                                           \
        const int refused_ = disk_before(&(call));                                                 \
        if (refused_) {                                                                            \
            errno = refused_;                                                                      \
            return -1;                                                                             \
        }                                                                                          \
        const type result_ = (type)(expression);                                                   \
        if (result_ >= 0) disk_after(&(call));                                                     \
        return result_;                                                                            \
    } while (0)

static int disk_open(const char *path, int flags, mode_t mode)
{
    disk_call call = {.verb = DISK_CREATE, .fd = -1, .path = path};

    if (!(flags & O_CREAT)) return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    DISK_CALL(call, int, syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

#define DISK_OPEN(name)                                                                            \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;                            \
        va_end(args);                                                                              \
        return disk_open(path, flags, mode);                                                       \
    }
DISK_OPEN(open)
DISK_OPEN(open64)

static ssize_t disk_pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    disk_call call = {
        .verb = DISK_WRITE, .fd = fd, .data = data, .bytes = bytes, .offset = (int64_t)offset};
    const int refused = disk_before(&call);

    if (refused) {
        errno = refused;
        return -1;
    }
    const ssize_t n = (ssize_t)syscall(SYS_pwrite64, fd, data, bytes, offset);
    if (n < 0) return n;
    call.bytes = (size_t)n;
    disk_after(&call);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    return disk_pwrite(fd, data, bytes, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t offset)
{
    return disk_pwrite(fd, data, bytes, offset);
}

static ssize_t disk_pwritev(int fd, const struct iovec *parts, int n_parts, off_t offset)
{
    for (int i = 0; i < n_parts; i++)
        if (parts[i].iov_len > 0)
            return disk_pwrite(fd, parts[i].iov_base, parts[i].iov_len, offset);
    return 0;
}

ssize_t pwritev(int fd, const struct iovec *parts, int n_parts, off_t offset)
{
    return disk_pwritev(fd, parts, n_parts, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int n_parts, off_t offset)
{
    return disk_pwritev(fd, parts, n_parts, offset);
}

static int disk_truncate(int fd, off_t bytes)
{
    disk_call call = {.verb = DISK_RESIZE, .fd = fd, .offset = (int64_t)bytes};
    DISK_CALL(call, int, syscall(SYS_ftruncate, fd, bytes));
}

int ftruncate(int fd, off_t bytes)
{
    return disk_truncate(fd, bytes);
}

int ftruncate64(int fd, off_t bytes)
{
    return disk_truncate(fd, bytes);
}

static int disk_fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    disk_call call = {
        .verb = DISK_RESERVE, .fd = fd, .bytes = (size_t)bytes, .offset = (int64_t)offset};
    DISK_CALL(call, int, syscall(SYS_fallocate, fd, mode, offset, bytes));
}

int fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    return disk_fallocate(fd, mode, offset, bytes);
}

int fallocate64(int fd, int mode, off_t offset, off_t bytes)
{
    return disk_fallocate(fd, mode, offset, bytes);
}

int posix_fallocate(int fd, off_t offset, off_t bytes)
{
    return disk_fallocate(fd, 0, offset, bytes) == 0 ? 0 : errno;
}

int posix_fallocate64(int fd, off_t offset, off_t bytes)
{
    return disk_fallocate(fd, 0, offset, bytes) == 0 ? 0 : errno;
}

int fsync(int fd)
{
    disk_call call = {.verb = DISK_SYNC, .fd = fd};
    DISK_CALL(call, int, syscall(SYS_fsync, fd));
}

int fdatasync(int fd)
{
    return fsync(fd);
}

int rename(const char *from, const char *to)
{
    disk_call call = {.verb = DISK_RENAME, .fd = -1, .path = from, .to = to};
    DISK_CALL(call, int, syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int mkdir(const char *path, mode_t mode)
{
    disk_call call = {.verb = DISK_MKDIR, .fd = -1, .path = path};
    DISK_CALL(call, int, syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

int unlink(const char *path)
{
    disk_call call = {.verb = DISK_UNLINK, .fd = -1, .path = path};
    DISK_CALL(call, int, syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

int rmdir(const char *path)
{
    disk_call call = {.verb = DISK_RMDIR, .fd = -1, .path = path};
    DISK_CALL(call, int, syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
}

#endif
