/* A run directory: who uses it, and the files in it (design.md 9). Local: rank 0's work.
 *
 *   config.yaml   effective          metrics.jsonl  one line a step
 *   log.txt                          checkpoints/
 *   lock          who uses it        failed         the step that the system failed in
 */
#ifndef FZ_LAUNCH_RUN_DIR_H
#define FZ_LAUNCH_RUN_DIR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/settings.h"

typedef struct fz_run_dir {
    char path[FZ_TEXT_BYTES];
    int lock; /* file descriptor; 0: none */
} fz_run_dir;

/* Makes and locks it. FZ_ERR_USAGE names the job that uses it; the lock of a process that is gone
 * is taken over. job may be NULL. */
fz_status fz_run_dir_open(const char *path, const char *job, fz_run_dir *dir);
void fz_run_dir_close(fz_run_dir *dir);
/* Whether another process has the lock of that run directory. It is not taken. */
bool fz_run_dir_in_use(const char *path);

/* path/name. Returns out. */
char *fz_run_dir_file(const fz_run_dir *dir, const char *name, char *out, size_t bytes);
fz_status fz_run_dir_write_config(const fz_run_dir *dir, const char *text);
/* Leaves only whole lines of steps <= step in metrics.jsonl; *last_p: the last step kept, 0 none.
 */
fz_status fz_run_dir_cut_metrics(const fz_run_dir *dir, int64_t step, int64_t *last_p);
/* Notes that the system failed in this step; true if it was noted for the same step before. */
bool fz_run_dir_failed_again(const fz_run_dir *dir, int64_t step);
/* The step that failed is behind us. */
void fz_run_dir_forget_failure(const fz_run_dir *dir);

#endif
