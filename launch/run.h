/* A training run: everything train.c's loop works on, and how it is set up and taken down.
 * Functions are Collective over the world; errors are the same on every rank.
 */
#ifndef FZ_LAUNCH_RUN_H
#define FZ_LAUNCH_RUN_H

#include "launch/evaluate.h"
#include "launch/feed.h"
#include "launch/metrics.h"
#include "launch/progress.h"
#include "launch/run_dir.h"
#include "launch/saving.h"
#include "launch/session.h"

struct fz_run {
    fz_session session;
    fz_run_dir dir;    /* rank 0 */
    char *config_text; /* owned: the effective config */
    fz_ckpt_info info; /* of the checkpoint this run goes on from; then of the next one */
    bool is_continued;
    fz_index *train_index, *eval_index; /* owned */
    fz_feed feed;
    fz_evaluator evaluator;
    bool has_evaluator;
    fz_metrics metrics;   /* rank 0 */
    fz_progress progress; /* rank 0 */
    fz_saving saving;
    int64_t step;                            /* optimizer steps done */
    int64_t samples;                         /* consumed by the run */
    int64_t first_step, first_sample_step;   /* loader step of a step: their difference is fixed */
    int64_t saved_step;                      /* newest committed checkpoint; -1 none */
    int64_t profile_first, profile_last;     /* steps, 0: none */
    double save_s;                           /* from the last save's start to its commit */
    double world_s, build_s, load_s, data_s; /* clock since exec when that was done */
};

/* run: all zero but what the command line says. accept: keys of --accept-change. */
fz_status fz_run_start(fz_run *run, const fz_options *options, const char *const *accept,
                       int n_accept);
void fz_run_stop(fz_run *run);

/* What data/ needs to make this rank's part of every batch. */
fz_loader_config fz_loader_config_of(const fz_session *session);

#endif
