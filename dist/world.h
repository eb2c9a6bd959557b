/* MPI start and stop, and what is known about every rank. The only folder that calls MPI is dist/.
 */
#ifndef FZ_DIST_WORLD_H
#define FZ_DIST_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

typedef struct fz_group fz_group;

typedef struct fz_place { /* one rank's place, the same table on every rank */
    char host[64];
    int local_rank, n_local; /* on that host, from the shared-memory communicator */
    int numa;                /* NUMA node of the bound cores, -1 if not bound to one (hwloc) */
    int n_cores;             /* cores this rank may run on (hwloc) */
    int pid;
} fz_place;

typedef struct fz_world {
    int rank, size;
    fz_group *group;  /* owned: all ranks */
    fz_place *places; /* owned: [size] */
    bool has_mpi;     /* false: started alone without mpirun/srun; MPI is still initialised */
} fz_world;

/* MPI_Init_thread (FUNNELED), MPI_ERRORS_RETURN, places, abort hook, rank of the log. Collective
 * over all processes. Refuses (FZ_ERR_USAGE) when OMPI_COMM_WORLD_SIZE, PMI_SIZE or SLURM_NTASKS
 * (inside a step: SLURM_STEP_NUM_TASKS) says N > 1 and MPI says 1: "every rank is 0 of 1".
 * expected: the launcher's N read by the caller (getenv lives in launch/), 0 = not known. */
fz_status fz_world_start(int expected, const char *expected_from, fz_world *world);
/* MPI_Finalize. Collective. Safe on a half-started world. */
void fz_world_stop(fz_world *world);
/* MPI_Abort with an exit code; does not return. */
_Noreturn void fz_world_abort(int exit_code);

#endif
