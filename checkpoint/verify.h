/* Everything that can be wrong with a committed directory, looked for and said. Local.
 *
 *   manifest        its own checksum, the names and sizes of files
 *   index           its checksum, its consistency, digests that add up, the coverage sweep
 *   shards          the checksum of every file and of every block, in one pass
 *   base of a step  the same, its name, and its digests against the step's
 *   deep            the digest of every fragment, from its elements
 */
#ifndef FZ_CHECKPOINT_VERIFY_H
#define FZ_CHECKPOINT_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

typedef enum fz_damage { /* ordered: the worst of several is their maximum */
                         FZ_DAMAGE_NONE,
                         FZ_DAMAGE_MENDABLE, /* payload whole: it loads, or will once index and
                                                manifest are rebuilt */
                         FZ_DAMAGE_LOST      /* payload is missing or wrong */
} fz_damage;

typedef struct fz_verify {
    bool is_deep;
    void (*say)(void *context, const char *text); /* one call for each fault; NULL: nobody hears */
    void *context;

    /* results, added to over calls */
    fz_damage damage;
    int64_t n_faults, n_files, n_bytes, n_tensors;
    char sound_base[4096]; /* was looked at and is not read again; "" none */
} fz_verify;

/* A step-* or base-* directory. Fails only for lack of memory; what is wrong with the directory is
 * said and noted in verify. */
fz_status fz_verify_directory(fz_verify *verify, const char *path);

#endif
