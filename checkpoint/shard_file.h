/* One rank's file: HDF5 made only to name and place the pieces, bytes written beside it. Local.
 *
 *   metadata | master pieces | exp_avg pieces | exp_avg_sq pieces | weight pieces | crc, fragments
 *              \___ an arena: back to back, one CRC32C for every 16 MiB from its start ___/
 */
#ifndef FZ_CHECKPOINT_SHARD_FILE_H
#define FZ_CHECKPOINT_SHARD_FILE_H

#include "checkpoint/checkpoint.h"
#include "checkpoint/layout.h"

enum { FZ_BLOCK_BYTES = 16 << 20, FZ_FORMAT_VERSION = 1 };

typedef struct fz_arena_place {
    int64_t offset, bytes;
} fz_arena_place;

/* What a rank reports about its file; no file: all zero. */
typedef struct fz_shard_record {
    int64_t size, n_rows, n_blocks, n_replicas;
    fz_arena_place arena[FZ_N_STATE_KINDS];
    uint32_t crc; /* of the whole file */
    uint32_t unused;
} fz_shard_record;

/* Brings the box of a view that is not in memory there: *data_p is good until the next call. */
typedef fz_status fz_row_read(void *context, const fz_state_view *view, float **data_p);

/* What one rank puts into one file: rows and digests of its boxes (fz_owned_rows). */
typedef struct fz_shard {
    const fz_state *state;    /* borrowed */
    const fz_ckpt_info *info; /* borrowed */
    int rank, size;           /* of the world */
    int64_t n_rows;
    fz_fragment *rows; /* owned; offsets are set by fz_shard_write */
    uint64_t *digests; /* owned: [n_rows] */
    int *view_of;      /* owned: [n_rows] */
    fz_row_read *read; /* NULL: the views have data, their digests are known */
    void *read_context;
    bool is_direct; /* past the page cache (fz_io_choose) */
    uint32_t *crcs; /* owned: [n_blocks] by fz_shard_write, arena after arena */
    fz_shard_record record;
} fz_shard;

/* Takes the kinds in mask of what this rank owns. views: digests of fz_state_digests. */
fz_status fz_shard_init(fz_shard *shard, const fz_state *state, const fz_ckpt_info *info, int rank,
                        int size, unsigned mask, const uint64_t *views);
void fz_shard_reset(fz_shard *shard);

/* Writes and syncs path and fills offsets, crcs and record, and the digests of rows that are read
 * on the way, by kind and tensor, each once. A shard without rows writes nothing. */
fz_status fz_shard_write(fz_shard *shard, const char *path);
int64_t fz_shard_bytes(const fz_shard *shard); /* of all arenas */

int64_t fz_blocks_of(int64_t arena_bytes);

#endif
