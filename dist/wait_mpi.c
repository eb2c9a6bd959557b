#include "dist/wait_mpi.h"

#include <time.h>

static bool crowded;

void fz_mpi_set_crowded(bool is_crowded)
{
    crowded = is_crowded;
}

/* The n-th fruitless poll: none at first, then longer and longer. */
static void rest(int n)
{
    enum { POLLS = 8, LEAST_NS = 5000, MOST_NS = 200000 };
    if (n < POLLS) return;
    long ns = LEAST_NS;
    for (int i = POLLS; i < n && ns < MOST_NS; i += 4)
        ns *= 2;
    nanosleep(&(struct timespec){.tv_nsec = ns < MOST_NS ? ns : MOST_NS}, NULL);
}

int fz_mpi_waitall(int n, MPI_Request *requests)
{
    if (!crowded) return MPI_Waitall(n, requests, MPI_STATUSES_IGNORE);
    for (int polls = 0;; polls++) {
        int done = 0;
        const int code = MPI_Testall(n, requests, &done, MPI_STATUSES_IGNORE);
        if (code != MPI_SUCCESS || done) return code;
        rest(polls);
    }
}

int fz_mpi_wait(MPI_Request *request)
{
    return fz_mpi_waitall(1, request);
}

static int finish(int code, MPI_Request *request)
{
    return code == MPI_SUCCESS ? fz_mpi_wait(request) : code;
}

int fz_mpi_barrier(MPI_Comm comm)
{
    MPI_Request request;
    if (!crowded) return MPI_Barrier(comm);
    return finish(MPI_Ibarrier(comm, &request), &request);
}

int fz_mpi_bcast(void *data, int n, MPI_Datatype type, int root, MPI_Comm comm)
{
    MPI_Request request;
    if (!crowded) return MPI_Bcast(data, n, type, root, comm);
    return finish(MPI_Ibcast(data, n, type, root, comm, &request), &request);
}

int fz_mpi_allreduce(void *in_place, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    MPI_Request request;
    if (!crowded) return MPI_Allreduce(MPI_IN_PLACE, in_place, n, type, op, comm);
    return finish(MPI_Iallreduce(MPI_IN_PLACE, in_place, n, type, op, comm, &request), &request);
}

int fz_mpi_allgather(void *in_place, int n, MPI_Datatype type, MPI_Comm comm)
{
    MPI_Request request;
    if (!crowded) return MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, in_place, n, type, comm);
    return finish(
        MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, in_place, n, type, comm, &request),
        &request);
}

int fz_mpi_allgatherv(void *in_place, const int *counts, const int *displs, MPI_Datatype type,
                      MPI_Comm comm)
{
    MPI_Request request;
    if (!crowded)
        return MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, in_place, counts, displs, type,
                              comm);
    return finish(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, in_place, counts, displs,
                                  type, comm, &request),
                  &request);
}
