#include "launch/feed.h"

#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"

fz_status fz_feed_create(const fz_loader_config *config, const fz_group *group, bool skip,
                         fz_feed *feed)
{
    *feed = (fz_feed){.group = group, .skip = skip, .global_batch = config->global_batch};
    FZ_TRY(FZ_NEW(&feed->flags, config->global_batch + FZ_N_WISHES));
    return fz_loader_create(config, &feed->loader);
}

void fz_feed_reset(fz_feed *feed)
{
    fz_loader_destroy(&feed->loader);
    fz_free(&feed->flags);
}

/* Maximum over all ranks of the bad flags, the wish to stop, and the worst status. */
static fz_status exchange(fz_feed *feed, fz_status mine, uint8_t *wish)
{
    uint8_t *wishes = feed->flags + feed->global_batch;
    memset(feed->flags, 0, (size_t)feed->global_batch);
    if (mine == FZ_OK) memcpy(feed->flags, fz_loader_bad(feed->loader), (size_t)feed->global_batch);
    wishes[FZ_WISH_STOP] = *wish;
    wishes[FZ_WISH_STATUS] = (uint8_t)mine;
    if (fz_group_size(feed->group) == 1) return mine;

    fz_span_begin("agree", FZ_SHARE_COMM);
    const fz_status status =
        fz_allreduce_max_bytes(feed->group, feed->flags, feed->global_batch + FZ_N_WISHES);
    fz_span_end();
    FZ_TRY(status);
    *wish = wishes[FZ_WISH_STOP];
    return wishes[FZ_WISH_STATUS] ? fz_agree(feed->group, mine) : FZ_OK;
}

static fz_status refuse_bad(const fz_feed *feed)
{
    const char *text = fz_loader_bad_text(feed->loader);
    fz_status status = FZ_OK;
    if (text[0])
        status = FZ_FAIL(FZ_ERR_FORMAT, "%s (data.on_bad_sample: skip would replace it)", text);
    return fz_agree(feed->group, status);
}

static fz_status replace_bad(fz_feed *feed, int64_t step)
{
    const char *text = fz_loader_bad_text(feed->loader);
    if (text[0]) fz_warn("%s: replaced by another draw", text);
    for (int64_t i = 0; i < feed->global_batch; i++)
        feed->n_replaced += feed->flags[i] != 0;
    FZ_TRY(fz_loader_replace(feed->loader, feed->flags));
    return fz_loader_prepare(feed->loader, step);
}

fz_status fz_feed_next(fz_feed *feed, int64_t step, fz_status mine, uint8_t *wish,
                       fz_step_batch *batch)
{
    fz_span_begin("data", FZ_SHARE_DATA);
    fz_status status = mine;
    if (status == FZ_OK) status = fz_loader_prepare(feed->loader, step);
    for (;;) {
        status = exchange(feed, status, wish);
        if (status != FZ_OK || *wish) break;
        if (!memchr(feed->flags, 1, (size_t)feed->global_batch)) {
            status = fz_loader_get(feed->loader, batch);
            break;
        }
        if (!feed->skip) {
            status = refuse_bad(feed);
            break;
        }
        status = replace_bad(feed, step);
    }
    fz_span_end();
    return status;
}
