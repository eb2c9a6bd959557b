/* Index and manifest made anew from the shards, when one of them is lost or damaged. The payload is
 * read, never written. Local.
 */
#ifndef FZ_CHECKPOINT_REBUILD_H
#define FZ_CHECKPOINT_REBUILD_H

#include "checkpoint/manifest.h"
#include "checkpoint/source.h"

typedef struct fz_rebuilt {
    fz_source source;     /* path and index, with chains */
    fz_manifest manifest; /* its first file, the index, is filled in by fz_rebuild_write */
    bool is_base;
    bool
        has_old_info; /* the index that is there still says what shards do not: config, seed, ... */
    bool has_numbers; /* shards say seed, samples and the like, or the old index does */
} fz_rebuilt;

/* Makes both in memory. Every block is compared with its shard's checksums, every file with the
 * manifest where that is whole, and the sweep finds every element once: FZ_ERR_FORMAT names what
 * does not hold. Tensors that live elsewhere (frozen ones, for a step) are taken from base, a
 * directory's name beside path; NULL: from the one that fits. The config is lost with the index;
 * index.info.config may be set (owned) before writing. */
fz_status fz_rebuild_read(const char *path, const char *base, fz_rebuilt *rebuilt);
/* Writes index.h5, then MANIFEST, each beside the old one and then in its place. */
fz_status fz_rebuild_write(fz_rebuilt *rebuilt);
void fz_rebuilt_reset(fz_rebuilt *rebuilt);

#endif
