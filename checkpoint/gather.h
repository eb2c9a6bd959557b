/* The tables of an index, put together from what shards say of themselves (checkpoint/rebuild.h).
 * Local. */
#ifndef FZ_CHECKPOINT_GATHER_H
#define FZ_CHECKPOINT_GATHER_H

#include "checkpoint/rebuild.h"

typedef struct fz_gather {
    fz_rebuilt *rebuilt; /* borrowed: rows, files and checksums go to its index */
    bool has_manifest;   /* a whole one is there: files are compared with it */
    fz_manifest manifest;
    int64_t rows_room, blocks_room;
    fz_state_tensor *tensors; /* owned: what this directory's shards tell; name "" where nothing */
    int64_t n_tensors;        /* slots */
    bool is_count_known;      /* shards say how many tensors the model has */
} fz_gather;

/* Begins a rebuilt of path and reads all its shards. Both are to be reset, also after a failure. */
fz_status fz_gather_shards(fz_gather *gather, const char *path, fz_rebuilt *rebuilt);
void fz_gather_reset(fz_gather *gather);

fz_status fz_gather_slots(fz_gather *gather, int64_t n); /* at least so many tensors */

#endif
