/* One shard against its manifest and its index; a part of checkpoint/verify.h. Local. */
#ifndef FZ_CHECKPOINT_VERIFY_FILE_H
#define FZ_CHECKPOINT_VERIFY_FILE_H

#include "checkpoint/manifest.h"
#include "checkpoint/source.h"
#include "checkpoint/verify.h"

/* Notes a fault and says it. */
void fz_verify_fault(fz_verify *verify, fz_damage damage, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Existence, size, checksum of the file dir/file->name; with a source, those of its blocks, each
 * bad one named by bytes and tensors. */
fz_status fz_verify_file(fz_verify *verify, const char *dir, const fz_manifest_file *file,
                         const fz_source *source);

#endif
