/* What a person sees of the steps: one line that moves on a terminal, plain lines in a file.
 * Local: rank 0's work. */
#ifndef FZ_LAUNCH_PROGRESS_H
#define FZ_LAUNCH_PROGRESS_H

#include <stdbool.h>

#include "parallel/trainer.h"

typedef struct fz_progress {
    bool is_terminal;
    int64_t steps; /* of the whole run */
    int64_t log_every;
    double step_s;   /* running mean */
    double shown_at; /* clock of the last moving line */
} fz_progress;

void fz_progress_init(fz_progress *progress, int64_t steps, int64_t log_every);
/* seconds: of this step, waiting for data and checkpoints included. */
void fz_progress_step(fz_progress *progress, const fz_step_result *result, double seconds,
                      double data_share);
void fz_progress_end(const fz_progress *progress);
/* "4 s", "12 min", "3 h 20 min". Returns out. */
char *fz_duration_text(double seconds, char *out, size_t bytes);

#endif
