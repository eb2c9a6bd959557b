/* Tensors read ahead by a thread of its own, so that the disk reads one while another is written:
 * two buffers of the largest. Local.
 */
#ifndef FZ_CHECKPOINT_READ_AHEAD_H
#define FZ_CHECKPOINT_READ_AHEAD_H

#include "checkpoint/stream.h"

typedef struct fz_read_ahead fz_read_ahead;

/* Starts reading tensors list[0 .. n), none with more than `most` elements, by calls of read from
 * the thread alone; list stays the caller's, and context is nobody else's until the stop. */
fz_status fz_read_ahead_start(fz_tensor_read *read, void *context, const int *list, int n,
                              int64_t most, fz_read_ahead **ahead_p);
/* The next one's values, until the call after this. Fails where the list ends. */
fz_status fz_read_ahead_next(fz_read_ahead *ahead, float **x_p);
/* At any time. */
void fz_read_ahead_stop(fz_read_ahead **ahead);

#endif
