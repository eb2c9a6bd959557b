/* Where the bytes of large files go out: blocks of up to 16 MiB are filled by the caller while a
 * thread writes the ones before, in the order given, past the page cache where a file has a
 * descriptor for that. Local; one caller.
 *
 *   file   ..........|hhh|======body======|======body======|ttt|.......   | every 4 KiB, hhh and
 * ttt first byte put                      last byte        share theirs with others
 *
 * Direct writes begin and end at multiples of 4 KiB; a head and a tail that do not go through the
 * page cache. Nothing is durable before the file is synced.
 */
#ifndef FZ_CHECKPOINT_BLOCK_WRITER_H
#define FZ_CHECKPOINT_BLOCK_WRITER_H

#include "checkpoint/disk.h"

enum { FZ_WRITE_BLOCK_BYTES = 16 << 20 };

typedef struct fz_block_file {
    int fd, direct_fd; /* of one file; direct_fd -1: all goes through the page cache */
    const char *path;  /* for errors */
} fz_block_file;

typedef struct fz_block_writer fz_block_writer;

/* Takes its memory, four blocks, and starts the thread. bytes: about how many will be put; the
 * blocks take at most half of that, or 256 KiB. */
fz_status fz_block_writer_create(int64_t bytes, fz_block_writer **writer_p);
/* Where bytes for `offset` of the file go, at *at, and for how many there is room (at least one,
 * and up to a multiple of 4 KiB in the file). Waits for a free block. Consecutive offsets share a
 * block. The file stays the caller's, open and where it is until the next wait. A failure is that
 * of any write before. */
fz_status fz_block_writer_room(fz_block_writer *writer, const fz_block_file *file, int64_t offset,
                               char **at, size_t *room);
/* bytes of the room are filled. */
void fz_block_writer_fill(fz_block_writer *writer, size_t bytes);
/* Both, for what lies in memory: data is the caller's again at once. */
fz_status fz_block_writer_put(fz_block_writer *writer, const fz_block_file *file, int64_t offset,
                              const void *data, size_t bytes);
/* All that was put is written, or this is why not: nothing has been written since then. */
fz_status fz_block_writer_wait(fz_block_writer *writer);
/* At any time; blocks that wait are dropped. */
void fz_block_writer_destroy(fz_block_writer **writer);

#endif
