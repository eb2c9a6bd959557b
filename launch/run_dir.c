#include "launch/run_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory.h"
#include "launch/files.h"

enum { PATH_BYTES = FZ_TEXT_BYTES + 64 };

char *fz_run_dir_file(const fz_run_dir *dir, const char *name, char *out, size_t bytes)
{
    snprintf(out, bytes, "%s/%s", dir->path, name);
    return out;
}

/* "job 4711, " or "". */
static void owner_text(char *out, size_t bytes, const char *job)
{
    char host[64] = "unknown";
    gethostname(host, sizeof host - 1);
    if (job)
        snprintf(out, bytes, "job %s, host %s, process %ld\n", job, host, (long)getpid());
    else
        snprintf(out, bytes, "host %s, process %ld\n", host, (long)getpid());
}

/* Whether the process that the lock file names lives: asked where the file system cannot lock. A
 * process on another host counts as alive. */
static bool owner_lives(const char *owner)
{
    char host[64] = "unknown", named[64] = "";
    long pid = 0;
    const char *at = strstr(owner, "host ");
    if (!at || sscanf(at, "host %63[^,], process %ld", named, &pid) != 2) return false;
    gethostname(host, sizeof host - 1);
    if (strcmp(host, named) != 0) return true;
    return pid != (long)getpid() && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

static fz_status take_lock(fz_run_dir *dir, const char *path, const char *job)
{
    char owner[256] = "", mine[256];
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    const ssize_t n = pread(dir->lock, owner, sizeof owner - 1, 0);
    owner[n > 0 ? n : 0] = '\0';
    owner[strcspn(owner, "\n")] = '\0';

    /* The kernel drops the lock of a process that dies, so what can be locked is free. */
    const bool locked = fcntl(dir->lock, F_SETLK, &range) == 0;
    const bool cannot_lock = !locked && errno != EACCES && errno != EAGAIN;
    FZ_CHECK(locked || (cannot_lock && !owner_lives(owner)), FZ_ERR_USAGE,
             "run.dir: %s is in use by %s; wait for it, stop it, or give another run.dir%s%s",
             dir->path, owner[0] ? owner : "another process",
             cannot_lock ? "; if it is gone, remove " : "", cannot_lock ? path : "");

    owner_text(mine, sizeof mine, job);
    const ssize_t length = (ssize_t)strlen(mine);
    FZ_CHECK(ftruncate(dir->lock, 0) == 0 && pwrite(dir->lock, mine, (size_t)length, 0) == length,
             FZ_ERR_IO, "write %s: %s", path, strerror(errno));
    return FZ_OK;
}

fz_status fz_run_dir_open(const char *path, const char *job, fz_run_dir *dir)
{
    char file[PATH_BYTES];
    *dir = (fz_run_dir){.lock = 0};
    FZ_CHECK(path[0] && strlen(path) < sizeof dir->path, FZ_ERR_USAGE,
             "run.dir: a path of 1 to %zu characters is needed", sizeof dir->path - 1);
    snprintf(dir->path, sizeof dir->path, "%s", path);
    const fz_status made = fz_make_dirs(fz_run_dir_file(dir, "checkpoints", file, sizeof file));
    if (made != FZ_OK) return FZ_FAIL(made, "run.dir: %s", fz_last_error()->text);

    fz_run_dir_file(dir, "lock", file, sizeof file);
    const int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    FZ_CHECK(fd >= 0, FZ_ERR_IO, "open %s: %s", file, strerror(errno));
    dir->lock = fd;
    const fz_status status = take_lock(dir, file, job);
    if (status != FZ_OK) {
        close(fd);
        dir->lock = 0;
    }
    return status;
}

void fz_run_dir_close(fz_run_dir *dir)
{
    if (dir->lock <= 0) return;
    /* Emptied, not removed: somebody else may have it open already and lock it next. */
    if (ftruncate(dir->lock, 0) != 0) errno = 0;
    close(dir->lock);
    dir->lock = 0;
}

bool fz_run_dir_in_use(const char *path)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char file[PATH_BYTES], owner[256] = "";
    if (snprintf(file, sizeof file, "%s/lock", path) >= (int)sizeof file) return false;
    const int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool is_locked = false;
    if (fcntl(fd, F_GETLK, &range) == 0)
        is_locked = range.l_type != F_UNLCK;
    else if (read(fd, owner, sizeof owner - 1) > 0)
        is_locked = owner_lives(owner);
    close(fd);
    return is_locked;
}

fz_status fz_run_dir_write_config(const fz_run_dir *dir, const char *text)
{
    char path[PATH_BYTES];
    return fz_file_replace(fz_run_dir_file(dir, "config.yaml", path, sizeof path), text,
                           strlen(text));
}

fz_status fz_run_dir_cut_metrics(const fz_run_dir *dir, int64_t step, int64_t *last_p)
{
    char path[PATH_BYTES], *bytes = NULL;
    size_t n = 0, kept = 0;
    int64_t last = 0;
    FZ_TRY(fz_file_read(fz_run_dir_file(dir, "metrics.jsonl", path, sizeof path), &bytes, &n));
    for (size_t at = 0; at < n;) {
        const char *end = memchr(bytes + at, '\n', n - at);
        long long of = 0;
        if (!end) break; /* a line that a crash cut short */
        const size_t length = (size_t)(end + 1 - (bytes + at));
        if (sscanf(bytes + at, "{\"step\":%lld", &of) == 1 && of <= step) {
            memmove(bytes + kept, bytes + at, length);
            kept += length;
            last = of;
        }
        at += length;
    }
    const fz_status status = kept < n ? fz_file_replace(path, bytes, kept) : FZ_OK;
    fz_free(&bytes);
    if (status == FZ_OK) *last_p = last;
    return status;
}

bool fz_run_dir_failed_again(const fz_run_dir *dir, int64_t step)
{
    char path[PATH_BYTES], text[32], *before = NULL;
    size_t n = 0;
    fz_run_dir_file(dir, "failed", path, sizeof path);
    const int length = snprintf(text, sizeof text, "%lld\n", (long long)step);
    const bool again =
        fz_file_read(path, &before, &n) == FZ_OK && before != NULL && strcmp(before, text) == 0;
    fz_free(&before);
    /* A disk that is full may refuse this too; then the next failure counts as the first. */
    if (!again && fz_file_replace(path, text, (size_t)length) != FZ_OK) return false;
    return again;
}

void fz_run_dir_forget_failure(const fz_run_dir *dir)
{
    char path[PATH_BYTES];
    unlink(fz_run_dir_file(dir, "failed", path, sizeof path));
}
