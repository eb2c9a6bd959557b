/* The op table with a clock around every entry: what `florenz bench` prints per op. Local, one
 * thread, one table at a time. */
#ifndef FZ_LAUNCH_TIMED_OPS_H
#define FZ_LAUNCH_TIMED_OPS_H

#include "model/ops/ops.h"

enum { FZ_TIMED_OPS = 64 };

typedef struct fz_op_time {
    const char *name;
    double seconds;
    int64_t calls;
} fz_op_time;

/* A table that calls ops and counts; valid until the next call of this function. */
const fz_ops *fz_timed_ops(const fz_ops *ops);
void fz_timed_ops_reset(void);
/* Number of entries; *times_p borrowed. */
int fz_timed_ops_get(const fz_op_time **times_p);

#endif
