#include "launch/session.h"

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/direct.h"
#include "checkpoint/directory.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/rng.h"
#include "launch/config_yaml.h"
#include "launch/continue.h"
#include "launch/exit_codes.h"
#include "launch/layouts.h"
#include "launch/share.h"

int fz_session_sets(const fz_options *options, const char *set[FZ_OPTION_ARGS])
{
    int n = 0;
    for (int i = 0; i < options->n_given; i++)
        if (strcmp(options->given[i].option->name, "--set") == 0)
            set[n++] = options->given[i].value;
    return n;
}

/* A rank that fails inside the making of groups fails alone: the others wait for it in the next
 * one, and there is nothing yet to agree over. Errors of usage are the same on all. */
static fz_status or_abort(fz_status status)
{
    if (status == FZ_OK || status == FZ_ERR_USAGE) return status;
    fz_log(FZ_LOG_ERROR, "%s", fz_last_error()->text);
    fz_world_abort(fz_exit_code(status, false));
}

fz_status fz_session_start(fz_session *session, const fz_options *options)
{
    const char *set[FZ_OPTION_ARGS];
    const int n_set = fz_session_sets(options, set);
    memset(session, 0, sizeof *session);
    FZ_TRY(fz_environment_read(&session->environment));
    fz_environment_prepare_mpi();
    const fz_status started = fz_world_start(session->environment.n_ranks,
                                             session->environment.n_ranks_from, &session->world);
    /* Where every rank is 0 of 1, only the launcher's rank 0 says so. */
    if (started != FZ_OK) fz_log_set_writer(fz_environment_rank() == 0);
    FZ_TRY(or_abort(started));
    FZ_TRY(fz_config_load(&session->config, options->arg[0], set, n_set, session->world.group));
    fz_io_set((fz_io)session->config.checkpoint.io);
    const int used = snprintf(session->checkpoints, sizeof session->checkpoints, "%s/checkpoints",
                              session->config.run.dir);
    FZ_CHECK(used > 0 && (size_t)used < sizeof session->checkpoints, FZ_ERR_USAGE,
             "run.dir: the path is too long");
    return FZ_OK;
}

/* The largest tp that divides both, for commands that have no wish of their own. */
static fz_mesh_shape fallback_shape(const fz_session *s, fz_purpose purpose)
{
    const int n = s->world.size;
    int tp = 1;
    if (purpose == FZ_FOR_EVAL && n <= s->layout.n_lanes)
        return (fz_mesh_shape){.pp = 1, .dp = n, .tp = 1};
    while (2 * tp <= s->layout.n_shards && n % (2 * tp) == 0)
        tp *= 2;
    return (fz_mesh_shape){.pp = n / tp, .dp = 1, .tp = tp};
}

static fz_status choose_layout(fz_session *s, fz_purpose purpose)
{
    const fz_status status = fz_config_layout(&s->config, s->program, s->world.size, &s->layout);
    if (purpose == FZ_FOR_TRAINING) return status;
    if (status != FZ_OK && status != FZ_ERR_USAGE) return status;
    if (status == FZ_OK && (purpose == FZ_FOR_EVAL || s->layout.shape.dp == 1)) return FZ_OK;
    s->layout.shape = fallback_shape(s, purpose);
    return FZ_OK;
}

/* What every rank computes for itself, and alike. */
static fz_status make_plan(fz_session *s, fz_purpose purpose)
{
    int64_t n_lanes = 0, n_shards = 0;
    FZ_TRY(fz_config_model(&s->config, &s->model));
    s->model.forward_only = purpose != FZ_FOR_TRAINING;
    fz_config_train(&s->config, &s->train);
    FZ_TRY(fz_config_numerics(&s->config, &s->model, &n_shards, &n_lanes));
    FZ_TRY(fz_program_create(&s->model, n_shards, &s->program));
    FZ_TRY(choose_layout(s, purpose));
    return fz_plan_create(s->program, &s->train, &s->layout, &s->plan);
}

const fz_ops *fz_session_ops(const fz_session *session)
{
    (void)session; /* auto and cpu are the same until there is a device to choose */
    return &fz_ops_cpu;
}

fz_status fz_session_build(fz_session *s, fz_purpose purpose)
{
    fz_ops_cpu_start();
    FZ_TRY(fz_share_status(s->world.group, fz_config_blame(&s->config, make_plan(s, purpose))));
    FZ_TRY(or_abort(fz_mesh_create(&s->world, s->layout.shape, &s->mesh)));
    return fz_trainer_create(s->plan, &s->mesh, fz_session_ops(s), &s->trainer);
}

/* Steps that cannot be read are not the same as none: a run that began anew here would write over
 * what somebody may still want to repair. */
static fz_status refuse_damaged(const fz_session *s)
{
    int64_t *steps = NULL;
    int n = 0;
    FZ_TRY(fz_directory_steps(s->checkpoints, &steps, &n));
    fz_free(&steps);
    FZ_CHECK(
        n == 0, FZ_ERR_FORMAT,
        "run.dir: no checkpoint in %s can be used (%d tried; the warnings say why); put a good "
        "copy there, or start anew in another run.dir",
        s->checkpoints, n);
    return FZ_OK;
}

fz_status fz_session_find(fz_session *s, bool *found_p, fz_ckpt_info *info)
{
    void *nothing = NULL;
    size_t n = 0;
    fz_status status = FZ_OK;
    FZ_TRY(fz_agree(s->world.group, fz_ckpt_start()));
    FZ_TRY(fz_ckpt_find(s->world.group, s->checkpoints, found_p, info));
    s->can_continue = *found_p;
    if (*found_p) return FZ_OK;
    if (s->world.rank == 0) status = fz_config_blame(&s->config, refuse_damaged(s));
    status = fz_share_bytes(s->world.group, status, &nothing, &n, "nothing");
    fz_free(&nothing);
    return status;
}

/* After damage in the payload of a step that looked acceptable. */
static fz_status find_older(const fz_session *s, fz_ckpt_info *info)
{
    const fz_error damage = *fz_last_error();
    fz_ckpt_info older;
    bool found = false;
    FZ_TRY(fz_ckpt_find_before(s->world.group, s->checkpoints, info->step, &found, &older));
    FZ_CHECK(found, damage.status, "%s", damage.text);
    if (s->world.rank == 0)
        fz_warn("step %lld is not used, step %lld is: %s", (long long)info->step,
                (long long)older.step, damage.text);
    fz_ckpt_info_reset(info);
    *info = older;
    return FZ_OK;
}

static fz_status load_step(fz_session *s, fz_ckpt_info *info)
{
    char name[FZ_STEP_NAME_BYTES], path[FZ_TEXT_BYTES + 128];
    bool drops = false;

    FZ_TRY(fz_continue_drops_moments(&s->config, info, &drops));
    fz_step_name(name, info->step);
    snprintf(path, sizeof path, "%s/%s", s->checkpoints, name);
    FZ_TRY(fz_ckpt_load_path(s->world.group, path, drops ? FZ_MOMENTS_ZERO : FZ_MOMENTS_KEEP,
                             fz_trainer_state(s->trainer), NULL));
    if (drops || info->has_weights_alone) info->moments_start = info->step;
    return FZ_OK;
}

fz_status fz_session_load(fz_session *s, fz_ckpt_info *info)
{
    for (;;) {
        const fz_status status = load_step(s, info);
        if (status == FZ_OK) break;
        if (status != FZ_ERR_FORMAT) return status;
        FZ_TRY(find_older(s, info));
    }
    fz_trainer_set_step_count(s->trainer, info->step);
    fz_trainer_set_moments_start(s->trainer, info->moments_start);
    return FZ_OK;
}

fz_status fz_session_load_newest(fz_session *s, fz_ckpt_info *info)
{
    bool found = false;
    FZ_TRY(fz_session_find(s, &found, info));
    FZ_CHECK(found, FZ_ERR_USAGE, "run.dir: no checkpoint in %s; train first: florenz train %s",
             s->checkpoints, s->config.path);
    return fz_session_load(s, info);
}

/* A glob without a file is a mistake in the config, not in the data. */
static fz_status check_globs(const char *key, const fz_text_list *list)
{
    for (int i = 0; i < list->n; i++) {
        glob_t found;
        const int failed = glob(list->item[i], GLOB_NOSORT, NULL, &found);
        if (failed == 0) globfree(&found);
        FZ_CHECK(failed != GLOB_NOMATCH, FZ_ERR_USAGE, "%s: no file matches %s", key,
                 list->item[i]);
    }
    return FZ_OK;
}

static fz_status build_index(const char *key, const fz_text_list *list, bool skip,
                             fz_index **index_p)
{
    char pattern[FZ_LIST_BYTES];
    FZ_CHECK(list->n > 0, FZ_ERR_USAGE,
             "%s: no shards are given; name tar files, as in \"%s-*.tar\"", key,
             strcmp(key, "data.eval") == 0 ? "eval" : "train");
    FZ_TRY(check_globs(key, list));
    fz_config_pattern(list, pattern, sizeof pattern);
    const fz_status status =
        skip ? fz_index_build_skip(pattern, index_p) : fz_index_build(pattern, index_p);
    if (status != FZ_OK) return FZ_FAIL(status, "%s: %s", key, fz_last_error()->text);
    if ((*index_p)->n_annotations > 0) return FZ_OK;
    fz_index_destroy(index_p);
    return FZ_FAIL(FZ_ERR_FORMAT, "%s: no samples in %s", key, pattern);
}

fz_status fz_session_index(fz_session *s, const char *key, const fz_text_list *list,
                           fz_index **index_p)
{
    fz_index *index = NULL;
    void *bytes = NULL;
    size_t n = 0;
    const bool skip = s->config.data.on_bad_sample == FZ_BAD_SKIP;
    fz_status status = FZ_OK;
    fz_span_begin("index", FZ_SHARE_DATA);
    if (s->world.rank == 0) {
        status = fz_config_blame(&s->config, build_index(key, list, skip, &index));
        if (status == FZ_OK && s->world.size > 1) status = fz_index_pack(index, &bytes, &n);
    }
    status = fz_share_bytes(s->world.group, status, &bytes, &n, "the data index");
    if (status == FZ_OK && s->world.size > 1) {
        if (s->world.rank != 0) status = fz_index_unpack(bytes, n, &index);
        status = fz_agree(s->world.group, status);
    }
    fz_free(&bytes);
    fz_span_end();
    if (status != FZ_OK)
        fz_index_destroy(&index);
    else
        *index_p = index;
    return status;
}

fz_status fz_session_tokenizer(const char *key, const char *path, bool is_encoder, int64_t vocab,
                               fz_tokenizer **tokenizer_p)
{
    if (!path[0]) return FZ_OK;
    FZ_CHECK(access(path, F_OK) == 0, FZ_ERR_USAGE, "%s: %s: %s", key, path, strerror(errno));
    fz_status status = fz_tokenizer_load(path, tokenizer_p);
    if (status == FZ_OK) status = fz_tokenizer_check(*tokenizer_p, path, is_encoder, vocab);
    return status == FZ_OK ? FZ_OK : FZ_FAIL(status, "%s: %s", key, fz_last_error()->text);
}

fz_status fz_session_tokenizers(fz_session *s)
{
    fz_status status = fz_session_tokenizer("data.enc_tokenizer", s->config.data.enc_tokenizer,
                                            true, s->model.enc_vocab, &s->enc_tokenizer);
    if (status == FZ_OK)
        status = fz_session_tokenizer("data.dec_tokenizer", s->config.data.dec_tokenizer, false,
                                      s->model.dec_vocab, &s->dec_tokenizer);
    return fz_share_status(s->world.group, fz_config_blame(&s->config, status));
}

fz_status fz_session_name(const fz_session *s, char run_id[64])
{
    struct timespec now;
    struct tm utc;
    char date[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(date, sizeof date, "%Y%m%d-%H%M%S", &utc);
    const uint64_t salt = fz_mix64((uint64_t)now.tv_nsec << 32 ^ (uint64_t)getpid());
    snprintf(run_id, 64, "%s-%08" PRIx32, date, (uint32_t)salt);
    return fz_broadcast(s->world.group, run_id, 64, 0);
}

static fz_status print_config(const fz_config *config, char **text_p)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    FZ_CHECK(out, FZ_ERR_MEMORY, "print the config");
    fz_settings_print(&fz_config_table, config, out);
    if (fclose(out) != 0) {
        free(text);
        return FZ_FAIL(FZ_ERR_MEMORY, "print the config");
    }
    const fz_status status = fz_strdup(text_p, text);
    free(text);
    return status;
}

fz_status fz_session_print(const fz_session *s, char **text_p)
{
    return fz_share_status(s->world.group, print_config(&s->config, text_p));
}

void fz_session_stop(fz_session *s)
{
    fz_tokenizer_destroy(&s->enc_tokenizer);
    fz_tokenizer_destroy(&s->dec_tokenizer);
    fz_trainer_destroy(&s->trainer);
    fz_mesh_reset(&s->mesh);
    fz_plan_destroy(&s->plan);
    fz_program_destroy(&s->program);
    fz_world_stop(&s->world);
}

/* What was taken and not given back is a mistake of ours; nothing at this point can fail for it. */
static void report_balance(void)
{
    const fz_memory_counters memory = fz_memory_get();
    if (memory.n_live != 0)
        fz_log(FZ_LOG_WARN, "%lld blocks (%lld bytes) were not freed", (long long)memory.n_live,
               (long long)memory.bytes_live);
}

int fz_session_exit(fz_session *s, fz_status status)
{
    /* Over a broken communicator nothing can be said or finalized any more. */
    if (status == FZ_ERR_COMM && s->world.group) {
        fz_log(FZ_LOG_ERROR, "%s", fz_last_error()->text);
        fz_world_abort(fz_exit_code(status, s->can_continue));
    }
    const int code = fz_exit_with(status, s->can_continue);
    fz_session_stop(s);
    report_balance();
    fz_log_open(NULL);
    return code;
}
