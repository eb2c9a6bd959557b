/* What of a directory of checkpoints nobody needs. Local. */
#ifndef FZ_CHECKPOINT_GC_H
#define FZ_CHECKPOINT_GC_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

/* Names of the directory's own making that begin with a dot: what a save has not finished. */
bool fz_is_unfinished(const char *name);
/* Whether a load would take the step: manifest, sizes, index, and its base likewise. */
bool fz_step_is_acceptable(const char *dir, int64_t step);
/* Bytes of all files under path, as far as they can be seen. */
int64_t fz_tree_bytes(const char *path);

typedef struct fz_gc_item {
    char name[256];
    const char *why;
    int64_t bytes;
} fz_gc_item;

/* Lists what may go: what killed saves left, if its newest file is at least so many seconds old;
 * steps beyond the newest `keep` acceptable ones (0: all stay), so never the newest of them; bases
 * that no step refers to which stays (in doubt, or next to an unfinished save, a base stays).
 * items: owned by the caller. */
fz_status fz_gc_plan(const char *dir, int keep, double least_age_s, fz_gc_item **items_p, int *n_p);

#endif
