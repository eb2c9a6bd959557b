/* Collectives on host memory. MPI 3.1 counts are int: every call here is cut below INT_MAX. */
#include <string.h>

#include "core/assert.h"
#include "core/clock.h"
#include "dist/group_mpi.h"
#include "dist/wait_mpi.h"

static int64_t cut_bytes = INT64_C(1) << 30;

int64_t fz_mpi_cut_bytes(void)
{
    return cut_bytes;
}

void fz_mpi_set_cut_bytes(int64_t bytes)
{
    FZ_ASSERT(bytes >= 8 && bytes <= INT64_C(1) << 30);
    cut_bytes = bytes;
}

fz_status fz_mpi_check(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;

    if (code == MPI_SUCCESS) return FZ_OK;
    MPI_Error_string(code, text, &length);
    return FZ_FAIL(FZ_ERR_COMM, "%s: %.300s", what, text);
}

/* The part of n elements from done on that one call may carry. */
static int next_part(int64_t n, int64_t done, size_t element_bytes)
{
    const int64_t most = cut_bytes / (int64_t)element_bytes;
    return (int)(n - done < most ? n - done : most);
}

fz_status fz_barrier(const fz_group *group)
{
    if (group->size == 1) return FZ_OK;
    fz_span_begin("barrier", FZ_SHARE_COMM);
    const int code = fz_mpi_barrier(group->comm);
    fz_span_end();
    return fz_mpi_check(code, "barrier");
}

static int broadcast_parts(const fz_group *group, char *data, int64_t bytes, int root)
{
    int code = MPI_SUCCESS;
    for (int64_t done = 0; done < bytes && code == MPI_SUCCESS;) {
        const int n = next_part(bytes, done, 1);
        code = fz_mpi_bcast(data + done, n, MPI_BYTE, root, group->comm);
        done += n;
    }
    return code;
}

fz_status fz_broadcast(const fz_group *group, void *data, size_t bytes, int root)
{
    if (group->size == 1) return FZ_OK;
    fz_span_begin("broadcast", FZ_SHARE_COMM);
    const int code = broadcast_parts(group, data, (int64_t)bytes, root);
    fz_span_end();
    return fz_mpi_check(code, "broadcast");
}

static fz_status reduce_in_place(const fz_group *group, void *x, int64_t n, size_t element_bytes,
                                 MPI_Datatype type, MPI_Op op)
{
    int code = MPI_SUCCESS;

    if (group->size == 1) return FZ_OK;
    fz_span_begin("allreduce", FZ_SHARE_COMM);
    for (int64_t done = 0; done < n && code == MPI_SUCCESS;) {
        const int part = next_part(n, done, element_bytes);
        code = fz_mpi_allreduce((char *)x + done * (int64_t)element_bytes, part, type, op,
                                group->comm);
        done += part;
    }
    fz_span_end();
    return fz_mpi_check(code, "allreduce");
}

fz_status fz_allreduce_sum_double(const fz_group *group, double *x, int64_t n)
{
    return reduce_in_place(group, x, n, sizeof *x, MPI_DOUBLE, MPI_SUM);
}

fz_status fz_allreduce_sum_int(const fz_group *group, int64_t *x, int64_t n)
{
    return reduce_in_place(group, x, n, sizeof *x, MPI_INT64_T, MPI_SUM);
}

fz_status fz_allreduce_sum_uint(const fz_group *group, uint64_t *x, int64_t n)
{
    return reduce_in_place(group, x, n, sizeof *x, MPI_UINT64_T, MPI_SUM);
}

fz_status fz_allreduce_max_int(const fz_group *group, int64_t *x, int64_t n)
{
    return reduce_in_place(group, x, n, sizeof *x, MPI_INT64_T, MPI_MAX);
}

fz_status fz_allreduce_max_float(const fz_group *group, float *x, int64_t n)
{
    return reduce_in_place(group, x, n, sizeof *x, MPI_FLOAT, MPI_MAX);
}

fz_status fz_allreduce_max_bytes(const fz_group *group, uint8_t *x, int64_t n)
{
    return reduce_in_place(group, x, n, sizeof *x, MPI_UINT8_T, MPI_MAX);
}

/* Gathers by broadcasts from every rank: for results whose displacements do not fit an int. */
static int gather_by_broadcasts(const fz_group *group, char *all, const int64_t *counts,
                                int64_t element_bytes)
{
    int code = MPI_SUCCESS;
    int64_t at = 0;
    for (int r = 0; r < group->size && code == MPI_SUCCESS; r++) {
        code = broadcast_parts(group, all + at, counts[r] * element_bytes, r);
        at += counts[r] * element_bytes;
    }
    return code;
}

fz_status fz_allgather(const fz_group *group, const void *mine, size_t bytes, void *all)
{
    char *place = (char *)all + (size_t)group->rank * bytes;
    int code = MPI_SUCCESS;

    if (bytes > 0 && place != mine) memcpy(place, mine, bytes);
    if (group->size == 1 || bytes == 0) return FZ_OK;
    fz_span_begin("allgather", FZ_SHARE_COMM);
    if ((int64_t)bytes <= cut_bytes / group->size) {
        code = fz_mpi_allgather(all, (int)bytes, MPI_BYTE, group->comm);
    } else {
        for (int r = 0; r < group->size && code == MPI_SUCCESS; r++)
            code = broadcast_parts(group, (char *)all + (size_t)r * bytes, (int64_t)bytes, r);
    }
    fz_span_end();
    return fz_mpi_check(code, "allgather");
}

fz_status fz_allgatherv_float(const fz_group *group, const float *mine, const int64_t *counts,
                              float *all)
{
    int64_t total = 0;
    float *place = all;
    int code;

    for (int r = 0; r < group->size; r++) {
        if (r == group->rank) place = all + total;
        total += counts[r];
    }
    if (place != mine && counts[group->rank] > 0)
        memmove(place, mine, (size_t)counts[group->rank] * sizeof *mine);
    if (group->size == 1 || total == 0) return FZ_OK;
    fz_span_begin("allgather", FZ_SHARE_COMM);
    if (total <= cut_bytes / (int64_t)sizeof *all) {
        for (int r = 0, at = 0; r < group->size; r++) {
            group->counts[r] = (int)counts[r];
            group->displs[r] = at;
            at += group->counts[r];
        }
        code = fz_mpi_allgatherv(all, group->counts, group->displs, MPI_FLOAT, group->comm);
    } else {
        code = gather_by_broadcasts(group, (char *)all, counts, (int64_t)sizeof *all);
    }
    fz_span_end();
    return fz_mpi_check(code, "allgather");
}

static int receive(const fz_group *group, void *data, int n, int from)
{
    MPI_Request request;
    const int code = MPI_Irecv(data, n, MPI_BYTE, from, FZ_TAG_GATHER, group->comm, &request);
    return code == MPI_SUCCESS ? fz_mpi_wait(&request) : code;
}

static int send(const fz_group *group, const void *data, int n, int to)
{
    MPI_Request request;
    const int code = MPI_Isend(data, n, MPI_BYTE, to, FZ_TAG_GATHER, group->comm, &request);
    return code == MPI_SUCCESS ? fz_mpi_wait(&request) : code;
}

/* Point to point, because only the root knows whether the whole fits one call. */
fz_status fz_gatherv_bytes(const fz_group *group, const void *mine, int64_t n_mine, void *all,
                           const int64_t *counts, int root)
{
    int code = MPI_SUCCESS;
    char *at = all;

    fz_span_begin("gather", FZ_SHARE_COMM);
    for (int r = 0; r < group->size && group->rank == root && code == MPI_SUCCESS; r++) {
        if (r == root && n_mine > 0 && at != mine) memmove(at, mine, (size_t)n_mine);
        for (int64_t done = 0; r != root && done < counts[r] && code == MPI_SUCCESS;) {
            const int n = next_part(counts[r], done, 1);
            code = receive(group, at + done, n, r);
            done += n;
        }
        at += counts[r];
    }
    for (int64_t done = 0; group->rank != root && done < n_mine && code == MPI_SUCCESS;) {
        const int n = next_part(n_mine, done, 1);
        code = send(group, (const char *)mine + done, n, root);
        done += n;
    }
    fz_span_end();
    return fz_mpi_check(code, "gather");
}

/* A committed type of bytes bytes, made of parts of at most the cut. */
static int long_type(size_t bytes, MPI_Datatype *type)
{
    const int64_t parts = (int64_t)bytes / cut_bytes;
    const int lengths[2] = {(int)parts, (int)((int64_t)bytes % cut_bytes)};
    const MPI_Aint places[2] = {0, (MPI_Aint)(parts * cut_bytes)};
    MPI_Datatype part;

    int code = MPI_Type_contiguous((int)cut_bytes, MPI_BYTE, &part);
    if (code != MPI_SUCCESS) return code;
    const MPI_Datatype types[2] = {part, MPI_BYTE};
    code = MPI_Type_create_struct(2, lengths, places, types, type);
    MPI_Type_free(&part);
    return code == MPI_SUCCESS ? MPI_Type_commit(type) : code;
}

fz_status fz_mpi_isend(const fz_group *group, const void *data, size_t bytes, int to, int tag,
                       MPI_Request *request)
{
    MPI_Datatype type;

    if ((int64_t)bytes <= cut_bytes)
        return fz_mpi_check(MPI_Isend(data, (int)bytes, MPI_BYTE, to, tag, group->comm, request),
                            "send");
    FZ_TRY(fz_mpi_check(long_type(bytes, &type), "type of a long message"));
    const int code = MPI_Isend(data, 1, type, to, tag, group->comm, request);
    MPI_Type_free(&type); /* stays alive inside until the message is done */
    return fz_mpi_check(code, "send");
}

fz_status fz_mpi_irecv(const fz_group *group, void *data, size_t bytes, int from, int tag,
                       MPI_Request *request)
{
    MPI_Datatype type;

    if ((int64_t)bytes <= cut_bytes)
        return fz_mpi_check(MPI_Irecv(data, (int)bytes, MPI_BYTE, from, tag, group->comm, request),
                            "receive");
    FZ_TRY(fz_mpi_check(long_type(bytes, &type), "type of a long message"));
    const int code = MPI_Irecv(data, 1, type, from, tag, group->comm, request);
    MPI_Type_free(&type);
    return fz_mpi_check(code, "receive");
}
