/* What the sources of dist/ share about a group. Not for other folders. */
#ifndef FZ_DIST_GROUP_MPI_H
#define FZ_DIST_GROUP_MPI_H

#include <stdbool.h>

#include <mpi.h>

#include "dist/group.h"

/* Tags of our own; callers stay below. 32767 is the least upper bound MPI promises. */
enum { FZ_TAG_GATHER = 32767, FZ_TAG_ORDERED_SUM = 32766, FZ_TAG_USER_MAX = 32765 };

struct fz_group {
    MPI_Comm comm;
    bool is_comm_owned;
    int rank, size;
    int *counts, *displs; /* owned: scratch of [size] for calls that take int arrays */
};

/* A group over comm; takes comm over only if is_owned. Local. */
fz_status fz_group_over(MPI_Comm comm, bool is_owned, fz_group **group_p);

/* FZ_OK for MPI_SUCCESS, else FZ_ERR_COMM with MPI's text. Local. */
fz_status fz_mpi_check(int code, const char *what);

/* Longest transfer in one MPI call, whose counts are int. Tests make it small to meet the cuts. */
int64_t fz_mpi_cut_bytes(void);
void fz_mpi_set_cut_bytes(int64_t bytes);

/* One message of any length (above the cut by a derived type). Local. */
fz_status fz_mpi_isend(const fz_group *group, const void *data, size_t bytes, int to, int tag,
                       MPI_Request *request);
fz_status fz_mpi_irecv(const fz_group *group, void *data, size_t bytes, int from, int tag,
                       MPI_Request *request);

#endif
