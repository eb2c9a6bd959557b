/* The places where a block may meet other ranks. model/ knows nothing of them: it calls these
 * pairs; parallel/ supplies the distributed ones, fz_hooks_local the ones for a process that holds
 * all shards (its own tree is already the whole sum, so they do nothing or copy).
 *
 * Protocol of a sum over shards: the block folds its own count pieces along the tree
 * (core/tree.h), leaving the root of a complete subtree, then
 *     sum_shards_start(x, n)  ...  sum_shards_wait()     x (n) in place: root -> total
 * One request of each kind may be in flight. Buffers must stay until wait.
 */
#ifndef FZ_MODEL_HOOKS_H
#define FZ_MODEL_HOOKS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct fz_hooks {
    void *context;
    fz_status (*sum_shards_start)(void *context, float *x, int64_t n);
    fz_status (*sum_shards_wait)(void *context);
    /* Element-wise maximum over all shards, in place. */
    fz_status (*max_shards_start)(void *context, float *x, int64_t n);
    fz_status (*max_shards_wait)(void *context);
    /* all: floats of all images in image order; shard s's images are [first[s], first[s+1]) with
     * per_image floats each; mine (this process's consecutive images) is copied to its place and
     * the others' are received. first has n_shards + 1 entries. Not called where a process holds
     * all shards: its own images are all of them. */
    fz_status (*gather_images_start)(void *context, float *all, const float *mine,
                                     const int64_t *first, int64_t per_image);
    fz_status (*gather_images_wait)(void *context);
    /* all: bytes of every process, in shard order; mine: this process's. Not called where a process
     * holds all shards. */
    fz_status (*gather_shards_start)(void *context, void *all, const void *mine, size_t bytes);
    fz_status (*gather_shards_wait)(void *context);
} fz_hooks;

/* For one process that holds shards 0 .. n_shards-1. */
extern const fz_hooks fz_hooks_local;

/* x: the subtree root -> total over all shards. */
static inline fz_status fz_sum_shards(const fz_hooks *hooks, float *x, int64_t n)
{
    FZ_TRY(hooks->sum_shards_start(hooks->context, x, n));
    return hooks->sum_shards_wait(hooks->context);
}
static inline fz_status fz_max_shards(const fz_hooks *hooks, float *x, int64_t n)
{
    FZ_TRY(hooks->max_shards_start(hooks->context, x, n));
    return hooks->max_shards_wait(hooks->context);
}
static inline fz_status fz_gather_shards(const fz_hooks *hooks, void *all, const void *mine,
                                         size_t bytes)
{
    FZ_TRY(hooks->gather_shards_start(hooks->context, all, mine, bytes));
    return hooks->gather_shards_wait(hooks->context);
}

#endif
