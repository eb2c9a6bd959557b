/* A pattern of shards to paths. Local. */
#ifndef FZ_DATA_SHARD_GLOB_H
#define FZ_DATA_SHARD_GLOB_H

#include "core/status.h"

/* pattern: a glob or a comma list of globs. Paths sorted by name, each once; the list is the
 * caller's (fz_shard_glob_free). FZ_ERR_IO: a glob that matches nothing. */
fz_status fz_shard_glob(const char *pattern, char ***paths_p, int *n_p);
void fz_shard_glob_free(char ***paths, int n);

#endif
