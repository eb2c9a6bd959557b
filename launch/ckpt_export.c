/* florenz ckpt export: a checkpoint as a folder that Hugging Face's libraries open. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/direct.h"
#include "checkpoint/directory.h"
#include "checkpoint/disk.h"
#include "checkpoint/read_ahead.h"
#include "checkpoint/safetensors.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "launch/ckpt.h"
#include "launch/exit_codes.h"
#include "launch/export_config.h"
#include "launch/files.h"
#include "launch/share.h"

static const fz_option options_table[] = {
    {"--to", "FOLDER", "where the files go; must be new or empty (needed)", false},
    {"--step", "N", "this checkpoint of run.dir; default the newest", false},
    {"--dtype", "TYPE", "f32, f16 or bf16; default f32, which loses nothing", false},
    {"--max-file-bytes", "SIZE", "of a file, as in 5GB or 800MB; default 5GB", false},
    {"--io", "HOW", "auto, direct or buffered writes; default checkpoint.io", false},
    {"--set", "KEY=VALUE", "overrides a key of the config", true},
};
static const fz_command command = {
    .usage = "florenz ckpt export CONFIG [CHECKPOINT] --to FOLDER [OPTION]...",
    .about =
        "Writes the weights of a checkpoint (a step directory; default run.dir's newest) as\n"
        "safetensors in the names of the published Florenz models, with config.json. Alone or\n"
        "under mpirun; tensors pass through one by one.",
    .least_args = 1,
    .most_args = 2,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

/* The sinusoid over frames (model.md 3): no parameter, but a buffer that the authors' code stores.
 */
#define FRAMES_NAME "visual_temporal_embed.pos_idx_to_embed"
enum { FRAMES = 100 };

typedef struct exporter {
    fz_session session;
    const char *to;
    fz_dtype dtype;
    int64_t max_file_bytes;
    char step_path[FZ_PATH_BYTES], tmp[FZ_PATH_BYTES]; /* tmp: beside `to` until all is there */
    bool has_tmp;                                      /* rank 0 */
    fz_ckpt_reader *reader;                            /* owned */
    int n_tensors;                                     /* parameters, and the frames behind them */
    fz_safetensor *tensors;                            /* owned */
    fz_safetensors_writer *writer;                     /* owned */
    int *mine; /* owned: parameters that this rank writes, in the checkpoint's order */
    int n_mine;
    int64_t n_overflows, n_bad_tensors;
} exporter;

/* ---- the command line ---- */

static fz_status read_dtype(const char *text, fz_dtype *dtype)
{
    static const struct {
        const char *name;
        fz_dtype dtype;
    } types[] = {{"f32", FZ_DTYPE_F32}, {"f16", FZ_DTYPE_F16}, {"bf16", FZ_DTYPE_BF16}};
    *dtype = FZ_DTYPE_F32;
    if (!text) return FZ_OK;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, text) != 0) continue;
        *dtype = types[i].dtype;
        return FZ_OK;
    }
    return FZ_FAIL(FZ_ERR_USAGE, "--dtype: %s is none of f32, f16, bf16", text);
}

/* "5GB" as the other libraries mean it: thousands. */
static fz_status read_bytes(const char *text, int64_t *bytes)
{
    static const struct {
        const char *unit;
        double bytes;
    } units[] = {{"", 1}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}};
    char *end;
    *bytes = INT64_C(5000000000);
    if (!text) return FZ_OK;
    const double number = isdigit((unsigned char)text[0]) ? strtod(text, &end) : 0;
    for (size_t i = 0; number > 0 && i < sizeof units / sizeof *units; i++) {
        if (strcmp(units[i].unit, end) != 0 || number * units[i].bytes > 9e15) continue;
        *bytes = (int64_t)(number * units[i].bytes);
        if (*bytes > 0) return FZ_OK;
    }
    return FZ_FAIL(FZ_ERR_USAGE, "--max-file-bytes: %s is no size; write 5GB, 800MB or 100000",
                   text);
}

static fz_status read_options(exporter *e, const fz_options *options)
{
    e->to = fz_options_get(options, "--to");
    FZ_CHECK(e->to && e->to[0], FZ_ERR_USAGE, "--to FOLDER is missing; usage: %s", command.usage);
    FZ_CHECK(options->n_args < 2 || !fz_options_get(options, "--step"), FZ_ERR_USAGE,
             "--step: %s is given as well; leave one of them out", options->arg[1]);
    FZ_TRY(fz_ckpt_read_io(options));
    FZ_TRY(read_dtype(fz_options_get(options, "--dtype"), &e->dtype));
    return read_bytes(fz_options_get(options, "--max-file-bytes"), &e->max_file_bytes);
}

/* ---- the checkpoint ---- */

/* The newest of run.dir. */
static fz_status find_newest(exporter *e, long long *step)
{
    fz_session *s = &e->session;
    fz_ckpt_info info = {0};
    bool found = false;
    FZ_TRY(fz_session_find(s, &found, &info));
    *step = info.step;
    fz_ckpt_info_reset(&info);
    FZ_CHECK(found, FZ_ERR_USAGE,
             "run.dir: no checkpoint in %s; train or import first, or name a step directory",
             s->checkpoints);
    return FZ_OK;
}

static fz_status find_step(exporter *e, const fz_options *options)
{
    const fz_session *s = &e->session;
    char name[FZ_STEP_NAME_BYTES];
    long long step = -1;
    FZ_TRY(fz_options_int(options, "--step", 0, &step));
    if (options->n_args < 2 && step < 0)
        FZ_TRY(find_newest(e, &step)); /* which starts HDF5 */
    else
        FZ_TRY(fz_share_status(s->world.group, fz_ckpt_start()));
    fz_step_name(name, step);
    if (options->n_args < 2) return fz_disk_join(e->step_path, s->checkpoints, name);
    FZ_CHECK(strlen(options->arg[1]) < sizeof e->step_path, FZ_ERR_USAGE,
             "CHECKPOINT: the path is too long");
    strcpy(e->step_path, options->arg[1]);
    return FZ_OK;
}

/* Reader tensors are the program's parameters in its order, or it is another model. */
static fz_status check_model(const exporter *e)
{
    const fz_program *p = e->session.program;
    const int n = fz_ckpt_reader_count(e->reader);
    for (int i = 0; i < n && i < p->n_params; i++) {
        const fz_state_tensor *tensor = fz_ckpt_reader_tensor(e->reader, i);
        const fz_param *param = &p->params[i];
        FZ_CHECK(strcmp(tensor->name, param->name) == 0 && tensor->ndim == param->ndim &&
                     memcmp(tensor->shape, param->shape,
                            (size_t)param->ndim * sizeof param->shape[0]) == 0,
                 FZ_ERR_USAGE,
                 "model.variant: %s is not of the config's model: its %s is not the config's %s, "
                 "or of another shape",
                 e->step_path, tensor->name, param->name);
    }
    FZ_CHECK(n == p->n_params, FZ_ERR_USAGE,
             "model.variant: %s has %d tensors, the config's model %d", e->step_path, n,
             p->n_params);
    return FZ_OK;
}

static fz_status open_step(exporter *e)
{
    FZ_CHECK(access(e->step_path, F_OK) == 0, FZ_ERR_USAGE, "open %s: %s", e->step_path,
             strerror(errno));
    FZ_TRY(fz_ckpt_reader_open(e->step_path, &e->reader));
    return fz_config_blame(&e->session.config, check_model(e));
}

/* ---- the files ---- */

static fz_status make_tensors(exporter *e)
{
    const fz_program *p = e->session.program;
    const int64_t C = p->config.vision_dims[FZ_VISION_STAGES - 1];
    FZ_TRY(FZ_NEW(&e->tensors, p->n_params + 1));
    for (int i = 0; i < p->n_params; i++) {
        const fz_param *param = &p->params[i];
        e->tensors[i] = (fz_safetensor){.name = param->name,
                                        .dtype = e->dtype,
                                        .ndim = param->ndim,
                                        .elements = fz_param_elements(param)};
        memcpy(e->tensors[i].shape, param->shape, (size_t)param->ndim * sizeof param->shape[0]);
    }
    e->tensors[p->n_params] = (fz_safetensor){.name = FRAMES_NAME,
                                              .dtype = e->dtype,
                                              .ndim = 2,
                                              .shape = {FRAMES, C},
                                              .elements = FRAMES * C};
    e->n_tensors = p->n_params + 1;
    return FZ_OK;
}

/* Each goes to the rank that has least so far. */
static fz_status share_tensors(exporter *e)
{
    const fz_group *world = e->session.world.group;
    const int n_ranks = fz_group_size(world);
    int64_t *load = NULL;
    FZ_TRY(FZ_NEW(&e->mine, e->n_tensors));
    FZ_TRY(FZ_NEW(&load, n_ranks));
    for (int i = 0; i < e->session.program->n_params; i++) {
        int least = 0;
        for (int r = 1; r < n_ranks; r++)
            if (load[r] < load[least]) least = r;
        load[least] += e->tensors[i].elements;
        if (least == fz_group_rank(world)) e->mine[e->n_mine++] = i;
    }
    fz_free(&load);
    return FZ_OK;
}

static fz_status make_writer(exporter *e)
{
    static const char *const metadata[][2] = {
        {"format", "pt"}, {"producer", "florenz"}, {NULL, NULL}};
    size_t n = strlen(e->to);
    while (n > 1 && e->to[n - 1] == '/')
        n--;
    FZ_CHECK(snprintf(e->tmp, sizeof e->tmp, "%.*s.tmp", (int)n, e->to) < (int)sizeof e->tmp,
             FZ_ERR_USAGE, "--to: the path is too long");
    FZ_TRY(make_tensors(e));
    FZ_TRY(share_tensors(e));
    return fz_safetensors_writer_create(e->tmp, e->n_tensors, e->tensors, e->max_file_bytes,
                                        metadata, &e->writer);
}

static fz_status check_empty(const char *path)
{
    DIR *dir = opendir(path);
    int n = 0;
    if (!dir && errno == ENOENT) return FZ_OK;
    FZ_CHECK(dir, FZ_ERR_USAGE, "--to: %s: %s", path, strerror(errno));
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    FZ_CHECK(n == 0, FZ_ERR_USAGE, "--to: %s is not empty; name another folder, or empty it", path);
    return FZ_OK;
}

/* Rank 0: the folder beside `to`, and empty files in it. */
static fz_status start_files(exporter *e)
{
    FZ_TRY(check_empty(e->to));
    FZ_CHECK(access(e->tmp, F_OK) != 0, FZ_ERR_USAGE,
             "--to: %s is left from an export that was stopped, or one is running; remove it",
             e->tmp);
    FZ_TRY(fz_make_dirs(e->tmp));
    e->has_tmp = true;
    return fz_safetensors_writer_start(e->writer);
}

/* Finite values that the narrower type has none for. */
static void count_overflows(exporter *e, const fz_safetensor *tensor, const float *x)
{
    /* The least that is rounded to infinity: half a step above the largest. */
    const float least = tensor->dtype == FZ_DTYPE_F16 ? 65520.0f : 0x1.ffp127f;
    int64_t n = 0;
    if (tensor->dtype == FZ_DTYPE_F32) return;
    for (int64_t i = 0; i < tensor->elements; i++)
        n += fabsf(x[i]) >= least && isfinite(x[i]);
    if (n == 0) return;
    fz_warn("%s: %lld of %lld values are too large for %s and became infinite", tensor->name,
            (long long)n, (long long)tensor->elements, FZ_DTYPE_NAMES[tensor->dtype]);
    e->n_overflows += n;
    e->n_bad_tensors++;
}

static fz_status write_frames(exporter *e)
{
    const fz_safetensor *tensor = &e->tensors[e->n_tensors - 1];
    const int64_t C = tensor->shape[1];
    float *x = NULL;
    FZ_TRY(FZ_NEW(&x, tensor->elements));
    for (int64_t t = 0; t < FRAMES; t++)
        for (int64_t c = 0; c < C; c++) {
            const double angle = (double)t * pow(10000.0, -(double)(c - c % 2) / (double)C);
            x[t * C + c] = (float)(c % 2 == 0 ? sin(angle) : cos(angle));
        }
    const fz_status status =
        fz_safetensors_write(e->writer, e->n_tensors - 1, 0, tensor->elements, x);
    fz_free(&x);
    return status;
}

static fz_status write_mine(exporter *e)
{
    fz_read_ahead *ahead = NULL;
    int64_t most = 0;
    for (int k = 0; k < e->n_mine; k++)
        if (e->tensors[e->mine[k]].elements > most) most = e->tensors[e->mine[k]].elements;
    fz_status status =
        fz_read_ahead_start(fz_ckpt_reader_weights, e->reader, e->mine, e->n_mine, most, &ahead);
    for (int k = 0; k < e->n_mine && status == FZ_OK; k++) {
        const int i = e->mine[k];
        float *x = NULL;
        status = fz_read_ahead_next(ahead, &x);
        if (status != FZ_OK) break;
        count_overflows(e, &e->tensors[i], x);
        status = fz_safetensors_write(e->writer, i, 0, e->tensors[i].elements, x);
    }
    fz_read_ahead_stop(&ahead);
    if (status == FZ_OK && e->session.world.rank == 0) status = write_frames(e);
    return status == FZ_OK ? fz_safetensors_writer_sync(e->writer) : status;
}

/* Rank 0: config.json, final names, then the folder's own. */
static fz_status finish_files(exporter *e)
{
    char path[FZ_PATH_BYTES], *json = NULL;
    FZ_TRY(fz_safetensors_writer_commit(e->writer));
    FZ_TRY(fz_disk_join(path, e->tmp, "config.json"));
    FZ_TRY(fz_export_config(&e->session.model, e->dtype, &json));
    const fz_status status = fz_file_replace(path, json, strlen(json));
    fz_free(&json);
    FZ_TRY(status);
    FZ_TRY(fz_disk_rename(e->tmp, e->to)); /* over an empty folder too */
    e->has_tmp = false;
    return FZ_OK;
}

/* ---- the command ---- */

static int64_t bytes_of(const exporter *e)
{
    int64_t bytes = 0;
    for (int i = 0; i < e->n_tensors; i++)
        bytes += e->tensors[i].bytes;
    return bytes;
}

static fz_status say_result(const exporter *e, double seconds)
{
    int64_t sums[] = {e->n_overflows, e->n_bad_tensors};
    FZ_TRY(fz_allreduce_sum_int(e->session.world.group, sums, 2));
    if (e->session.world.rank != 0) return FZ_OK;
    if (sums[1] > 0)
        fz_warn("%lld values in %lld tensors became infinite; --dtype bf16 or f32 has room",
                (long long)sums[0], (long long)sums[1]);
    printf("%s: %d tensors, %lld parameters as %s in %d %s, %lld bytes in %.2f s\n", e->to,
           e->n_tensors, (long long)e->session.program->n_elements, FZ_DTYPE_NAMES[e->dtype],
           fz_safetensors_writer_files(e->writer),
           fz_safetensors_writer_files(e->writer) == 1 ? "file" : "files", (long long)bytes_of(e),
           seconds);
    return FZ_OK;
}

static fz_status write_all(exporter *e)
{
    const fz_group *world = e->session.world.group;
    const bool is_first = e->session.world.rank == 0;
    const double start = fz_clock_since_exec_s();
    bool is_direct = false;
    FZ_TRY(fz_agree(world, is_first ? start_files(e) : FZ_OK));
    FZ_TRY(fz_io_choose(world, e->tmp, bytes_of(e), &is_direct));
    fz_safetensors_writer_set_direct(e->writer, is_direct);
    FZ_TRY(fz_agree(world, write_mine(e)));
    FZ_TRY(fz_agree(world, is_first ? finish_files(e) : FZ_OK));
    return say_result(e, fz_clock_since_exec_s() - start);
}

static fz_status run(exporter *e, const fz_options *options)
{
    fz_session *s = &e->session;
    FZ_TRY(fz_session_start(s, options));
    FZ_TRY(fz_share_status(s->world.group, read_options(e, options)));
    FZ_TRY(fz_ckpt_program(s));
    FZ_TRY(find_step(e, options));
    FZ_TRY(fz_share_status(s->world.group, open_step(e)));
    FZ_TRY(fz_share_status(s->world.group, make_writer(e)));
    return write_all(e);
}

static void stop(exporter *e)
{
    fz_safetensors_writer_destroy(&e->writer);
    /* Only what this command made: its own folder, under a name that did not exist. */
    if (e->has_tmp) fz_disk_remove_tree(e->tmp);
    fz_ckpt_reader_close(&e->reader);
    fz_free(&e->tensors);
    fz_free(&e->mine);
}

int fz_ckpt_export(int argc, char **argv)
{
    static exporter e; /* large, and there is one */
    fz_options options;
    int code;
    if (!fz_command_begins(&command, argc, argv, &options, &code)) return code;
    fz_status status = run(&e, &options);
    stop(&e);
    return fz_session_exit(&e.session, status);
}
