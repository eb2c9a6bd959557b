/* florenz ckpt import: a checkpoint out of safetensors folders. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/directory.h"
#include "checkpoint/stream.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "launch/ckpt.h"
#include "launch/exit_codes.h"
#include "launch/files.h"
#include "launch/import_read.h"
#include "launch/run_dir.h"
#include "launch/share.h"
#include "parallel/state.h"

static const fz_option options_table[] = {
    {"--from", "PATH", "folder (or file) of safetensors: Florenz, Florence-2, Gemma-2", true},
    {"--out", "DIR", "where the checkpoint goes; default run.dir/checkpoints", false},
    {"--vocabulary", "rebuild", "the decoder gets another tokenizer's ids (0.4b, 1.0b)", false},
    {"--enc-tokenizer", "PATH", "the folder's own, for that; default data.enc_tokenizer", false},
    {"--dec-tokenizer", "PATH", "the new one, for that; default data.dec_tokenizer", false},
    {"--layout", "NAME", "florenz, original, native, gemma or auto, for each --from in order",
     true},
    {"--set", "KEY=VALUE", "overrides a key of the config", true},
    {"--io", "HOW", "auto, direct or buffered writes; default checkpoint.io", false},
    {"--dry-run", NULL, "only lists what would become what", false},
};
static const fz_command command = {
    .usage = "florenz ckpt import CONFIG --from PATH [--from PATH] [OPTION]...",
    .about =
        "Makes step 0 of a run from public weights: a published Florenz; or a Florence-2 and a\n"
        "Gemma-2 folder (3.5b, 11.2b); or a Florence-2 folder with the decoder's vocabulary\n"
        "rebuilt (0.4b, 1.0b). Alone or under mpirun; tensors pass through one by one.",
    .least_args = 1,
    .most_args = 1,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

enum { MOST_SOURCES = 4 };

typedef struct import {
    fz_session session;
    fz_ckpt_info info;
    char *config_text; /* owned */
    fz_run_dir dir;    /* rank 0, where the run's own is written to */
    const char *out;
    int n_sources;
    const char *paths[MOST_SOURCES];
    fz_safetensors *folders[MOST_SOURCES];     /* owned */
    const fz_safetensor **lists[MOST_SOURCES]; /* owned */
    fz_import_source sources[MOST_SOURCES];
    bool rebuild;
    const char *enc_tokenizer, *dec_tokenizer; /* paths, to rebuild with */
    fz_vocabulary vocabulary;
    fz_import_plan plan;
    fz_import_reader reader;
    fz_state_tensor *tensors; /* owned */
} import;

/* ---- the command line ---- */

/* Values of an option that may be given more than once. */
static int values(const fz_options *options, const char *name, int most, const char **out)
{
    int n = 0;
    for (int i = 0; i < options->n_given; i++) {
        if (strcmp(options->given[i].option->name, name) != 0) continue;
        if (n < most) out[n] = options->given[i].value;
        n++;
    }
    return n;
}

static fz_status read_tokenizer(const fz_options *options, const char *option, const char *key,
                                const char *in_config, const char **path_p)
{
    const char *given = fz_options_get(options, option);
    *path_p = given ? given : in_config;
    FZ_CHECK((*path_p)[0], FZ_ERR_USAGE, "%s is needed for --vocabulary rebuild, or the key %s",
             option, key);
    FZ_CHECK(access(*path_p, R_OK) == 0, FZ_ERR_USAGE, "%s: %s: %s", given ? option : key, *path_p,
             strerror(errno));
    return FZ_OK;
}

static fz_status read_options(import *m, const fz_options *options)
{
    const fz_config *c = &m->session.config;
    const char *vocabulary = fz_options_get(options, "--vocabulary");
    m->n_sources = values(options, "--from", MOST_SOURCES, m->paths);
    FZ_CHECK(m->n_sources >= 1 && m->n_sources <= MOST_SOURCES, FZ_ERR_USAGE,
             "--from: %d folders are given; one or two are needed", m->n_sources);
    FZ_CHECK(!vocabulary || strcmp(vocabulary, "rebuild") == 0, FZ_ERR_USAGE,
             "--vocabulary: %s; the only choice is rebuild", vocabulary);
    m->rebuild = vocabulary != NULL;
    FZ_CHECK(values(options, "--layout", 0, NULL) <= m->n_sources, FZ_ERR_USAGE,
             "--layout: given more often than --from");
    FZ_CHECK(m->rebuild || (!fz_options_get(options, "--enc-tokenizer") &&
                            !fz_options_get(options, "--dec-tokenizer")),
             FZ_ERR_USAGE, "--enc-tokenizer, --dec-tokenizer: only with --vocabulary rebuild");
    FZ_TRY(fz_ckpt_read_io(options));
    const char *out = fz_options_get(options, "--out");
    m->out = out ? out : m->session.checkpoints;
    if (!m->rebuild) return FZ_OK;
    FZ_TRY(read_tokenizer(options, "--enc-tokenizer", "data.enc_tokenizer", c->data.enc_tokenizer,
                          &m->enc_tokenizer));
    return read_tokenizer(options, "--dec-tokenizer", "data.dec_tokenizer", c->data.dec_tokenizer,
                          &m->dec_tokenizer);
}

/* ---- folders ---- */

/* false: auto, or not given. */
static fz_status named_layout(const fz_options *options, int source, bool *found_p,
                              fz_names *layout_p)
{
    const char *names[MOST_SOURCES] = {NULL};
    const int n = values(options, "--layout", MOST_SOURCES, names);
    *found_p = false;
    if (source >= n || strcmp(names[source], "auto") == 0) return FZ_OK;
    for (int i = 0; i < FZ_N_NAMES; i++)
        if (strcmp(names[source], FZ_NAMES_WORDS[i]) == 0) {
            *layout_p = (fz_names)i;
            *found_p = true;
        }
    FZ_CHECK(*found_p, FZ_ERR_USAGE,
             "--layout: %s is none of florenz, original, native, gemma, auto", names[source]);
    return FZ_OK;
}

static fz_status detect(const fz_import_source *source, fz_names *layout_p)
{
    const char **names = NULL;
    FZ_TRY(FZ_NEW(&names, source->n));
    for (int i = 0; i < source->n; i++)
        names[i] = source->tensors[i]->name;
    const bool found = fz_names_detect(source->n, names, layout_p);
    fz_free(&names);
    FZ_CHECK(found, FZ_ERR_USAGE,
             "--from: %s holds no Florenz, Florence-2 or Gemma-2 model that is known by its names "
             "(the first is %s); --layout says which it is",
             source->path, source->n > 0 ? source->tensors[0]->name : "none");
    return FZ_OK;
}

static fz_status open_one(import *m, const fz_options *options, int s)
{
    fz_import_source *source = &m->sources[s];
    bool found = false;
    const fz_status status = fz_safetensors_open(m->paths[s], &m->folders[s]);
    if (status == FZ_ERR_USAGE) return FZ_FAIL(status, "--from: %s", fz_last_error()->text);
    FZ_TRY(status);
    source->path = m->paths[s];
    source->n = fz_safetensors_count(m->folders[s]);
    FZ_TRY(FZ_NEW(&m->lists[s], source->n));
    for (int i = 0; i < source->n; i++)
        m->lists[s][i] = fz_safetensors_get(m->folders[s], i);
    source->tensors = m->lists[s];
    FZ_TRY(named_layout(options, s, &found, &source->layout));
    return found ? FZ_OK : detect(source, &source->layout);
}

static fz_status open_sources(import *m, const fz_options *options)
{
    for (int s = 0; s < m->n_sources; s++)
        FZ_TRY(open_one(m, options, s));
    return fz_import_plan_make(m->session.program, m->n_sources, m->sources, m->rebuild, &m->plan);
}

/* What the rows of a new vocabulary are made of. */
static fz_status make_vocabulary(import *m)
{
    for (int i = 0; i < m->plan.n_items; i++)
        if (m->plan.items[i].how == FZ_IMPORT_REBUILD)
            return fz_vocabulary_load(m->enc_tokenizer, m->plan.items[i].tensor->shape[0],
                                      m->dec_tokenizer, m->session.program->params[i].shape[0],
                                      &m->vocabulary);
    return FZ_OK;
}

/* ---- what is said ---- */

static void say_sources(const import *m)
{
    for (int s = 0; s < m->n_sources; s++)
        fz_info("%s: %s, %d tensors", m->paths[s], FZ_NAMES_MODELS[m->sources[s].layout],
                m->sources[s].n);
    if (m->plan.n_dropped > 0) fz_info("not needed of them: %d", m->plan.n_dropped);
    for (int i = 0; i < m->plan.n_complaints; i++)
        fz_warn("%s", m->plan.complaints[i]);
}

static void say_tables(const import *m)
{
    for (int i = 0; i < m->plan.n_items; i++) {
        const fz_import_item *item = &m->plan.items[i];
        const fz_param *param = &m->session.program->params[i];
        const long long rows = param->shape[0], theirs = item->tensor ? item->tensor->shape[0] : 0;
        if (item->how == FZ_IMPORT_ROWS)
            fz_info("%s: %lld rows of the folder, %lld new", param->name, theirs, rows - theirs);
        else if (item->how == FZ_IMPORT_TAKE && theirs > rows)
            fz_info("%s: the last %lld of %lld rows are left out", param->name, theirs - rows,
                    theirs);
        else if (item->how == FZ_IMPORT_REBUILD)
            fz_info("%s: %lld rows are means of the folder's %lld, %lld new", param->name,
                    (long long)(m->vocabulary.n - m->vocabulary.n_empty), theirs,
                    rows - (long long)(m->vocabulary.n - m->vocabulary.n_empty));
    }
}

static void say_plan(const import *m)
{
    int n[FZ_IMPORT_INIT + 1] = {0};
    for (int i = 0; i < m->plan.n_items; i++)
        n[m->plan.items[i].how]++;
    say_tables(m);
    fz_info("%d parameters: %d from the folders, %d by the initialiser (seed %lld)",
            m->plan.n_items, m->plan.n_items - n[FZ_IMPORT_INIT], n[FZ_IMPORT_INIT],
            (long long)m->session.config.run.seed);
}

static void list_plan(const import *m)
{
    static const char *const how[] = {"", " transposed", " and new rows", " rebuilt", "new"};
    for (int i = 0; i < m->plan.n_items; i++) {
        const fz_import_item *item = &m->plan.items[i];
        printf("%s <- %s%s%s%s\n", m->session.program->params[i].name,
               item->tensor ? m->paths[item->source] : "", item->tensor ? " " : "",
               item->tensor ? item->tensor->name : "", how[item->how]);
    }
}

/* ---- writing ---- */

/* A step 0 beside others would never be the newest, or take one's place. */
static fz_status refuse_steps(const import *m)
{
    int64_t *steps = NULL;
    int n = 0;
    FZ_TRY(fz_directory_steps(m->out, &steps, &n));
    const long long newest = n > 0 ? steps[0] : 0;
    fz_free(&steps);
    FZ_CHECK(n == 0, FZ_ERR_USAGE,
             "%s has checkpoints already (the newest of step %lld); give another run.dir or --out",
             m->out, newest);
    return FZ_OK;
}

static fz_status open_out(import *m)
{
    fz_status status = FZ_OK;
    if (m->session.world.rank == 0) {
        const bool is_run = m->out == m->session.checkpoints;
        status = refuse_steps(m);
        if (status == FZ_OK && is_run)
            status =
                fz_run_dir_open(m->session.config.run.dir, m->session.environment.job, &m->dir);
        if (status == FZ_OK && !is_run) status = fz_make_dirs(m->out);
        status = fz_config_blame(&m->session.config, status);
    }
    return fz_agree(m->session.world.group, status);
}

static fz_status fill_info(import *m)
{
    const fz_session *s = &m->session;
    fz_ckpt_info *info = &m->info;
    FZ_TRY(fz_session_name(s, info->run_id));
    FZ_TRY(fz_session_print(s, &m->config_text));
    info->seed = s->train.seed;
    info->config_hash = fz_settings_hash(&fz_config_table, &s->config);
    info->tp = info->pp = info->dp = 1;
    info->shards = s->layout.n_shards;
    info->lanes = s->layout.n_lanes;
    info->global_batch = s->train.global_batch;
    info->micro_batch = s->train.micro_batch;
    snprintf(info->arithmetic_id, sizeof info->arithmetic_id, "%s", fz_ops_cpu_arithmetic_id());
    info->config = m->config_text;
    return FZ_OK;
}

static fz_status say_result(import *m, const fz_ckpt_save_stats *stats, double seconds)
{
    const fz_import_reader *r = &m->reader;
    int64_t sums[] = {r->n_nan, r->n_infinite, r->n_bad_tensors, stats->bytes};
    char step[FZ_STEP_NAME_BYTES];
    FZ_TRY(fz_allreduce_sum_int(m->session.world.group, sums, 4));
    if (m->session.world.rank != 0) return FZ_OK;
    if (sums[2] > 0)
        fz_warn("%lld NaN and %lld infinite values in %lld tensors were taken as they are",
                (long long)sums[0], (long long)sums[1], (long long)sums[2]);
    fz_step_name(step, 0);
    printf("%s/%s: %d tensors, %lld parameters, %lld bytes in %.2f s\n", m->out, step,
           m->plan.n_items, (long long)m->session.program->n_elements, (long long)sums[3], seconds);
    return FZ_OK;
}

static fz_status write_step(import *m)
{
    const fz_session *s = &m->session;
    fz_ckpt_save_stats stats = {0};
    const double start = fz_clock_since_exec_s();
    FZ_TRY(fz_agree(s->world.group, fz_ckpt_start()));
    FZ_TRY(fill_info(m));
    FZ_TRY(fz_agree(s->world.group, fz_state_tensors_create(s->program, &m->tensors)));
    FZ_TRY(open_out(m));
    m->reader.program = s->program;
    m->reader.plan = &m->plan;
    m->reader.folders = m->folders;
    m->reader.vocabulary = &m->vocabulary;
    m->reader.seed = s->train.seed;
    FZ_TRY(fz_ckpt_save_tensors(s->world.group, m->out, m->plan.n_items, m->tensors, fz_import_read,
                                &m->reader, &m->info, &stats));
    return say_result(m, &stats, fz_clock_since_exec_s() - start);
}

static fz_status run(import *m, const fz_options *options)
{
    fz_session *s = &m->session;
    FZ_TRY(fz_session_start(s, options));
    FZ_TRY(fz_share_status(s->world.group, fz_config_blame(&s->config, read_options(m, options))));
    FZ_TRY(fz_ckpt_program(s));
    FZ_TRY(fz_share_status(s->world.group, open_sources(m, options)));
    if (s->world.rank == 0) say_sources(m);
    FZ_TRY(fz_share_status(s->world.group, fz_import_plan_check(&m->plan)));
    FZ_TRY(fz_share_status(s->world.group, make_vocabulary(m)));
    if (s->world.rank == 0) say_plan(m);
    if (!fz_options_get(options, "--dry-run")) return write_step(m);
    if (s->world.rank == 0) list_plan(m);
    return FZ_OK;
}

static void stop(import *m)
{
    fz_run_dir_close(&m->dir);
    m->info.config = NULL;
    fz_ckpt_info_reset(&m->info);
    fz_free(&m->config_text);
    fz_free(&m->tensors);
    fz_vocabulary_reset(&m->vocabulary);
    fz_import_plan_reset(&m->plan);
    for (int s = 0; s < MOST_SOURCES; s++) {
        fz_free(&m->lists[s]);
        fz_safetensors_close(&m->folders[s]);
    }
}

int fz_ckpt_import(int argc, char **argv)
{
    static import m; /* large, and there is one */
    fz_options options;
    int code;
    if (!fz_command_begins(&command, argc, argv, &options, &code)) return code;
    fz_status status = run(&m, &options);
    stop(&m);
    return fz_session_exit(&m.session, status);
}
