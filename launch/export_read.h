/* Tensors of a checkpoint read ahead by a thread of its own, so that the disk reads one while
 * another is written: two buffers of the largest. Local.
 */
#ifndef FZ_LAUNCH_EXPORT_READ_H
#define FZ_LAUNCH_EXPORT_READ_H

#include "checkpoint/stream.h"

typedef struct fz_read_ahead fz_read_ahead;

/* Starts reading tensors list[0 .. n) of reader, which nobody else uses until it is stopped; list
 * stays the caller's. */
fz_status fz_read_ahead_start(fz_ckpt_reader *reader, const int *list, int n,
                              fz_read_ahead **ahead_p);
/* The next one's values, until the call after this. */
fz_status fz_read_ahead_next(fz_read_ahead *ahead, float **x_p);
/* At any time. */
void fz_read_ahead_stop(fz_read_ahead **ahead);

#endif
