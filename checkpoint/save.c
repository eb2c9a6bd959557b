#include <stdio.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/target.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"

typedef struct save {
    const fz_group *world; /* borrowed, like all of the caller's */
    const char *dir;
    const fz_state *state;
    const fz_ckpt_info *info;
    char base[FZ_STEP_NAME_BYTES]; /* "" where nothing is frozen */
    uint64_t (*sums)[2];           /* owned: digests of all tensors */
    uint64_t *views;               /* owned: and of this rank's views */
    int64_t bytes;                 /* written by this rank */
} save;

static fz_status write_directory(save *s, const char *name, unsigned mask)
{
    fz_target *t = NULL;

    fz_status status = fz_agree(s->world, FZ_NEW(&t, 1));
    if (status != FZ_OK) {
        fz_free(&t);
        return status;
    }
    *t = (fz_target){.world = s->world,
                     .dir = s->dir,
                     .state = s->state,
                     .info = s->info,
                     .mask = mask,
                     .views = s->views};
    status = fz_target_write(t, name);
    if (status == FZ_OK) status = fz_target_commit(t, name, s->base, s->sums);
    s->bytes += fz_shard_bytes(&t->shard);
    fz_target_reset(t, status == FZ_OK || status == FZ_ERR_COMM);
    fz_free(&t);
    return status;
}

static fz_status write_base(save *s)
{
    bool is_there = false;

    fz_base_name(s->base, s->state, s->sums);
    if (!s->base[0]) return FZ_OK;
    FZ_TRY(fz_base_is_there(s->world, s->dir, s->base, &is_there));
    return is_there ? FZ_OK : write_directory(s, s->base, FZ_MASK_FROZEN);
}

static fz_status allocate(save *s)
{
    FZ_TRY(fz_save_check(s->state, s->info));
    FZ_TRY(FZ_NEW(&s->sums, FZ_N_STATE_KINDS * s->state->n_tensors));
    return FZ_NEW(&s->views, s->state->n_views);
}

static fz_status save_all(save *s, int keep)
{
    const bool is_first = fz_group_rank(s->world) == 0;
    char name[FZ_STEP_NAME_BYTES];

    FZ_TRY(fz_agree(s->world, allocate(s)));
    if (is_first) {
        fz_directory_recover(s->dir);
        fz_directory_clean(s->dir);
    }
    FZ_TRY(fz_state_digests(s->world, s->state, s->sums, s->views));
    FZ_TRY(write_base(s));
    fz_step_name(name, s->info->step);
    FZ_TRY(write_directory(s, name, FZ_MASK_TRAINED));
    if (!is_first) return FZ_OK;
    /* Committed: what follows is tidying up, and no reason to call the save a failure. */
    if (fz_directory_set_latest(s->dir, name) != FZ_OK) fz_warn("%s", fz_last_error()->text);
    fz_directory_prune(s->dir, s->info->step, keep);
    return FZ_OK;
}

fz_status fz_ckpt_save(const fz_group *world, const char *dir, const fz_state *state,
                       const fz_ckpt_info *info, int keep, fz_ckpt_save_stats *stats)
{
    save s = {.world = world, .dir = dir, .state = state, .info = info};
    const double start = fz_clock_s();

    fz_span_begin("checkpoint save", FZ_SHARE_CKPT);
    const fz_status status = save_all(&s, keep);
    fz_span_end();
    fz_free(&s.sums);
    fz_free(&s.views);
    if (status == FZ_OK && stats)
        *stats = (fz_ckpt_save_stats){.bytes = s.bytes, .seconds = fz_clock_s() - start};
    return status;
}
