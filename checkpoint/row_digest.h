/* The digest of what a fragment holds on the disk. Local. */
#ifndef FZ_CHECKPOINT_ROW_DIGEST_H
#define FZ_CHECKPOINT_ROW_DIGEST_H

#include "checkpoint/blocks.h"

/* Reads the row's elements, block by block with their checksums, and gives their part of the
 * tensor's digest. blocks: open at the row's file. */
fz_status fz_row_digest(fz_blocks *blocks, const fz_fragment *row, uint64_t *digest_p);

/* The same for all rows of the source: digests [n_rows], files one after another. */
fz_status fz_row_digests(const fz_source *source, uint64_t *digests);

#endif
