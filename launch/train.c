/* florenz train: start or continue a run, step by step. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/fault.h"
#include "core/log.h"
#include "core/memory.h"
#include "launch/commands.h"
#include "launch/config_yaml.h"
#include "launch/continue.h"
#include "launch/exit_codes.h"
#include "launch/nvtx.h"
#include "launch/run.h"
#include "launch/share.h"
#include "launch/signals.h"

static const fz_option options_table[] = {
    {"--set", "KEY=VALUE", "overrides a key of the config", true},
    {"--accept-change", "KEY", "continue although this refused key differs", true},
    {"--profile", "A:B", "print where the time of steps A to B went (rank 0)", false},
    {"--print-config", NULL, "print the effective config and leave", false},
    {"--help-config", NULL, "describe every key of the config", false},
};
static const fz_command command = {
    .usage = "florenz train CONFIG [OPTION]...",
    .about =
        "Trains, or continues where run.dir's newest checkpoint ends, on any number of ranks:\n"
        "under mpirun, under srun, or alone. USR1, TERM and INT mean: finish the step, save,\n"
        "leave with 75 (run me again).",
    .least_args = 0,
    .most_args = 1,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

enum { STOP_NO, STOP_TIME, STOP_SIGNAL };

/* ---- around the step ---- */

/* Whether the next step and a save would end after run.max_time. */
static bool is_time_up(const fz_run *run)
{
    const double most = run->session.config.run.max_time;
    if (most == FZ_NO_TIME) return false;
    return fz_clock_since_exec_s() + run->progress.step_s + fz_saving_expected_s(run) >= most;
}

static uint8_t wish_to_stop(const fz_run *run)
{
    if (fz_signals_got()) return STOP_SIGNAL;
    return run->session.world.rank == 0 && is_time_up(run) ? STOP_TIME : STOP_NO;
}

static void note_profile(const fz_run *run, bool before)
{
    const int64_t step = run->step + before;
    if (run->profile_first == 0 || run->session.world.rank != 0) return;
    if (before && step == run->profile_first) {
        fz_span_table_enable(1);
        fz_nvtx_attach(true);
    }
    if (before || step != run->profile_last) return;

    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    fz_span_table_enable(0);
    fz_nvtx_attach(false);
    if (!out) return;
    fz_span_table_print(out);
    fclose(out);
    fz_info("steps %lld to %lld, rank 0:", (long long)run->profile_first,
            (long long)run->profile_last);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        fz_info("%s", line);
    free(text);
}

/* Rank 0's lines about a step. A failure is kept for the next agreement. */
static fz_status report_step(fz_run *run, const fz_step_result *result, int64_t n_replaced)
{
    fz_metrics_row row = {.result = result,
                          .samples = run->samples,
                          .step_samples = run->session.train.global_batch,
                          .n_replaced = n_replaced};
    fz_span_shares(row.share_s);
    fz_span_reset_shares();
    if (run->session.world.rank != 0) return FZ_OK;
    for (int i = 0; i < FZ_N_SHARES; i++)
        row.seconds += row.share_s[i];
    const fz_status status = fz_metrics_write(&run->metrics, &row);
    fz_progress_step(&run->progress, result, row.seconds, row.share_s[FZ_SHARE_DATA] / row.seconds);
    if (result->step == run->first_step + 1) {
        const double now = fz_clock_since_exec_s();
        fz_info("first step done %.2f s after the start of the program (MPI and config %.2f, plan "
                "and memory %.2f, weights %.2f, data %.2f, step %.2f)",
                now, run->world_s, run->build_s - run->world_s, run->load_s - run->build_s,
                run->data_s - run->load_s, now - run->data_s);
    }
    return status;
}

static fz_status evaluate(fz_run *run)
{
    fz_evaluation evaluation;
    fz_span_begin("evaluate", FZ_SHARE_OTHER);
    const fz_status status = fz_evaluator_run(&run->evaluator, run->session.trainer, &evaluation);
    fz_span_end();
    FZ_TRY(status);
    fz_info("step %lld: held-out loss %.4f over %lld samples", (long long)run->step,
            evaluation.loss, (long long)evaluation.n_samples);
    fz_status wrote = FZ_OK;
    if (run->session.world.rank == 0)
        wrote = fz_metrics_write_eval(&run->metrics, run->step, &evaluation);
    return fz_agree(run->session.world.group, wrote);
}

/* ---- the step ---- */

static fz_status one_step(fz_run *run, fz_status *pending, uint8_t *stop)
{
    fz_step_batch batch;
    fz_step_result result;
    const int64_t replaced_before = run->feed.n_replaced;

    *stop = wish_to_stop(run);
    note_profile(run, true);
    FZ_TRY(fz_feed_next(&run->feed, run->first_sample_step + run->step - run->first_step, *pending,
                        stop, &batch));
    if (*stop != STOP_NO) return FZ_OK;

    fz_fault_now(FZ_FAULT_KILL_STEP);
    const fz_status status = fz_trainer_step(run->session.trainer, &batch, &result);
    if (status == FZ_ERR_FORMAT) return status; /* a sum over all is not finite: so say all ranks */
    if (status != FZ_OK) {
        /* In the step the ranks do not agree on anything else: whoever fails ends the job. */
        fz_log(FZ_LOG_ERROR, "step %lld: %s", (long long)run->step + 1, fz_last_error()->text);
        fz_world_abort(fz_exit_code(status, run->session.can_continue));
    }
    run->step = result.step;
    run->samples += run->session.train.global_batch;
    *pending = report_step(run, &result, run->feed.n_replaced - replaced_before);
    note_profile(run, false);
    return FZ_OK;
}

static fz_status after_step(fz_run *run, fz_status *pending)
{
    const fz_config *c = &run->session.config;
    const bool evaluates = run->has_evaluator && run->step % c->train.eval_every == 0;
    const bool saves = run->step == run->session.train.steps ||
                       (c->checkpoint.every > 0 && run->step % c->checkpoint.every == 0);
    if (!evaluates && !saves) return FZ_OK;

    /* A line that could not be written must not be followed by a checkpoint that knows it. */
    FZ_TRY(fz_agree(run->session.world.group, *pending));
    *pending = FZ_OK;
    if (evaluates) FZ_TRY(evaluate(run));
    if (!saves) return FZ_OK;
    return run->step == run->session.train.steps ? fz_saving_finish(run) : fz_saving_begin(run);
}

static fz_status loop(fz_run *run, bool *stopped)
{
    fz_status pending = FZ_OK;
    uint8_t stop = STOP_NO;
    fz_span_reset_shares();
    while (run->step < run->session.train.steps) {
        FZ_TRY(one_step(run, &pending, &stop));
        if (stop != STOP_NO) break;
        fz_memory_seal(true); /* what a step needs it has by now */
        FZ_TRY(fz_saving_poll(run));
        FZ_TRY(after_step(run, &pending));
    }
    fz_memory_seal(false);
    FZ_TRY(fz_agree(run->session.world.group, pending));
    *stopped = stop != STOP_NO;
    if (!*stopped) return FZ_OK;
    fz_info("stopping after step %lld: %s", (long long)run->step,
            stop == STOP_SIGNAL ? fz_signal_name(fz_signals_got()) : "run.max_time");
    return fz_saving_finish(run);
}

/* ---- the end ---- */

static fz_status say_end(fz_run *run, double seconds)
{
    const fz_session *s = &run->session;
    const fz_memory_counters memory = fz_memory_get();
    int64_t most[2] = {memory.n_sealed, memory.bytes_peak};
    uint64_t digest = 0;
    FZ_TRY(fz_trainer_digest(s->trainer, &digest));
    FZ_TRY(fz_allreduce_max_int(s->world.group, most, 2));
    if (s->world.rank == 0) fz_progress_end(&run->progress);
    fz_info("steps %lld to %lld in %.1f s; %lld samples replaced", (long long)run->first_step + 1,
            (long long)run->step, seconds, (long long)run->feed.n_replaced);
    fz_info("parameters %016" PRIx64 " after step %lld", digest, (long long)run->step);
    fz_saving_say(run);
    fz_info("memory of a rank: %.1f MiB of the plan, %.1f MiB at most; %lld blocks taken after the "
            "first step",
            (double)fz_trainer_bytes(s->trainer) / (1024.0 * 1024.0),
            (double)most[1] / (1024.0 * 1024.0), (long long)most[0]);
    return FZ_OK;
}

/* Whether a failing system may be tried again: not when the same step failed before. Every rank
 * gets rank 0's answer, so that all leave with one code. */
static void judge_failure(fz_run *run, fz_status status)
{
    fz_session *s = &run->session;
    uint8_t again = 0;
    if (status < FZ_ERR_IO || status == FZ_ERR_COMM || !s->can_continue) return;
    const fz_error error = *fz_last_error();
    if (s->world.rank == 0 && run->dir.lock > 0)
        again = fz_run_dir_failed_again(&run->dir, run->step);
    if (fz_broadcast(s->world.group, &again, sizeof again, 0) == FZ_OK && again)
        s->can_continue = false;
    (void)FZ_FAIL(status, "%s%s", error.text,
                  again ? " (the same step failed before: not tried again)" : "");
}

static fz_status train(fz_run *run, const fz_options *options, const char *const *accept,
                       int n_accept, bool *stopped)
{
    FZ_TRY(fz_signals_start());
    FZ_TRY(fz_run_start(run, options, accept, n_accept));
    if (run->step >= run->session.train.steps) {
        fz_info("train.steps %lld are done: nothing to do", (long long)run->session.train.steps);
        return FZ_OK;
    }
    const double begun = fz_clock_s();
    const fz_status status = loop(run, stopped);
    if (status != FZ_OK && status != FZ_ERR_COMM) fz_saving_settle(run);
    FZ_TRY(status);
    if (run->session.world.rank == 0) fz_run_dir_forget_failure(&run->dir);
    return say_end(run, fz_clock_s() - begun);
}

/* ---- the command ---- */

static int print_config(const fz_options *options)
{
    const char *set[FZ_OPTION_ARGS];
    fz_config config;
    const fz_status status =
        fz_config_load(&config, options->arg[0], set, fz_session_sets(options, set), NULL);
    if (status == FZ_OK) fz_settings_print(&fz_config_table, &config, stdout);
    return fz_exit_with(status, false);
}

static fz_status read_options(const fz_options *options, fz_run *run, const char **accept,
                              int *n_accept)
{
    const char *profile = fz_options_get(options, "--profile");
    for (int i = 0; i < options->n_given; i++)
        if (strcmp(options->given[i].option->name, "--accept-change") == 0)
            accept[(*n_accept)++] = options->given[i].value;
    FZ_TRY(fz_continue_check_accept(accept, *n_accept));
    FZ_CHECK(options->n_args == 1, FZ_ERR_USAGE, "a config is missing; usage: %s", command.usage);
    if (!profile) return FZ_OK;
    long long first = 0, last = 0;
    char behind;
    FZ_CHECK(sscanf(profile, "%lld:%lld%c", &first, &last, &behind) == 2 && first >= 1 &&
                 last >= first,
             FZ_ERR_USAGE, "--profile %s: not of the form A:B with steps 1 <= A <= B", profile);
    run->profile_first = first;
    run->profile_last = last;
    return FZ_OK;
}

int fz_cmd_train(int argc, char **argv)
{
    static fz_run run; /* large, and there is one */
    const char *accept[FZ_OPTION_ARGS];
    fz_options options;
    int n_accept = 0;
    bool stopped = false;
    int code;

    if (!fz_command_begins(&command, argc, argv, &options, &code)) return code;
    if (fz_options_get(&options, "--help-config")) {
        fz_settings_help(&fz_config_table, stdout);
        return FZ_EXIT_DONE;
    }
    fz_status status = read_options(&options, &run, accept, &n_accept);
    if (status != FZ_OK) return fz_exit_with(status, false);
    if (fz_options_get(&options, "--print-config")) return print_config(&options);

    status = train(&run, &options, accept, n_accept, &stopped);
    if (status != FZ_OK) judge_failure(&run, status);
    fz_run_stop(&run);
    code = fz_session_exit(&run.session, status);
    return code == FZ_EXIT_DONE && stopped ? FZ_EXIT_AGAIN : code;
}
