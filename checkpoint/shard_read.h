/* What a shard file says of itself: enough to make an index anew. For tools; a load never opens
 * shards by HDF5. Local.
 */
#ifndef FZ_CHECKPOINT_SHARD_READ_H
#define FZ_CHECKPOINT_SHARD_READ_H

#include "checkpoint/shard_file.h"

typedef struct fz_shard_piece { /* one dataset of payload */
    int64_t offset;
    int kind, ndim;
    int64_t dims[FZ_MAX_AXES];
    char tensor[FZ_NAME_BYTES], name[32];
} fz_shard_piece;

typedef struct fz_shard_content {
    int64_t size; /* of the file */
    int64_t rank, world;
    int64_t n_tensors; /* of the model; -1: written before shards said so */
    fz_ckpt_info info; /* step, run, layout; the rest where n_tensors >= 0; no config, no base */
    int64_t n_rows;
    fz_fragment *rows; /* owned; as in the index */
    int64_t n_crcs[FZ_N_STATE_KINDS];
    uint32_t *crcs[FZ_N_STATE_KINDS]; /* owned */
    int64_t n_pieces;
    fz_shard_piece *pieces; /* owned; by offset */
} fz_shard_content;

/* FZ_ERR_FORMAT or FZ_ERR_IO names the file. Nothing is compared with the payload. */
fz_status fz_ckpt_shard_read(const char *path, fz_shard_content *content);
void fz_shard_content_reset(fz_shard_content *content);

/* The dataset that begins at that byte; NULL: none. */
const fz_shard_piece *fz_shard_piece_at(const fz_shard_content *content, int64_t offset);

/* Only step, rank, world, run: what is compared to find a file in a wrong place. */
fz_status fz_ckpt_shard_identity(const char *path, fz_shard_content *content);

#endif
