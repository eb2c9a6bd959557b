/* A committed directory, opened for reading: manifest accepted, index CRC confirmed and parsed. */
#ifndef FZ_CHECKPOINT_SOURCE_H
#define FZ_CHECKPOINT_SOURCE_H

#include "checkpoint/disk.h"
#include "checkpoint/index_file.h"

typedef struct fz_source {
    char path[FZ_PATH_BYTES];
    fz_index index;
    int64_t *head, *next; /* owned: chains of index.rows (fz_rows_chain) */
} fz_source;

/* The bytes of path's index, accepted by path's manifest, which must be of kind ("step", "base").
 * Owned by the caller. Local. */
fz_status fz_source_read_index(const char *path, const char *kind, char **bytes_p, size_t *n_p);

/* Rank 0 reads, all parse. Collective over world. */
fz_status fz_source_open(const fz_group *world, const char *path, const char *kind,
                         fz_source *source);
/* The same for one process alone. Local. */
fz_status fz_source_open_here(const char *path, const char *kind, fz_source *source);
void fz_source_reset(fz_source *source);

/* FZ_ERR_FORMAT unless the source has the tensors of the state: names, shapes, order. Local. */
fz_status fz_source_check_model(const fz_state *state, const fz_source *source);
/* Where the base of a step lies, beside it; "" where nothing is frozen. FZ_ERR_FORMAT if it should
 * name one. Local. */
fz_status fz_source_base(const fz_source *step, char path[FZ_PATH_BYTES]);

#endif
