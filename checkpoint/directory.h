/* The directory that holds checkpoints: names, what is in it, what may go. Only rank 0 calls these.
 * Local.
 *
 *   step-000012000             committed
 *   .step-000012500.tmp-...    being written, or left by a killed save
 *   .step-000012000.old-...    was replaced by one of the same step; comes back if the new one did
 *                              not get its name
 */
#ifndef FZ_CHECKPOINT_DIRECTORY_H
#define FZ_CHECKPOINT_DIRECTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum { FZ_STEP_NAME_BYTES = 64 };
void fz_step_name(char name[FZ_STEP_NAME_BYTES], int64_t step);

/* Steps of all step-* directories, descending; owned by the caller. No directory: none. */
fz_status fz_directory_steps(const char *dir, int64_t **steps_p, int *n_p);

/* Gives replaced steps their name back where the new one is not there, then removes what killed
 * saves left. What cannot be changed is a warning. */
void fz_directory_recover(const char *dir);
void fz_directory_clean(const char *dir);

/* Gives tmp its final name, durably; one that has the name already is replaced. On failure tmp and
 * the other are as before. Both names are relative to dir. */
fz_status fz_directory_commit(const char *dir, const char *tmp, const char *name);

/* Points `latest` at name. Advisory. */
fz_status fz_directory_set_latest(const char *dir, const char *name);

/* Takes a name out of sight in one call, so that no kill leaves half of it, then removes it.
 * Trouble is a warning. */
void fz_directory_drop(const char *dir, const char *name);

/* Keeps the newest `keep` acceptable steps up to newest (0: all), all steps that are multiples of
 * keep_every (0: none), and the bases that any step refers to. Steps after newest belong to a run
 * that was taken back; they stay and do not count. */
void fz_directory_prune(const char *dir, int64_t newest, int keep, int64_t keep_every);

#endif
