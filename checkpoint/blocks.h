/* Reading what fragments hold, block by block: an open file of a checkpoint with one of its blocks
 * in memory, the checksum confirmed. Local.
 */
#ifndef FZ_CHECKPOINT_BLOCKS_H
#define FZ_CHECKPOINT_BLOCKS_H

#include "checkpoint/source.h"

typedef struct fz_blocks {   /* zeroed: nothing open */
    const fz_source *source; /* borrowed; NULL: no file is open */
    int64_t file;            /* of the source */
    char path[FZ_PATH_BYTES];
    int fd;
    char *block;        /* owned: grows to the largest that was asked for */
    size_t block_bytes; /* room in it */
    int64_t begin, end; /* bytes of the file that are in it; both 0: none */
} fz_blocks;

/* Closes the file that is open, if any, and keeps the memory. */
fz_status fz_blocks_open(fz_blocks *blocks, const fz_source *source, int64_t file);
fz_status fz_blocks_close(fz_blocks *blocks);
/* Closes and frees; may follow a failure. */
void fz_blocks_reset(fz_blocks *blocks);

/* Brings the block of row's arena that holds byte `at` of the file. FZ_ERR_FORMAT names file, bytes
 * and tensor where the checksum is wrong twice. */
fz_status fz_blocks_read(fz_blocks *blocks, const fz_fragment *row, int64_t at);
/* What the block holds of the fragment and of the box `wanted`, to its place in data, which is that
 * box. */
void fz_blocks_copy(const fz_blocks *blocks, const fz_fragment *row, const fz_box *wanted,
                    float *data);

#endif
