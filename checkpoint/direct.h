/* Whether large files bypass the page cache: asked for, or found out by writing to the disk both
 * ways (docs/design/0008-direct-io.md).
 */
#ifndef FZ_CHECKPOINT_DIRECT_H
#define FZ_CHECKPOINT_DIRECT_H

#include "dist/group.h"

typedef enum fz_io { FZ_IO_AUTO, FZ_IO_DIRECT, FZ_IO_BUFFERED, FZ_N_IO } fz_io;
extern const char *const FZ_IO_NAMES[FZ_N_IO]; /* "auto", "direct", "buffered" */

/* Of this process from here on; AUTO at start. Local. */
void fz_io_set(fz_io io);

/* How a save of about `bytes` bytes (of all ranks) into the folder dir goes. AUTO: buffered below
 * 1 GiB, where a probe takes longer than it can win; above that direct, unless buffered is twice as
 * fast in two probes of 128 MiB, made once per process and file system, which an info line reports.
 * DIRECT where the file system refuses it is buffered, with a warning. Rank 0 decides for all.
 * Collective over world. */
fz_status fz_io_choose(const fz_group *world, const char *dir, int64_t bytes, bool *is_direct);

/* Writes, once from a buffer that is filled, n_blocks times block_bytes (a multiple of 4096) to a
 * nameless file in dir and syncs it. Reserves the file before the clock starts. FZ_ERR_IO also
 * where direct is refused. Local. */
fz_status fz_io_probe(const char *dir, bool is_direct, int n_blocks, size_t block_bytes,
                      double *seconds);

#endif
