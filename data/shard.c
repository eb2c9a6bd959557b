#include "data/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "core/fault.h"
#include "core/memory.h"

/* Large enough that one read takes a header and the contents of a small member with it. */
enum { WALK_BLOCK = 64 * 1024 };

/* ---- listing ---- */

typedef struct walk {
    fz_shard_listing *listing;
    const char *path;
    int64_t max_members;
    int64_t names_bytes, names_max;
} walk;

static fz_status add_member(walk *w, const char *name, int64_t offset, int64_t bytes)
{
    fz_shard_listing *list = w->listing;
    const int64_t name_bytes = (int64_t)strlen(name) + 1;

    if (list->n_members == w->max_members) {
        w->max_members = w->max_members ? 2 * w->max_members : 1024;
        FZ_TRY(fz_realloc((void **)&list->members, (size_t)w->max_members * sizeof *list->members,
                          "tar members"));
    }
    if (w->names_bytes + name_bytes > w->names_max) {
        w->names_max = 2 * w->names_max + name_bytes + 16 * 1024;
        FZ_TRY(fz_realloc((void **)&list->names, (size_t)w->names_max, "tar member names"));
    }
    memcpy(list->names + w->names_bytes, name, (size_t)name_bytes);
    list->members[list->n_members++] = (fz_shard_member){w->names_bytes, offset, bytes};
    w->names_bytes += name_bytes;
    return FZ_OK;
}

static const char *compression_of(const char *path)
{
    unsigned char head[6] = {0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t got = fd >= 0 ? read(fd, head, sizeof head) : -1;

    if (fd >= 0) close(fd);
    if (got < 6) return NULL;
    if (head[0] == 0x1f && head[1] == 0x8b) return "gzip";
    if (memcmp(head, "BZh", 3) == 0) return "bzip2";
    if (memcmp(head,
               "\xfd"
               "7zXZ",
               5) == 0)
        return "xz";
    if (memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0) return "zstd";
    return NULL;
}

static fz_status not_a_tar(const char *path, const char *why)
{
    const char *compression = compression_of(path);
    if (compression != NULL)
        return FZ_FAIL(FZ_ERR_FORMAT,
                       "%s: compressed with %s; samples are read by offset, so decompress it first",
                       path, compression);
    return FZ_FAIL(FZ_ERR_FORMAT, "%s: not a tar file (%s)", path, why);
}

static const char *archive_text(struct archive *a)
{
    const char *text = archive_error_string(a);
    return text != NULL ? text : "unknown error";
}

static void set_damage(walk *w, const char *member, const char *why)
{
    snprintf(w->listing->damage, sizeof w->listing->damage, "%s%s%s", member, *member ? ": " : "",
             why);
}

/* One header. *done at the end of the archive or of what can be read. */
static fz_status walk_member(walk *w, struct archive *a, bool *done)
{
    struct archive_entry *entry = NULL;
    const int code = archive_read_next_header(a, &entry);

    if (code == ARCHIVE_EOF) {
        *done = true;
        return FZ_OK;
    }
    if (code != ARCHIVE_OK && code != ARCHIVE_WARN) {
        if (w->listing->n_members == 0) return not_a_tar(w->path, archive_text(a));
        set_damage(w, "", archive_text(a));
        *done = true;
        return FZ_OK;
    }
    /* pax names are UTF-8 whatever the locale; older ones are bytes. */
    const char *name = archive_entry_pathname_utf8(entry);
    if (name == NULL) name = archive_entry_pathname(entry);
    if (name == NULL) name = "(name that is no text)";
    /* The header is consumed, so what the filter has handed out ends where the contents begin. */
    const int64_t offset = archive_filter_bytes(a, 0);
    const int64_t bytes = archive_entry_size(entry);

    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != NULL)
        return FZ_OK;
    if (offset + bytes > w->listing->tar_bytes) {
        char why[128];
        snprintf(why, sizeof why, "ends at byte %lld of a file of %lld bytes (truncated)",
                 (long long)(offset + bytes), (long long)w->listing->tar_bytes);
        set_damage(w, name, why);
        *done = true;
        return FZ_OK;
    }
    return add_member(w, name, offset, bytes);
}

static fz_status walk_archive(walk *w, struct archive *a, int fd)
{
    archive_read_support_format_tar(a);
    if (archive_read_open_fd(a, fd, WALK_BLOCK) != ARCHIVE_OK) {
        if (archive_errno(a) == EIO)
            return FZ_FAIL(FZ_ERR_IO, "read %s: %s", w->path, strerror(EIO));
        return not_a_tar(w->path, archive_text(a));
    }
    for (bool done = false; !done;)
        FZ_TRY(walk_member(w, a, &done));
    return FZ_OK;
}

static fz_status walk_file(walk *w, int fd)
{
    struct stat st;

    FZ_CHECK(fstat(fd, &st) == 0, FZ_ERR_IO, "open %s: %s", w->path, strerror(errno));
    FZ_CHECK(S_ISREG(st.st_mode), FZ_ERR_FORMAT, "%s: not a regular file", w->path);
    FZ_CHECK(st.st_size > 0, FZ_ERR_FORMAT, "%s: not a tar file (it is empty)", w->path);
    w->listing->tar_bytes = st.st_size;
    w->listing->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;

    struct archive *a = archive_read_new();
    FZ_CHECK(a != NULL, FZ_ERR_MEMORY, "%s: libarchive has no memory", w->path);
    const fz_status status = walk_archive(w, a, fd);
    archive_read_free(a);
    return status;
}

fz_status fz_shard_list(const char *path, fz_shard_listing *listing_p)
{
    fz_shard_listing list = {0};
    walk w = {.listing = &list, .path = path};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    FZ_CHECK(fd >= 0, FZ_ERR_IO, "open %s: %s", path, strerror(errno));
    const fz_status status = walk_file(&w, fd);
    close(fd);
    if (status == FZ_OK)
        *listing_p = list;
    else
        fz_shard_listing_reset(&list);
    return status;
}

void fz_shard_listing_reset(fz_shard_listing *listing)
{
    fz_free(&listing->members);
    fz_free(&listing->names);
    *listing = (fz_shard_listing){0};
}

/* ---- random access ---- */

void fz_shard_reader_init(fz_shard_reader *reader, char *const *paths)
{
    *reader = (fz_shard_reader){.paths = paths};
    for (int i = 0; i < FZ_SHARD_OPEN_MAX; i++)
        reader->open[i].fd = -1;
}

void fz_shard_reader_reset(fz_shard_reader *reader)
{
    for (int i = 0; i < FZ_SHARD_OPEN_MAX; i++)
        if (reader->open[i].fd >= 0) close(reader->open[i].fd);
    fz_shard_reader_init(reader, reader->paths);
}

static fz_status open_shard(fz_shard_reader *reader, int shard, int *fd_p)
{
    int oldest = 0;

    for (int i = 0; i < FZ_SHARD_OPEN_MAX; i++) {
        if (reader->open[i].fd >= 0 && reader->open[i].shard == shard) {
            reader->open[i].used = ++reader->clock;
            *fd_p = reader->open[i].fd;
            return FZ_OK;
        }
        if (reader->open[i].used < reader->open[oldest].used) oldest = i;
    }
    const int fd = open(reader->paths[shard], O_RDONLY | O_CLOEXEC);
    if (fd < 0) return FZ_FAIL(FZ_ERR_IO, "open: %s", strerror(errno));
    if (reader->open[oldest].fd >= 0) close(reader->open[oldest].fd);
    reader->open[oldest].shard = shard;
    reader->open[oldest].fd = fd;
    reader->open[oldest].used = ++reader->clock;
    *fd_p = fd;
    return FZ_OK;
}

fz_status fz_shard_read(fz_shard_reader *reader, int shard, int64_t offset, int64_t bytes,
                        void *out)
{
    char *to = out;
    int fd = -1;
    int64_t done = 0;

    FZ_TRY(open_shard(reader, shard, &fd));
    FZ_CHECK(!fz_fault_now(FZ_FAULT_READ), FZ_ERR_IO, "read: planned fault");
    while (done < bytes) {
        const ssize_t got = pread(fd, to + done, (size_t)(bytes - done), (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return FZ_FAIL(FZ_ERR_IO, "read: %s", strerror(errno));
        if (got == 0)
            return FZ_FAIL(FZ_ERR_FORMAT,
                           "lies at bytes %lld to %lld, past the end of the tar (changed since it "
                           "was indexed?)",
                           (long long)offset, (long long)(offset + bytes));
        done += got;
    }
    return FZ_OK;
}
