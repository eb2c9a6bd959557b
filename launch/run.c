#include "launch/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "launch/continue.h"
#include "launch/layouts.h"
#include "launch/share.h"

enum {
    DEC_START = 1,    /* the decoder starts from eos (model.md 6.3) */
    RANKS_SHOWN = 64, /* of the table of ranks; more go to no one's use */
};

fz_loader_config fz_loader_config_of(const fz_session *s)
{
    const fz_trainer_needs needs = fz_trainer_get_needs(s->trainer);
    return (fz_loader_config){
        .seed = s->train.seed,
        .window = s->config.data.window,
        .global_batch = s->train.global_batch,
        .micro_batch = s->train.micro_batch,
        .balance = (fz_balance)s->config.data.balance,
        .first_micro = needs.first_micro,
        .n_micro = needs.n_micro,
        .n_shards = needs.n_shards,
        .first_shard = needs.first_shard,
        .n_local_shards = needs.n_local_shards,
        .pixels = needs.pixels,
        .image_size = s->model.image_size,
        .image_tokens = fz_image_tokens(&s->model),
        .max_prompt = s->model.max_prompt,
        .max_output = s->model.max_output,
        .enc_vocab = s->model.enc_vocab,
        .dec_vocab = s->model.dec_vocab,
        .dec_start_id = DEC_START,
        .n_threads = (int)s->config.data.threads,
        .n_ahead = (int)s->config.data.ahead,
        .enc_tokenizer = s->enc_tokenizer,
        .dec_tokenizer = s->dec_tokenizer,
    };
}

/* ---- directory, config, checkpoint ---- */

static fz_status open_dir(fz_run *run)
{
    const fz_session *s = &run->session;
    fz_status status = FZ_OK;
    char path[FZ_TEXT_BYTES + 64];
    if (s->world.rank == 0) {
        status = fz_run_dir_open(s->config.run.dir, s->environment.job, &run->dir);
        if (status == FZ_OK)
            status = fz_log_open(fz_run_dir_file(&run->dir, "log.txt", path, sizeof path));
        status = fz_config_blame(&s->config, status);
    }
    void *nothing = NULL;
    size_t n = 0;
    status = fz_share_bytes(s->world.group, status, &nothing, &n, "nothing");
    fz_free(&nothing);
    return status;
}

static fz_status init_weights(fz_run *run)
{
    fz_session *s = &run->session;
    const char *from = s->config.checkpoint.init_from;
    if (!from[0]) {
        fz_trainer_init(s->trainer);
        return FZ_OK;
    }
    /* Every weight comes from there; moments are zero as they were allocated. */
    const fz_status status =
        fz_ckpt_load_weights(s->world.group, from, fz_trainer_state(s->trainer));
    if (status != FZ_OK)
        return fz_config_blame(&s->config,
                               FZ_FAIL(status, "checkpoint.init_from: %s", fz_last_error()->text));
    fz_info("weights from %s", from);
    return FZ_OK;
}

static fz_status check_config(const fz_run *run, const char *const *accept, int n_accept)
{
    const fz_session *s = &run->session;
    return fz_share_status(s->world.group,
                           fz_continue_check_config(&s->config, &run->info,
                                                    fz_ops_cpu_arithmetic_id(), accept, n_accept));
}

static fz_status load_or_init(fz_run *run, const char *const *accept, int n_accept)
{
    fz_session *s = &run->session;
    FZ_TRY(fz_session_find(s, &run->is_continued, &run->info));
    if (run->is_continued) {
        const int64_t newest = run->info.step;
        FZ_TRY(check_config(run, accept, n_accept));
        FZ_TRY(fz_session_load(s, &run->info));
        if (run->info.step != newest) FZ_TRY(check_config(run, accept, n_accept));
    } else {
        memset(&run->info, 0, sizeof run->info);
        FZ_TRY(fz_session_name(&run->session, run->info.run_id));
        FZ_TRY(init_weights(run));
    }
    run->step = run->first_step = run->is_continued ? run->info.step : 0;
    run->samples = run->is_continued ? run->info.samples : 0;
    run->saved_step = run->is_continued ? run->info.step : -1;
    return FZ_OK;
}

/* ---- data ---- */

/* Position of the data: samples consumed, in whole batches. Another global batch that does not
 * divide them begins at the next whole one. */
static void find_position(fz_run *run)
{
    const int64_t batch = run->session.train.global_batch;
    run->first_sample_step = (run->samples + batch - 1) / batch;
    if (run->samples % batch != 0) {
        fz_info("%lld samples are no whole batches of %lld: the data goes on at sample %lld",
                (long long)run->samples, (long long)batch,
                (long long)(run->first_sample_step * batch));
        run->samples = run->first_sample_step * batch;
    }
}

static fz_status open_data(fz_run *run)
{
    fz_session *s = &run->session;
    const fz_config *c = &s->config;
    const bool skip = c->data.on_bad_sample == FZ_BAD_SKIP;
    FZ_TRY(fz_session_tokenizers(s));
    FZ_TRY(fz_session_index(s, "data.train", &c->data.train, &run->train_index));
    if (c->train.eval_every > 0)
        FZ_TRY(fz_session_index(s, "data.eval", &c->data.eval, &run->eval_index));

    const fz_loader_config base = fz_loader_config_of(s);
    fz_loader_config config = base;
    config.index = run->train_index;
    fz_status status = fz_feed_create(&config, s->world.group, skip, &run->feed);
    if (status == FZ_OK && run->eval_index) {
        status = fz_evaluator_create(&base, run->eval_index, run->train_index,
                                     c->train.eval_samples, skip, s->world.group, &run->evaluator);
        run->has_evaluator = status == FZ_OK;
    }
    return fz_share_status(s->world.group, fz_config_blame(c, status));
}

static fz_status check_data(fz_run *run, const char *const *accept, int n_accept)
{
    if (!run->is_continued) return FZ_OK;
    return fz_continue_check_data(&run->session.config, &run->info, run->train_index->fingerprint,
                                  accept, n_accept);
}

/* What the next checkpoint says, besides step and samples. */
static void fill_info(fz_run *run)
{
    const fz_session *s = &run->session;
    fz_ckpt_info *info = &run->info;
    if (run->is_continued) {
        char id[sizeof info->run_id];
        const int64_t moments_start = info->moments_start;
        memcpy(id, info->run_id, sizeof id);
        fz_ckpt_info_reset(info);
        memset(info, 0, sizeof *info);
        memcpy(info->run_id, id, sizeof id);
        info->moments_start = moments_start;
    }
    info->seed = s->train.seed;
    info->data_fingerprint = run->train_index->fingerprint;
    info->config_hash = fz_settings_hash(&fz_config_table, &s->config);
    info->tp = s->layout.shape.tp;
    info->pp = s->layout.shape.pp;
    info->dp = s->layout.shape.dp;
    info->shards = s->layout.n_shards;
    info->lanes = s->layout.n_lanes;
    info->global_batch = s->train.global_batch;
    info->micro_batch = s->train.micro_batch;
    snprintf(info->arithmetic_id, sizeof info->arithmetic_id, "%s", fz_ops_cpu_arithmetic_id());
    info->config = run->config_text;
}

/* ---- what is said ---- */

static void say_ranks(const fz_session *s)
{
    fz_info("%5s %-20s %7s %5s %6s %4s %4s %4s", "rank", "host", "local", "numa", "cores", "pp",
            "dp", "tp");
    for (int r = 0; r < s->world.size && r < RANKS_SHOWN; r++) {
        const fz_place *place = &s->world.places[r];
        const fz_mesh_coord at = fz_mesh_coord_of(s->layout.shape, r);
        fz_info("%5d %-20s %3d/%-3d %5d %6d %4d %4d %4d", r, place->host, place->local_rank,
                place->n_local, place->numa, place->n_cores, at.pp, at.dp, at.tp);
    }
    if (s->world.size > RANKS_SHOWN) fz_info("... and %d more", s->world.size - RANKS_SHOWN);
}

static fz_status say_start(const fz_run *run)
{
    const fz_session *s = &run->session;
    const fz_mesh_shape shape = s->layout.shape;
    fz_layout_choice weight;
    if (s->world.rank != 0) return FZ_OK;
    FZ_TRY(fz_layout_weigh(s->plan, &weight));
    fz_info("run %s in %s; config %016" PRIx64, run->info.run_id, run->dir.path,
            fz_settings_hash(&fz_config_table, &s->config));
    fz_info("model %s: %" PRId64 " parameters, %" PRId64 " trained", s->model.variant,
            s->program->n_elements, s->program->n_trainable);
    say_ranks(s);
    fz_info("layout tp %d pp %d dp %d, %lld shards, %lld lanes, %lld micro-batches of %lld, "
            "bubble %.0f %%; at most %.1f MiB a rank",
            shape.tp, shape.pp, shape.dp, (long long)s->layout.n_shards,
            (long long)s->layout.n_lanes, (long long)s->plan->n_micro,
            (long long)s->train.micro_batch, 100.0 * weight.bubble,
            (double)weight.bytes / (1024.0 * 1024.0));
    fz_info("data: %lld images, %lld samples, %d classes; arithmetic: %s",
            (long long)run->train_index->n_images, (long long)run->train_index->n_annotations,
            run->train_index->n_classes, fz_ops_cpu_arithmetic_id());
    if (run->is_continued)
        fz_info("continues after step %lld (written by tp %d pp %d dp %d)", (long long)run->step,
                run->info.tp, run->info.pp, run->info.dp);
    return FZ_OK;
}

/* ---- files of rank 0 ---- */

static fz_status open_files(fz_run *run)
{
    char path[FZ_TEXT_BYTES + 64];
    int64_t last = 0;
    FZ_TRY(fz_run_dir_write_config(&run->dir, run->config_text));
    FZ_TRY(fz_run_dir_cut_metrics(&run->dir, run->step, &last));
    if (last < run->step)
        fz_warn("metrics.jsonl ends at step %lld, the checkpoint is of step %lld: there is a gap",
                (long long)last, (long long)run->step);
    return fz_metrics_open(fz_run_dir_file(&run->dir, "metrics.jsonl", path, sizeof path),
                           &run->metrics);
}

static fz_status open_outputs(fz_run *run)
{
    const fz_session *s = &run->session;
    fz_status status = say_start(run);
    if (s->world.rank == 0) {
        if (status == FZ_OK) status = open_files(run);
        fz_progress_init(&run->progress, s->train.steps, s->config.run.log_every);
    }
    return fz_agree(s->world.group, status);
}

fz_status fz_run_start(fz_run *run, const fz_options *options, const char *const *accept,
                       int n_accept)
{
    FZ_TRY(fz_session_start(&run->session, options));
    run->world_s = fz_clock_since_exec_s();
    FZ_TRY(fz_session_build(&run->session, FZ_FOR_TRAINING));
    FZ_TRY(fz_session_print(&run->session, &run->config_text));
    FZ_TRY(open_dir(run));
    run->build_s = fz_clock_since_exec_s();
    FZ_TRY(load_or_init(run, accept, n_accept));
    run->load_s = fz_clock_since_exec_s();
    FZ_TRY(open_data(run));
    run->data_s = fz_clock_since_exec_s();
    FZ_TRY(fz_share_status(run->session.world.group, check_data(run, accept, n_accept)));
    find_position(run);
    FZ_TRY(open_outputs(run));
    fill_info(run);
    return fz_saving_start(run);
}

void fz_run_stop(fz_run *run)
{
    fz_saving_stop(run);
    if (run->info.config == run->config_text) run->info.config = NULL;
    fz_ckpt_info_reset(&run->info);
    if (run->has_evaluator) fz_evaluator_reset(&run->evaluator);
    if (run->feed.flags) fz_feed_reset(&run->feed);
    fz_index_destroy(&run->train_index);
    fz_index_destroy(&run->eval_index);
    fz_free(&run->config_text);
    fz_metrics_close(&run->metrics);
    fz_run_dir_close(&run->dir);
}
