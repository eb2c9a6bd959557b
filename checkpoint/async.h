/* Saves behind the training (docs/design/0009-asynchronous-save.md): a copy at a step boundary, a
 * thread that writes it, and a commit that everybody learns of when it next asks.
 *
 *   start    copies what this rank writes and hands it to its thread
 *   release  before the state changes: until the thread has compared what others write
 *   poll     at step boundaries: gathers the tables when all ranks have written, lets rank 0's
 *            thread commit, reports the outcome
 *   wait     polls until nothing is in flight: at the end, at a signal, before a load
 *
 * All MPI calls are made by the caller's thread. While a save is in flight its thread is the only
 * one that may call HDF5.
 */
#ifndef FZ_CHECKPOINT_ASYNC_H
#define FZ_CHECKPOINT_ASYNC_H

#include "checkpoint/checkpoint.h"

typedef struct fz_saver fz_saver;

typedef struct fz_saver_config {
    const char *dir;       /* borrowed */
    const fz_state *state; /* borrowed: the live one */
    void *snapshot;        /* borrowed; room for the copy; NULL: the state stays as it is until */
    size_t snapshot_bytes; /* the save is done, which is then waited for                        */
    int keep;              /* newest steps; 0: all */
    int64_t keep_every;    /* and all multiples of this; 0: none */
    fz_status (*before_commit)(void *context); /* by rank 0's thread, or NULL */
    void *context;
} fz_saver_config;

typedef enum fz_save_event {
    FZ_SAVE_NOTHING, /* new */
    FZ_SAVE_COMMITTED,
    FZ_SAVE_FAILED /* given up on all ranks, nothing is left of it */
} fz_save_event;

typedef struct fz_save_report { /* the same on every rank but for bytes */
    fz_save_event event;
    int64_t step;
    double copy_s;         /* of the slowest rank: the copy at the start */
    double write_s;        /* of the slowest rank: digests and its file */
    double total_s;        /* from start to the poll that told */
    double held_s;         /* of the slowest rank: all else that start, poll and release took */
    double longest_held_s; /* and the longest of these calls */
    int64_t bytes;         /* COMMITTED: written by this rank alone */
    fz_error error;        /* FAILED: why, with the rank */
} fz_save_report;

/* Bytes of a copy of what this rank writes. Local. */
size_t fz_snapshot_bytes(const fz_state *state);

/* Makes the thread, and removes what killed saves left in dir. Collective over world. */
fz_status fz_saver_create(const fz_group *world, const fz_saver_config *config, fz_saver **saver_p);
/* Waits for the thread. What was in flight is not committed: wait first. Local. */
void fz_saver_destroy(fz_saver **saver);

/* Whether a save is in flight: none may be started. The same on every rank. Local. */
bool fz_saver_is_busy(const fz_saver *saver);
/* Begins a save of step info->step; none may be in flight. info->config must stay until it is done.
 * Trouble of any kind is told by a later poll. Local, but to be called by all ranks. */
void fz_ckpt_save_start(fz_saver *saver, const fz_ckpt_info *info);
/* To be called before trained weights or moments change after a start. Local. */
void fz_ckpt_save_release(fz_saver *saver);
/* A failed save is no failure of the poll, unless it shows that training must not go on: a copy of
 * a weight that differs from its owner's (FZ_ERR_DEVICE), a state that is wrong (FZ_ERR_ARG), or
 * the ranks cannot talk. Free of charge while nothing is in flight. Collective over world. */
fz_status fz_ckpt_save_poll(fz_saver *saver, fz_save_report *report);
/* Polls until nothing is in flight; the report is that of what was. Collective over world. */
fz_status fz_ckpt_save_wait(fz_saver *saver, fz_save_report *report);

#endif
