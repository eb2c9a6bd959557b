/* Ranks without MPI and without a launcher: forked processes that meet in shared memory behind the
 * interface of dist/group.h, whose functions this file replaces. A rank may be killed at any time:
 * the others wait for ever, until the program that forked them ends them. No messages between two
 * ranks. Include it once, and do not start a world.
 */
#ifndef FZ_TESTS_SUPPORT_FORKED_H
#define FZ_TESTS_SUPPORT_FORKED_H

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/status.h"
#include "dist/group.h"

enum { FORKED_RANKS = 8, FORKED_SLOT_BYTES = 4 << 20 };

typedef struct forked_verdict {
    int code;
    char text[512];
} forked_verdict;

typedef struct forked_shared { /* one mapping for all ranks */
    pthread_barrier_t barrier;
    forked_verdict verdicts[FORKED_RANKS];
    char slots[FORKED_RANKS][FORKED_SLOT_BYTES];
} forked_shared;

struct fz_group {
    int rank, size;
    forked_shared *shared; /* NULL: one rank */
};

/* The memory of a world of so many ranks; made before they are forked. */
static inline forked_shared *forked_start(int size)
{
    forked_shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    pthread_barrierattr_t attributes;

    if (shared == MAP_FAILED) abort();
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&shared->barrier, &attributes, (unsigned)size);
    pthread_barrierattr_destroy(&attributes);
    return shared;
}

/* Not destroyed as a barrier: killed ranks may have left it in the middle. */
static inline void forked_stop(forked_shared *shared)
{
    munmap(shared, sizeof *shared);
}

fz_status fz_group_hosts(const fz_group *group, int64_t *host);

static void meet(const fz_group *group)
{
    if (group->shared) pthread_barrier_wait(&group->shared->barrier);
}

int fz_group_rank(const fz_group *group)
{
    return group->rank;
}

int fz_group_size(const fz_group *group)
{
    return group->size;
}

fz_status fz_barrier(const fz_group *group)
{
    meet(group);
    return FZ_OK;
}

fz_status fz_agree(const fz_group *group, fz_status mine)
{
    int worst = 0;

    if (!group->shared) return mine;
    forked_verdict *verdicts = group->shared->verdicts;
    verdicts[group->rank].code = (int)mine;
    snprintf(verdicts[group->rank].text, sizeof verdicts->text, "%.500s",
             mine == FZ_OK ? "" : fz_last_error()->text);
    meet(group);
    for (int r = 1; r < group->size; r++)
        if (verdicts[r].code > verdicts[worst].code) worst = r;
    const forked_verdict verdict = verdicts[worst];
    meet(group);
    if (verdict.code == FZ_OK) return FZ_OK;
    return FZ_FAIL((fz_status)verdict.code, "rank %d: %s", worst, verdict.text);
}

/* Everybody's bytes to everybody, as far as they fit: in rounds. */
static void share(const fz_group *group, const void *mine, const int64_t *counts, char *all)
{
    int64_t largest = 0, at = 0;

    for (int r = 0; r < group->size; r++)
        if (counts[r] > largest) largest = counts[r];
    for (int64_t done = 0; done < largest; done += FORKED_SLOT_BYTES, at = 0) {
        for (int r = 0; r < group->size; at += counts[r++]) {
            const int64_t left = counts[r] - done;
            const size_t n = left < 0                   ? 0
                             : left > FORKED_SLOT_BYTES ? FORKED_SLOT_BYTES
                                                        : (size_t)left;
            if (r == group->rank && n > 0)
                memcpy(group->shared ? group->shared->slots[r] : all + at + done,
                       (const char *)mine + done, n);
        }
        meet(group);
        at = 0;
        for (int r = 0; r < group->size && group->shared; at += counts[r++]) {
            const int64_t left = counts[r] - done;
            const size_t n = left < 0                   ? 0
                             : left > FORKED_SLOT_BYTES ? FORKED_SLOT_BYTES
                                                        : (size_t)left;
            if (all && n > 0) memcpy(all + at + done, group->shared->slots[r], n);
        }
        meet(group);
    }
}

fz_status fz_broadcast(const fz_group *group, void *data, size_t bytes, int root)
{
    int64_t counts[FORKED_RANKS] = {0};

    if (!group->shared) return FZ_OK;
    counts[root] = (int64_t)bytes;
    share(group, data, counts, data);
    return FZ_OK;
}

fz_status fz_allgather(const fz_group *group, const void *mine, size_t bytes, void *all)
{
    int64_t counts[FORKED_RANKS];

    for (int r = 0; r < group->size; r++)
        counts[r] = (int64_t)bytes;
    share(group, mine, counts, all);
    return FZ_OK;
}

fz_status fz_gatherv_bytes(const fz_group *group, const void *mine, int64_t n_mine, void *all,
                           const int64_t *counts, int root)
{
    int64_t known[FORKED_RANKS];

    fz_allgather(group, &n_mine, sizeof n_mine, known);
    (void)counts;
    share(group, mine, known, group->rank == root ? all : NULL);
    return FZ_OK;
}

#define FORKED_REDUCE(name, type, combine)                                                         \
    fz_status name(const fz_group *group, type *x, int64_t n)                                      \
    {                                                                                              \
        if (!group->shared || n == 0) return FZ_OK;                                                \
        type *all = malloc((size_t)n * (size_t)group->size * sizeof *all);                         \
        if (!all) abort();                                                                         \
        fz_allgather(group, x, (size_t)n * sizeof *x, all);                                        \
        memcpy(x, all, (size_t)n * sizeof *x);                                                     \
        for (int64_t i = n; i < n * group->size; i++) {                                            \
            type *a = &x[i % n];                                                                   \
            const type b = all[i];                                                                 \
            combine;                                                                               \
        }                                                                                          \
        free(all);                                                                                 \
        return FZ_OK;                                                                              \
    }
FORKED_REDUCE(fz_allreduce_sum_double, double, *a += b)
FORKED_REDUCE(fz_allreduce_sum_int, int64_t, *a += b)
FORKED_REDUCE(fz_allreduce_sum_uint, uint64_t, *a += b)
FORKED_REDUCE(fz_allreduce_max_int, int64_t, if (b > *a) *a = b)
FORKED_REDUCE(fz_allreduce_max_float, float, if (b > *a) *a = b)
FORKED_REDUCE(fz_allreduce_max_bytes, uint8_t, if (b > *a) *a = b)

fz_status fz_group_hosts(const fz_group *group, int64_t *host)
{
    memset(host, 0, (size_t)group->size * sizeof *host);
    return FZ_OK;
}

/* What a world of one rank gets by with. */
fz_status fz_send_start(const fz_group *group, const void *data, size_t bytes, int to, int tag,
                        fz_request *request)
{
    (void)group, (void)data, (void)bytes, (void)to, (void)tag, (void)request;
    return FZ_FAIL(FZ_ERR_COMM, "forked ranks have no messages");
}

fz_status fz_recv_start(const fz_group *group, void *data, size_t bytes, int from, int tag,
                        fz_request *request)
{
    (void)group, (void)data, (void)bytes, (void)from, (void)tag, (void)request;
    return FZ_FAIL(FZ_ERR_COMM, "forked ranks have no messages");
}

fz_status fz_request_wait(fz_request *request)
{
    (void)request;
    return FZ_OK;
}

fz_status fz_request_test(fz_request *request, int *done)
{
    (void)request;
    *done = 1;
    return FZ_OK;
}

#endif
