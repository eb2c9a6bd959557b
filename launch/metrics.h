/* metrics.jsonl: one JSON object a line, one line a step; keys are documented in docs/metrics.md.
 * Local: rank 0's work. */
#ifndef FZ_LAUNCH_METRICS_H
#define FZ_LAUNCH_METRICS_H

#include <stdio.h>

#include "core/clock.h"
#include "launch/evaluate.h"
#include "parallel/trainer.h"

typedef struct fz_metrics {
    int fd; /* 0: closed */
    char path[600];
} fz_metrics;

typedef struct fz_metrics_row {
    const fz_step_result *result;
    int64_t samples; /* consumed by the run */
    int64_t step_samples;
    int64_t n_replaced; /* bad samples replaced in this step */
    double seconds;     /* since the row before: the shares are shares of it */
    double share_s[FZ_N_SHARES];
} fz_metrics_row;

/* Appends. */
fz_status fz_metrics_open(const char *path, fz_metrics *metrics);
void fz_metrics_close(fz_metrics *metrics);
/* A line is one write, so that a crash leaves at most one that is cut. FZ_ERR_IO. */
fz_status fz_metrics_write(fz_metrics *metrics, const fz_metrics_row *row);
fz_status fz_metrics_write_eval(fz_metrics *metrics, int64_t step, const fz_evaluation *evaluation);
/* To disk: before a checkpoint is, so that none ever knows more steps than the file. */
fz_status fz_metrics_sync(fz_metrics *metrics);

/* "data", "compute", ... */
const char *fz_share_name(fz_share share);

#endif
