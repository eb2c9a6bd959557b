#include "launch/saving.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "launch/run.h"

/* ---- start and stop ---- */

/* By rank 0's thread, before a checkpoint is committed: none ever knows more steps than the file.
 */
static fz_status sync_metrics(void *context)
{
    fz_run *run = context;
    return fz_metrics_sync(&run->metrics);
}

static void before_update(void *context)
{
    fz_run *run = context;
    fz_ckpt_save_release(run->saving.saver);
}

fz_status fz_saving_start(fz_run *run)
{
    fz_session *s = &run->session;
    fz_saver_config config = {.dir = s->checkpoints,
                              .state = fz_trainer_state(s->trainer),
                              .keep = (int)s->config.checkpoint.keep,
                              .keep_every = s->config.checkpoint.keep_every,
                              .before_commit = sync_metrics,
                              .context = run};

    config.snapshot = fz_trainer_snapshot(s->trainer, &config.snapshot_bytes);
    FZ_TRY(fz_saver_create(s->world.group, &config, &run->saving.saver));
    fz_trainer_set_before_update(s->trainer, before_update, run);
    return FZ_OK;
}

void fz_saving_stop(fz_run *run)
{
    if (!run->saving.saver) return;
    fz_trainer_set_before_update(run->session.trainer, NULL, NULL);
    fz_saver_destroy(&run->saving.saver);
}

/* ---- what became of it ---- */

static fz_status note_commit(fz_run *run, const fz_save_report *report)
{
    fz_saving *saving = &run->saving;

    if (run->saved_step < 0)
        fz_info("a signal needs one step and one save (this one %.2f s) before the job is ended; "
                "mpirun ends it 1 s after TERM unless OMPI_MCA_odls_base_sigkill_timeout is larger",
                report->total_s);
    run->saved_step = report->step;
    run->save_s = report->total_s;
    run->session.can_continue = true;
    saving->n_committed++;
    saving->n_failed_in_a_row = 0;
    saving->write_s += report->write_s;
    if (report->copy_s > saving->copy_s) saving->copy_s = report->copy_s;
    if (report->longest_held_s > saving->held_s) saving->held_s = report->longest_held_s;
    fz_info("checkpoint of step %lld in %.2f s (copied in %.1f ms, written in %.2f s; training was "
            "held up for %.1f ms besides)",
            (long long)report->step, report->total_s, 1e3 * report->copy_s, report->write_s,
            1e3 * report->held_s);
    return FZ_OK;
}

static fz_status note_failure(fz_run *run, const fz_save_report *report)
{
    const fz_session *s = &run->session;
    fz_saving *saving = &run->saving;
    const long long most = (long long)s->config.checkpoint.max_failures;

    saving->n_failed++;
    saving->n_failed_in_a_row++;
    FZ_CHECK(
        saving->n_failed_in_a_row < most, report->error.status,
        "checkpoint.max_failures: %lld checkpoints in a row came to nothing; that of step %lld: "
        "%s",
        most, (long long)report->step, report->error.text);
    if (s->world.rank == 0)
        fz_warn("no checkpoint of step %lld, training goes on (%lld of %lld in a row): %s",
                (long long)report->step, (long long)saving->n_failed_in_a_row, most,
                report->error.text);
    return FZ_OK;
}

static fz_status note(fz_run *run, const fz_save_report *report)
{
    switch (report->event) {
    case FZ_SAVE_COMMITTED:
        return note_commit(run, report);
    case FZ_SAVE_FAILED:
        return note_failure(run, report);
    case FZ_SAVE_NOTHING:
        return FZ_OK;
    }
    return FZ_OK;
}

/* ---- a save ---- */

static void start(fz_run *run)
{
    run->info.step = run->step;
    run->info.samples = run->samples;
    fz_ckpt_save_start(run->saving.saver, &run->info);
}

/* Tables are taken while the ranks' files are put together, in steps too. */
static fz_status wait(fz_run *run, fz_save_report *report)
{
    fz_memory_seal(false);
    fz_span_begin("checkpoint", FZ_SHARE_CKPT);
    const fz_status status = fz_ckpt_save_wait(run->saving.saver, report);
    fz_span_end();
    return status;
}

fz_status fz_saving_begin(fz_run *run)
{
    fz_saving *saving = &run->saving;
    fz_save_report report;

    if (fz_saver_is_busy(saving->saver)) {
        saving->n_skipped++;
        if (run->session.world.rank == 0)
            fz_warn("checkpoint of step %lld is skipped: that of step %lld is still being written; "
                    "make checkpoint.every larger",
                    (long long)run->step, (long long)run->info.step);
        return FZ_OK;
    }
    start(run);
    if (run->session.config.checkpoint.async) return FZ_OK;
    FZ_TRY(wait(run, &report));
    return note(run, &report);
}

fz_status fz_saving_poll(fz_run *run)
{
    fz_save_report report;

    if (!fz_saver_is_busy(run->saving.saver)) return FZ_OK;
    fz_memory_seal(false);
    const fz_status status = fz_ckpt_save_poll(run->saving.saver, &report);
    fz_memory_seal(true);
    FZ_TRY(status);
    return note(run, &report);
}

fz_status fz_saving_finish(fz_run *run)
{
    fz_save_report report;

    FZ_TRY(wait(run, &report));
    FZ_TRY(note(run, &report));
    if (run->saved_step == run->step) return FZ_OK;
    start(run);
    FZ_TRY(wait(run, &report));
    if (report.event == FZ_SAVE_COMMITTED) return note_commit(run, &report);
    run->saving.n_failed++;
    return FZ_FAIL(report.error.status, "%s", report.error.text);
}

void fz_saving_settle(fz_run *run)
{
    const fz_error error = *fz_last_error();
    fz_save_report report;

    if (!run->saving.saver || !fz_saver_is_busy(run->saving.saver)) return;
    if (wait(run, &report) == FZ_OK && note(run, &report) != FZ_OK)
        fz_warn("%s", fz_last_error()->text);
    (void)fz_fail(error.status, error.file, error.line, error.func, "%s", error.text);
}

double fz_saving_expected_s(const fz_run *run)
{
    const bool is_busy = run->saving.saver && fz_saver_is_busy(run->saving.saver);
    return (is_busy ? 2 : 1) * run->save_s;
}

void fz_saving_say(const fz_run *run)
{
    const fz_saving *s = &run->saving;
    fz_info(
        "checkpoints: %lld committed, %lld skipped, %lld failed; longest copy %.1f ms, training "
        "held up for %.1f ms at most besides, %.2f s of writing",
        (long long)s->n_committed, (long long)s->n_skipped, (long long)s->n_failed, 1e3 * s->copy_s,
        1e3 * s->held_s, s->write_s);
}
