/* The op table with a clock around every entry and every matrix product: what `florenz bench`
 * prints. Processor seconds of this thread, so that other programs on the machine do not count.
 * Local, one thread, one table at a time. */
#ifndef FZ_LAUNCH_TIMED_OPS_H
#define FZ_LAUNCH_TIMED_OPS_H

#include "model/ops/ops.h"

enum { FZ_TIMED_OPS = 64, FZ_TIMED_PRODUCTS = 4096 };

typedef struct fz_op_time {
    const char *name;
    double seconds;
    double product_seconds; /* of these, inside matrix products (attention has its own) */
    int64_t calls;
} fz_op_time;

typedef struct fz_product_time {
    int64_t m, n, k; /* of the last call, where shapes found no place of their own */
    int64_t calls;
    double seconds, flops;
} fz_product_time;

/* A table that calls ops (the CPU's) and counts, from zero; valid until the next start. */
const fz_ops *fz_timed_ops_start(const fz_ops *ops);
void fz_timed_ops_stop(void);
void fz_timed_ops_reset(void);
/* Ops that were called, the most expensive first; *times_p borrowed until the next call. */
int fz_timed_ops_get(const fz_op_time **times_p);
/* Likewise the shapes of products. */
int fz_timed_products_get(const fz_product_time **products_p);

#endif
