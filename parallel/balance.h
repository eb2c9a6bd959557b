/* Cuts of a chain of blocks into pipeline stages. Local. */
#ifndef FZ_PARALLEL_BALANCE_H
#define FZ_PARALLEL_BALANCE_H

#include "core/status.h"

/* cut (n_stages + 1): stage i runs blocks [cut[i], cut[i+1]), at least one each, such that the
 * largest sum of costs of a stage is the smallest possible. n_stages <= n_blocks. */
fz_status fz_balance_cuts(const double *cost, int n_blocks, int n_stages, int *cut);

#endif
