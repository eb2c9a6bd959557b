#include "checkpoint/async.h"
#include "core/clock.h"

/* The caller waits: no copy is needed. */
static fz_status save(fz_saver *saver, const fz_ckpt_info *info, int64_t *bytes)
{
    fz_save_report report;

    fz_ckpt_save_start(saver, info);
    const fz_status status = fz_ckpt_save_wait(saver, &report);
    if (status != FZ_OK) return status;
    *bytes = report.bytes;
    if (report.event == FZ_SAVE_COMMITTED) return FZ_OK;
    return fz_fail(report.error.status, report.error.file, report.error.line, report.error.func,
                   "%s", report.error.text);
}

fz_status fz_ckpt_save(const fz_group *world, const char *dir, const fz_state *state,
                       const fz_ckpt_info *info, int keep, fz_ckpt_save_stats *stats)
{
    const fz_saver_config config = {.dir = dir, .state = state, .keep = keep};
    const double start = fz_clock_s();
    fz_saver *saver = NULL;
    int64_t bytes = 0;

    fz_span_begin("checkpoint save", FZ_SHARE_CKPT);
    fz_status status = fz_saver_create(world, &config, &saver);
    if (status == FZ_OK) status = save(saver, info, &bytes);
    fz_saver_destroy(&saver);
    fz_span_end();
    if (status == FZ_OK && stats)
        *stats = (fz_ckpt_save_stats){.bytes = bytes, .seconds = fz_clock_s() - start};
    return status;
}
