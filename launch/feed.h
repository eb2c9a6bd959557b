/* The loader under one agreement per step: what every rank must know before the step (a sample that
 * somebody could not read, a loader that failed, a wish to stop) travels in one maximum over bytes.
 */
#ifndef FZ_LAUNCH_FEED_H
#define FZ_LAUNCH_FEED_H

#include "data/loader.h"
#include "dist/group.h"

enum { FZ_WISH_STOP, FZ_WISH_STATUS, FZ_N_WISHES };

typedef struct fz_feed {
    fz_loader *loader;     /* owned */
    const fz_group *group; /* borrowed: the world */
    bool skip;             /* data.on_bad_sample */
    int64_t global_batch;
    uint8_t *flags;     /* owned (global_batch + FZ_N_WISHES) */
    int64_t n_replaced; /* positions replaced so far */
} fz_feed;

/* Local. */
fz_status fz_feed_create(const fz_loader_config *config, const fz_group *group, bool skip,
                         fz_feed *feed);
void fz_feed_reset(fz_feed *feed);

/* The batch of this loader step, after bad samples were replaced or found to be fatal.
 * Collective over the group. wish[FZ_WISH_STOP]: in, this rank's wish (0 none); out, the largest of
 * all ranks; if it is not 0 there is no batch and FZ_OK. mine: a failure of this rank since the
 * last call; any rank's failure becomes everybody's. */
fz_status fz_feed_next(fz_feed *feed, int64_t step, fz_status mine, uint8_t *wish,
                       fz_step_batch *batch);

#endif
