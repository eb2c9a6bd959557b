#include "data/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "core/fault.h"
#include "core/memory.h"

struct fz_shard_writer {
    struct archive *archive;     /* owned */
    struct archive_entry *entry; /* owned */
    char path[PATH_MAX], tmp_path[PATH_MAX];
    int fd;
    bool finished;
};

static fz_status write_failed(fz_shard_writer *writer)
{
    const char *text = archive_error_string(writer->archive);
    return FZ_FAIL(FZ_ERR_IO, "write %s: %s", writer->tmp_path, text != NULL ? text : "failed");
}

static fz_status open_writer(fz_shard_writer *writer, const char *path)
{
    const int n = snprintf(writer->tmp_path, sizeof writer->tmp_path, "%s.tmp", path);

    if (n < 0 || n >= (int)sizeof writer->tmp_path)
        return FZ_FAIL(FZ_ERR_IO, "open %s: path too long", path);
    snprintf(writer->path, sizeof writer->path, "%s", path);
    writer->fd = open(writer->tmp_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (writer->fd < 0)
        return FZ_FAIL(FZ_ERR_IO, "create %s: %s", writer->tmp_path, strerror(errno));
    writer->archive = archive_write_new();
    writer->entry = archive_entry_new();
    if (writer->archive == NULL || writer->entry == NULL)
        return FZ_FAIL(FZ_ERR_MEMORY, "%s: libarchive has no memory", path);
    /* "restricted" writes plain ustar headers wherever they suffice. */
    archive_write_set_format_pax_restricted(writer->archive);
    archive_write_set_bytes_in_last_block(writer->archive, 1);
    if (archive_write_open_fd(writer->archive, writer->fd) != ARCHIVE_OK)
        return write_failed(writer);
    return FZ_OK;
}

fz_status fz_shard_writer_create(const char *path, fz_shard_writer **writer_p)
{
    fz_shard_writer *writer = NULL;

    FZ_TRY(FZ_NEW(&writer, 1));
    writer->fd = -1;
    const fz_status status = open_writer(writer, path);
    if (status != FZ_OK) {
        fz_shard_writer_destroy(&writer);
        return status;
    }
    *writer_p = writer;
    return FZ_OK;
}

fz_status fz_shard_writer_add(fz_shard_writer *writer, const char *name, const void *bytes,
                              size_t n)
{
    struct archive_entry *entry = archive_entry_clear(writer->entry);

    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, 0, 0);
    archive_entry_set_size(entry, (int64_t)n);
    if (fz_fault_now(FZ_FAULT_WRITE))
        return FZ_FAIL(FZ_ERR_IO, "write %s: %s", writer->tmp_path, strerror(ENOSPC));
    /* A warning is about a name that is not ASCII; it is written as it is. */
    if (archive_write_header(writer->archive, entry) < ARCHIVE_WARN) return write_failed(writer);
    if (archive_write_data(writer->archive, bytes, n) != (la_ssize_t)n) return write_failed(writer);
    return FZ_OK;
}

fz_status fz_shard_writer_finish(fz_shard_writer *writer)
{
    if (archive_write_close(writer->archive) != ARCHIVE_OK) return write_failed(writer);
    if (fsync(writer->fd) != 0)
        return FZ_FAIL(FZ_ERR_IO, "sync %s: %s", writer->tmp_path, strerror(errno));
    if (rename(writer->tmp_path, writer->path) != 0)
        return FZ_FAIL(FZ_ERR_IO, "rename %s: %s", writer->tmp_path, strerror(errno));
    writer->finished = true;
    return FZ_OK;
}

void fz_shard_writer_destroy(fz_shard_writer **writer)
{
    fz_shard_writer *w = *writer;

    if (w == NULL) return;
    if (w->archive != NULL) archive_write_free(w->archive);
    if (w->entry != NULL) archive_entry_free(w->entry);
    if (w->fd >= 0) {
        close(w->fd);
        if (!w->finished) unlink(w->tmp_path);
    }
    fz_free(writer);
}
