/* One tar shard: its members by offset, random access to them, and writing one. Local.
 *
 * Read through libarchive (ustar, pax and GNU headers), uncompressed only: a sample is read with
 * one pread at its offset. Written as pax with times, owners and modes fixed, so that the same
 * members are the same bytes.
 */
#ifndef FZ_DATA_SHARD_H
#define FZ_DATA_SHARD_H

#include <stdint.h>

#include "core/status.h"

typedef struct fz_shard_member {
    int64_t name;          /* offset into names */
    int64_t offset, bytes; /* of the contents inside the tar */
} fz_shard_member;

typedef struct fz_shard_listing {
    int64_t n_members;
    fz_shard_member *members; /* owned; regular files, in file order */
    char *names;              /* owned */
    int64_t tar_bytes, mtime_ns;
    char damage[256]; /* "" or why the walk ended early; members before it are listed */
} fz_shard_listing;

/* FZ_ERR_IO: cannot be opened. FZ_ERR_FORMAT: not a tar (or a compressed one) from the first byte.
 */
fz_status fz_shard_list(const char *path, fz_shard_listing *listing_p);
void fz_shard_listing_reset(fz_shard_listing *listing);

/* Random access to a set of shards by one thread; keeps the last few files open. */
enum { FZ_SHARD_OPEN_MAX = 8 };
typedef struct fz_shard_reader {
    char *const *paths; /* borrowed */
    uint64_t clock;
    struct {
        int shard, fd; /* fd -1: free */
        uint64_t used;
    } open[FZ_SHARD_OPEN_MAX];
} fz_shard_reader;

void fz_shard_reader_init(fz_shard_reader *reader, char *const *paths);
void fz_shard_reader_reset(fz_shard_reader *reader);
/* FZ_ERR_FORMAT if the file ends before; FZ_ERR_IO otherwise. The text does not name the shard: the
 * caller says shard and member. */
fz_status fz_shard_read(fz_shard_reader *reader, int shard, int64_t offset, int64_t bytes,
                        void *out);

/* Writes PATH.tmp and renames it in finish, so that a shard is there whole or not at all. */
typedef struct fz_shard_writer fz_shard_writer;
fz_status fz_shard_writer_create(const char *path, fz_shard_writer **writer_p);
fz_status fz_shard_writer_add(fz_shard_writer *writer, const char *name, const void *bytes,
                              size_t n);
/* Closes, makes durable, renames. */
fz_status fz_shard_writer_finish(fz_shard_writer *writer);
/* Removes the .tmp of an unfinished one. */
void fz_shard_writer_destroy(fz_shard_writer **writer);

#endif
