/* Which tensor of which folder becomes which parameter (model.md 7.7), and everything that stands
 * against it. Looks at names, shapes and types alone. Local.
 */
#ifndef FZ_LAUNCH_IMPORT_PLAN_H
#define FZ_LAUNCH_IMPORT_PLAN_H

#include "checkpoint/safetensors.h"
#include "model/names.h"
#include "model/program.h"

typedef struct fz_import_source {
    const char *path; /* for messages */
    fz_names layout;
    int n;
    const fz_safetensor *const *tensors; /* borrowed */
} fz_import_source;

typedef enum fz_import_how {
    FZ_IMPORT_TAKE,      /* the tensor, or its first rows where it has more              */
    FZ_IMPORT_TRANSPOSE, /* the tensor with rows and columns exchanged                   */
    FZ_IMPORT_ROWS,      /* the tensor's rows, then rows of the model's initialiser      */
    FZ_IMPORT_REBUILD,   /* each row a mean of the tensor's rows, by the two tokenizers  */
    FZ_IMPORT_INIT,      /* the model's initialiser                                      */
} fz_import_how;

enum { FZ_IMPORT_ALIASES = 3 };
typedef struct fz_import_item { /* of one parameter */
    fz_import_how how;
    int source;                  /* -1: FZ_IMPORT_INIT */
    const fz_safetensor *tensor; /* borrowed; NULL: FZ_IMPORT_INIT */
    int n_aliases;               /* tied tensors of the same folder that must hold the same */
    const fz_safetensor *alias[FZ_IMPORT_ALIASES];
} fz_import_item;

typedef struct fz_import_plan {
    int n_items;           /* the program's parameters */
    fz_import_item *items; /* owned */
    int n_dropped;         /* buffers, and what an assembly replaces */
    int n_complaints;
    char **complaints; /* owned: a line each */
} fz_import_plan;

/* FZ_ERR_USAGE: these folders do not make this model (a wrong one, a missing one). Names that
 * nobody claims, that are missing or twice, shapes and types that do not fit become complaints:
 * fz_import_plan_check says whether there are any. rebuild: of the decoder's vocabulary. */
fz_status fz_import_plan_make(const fz_program *program, int n_sources,
                              const fz_import_source *sources, bool rebuild, fz_import_plan *plan);
/* FZ_ERR_FORMAT with their number and the first. */
fz_status fz_import_plan_check(const fz_import_plan *plan);
void fz_import_plan_reset(fz_import_plan *plan);

#endif
