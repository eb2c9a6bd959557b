/* A group of ranks and what they do together on host memory.
 *
 * Every function is Collective over group unless it says Local. Failures of MPI are FZ_ERR_COMM.
 * Counts are elements (int64_t) and may exceed INT_MAX: large transfers are cut inside.
 */
#ifndef FZ_DIST_GROUP_H
#define FZ_DIST_GROUP_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct fz_group fz_group; /* opaque: communicator, rank, size */

int fz_group_rank(const fz_group *group); /* Local. */
int fz_group_size(const fz_group *group); /* Local. */

/* Ranks with the same color, ordered by key, form a new group. The caller destroys it. */
fz_status fz_group_split(const fz_group *group, int color, int key, fz_group **group_p);
void fz_group_destroy(fz_group **group);

/* Makes one status of many: call where ranks may have seen different outcomes, before the next
 * collective, never inside the step. Every rank returns the worst code any brought; its error
 * record carries the text of the lowest rank that brought it ("rank 3: ..."). */
fz_status fz_agree(const fz_group *group, fz_status mine);
/* FZ_ERR_ARG on every rank, naming what, unless all ranks hold the same bytes. */
fz_status fz_same(const fz_group *group, const void *data, size_t bytes, const char *what);

fz_status fz_barrier(const fz_group *group);
fz_status fz_broadcast(const fz_group *group, void *data, size_t bytes, int root);
/* In place. Doubles: exact only where at most one rank contributes a non-zero (documented use). */
fz_status fz_allreduce_sum_double(const fz_group *group, double *x, int64_t n);
fz_status fz_allreduce_sum_int(const fz_group *group, int64_t *x, int64_t n);
fz_status fz_allreduce_sum_uint(const fz_group *group, uint64_t *x, int64_t n); /* mod 2^64 */
fz_status fz_allreduce_max_int(const fz_group *group, int64_t *x, int64_t n);
fz_status fz_allreduce_max_float(const fz_group *group, float *x, int64_t n);
fz_status fz_allreduce_max_bytes(const fz_group *group, uint8_t *x, int64_t n);
/* Equal counts: out has size*bytes. */
fz_status fz_allgather(const fz_group *group, const void *mine, size_t bytes, void *all);
/* floats with own counts; counts[size] known to all; all is laid out back to back. In place where
 * mine already lies at its place in all. */
fz_status fz_allgatherv_float(const fz_group *group, const float *mine, const int64_t *counts,
                              float *all);
/* Bytes with own counts, gathered at root only (all, counts NULL elsewhere is fine). */
fz_status fz_gatherv_bytes(const fz_group *group, const void *mine, int64_t n_mine, void *all,
                           const int64_t *counts, int root);

/* host[r]: the lowest rank of the group on the host of rank r. host has the group's size. */
fz_status fz_group_hosts(const fz_group *group, int64_t *host);

/* Point to point inside the group, non-blocking; Local, matched by (peer, tag, order). A request
 * is the caller's struct; wait on a never-started or finished one returns at once. */
typedef struct fz_request {
    void *impl[2];
} fz_request;
fz_status fz_send_start(const fz_group *group, const void *data, size_t bytes, int to, int tag,
                        fz_request *request);
fz_status fz_recv_start(const fz_group *group, void *data, size_t bytes, int from, int tag,
                        fz_request *request);
fz_status fz_request_wait(fz_request *request);
fz_status fz_request_test(fz_request *request, int *done); /* drives progress */

#endif
