#include "dist/group.h"

#include <string.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/memory.h"
#include "dist/group_mpi.h"
#include "dist/wait_mpi.h"

fz_status fz_group_over(MPI_Comm comm, bool is_owned, fz_group **group_p)
{
    fz_group *group;

    FZ_TRY(FZ_NEW(&group, 1));
    group->comm = comm;
    group->is_comm_owned = is_owned;
    fz_status status = fz_mpi_check(MPI_Comm_rank(comm, &group->rank), "rank of communicator");
    if (status == FZ_OK)
        status = fz_mpi_check(MPI_Comm_size(comm, &group->size), "size of communicator");
    if (status == FZ_OK) status = FZ_NEW(&group->counts, group->size);
    if (status == FZ_OK) status = FZ_NEW(&group->displs, group->size);
    if (status != FZ_OK) {
        group->is_comm_owned = false; /* still the caller's */
        fz_group_destroy(&group);
        return status;
    }
    *group_p = group;
    return FZ_OK;
}

void fz_group_destroy(fz_group **group)
{
    fz_group *g = *group;

    if (!g) return;
    if (g->is_comm_owned) MPI_Comm_free(&g->comm);
    fz_free(&g->counts);
    fz_free(&g->displs);
    fz_free(group);
}

int fz_group_rank(const fz_group *group)
{
    return group->rank;
}

int fz_group_size(const fz_group *group)
{
    return group->size;
}

fz_status fz_group_split(const fz_group *group, int color, int key, fz_group **group_p)
{
    MPI_Comm comm;

    FZ_TRY(fz_mpi_check(MPI_Comm_split(group->comm, color, key, &comm), "split of a group"));
    const fz_status status = fz_group_over(comm, true, group_p);
    if (status != FZ_OK) MPI_Comm_free(&comm);
    return status;
}

/* A collective on the host's communicator, which is freed in any case. */
static int lowest_on_host(const fz_group *group, int64_t *lowest)
{
    MPI_Comm host;
    int code =
        MPI_Comm_split_type(group->comm, MPI_COMM_TYPE_SHARED, group->rank, MPI_INFO_NULL, &host);

    if (code != MPI_SUCCESS) return code;
    *lowest = group->rank;
    code = fz_mpi_bcast(lowest, 1, MPI_INT64_T, 0, host); /* ordered by rank: 0 is the lowest */
    MPI_Comm_free(&host);
    return code;
}

fz_status fz_group_hosts(const fz_group *group, int64_t *host)
{
    int64_t lowest = 0;

    FZ_TRY(fz_mpi_check(lowest_on_host(group, &lowest), "split by host"));
    return fz_allgather(group, &lowest, sizeof lowest, host);
}

/* agree and same */

fz_status fz_agree(const fz_group *group, fz_status mine)
{
    struct {
        int code, rank;
    } verdict = {.code = (int)mine, .rank = group->rank};
    char text[sizeof fz_last_error()->text + 16] = "";

    /* A failed collective cannot be discussed over the same communicator. */
    if (mine == FZ_ERR_COMM || group->size == 1) return mine;

    /* MAXLOC breaks ties by the lower rank, so all ranks name the same one. */
    fz_span_begin("agree", FZ_SHARE_COMM);
    int code = fz_mpi_allreduce(&verdict, 1, MPI_2INT, MPI_MAXLOC, group->comm);
    if (code == MPI_SUCCESS && verdict.code != FZ_OK) {
        /* An error that was agreed on before, in a smaller group, keeps the rank it names. */
        const char *own = fz_last_error()->text;
        if (strncmp(own, "rank ", 5) == 0)
            snprintf(text, sizeof text, "%s", own);
        else
            snprintf(text, sizeof text, "rank %d: %s", group->rank, own);
        code = fz_mpi_bcast(text, (int)sizeof text, MPI_CHAR, verdict.rank, group->comm);
    }
    fz_span_end();
    FZ_TRY(fz_mpi_check(code, "agreement on a status"));
    if (verdict.code == FZ_OK) return FZ_OK;
    return FZ_FAIL((fz_status)verdict.code, "%s", text);
}

fz_status fz_same(const fz_group *group, const void *data, size_t bytes, const char *what)
{
    enum { PART_BYTES = 16384 };
    char part[PART_BYTES];
    const char *mine = data;
    int64_t length[2] = {(int64_t)bytes, -(int64_t)bytes};
    int64_t differs = 0;

    if (group->size == 1) return FZ_OK;
    FZ_TRY(fz_allreduce_max_int(group, length, 2));
    FZ_CHECK(length[0] == -length[1], FZ_ERR_ARG, "%s: between %lld and %lld bytes on the ranks",
             what, (long long)-length[1], (long long)length[0]);
    for (size_t done = 0; done < bytes; done += PART_BYTES) {
        const size_t n = bytes - done < PART_BYTES ? bytes - done : PART_BYTES;
        memcpy(part, mine + done, n);
        FZ_TRY(fz_broadcast(group, part, n, 0));
        if (memcmp(part, mine + done, n) != 0) differs = 1;
    }
    differs *= group->size - group->rank; /* the largest names the lowest rank */
    FZ_TRY(fz_allreduce_max_int(group, &differs, 1));
    FZ_CHECK(differs == 0, FZ_ERR_ARG, "%s: rank %d differs from rank 0", what,
             group->size - (int)differs);
    return FZ_OK;
}

/* point to point */

_Static_assert(sizeof(MPI_Request) <= sizeof(void *), "a request of MPI fits into fz_request");

/* impl[1] of a request that was started; a zeroed struct was not. */
static char is_started;

static void request_set(fz_request *request, MPI_Request raw)
{
    memcpy(&request->impl[0], &raw, sizeof raw);
    request->impl[1] = &is_started;
}

static MPI_Request request_get(const fz_request *request)
{
    MPI_Request raw;
    memcpy(&raw, &request->impl[0], sizeof raw);
    return raw;
}

fz_status fz_send_start(const fz_group *group, const void *data, size_t bytes, int to, int tag,
                        fz_request *request)
{
    MPI_Request raw;

    FZ_ASSERT(tag >= 0 && tag <= FZ_TAG_USER_MAX);
    FZ_TRY(fz_mpi_isend(group, data, bytes, to, tag, &raw));
    request_set(request, raw);
    return FZ_OK;
}

fz_status fz_recv_start(const fz_group *group, void *data, size_t bytes, int from, int tag,
                        fz_request *request)
{
    MPI_Request raw;

    FZ_ASSERT(tag >= 0 && tag <= FZ_TAG_USER_MAX);
    FZ_TRY(fz_mpi_irecv(group, data, bytes, from, tag, &raw));
    request_set(request, raw);
    return FZ_OK;
}

fz_status fz_request_wait(fz_request *request)
{
    if (!request->impl[1]) return FZ_OK;
    MPI_Request raw = request_get(request);
    request->impl[1] = NULL;
    return fz_mpi_check(fz_mpi_wait(&raw), "wait for a message");
}

fz_status fz_request_test(fz_request *request, int *done)
{
    *done = 1;
    if (!request->impl[1]) return FZ_OK;
    MPI_Request raw = request_get(request);
    FZ_TRY(fz_mpi_check(MPI_Test(&raw, done, MPI_STATUS_IGNORE), "test of a message"));
    if (*done)
        request->impl[1] = NULL;
    else
        request_set(request, raw);
    return FZ_OK;
}
