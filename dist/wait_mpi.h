/* Waiting for MPI. Not for other folders.
 *
 * MPI's own waits poll without end. Where a host has more ranks than cores that takes the cores
 * from the ranks that everybody waits for (sched_yield does not help: a fair scheduler hands the
 * core straight back), so there a wait polls briefly and then sleeps between polls, up to 200 us.
 * With a core for every rank MPI's own blocking calls are used.
 */
#ifndef FZ_DIST_WAIT_MPI_H
#define FZ_DIST_WAIT_MPI_H

#include <stdbool.h>

#include <mpi.h>

/* Set once at start: more ranks than cores on this host. Local. */
void fz_mpi_set_crowded(bool is_crowded);

int fz_mpi_wait(MPI_Request *request);
int fz_mpi_waitall(int n, MPI_Request *requests);
/* The collectives of MPI, waiting as above. */
int fz_mpi_barrier(MPI_Comm comm);
int fz_mpi_bcast(void *data, int n, MPI_Datatype type, int root, MPI_Comm comm);
int fz_mpi_allreduce(void *in_place, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm);
int fz_mpi_allgather(void *in_place, int n, MPI_Datatype type, MPI_Comm comm);
int fz_mpi_allgatherv(void *in_place, const int *counts, const int *displs, MPI_Datatype type,
                      MPI_Comm comm);

#endif
