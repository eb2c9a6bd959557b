/* MANIFEST: the commit record. A directory counts only with a valid one. Local.
 *
 *   florenz-checkpoint 1
 *   kind step                     or base
 *   step 12000
 *   run 5f0c...
 *   base base-0123456789abcdef    or -
 *   file index.h5 183296 89abcdef     name, bytes, crc32c; index.h5 first
 *   file s00/rank-00000.h5 4210688 01234567
 *   crc 7654fedc                  crc32c of all lines above
 */
#ifndef FZ_CHECKPOINT_MANIFEST_H
#define FZ_CHECKPOINT_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct fz_manifest_file {
    char name[64];
    int64_t size;
    uint32_t crc;
} fz_manifest_file;

typedef struct fz_manifest {
    char kind[8];
    int64_t step;
    char run_id[64];
    char base[64]; /* "" none */
    int64_t n_files;
    fz_manifest_file *files; /* owned */
} fz_manifest;

fz_status fz_manifest_write(const char *path, const fz_manifest *manifest);
/* FZ_ERR_FORMAT with the reason for anything that is not exactly what was written. */
fz_status fz_manifest_parse(const char *text, size_t bytes, const char *path,
                            fz_manifest *manifest);
void fz_manifest_reset(fz_manifest *manifest);

/* Reads dir/MANIFEST and compares the sizes of all files: what makes a directory acceptable. */
fz_status fz_manifest_accept(const char *dir, fz_manifest *manifest);

#endif
