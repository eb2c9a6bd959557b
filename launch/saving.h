/* Checkpoints of a run: when one is written, what becomes of it, and how often it may fail.
 * Functions are Collective over the world.
 */
#ifndef FZ_LAUNCH_SAVING_H
#define FZ_LAUNCH_SAVING_H

#include "checkpoint/async.h"

typedef struct fz_run fz_run;

typedef struct fz_saving {
    fz_saver *saver; /* owned */
    int64_t n_committed, n_skipped, n_failed;
    int64_t n_failed_in_a_row;
    double copy_s, held_s; /* the longest copy; the longest a call held up training besides */
    double write_s;        /* all writing */
} fz_saving;

/* Makes the thread, and the trainer wait for it where it must. */
fz_status fz_saving_start(fz_run *run);
/* Waits for what is in flight and says what became of it. The error record is kept. */
void fz_saving_settle(fz_run *run);
void fz_saving_stop(fz_run *run); /* Local. */

/* The step that is done is due for a checkpoint: begins one, or skips it while the last is being
 * written. */
fz_status fz_saving_begin(fz_run *run);
/* After every step: says what became of the one in flight. Fails when checkpoint.max_failures in a
 * row came to nothing. */
fz_status fz_saving_poll(fz_run *run);
/* Commits the step that is done, unless it is, and waits for it. A failure is the run's. */
fz_status fz_saving_finish(fz_run *run);
/* Rank 0's seconds until a step that ends now would be committed, as the last ones took. Local. */
double fz_saving_expected_s(const fz_run *run);
/* One line at the end. */
void fz_saving_say(const fz_run *run);

#endif
