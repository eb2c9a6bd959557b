/* Which rank reads which stored block for the whole job, and what it sends to whom in which round
 * (docs/design/0010). A pure function of index, wants and hosts: every rank makes all of it and
 * keeps its own part. Local.
 */
#ifndef FZ_CHECKPOINT_LOAD_PLAN_H
#define FZ_CHECKPOINT_LOAD_PLAN_H

#include "checkpoint/source.h"
#include "checkpoint/wants.h"

enum { FZ_LOAD_SOURCES = 2 };

typedef struct fz_load_cut { /* what a class wants of one block of one row; never empty */
    int64_t block, row, want;
    int32_t class_n, n; /* elements */
} fz_load_cut;

typedef struct fz_load_block {
    int32_t source, kind;
    int64_t file, begin, end; /* bytes of the file */
    int64_t first_cut;        /* in cuts; the next block's ends them */
    int32_t reader;
    bool is_shared; /* others than its reader need it */
} fz_load_block;

typedef struct fz_load_message { /* the cuts of one class of one block, packed */
    int64_t block, first_cut, n_cuts, bytes;
    int32_t peer, round;
} fz_load_message;

typedef struct fz_load_plan {
    int64_t n_blocks;
    fz_load_block
        *blocks; /* owned: [n_blocks + 1], those that anybody needs, in order of the disk */
    int64_t n_cuts;
    fz_load_cut *cuts; /* owned: by block, class, row, want */
    int n_rounds;
    /* This rank's, by round: what it sends (a block's messages side by side) and what it gets. */
    int64_t n_sends, n_receives, send_room, receive_room;
    fz_load_message *sends, *receives;  /* owned */
    int64_t send_bytes, receive_bytes;  /* the most in one round: the buffers */
    int64_t n_in_flight;                /* the most messages in one round */
    int64_t bytes_of_job, bytes_wanted; /* read by all ranks; elements that go to any rank, * 4 */
} fz_load_plan;

typedef struct fz_load_plan_args {
    const fz_source *sources; /* [FZ_LOAD_SOURCES]; those without wants may be empty */
    const fz_wants *wants;
    const int64_t *hosts; /* [wants->size]: equal numbers below size for ranks of one host */
    int rank;
    int64_t round_bytes; /* a rank sends and receives no more in a round, unless one message is
                            longer */
} fz_load_plan_args;

/* FZ_ERR_FORMAT for a want that the fragments do not fill; the same on every rank. */
fz_status fz_load_plan_make(const fz_load_plan_args *args, fz_load_plan *plan);
void fz_load_plan_reset(fz_load_plan *plan);
/* round_bytes of later loads of this process, 64 MiB at first. Tests make it small. */
void fz_load_set_round_bytes(int64_t bytes);
size_t fz_load_plan_bytes(const fz_load_plan *plan); /* that it holds */

#endif
