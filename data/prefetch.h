/* Worker threads over a few slots of numbered items: what lets the loader work ahead. Local.
 *
 * Items of the slot with the lowest priority number go first; inside a slot in the order given. All
 * calls come from one thread (the owner's); only the work function runs elsewhere, on distinct
 * items, and what it wrote is visible after wait.
 */
#ifndef FZ_DATA_PREFETCH_H
#define FZ_DATA_PREFETCH_H

#include <stdint.h>

#include "core/status.h"

typedef struct fz_prefetch fz_prefetch;

/* thread: 0 .. max(1, n_threads) - 1, for scratch of its own. */
typedef void (*fz_prefetch_work)(void *context, int thread, int slot, int64_t item);

/* n_threads 0: the work is done inside wait, by the owner. Threads take no signals and are sealed
 * against allocation (core/memory.h). */
fz_status fz_prefetch_create(int n_threads, int n_slots, int64_t max_items, fz_prefetch_work work,
                             void *context, fz_prefetch **prefetch_p);
/* Waits for items that have begun, drops the others. */
void fz_prefetch_destroy(fz_prefetch **prefetch);

/* The slot must be idle. items are copied; n at most max_items. */
void fz_prefetch_put(fz_prefetch *prefetch, int slot, int64_t priority, const int32_t *items,
                     int64_t n);
/* Until the slot is idle: all its items done. */
void fz_prefetch_wait(fz_prefetch *prefetch, int slot);
/* Until the slot is idle: items that have not begun are dropped. */
void fz_prefetch_cancel(fz_prefetch *prefetch, int slot);

#endif
