/* One rank's knowledge for all. Collective over group; with group NULL one process, Local. */
#ifndef FZ_LAUNCH_SHARE_H
#define FZ_LAUNCH_SHARE_H

#include "dist/group.h"

/* Rank 0's bytes, or its error with its text, on every rank. On rank 0 *bytes_p and *n_p come in
 * (from fz_alloc) and stay; elsewhere they are taken here. The caller frees. */
fz_status fz_share_bytes(const fz_group *group, fz_status mine, void **bytes_p, size_t *n_p,
                         const char *what);
/* fz_agree for what all ranks do alike: where all fail, each keeps its own text, which then needs
 * no rank's name. */
fz_status fz_share_status(const fz_group *group, fz_status mine);

#endif
