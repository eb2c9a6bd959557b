#include "model/hooks.h"

/* All shards are here: the tree over the local ones already is the total. */
static fz_status total_start(void *context, float *x, int64_t n)
{
    (void)context;
    (void)x;
    (void)n;
    return FZ_OK;
}

static fz_status done_wait(void *context)
{
    (void)context;
    return FZ_OK;
}

/* All images are here and already in image order. */
static fz_status gather_start(void *context, float *all, const float *mine, const int64_t *first,
                              int64_t per_image)
{
    (void)context;
    (void)first;
    (void)per_image;
    FZ_CHECK(all == mine, FZ_ERR_ARG,
             "a process that holds all shards has nothing to gather: pass its own images");
    return FZ_OK;
}

static fz_status gather_shards_start(void *context, void *all, const void *mine, size_t bytes)
{
    (void)context;
    (void)bytes;
    FZ_CHECK(all == mine, FZ_ERR_ARG,
             "a process that holds all shards has nothing to gather: it has everything");
    return FZ_OK;
}

const fz_hooks fz_hooks_local = {
    .sum_shards_start = total_start,
    .sum_shards_wait = done_wait,
    .max_shards_start = total_start,
    .max_shards_wait = done_wait,
    .gather_images_start = gather_start,
    .gather_images_wait = done_wait,
    .gather_shards_start = gather_shards_start,
    .gather_shards_wait = done_wait,
};
