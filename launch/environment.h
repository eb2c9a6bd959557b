/* What the launcher and the scheduler say in the environment: the only place that calls getenv.
 * Local. */
#ifndef FZ_LAUNCH_ENVIRONMENT_H
#define FZ_LAUNCH_ENVIRONMENT_H

#include "core/status.h"

typedef struct fz_environment {
    int n_ranks;              /* what the launcher started; 0: not said, started alone */
    const char *n_ranks_from; /* the variable it was read from */
    const char *job;          /* the scheduler's job id, or NULL */
} fz_environment;

/* This process's number by the launcher; 0 where nothing is said. */
int fz_environment_rank(void);
/* Before MPI starts. Where all ranks are on this host, chooses Open MPI's own messaging (pml ob1:
 * shared memory here) unless the user chose: trying pml cm costs every start 0.2 s
 * (docs/benchmarks/cpu.md). All ranks decide alike. */
void fz_environment_prepare_mpi(void);
/* Also plans the failures of FLORENZ_FAULT. FZ_ERR_USAGE on nonsense there. */
fz_status fz_environment_read(fz_environment *environment);

#endif
