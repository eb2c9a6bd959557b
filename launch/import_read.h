/* The values of a model's parameters, one after another, out of an import's folders. */
#ifndef FZ_LAUNCH_IMPORT_READ_H
#define FZ_LAUNCH_IMPORT_READ_H

#include "launch/import_plan.h"
#include "launch/vocabulary.h"

typedef struct fz_import_reader {
    const fz_program *program;
    const fz_import_plan *plan;
    fz_safetensors *const *folders;  /* of the plan's sources */
    const fz_vocabulary *vocabulary; /* for FZ_IMPORT_REBUILD */
    uint64_t seed;
    int64_t n_nan, n_infinite, n_bad_tensors; /* found so far */
} fz_import_reader;

/* Fills out with parameter `param`. What is not finite is warned of and counted. FZ_ERR_FORMAT:
 * two names of one tensor hold different values. An fz_tensor_read (checkpoint/stream.h) with an
 * fz_import_reader as context. Local. */
fz_status fz_import_read(void *context, int param, float *out);

#endif
