/* Which shard files a directory has. Local. */
#ifndef FZ_CHECKPOINT_SHARD_LIST_H
#define FZ_CHECKPOINT_SHARD_LIST_H

#include <stdint.h>

#include "core/status.h"

/* Ranks of the files sNN/rank-NNNNN.h5 under path, ascending; owned by the caller. */
fz_status fz_ckpt_shards(const char *path, int64_t **ranks_p, int64_t *n_p);

#endif
