/* index.h5: everything about a checkpoint but the payload. Written by rank 0, read by all from
 * bytes in memory whose CRC the manifest has confirmed. Local.
 */
#ifndef FZ_CHECKPOINT_INDEX_FILE_H
#define FZ_CHECKPOINT_INDEX_FILE_H

#include "checkpoint/checkpoint.h"
#include "checkpoint/layout.h"
#include "checkpoint/shard_file.h"

typedef struct fz_index_file { /* the file of one rank; size 0: it has none */
    int64_t size;
    fz_arena_place arena[FZ_N_STATE_KINDS];
    int64_t first_block[FZ_N_STATE_KINDS]; /* of the arena's blocks in crcs */
} fz_index_file;

typedef struct fz_index {
    int n_tensors;
    fz_state_tensor *tensors; /* owned */
    int64_t n_rows;
    fz_fragment *rows;     /* owned */
    uint64_t *row_digests; /* owned: [n_rows] */
    int64_t n_files;
    fz_index_file *files; /* owned: by rank of the world that wrote it */
    int64_t n_blocks;
    uint32_t *crcs;      /* owned: of all blocks */
    uint64_t (*sums)[2]; /* owned: [kind * n_tensors + tensor] = digest, elements */
    fz_ckpt_info info;   /* config owned */
} fz_index;

/* "s00/rank-00000.h5" */
enum { FZ_SHARD_NAME_BYTES = 32 };
void fz_shard_name(char name[FZ_SHARD_NAME_BYTES], int64_t rank);

/* Writes and syncs path. crc and size are those of the file. */
fz_status fz_ckpt_index_write(const char *path, const fz_index *index, int64_t *size,
                              uint32_t *crc);
/* Parses and checks that every row lies inside its tensor and its file. FZ_ERR_FORMAT. */
fz_status fz_index_read(const char *bytes, size_t size, const char *name, fz_index *index);
void fz_index_reset(fz_index *index);

#endif
