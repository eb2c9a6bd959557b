#include "launch/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"

void fz_progress_init(fz_progress *progress, int64_t steps, int64_t log_every)
{
    *progress = (fz_progress){
        .is_terminal = isatty(STDERR_FILENO) != 0, .steps = steps, .log_every = log_every};
}

char *fz_duration_text(double seconds, char *out, size_t bytes)
{
    if (seconds < 120.0)
        snprintf(out, bytes, "%.0f s", seconds);
    else if (seconds < 7200.0)
        snprintf(out, bytes, "%.0f min", seconds / 60.0);
    else
        snprintf(out, bytes, "%d h %d min", (int)(seconds / 3600.0), (int)(seconds / 60.0) % 60);
    return out;
}

void fz_progress_step(fz_progress *p, const fz_step_result *result, double seconds,
                      double data_share)
{
    char left[64], text[256];
    /* Follows the last twenty steps or so: the first one, which warms up, is soon forgotten. */
    p->step_s = p->step_s > 0.0 ? 0.95 * p->step_s + 0.05 * seconds : seconds;
    fz_duration_text(p->step_s * (double)(p->steps - result->step), left, sizeof left);
    snprintf(text, sizeof text,
             "step %lld/%lld  loss %.4f  grad %.3f  lr %.2e  %.0f ms  %.1f GFLOP/s  data %.0f %%  "
             "%s left",
             (long long)result->step, (long long)p->steps, (double)result->loss,
             (double)result->grad_norm, (double)result->lr, 1e3 * seconds,
             1e-9 * result->flops / seconds, 100.0 * data_share, left);

    const bool is_due =
        result->step == 1 || result->step % p->log_every == 0 || result->step == p->steps;
    if (!p->is_terminal || result->step == p->steps) { /* the last one stays to be read */
        if (is_due) fz_info("%s", text);
        return;
    }
    if (is_due) fz_log_to_file("%s", text);
    const double now = fz_clock_s();
    if (now - p->shown_at < 0.1) return;
    p->shown_at = now;
    fz_log_progress(text);
}

void fz_progress_end(const fz_progress *progress)
{
    if (progress->is_terminal) fz_log_progress(NULL);
}
