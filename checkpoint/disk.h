/* System calls of checkpoints, with the errors said in full and with the places where tests make
 * them fail (FZ_FAULT_WRITE as a full disk, FZ_FAULT_READ) or kill the process before a call that
 * changes the disk (FZ_FAULT_KILL_SAVE). Local.
 *
 * Reading something that should be there and is not, or is too short, is FZ_ERR_FORMAT; what the
 * system refuses is FZ_ERR_IO.
 */
#ifndef FZ_CHECKPOINT_DISK_H
#define FZ_CHECKPOINT_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum { FZ_PATH_BYTES = 4096 };
/* Of offset, length and memory, where the page cache is bypassed. */
enum { FZ_DIRECT_BYTES = 4096 };

/* path = dir "/" name. FZ_ERR_ARG if it does not fit FZ_PATH_BYTES. */
fz_status fz_disk_join(char *path, const char *dir, const char *name);

/* Reading and writing; path only names the file in errors. */
fz_status fz_disk_open(const char *path, bool is_new, int *fd_p); /* read-only unless new */
fz_status fz_disk_reopen(const char *path, int *fd_p); /* one that is there, to be written */
/* A second descriptor of a file that is there, past the page cache: to be written (it must be open
 * for that already: this is no call that changes the disk), or to be read. FZ_ERR_IO where the file
 * system has none. */
fz_status fz_disk_open_direct(const char *path, bool writes, int *fd_p);
/* The file has this length, and room on the disk for all of it where the file system can promise
 * that; new bytes are zero. */
fz_status fz_disk_reserve(int fd, const char *path, int64_t bytes);
fz_status fz_disk_close(int fd, const char *path);
fz_status fz_disk_write(int fd, const char *path, const void *data, size_t bytes, int64_t offset);
fz_status fz_disk_read(int fd, const char *path, void *data, size_t bytes, int64_t offset);
/* Begins to bring a range to memory and does not wait. A hint. */
void fz_disk_prefetch(int fd, int64_t offset, int64_t bytes);
/* Begins to bring a range to the disk and does not wait: the sync at the end finds less to do. A
 * hint, nothing where the system has none. */
void fz_disk_start_sync(int fd, int64_t offset, int64_t bytes);
fz_status fz_disk_sync(int fd, const char *path);
fz_status fz_disk_size(const char *path, int64_t *size);

/* Whole small files. */
fz_status fz_disk_write_file(const char *path, const void *data, size_t bytes); /* and fsync */
fz_status fz_disk_read_file(const char *path, char **data_p, size_t *bytes_p);  /* owned; 0 after */

/* Directories. */
fz_status fz_disk_make_directory(const char *path); /* one that exists is fine */
fz_status fz_disk_sync_directory(const char *path);
/* The directory that names path. One that may not be read is left: it was not made here. */
fz_status fz_disk_sync_parent(const char *path);
fz_status fz_disk_rename(const char *from, const char *to);
void fz_disk_remove(const char *path);      /* a file, if it is there; trouble is a warning */
void fz_disk_remove_tree(const char *path); /* as far as it goes; what stays is a warning */
bool fz_disk_is_there(const char *path);

#endif
