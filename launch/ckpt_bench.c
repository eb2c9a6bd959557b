/* florenz ckpt bench: how near checkpoints and safetensors come to what the disk can do. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/block_writer.h"
#include "checkpoint/direct.h"
#include "checkpoint/directory.h"
#include "checkpoint/safetensors.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "launch/ckpt.h"
#include "launch/exit_codes.h"
#include "launch/json.h"

static const fz_option options_table[] = {
    {"--bytes", "SIZE", "written by every row, as in 4GiB (the default) or 512MiB", false},
    {"--rounds", "N", "of all rows in turn, of which the medians are shown; default 3", false},
    {"--io", "HOW", "auto, direct or buffered writes of the program; default auto", false},
    {"--json", NULL, "one object on standard output instead of the table", false},
};
static const fz_command command = {
    .usage = "florenz ckpt bench DIR [OPTION]...",
    .about =
        "Writes to a folder that it makes in DIR, reads it again with the page cache emptied of\n"
        "it, and removes it: plain files past the page cache and through it, a checkpoint with\n"
        "moments, and safetensors, in turn. Needs SIZE bytes of the disk. One process.",
    .least_args = 1,
    .most_args = 1,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

/* A tensor's side; all tensors lie in one place in memory and hold the same. */
enum { SIDE = 4096, ELEMENTS = SIDE * SIDE, KINDS = 3, MOST_ROUNDS = 99 };
enum { BLOCK_BYTES = FZ_WRITE_BLOCK_BYTES, BLOCKS_OF_TENSOR = ELEMENTS / (BLOCK_BYTES / 4) };

typedef struct bench {
    char dir[FZ_PATH_BYTES]; /* its own, under DIR */
    fz_world world;
    int n_tensors; /* of a checkpoint: each has KINDS as many floats */
    int64_t bytes;
    long long rounds;
    float *memory, *data; /* owned; in it, aligned to FZ_DIRECT_BYTES */
    fz_state_tensor *tensors;
    fz_state_view *views;
    fz_state state;
} bench;

/* Seconds; -1: the file system cannot do this. */
typedef struct times {
    double write_s, read_s;
} times;

/* ---- rows ---- */

/* So that the next read comes from the disk. */
static fz_status forget(const char *path)
{
    int fd;
    FZ_TRY(fz_disk_open(path, false, &fd));
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return fz_disk_close(fd, path);
}

static fz_status write_raw(const bench *b, const char *path, bool is_direct)
{
    const int64_t n = b->bytes / BLOCK_BYTES;
    int fd = -1, direct_fd = -1;
    FZ_TRY(fz_disk_open(path, true, &fd));
    fz_status status = is_direct ? fz_disk_open_direct(path, true, &direct_fd) : FZ_OK;
    if (status == FZ_OK) status = fz_disk_reserve(fd, path, b->bytes);
    for (int64_t i = 0; i < n && status == FZ_OK; i++)
        status = fz_disk_write(is_direct ? direct_fd : fd, path,
                               b->data + i % BLOCKS_OF_TENSOR * (BLOCK_BYTES / 4), BLOCK_BYTES,
                               i * BLOCK_BYTES);
    if (status == FZ_OK) status = fz_disk_sync(fd, path);
    if (direct_fd >= 0) close(direct_fd);
    close(fd);
    return status;
}

static fz_status read_raw(const bench *b, const char *path, bool is_direct)
{
    const int64_t n = b->bytes / BLOCK_BYTES;
    int fd = -1;
    FZ_TRY(is_direct ? fz_disk_open_direct(path, false, &fd) : fz_disk_open(path, false, &fd));
    fz_status status = FZ_OK;
    for (int64_t i = 0; i < n && status == FZ_OK; i++)
        status = fz_disk_read(fd, path, b->data + i % BLOCKS_OF_TENSOR * (BLOCK_BYTES / 4),
                              BLOCK_BYTES, i * BLOCK_BYTES);
    close(fd);
    return status;
}

static fz_status time_raw(const bench *b, bool is_direct, times *t)
{
    char path[FZ_PATH_BYTES];
    FZ_TRY(fz_disk_join(path, b->dir, "raw"));
    const double start = fz_clock_s();
    FZ_TRY(write_raw(b, path, is_direct));
    t->write_s = fz_clock_s() - start;
    FZ_TRY(forget(path));
    const double again = fz_clock_s();
    FZ_TRY(read_raw(b, path, is_direct));
    t->read_s = fz_clock_s() - again;
    fz_disk_remove(path);
    return FZ_OK;
}

static fz_status raw_direct(const bench *b, times *t)
{
    double unused;
    *t = (times){-1, -1};
    if (fz_io_probe(b->dir, true, 1, FZ_DIRECT_BYTES, &unused) != FZ_OK) return FZ_OK;
    return time_raw(b, true, t);
}

static fz_status raw_buffered(const bench *b, times *t)
{
    return time_raw(b, false, t);
}

static fz_status checkpoint(const bench *b, times *t)
{
    char config[] = "", path[FZ_PATH_BYTES], file[FZ_PATH_BYTES], name[FZ_STEP_NAME_BYTES];
    const fz_ckpt_info info = {
        .tp = 1, .pp = 1, .dp = 1, .shards = 1, .lanes = 1, .run_id = "bench", .config = config};
    const double start = fz_clock_s();
    FZ_TRY(fz_ckpt_save(b->world.group, b->dir, &b->state, &info, 0, NULL));
    t->write_s = fz_clock_s() - start;
    fz_step_name(name, 0);
    FZ_TRY(fz_disk_join(path, b->dir, name));
    FZ_TRY(fz_disk_join(file, path, "s00/rank-00000.h5"));
    FZ_TRY(forget(file));
    const double again = fz_clock_s();
    FZ_TRY(fz_ckpt_load(b->world.group, b->dir, 0, &b->state));
    t->read_s = fz_clock_s() - again;
    fz_disk_remove_tree(path);
    return FZ_OK;
}

static fz_status write_safetensors(const bench *b, const char *dir, fz_safetensor *list, int n)
{
    fz_safetensors_writer *w = NULL;
    bool is_direct = false;
    FZ_TRY(fz_safetensors_writer_create(dir, n, list, INT64_MAX, NULL, &w));
    fz_status status = fz_safetensors_writer_start(w);
    if (status == FZ_OK) status = fz_io_choose(b->world.group, dir, b->bytes, &is_direct);
    fz_safetensors_writer_set_direct(w, is_direct);
    for (int i = 0; i < n && status == FZ_OK; i++)
        status = fz_safetensors_write(w, i, 0, ELEMENTS, b->data);
    if (status == FZ_OK) status = fz_safetensors_writer_sync(w);
    if (status == FZ_OK) status = fz_safetensors_writer_commit(w);
    fz_safetensors_writer_destroy(&w);
    return status;
}

static fz_status read_safetensors(const bench *b, const char *dir)
{
    fz_safetensors *st = NULL;
    fz_status status = FZ_OK;
    FZ_TRY(fz_safetensors_open(dir, &st));
    for (int i = 0; i < fz_safetensors_count(st) && status == FZ_OK; i++)
        status = fz_safetensors_read_float(st, fz_safetensors_get(st, i), 0, ELEMENTS, b->data);
    fz_safetensors_close(&st);
    return status;
}

static fz_status time_safetensors(const bench *b, fz_safetensor *list, times *t)
{
    char path[FZ_PATH_BYTES], file[FZ_PATH_BYTES];
    const int n = KINDS * b->n_tensors;
    for (int i = 0; i < n; i++)
        list[i] = (fz_safetensor){.dtype = FZ_DTYPE_F32,
                                  .ndim = 2,
                                  .shape = {SIDE, SIDE},
                                  .elements = ELEMENTS,
                                  .name = i % KINDS == 0 ? b->tensors[i / KINDS].name
                                                         : b->tensors[i / KINDS].name + i % KINDS};
    FZ_TRY(fz_disk_join(path, b->dir, "safetensors"));
    const double start = fz_clock_s();
    FZ_TRY(write_safetensors(b, path, list, n));
    t->write_s = fz_clock_s() - start;
    FZ_TRY(fz_disk_join(file, path, "model.safetensors"));
    FZ_TRY(forget(file));
    const double again = fz_clock_s();
    FZ_TRY(read_safetensors(b, path));
    t->read_s = fz_clock_s() - again;
    fz_disk_remove_tree(path);
    return FZ_OK;
}

static fz_status safetensors(const bench *b, times *t)
{
    fz_safetensor *list = NULL;
    FZ_TRY(FZ_NEW(&list, KINDS * b->n_tensors));
    const fz_status status = time_safetensors(b, list, t);
    fz_free(&list);
    return status;
}

static const struct {
    const char *name, *key;
    fz_status (*run)(const bench *b, times *t);
} rows[] = {
    {"raw, direct", "raw_direct", raw_direct},
    {"raw, buffered", "raw_buffered", raw_buffered},
    {"checkpoint", "checkpoint", checkpoint},
    {"safetensors", "safetensors", safetensors},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

/* ---- the table ---- */

static int compare(const void *x, const void *y)
{
    const double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static double median(double *values, long long n)
{
    qsort(values, (size_t)n, sizeof *values, compare);
    return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

typedef struct result {
    double mb_s[2], share[2]; /* writing, reading; share of the faster raw one in the same round */
} result;

static result summarize(const bench *b, times (*t)[N_ROWS], int row)
{
    double speed[MOST_ROUNDS], share[MOST_ROUNDS];
    result r;
    for (int reads = 0; reads < 2; reads++) {
        for (long long i = 0; i < b->rounds; i++) {
            double s[N_ROWS];
            for (int k = 0; k < N_ROWS; k++)
                s[k] = reads ? t[i][k].read_s : t[i][k].write_s;
            const double best = s[0] > 0 && s[0] < s[1] ? s[0] : s[1];
            speed[i] = s[row] > 0 ? (double)b->bytes / 1e6 / s[row] : 0;
            share[i] = s[row] > 0 ? best / s[row] : 0;
        }
        r.mb_s[reads] = median(speed, b->rounds);
        r.share[reads] = median(share, b->rounds);
    }
    return r;
}

static void print_json(const bench *b, times (*t)[N_ROWS])
{
    json_t *all =
        json_pack("{s:I, s:I}", "bytes", (json_int_t)b->bytes, "rounds", (json_int_t)b->rounds);
    for (int row = 0; row < N_ROWS; row++) {
        const result r = summarize(b, t, row);
        json_object_set_new(all, rows[row].key,
                            json_pack("{s:f, s:f, s:f, s:f}", "write_mb_s", r.mb_s[0],
                                      "write_share", r.share[0], "read_mb_s", r.mb_s[1],
                                      "read_share", r.share[1]));
    }
    fz_json_print(all);
}

static void print_table(const bench *b, times (*t)[N_ROWS])
{
    printf("%lld bytes, median of %lld rounds; share of the faster raw row in the same round\n",
           (long long)b->bytes, b->rounds);
    printf("%-16s %12s %8s %12s %8s\n", "", "write MB/s", "share", "read MB/s", "share");
    for (int row = 0; row < N_ROWS; row++) {
        const result r = summarize(b, t, row);
        if (r.mb_s[0] <= 0)
            printf("%-16s refused by this file system\n", rows[row].name);
        else
            printf("%-16s %12.0f %8.2f %12.0f %8.2f\n", rows[row].name, r.mb_s[0], r.share[0],
                   r.mb_s[1], r.share[1]);
    }
}

/* ---- the command ---- */

static fz_status read_bytes(const char *text, int64_t *bytes)
{
    static const struct {
        const char *unit;
        double bytes;
    } units[] = {{"MiB", 1 << 20}, {"GiB", 1 << 30}, {"MB", 1e6}, {"GB", 1e9}};
    char *end;
    *bytes = INT64_C(4) << 30;
    if (!text) return FZ_OK;
    const double number = strtod(text, &end);
    for (size_t i = 0; number > 0 && i < sizeof units / sizeof *units; i++) {
        if (strcmp(units[i].unit, end) != 0 || number * units[i].bytes > 9e15) continue;
        *bytes = (int64_t)(number * units[i].bytes);
        return FZ_OK;
    }
    return FZ_FAIL(FZ_ERR_USAGE, "--bytes: %s is no size; write 4GiB or 512MiB", text);
}

static fz_status read_options(bench *b, const fz_options *options)
{
    int64_t bytes = 0;
    b->rounds = 3;
    FZ_TRY(read_bytes(fz_options_get(options, "--bytes"), &bytes));
    FZ_TRY(fz_options_int(options, "--rounds", 1, &b->rounds));
    FZ_CHECK(b->rounds <= MOST_ROUNDS, FZ_ERR_USAGE, "--rounds: at most %d", MOST_ROUNDS);
    FZ_TRY(fz_ckpt_read_io(options));
    const int64_t of_one = KINDS * (int64_t)ELEMENTS * 4, n = (bytes + of_one - 1) / of_one;
    FZ_CHECK(n < 1 << 20, FZ_ERR_USAGE, "--bytes: at most 192 TiB");
    b->n_tensors = (int)n;
    b->bytes = n * of_one;
    return FZ_OK;
}

static fz_status make_state(bench *b)
{
    FZ_TRY(fz_alloc((void **)&b->memory, ELEMENTS * sizeof(float) + FZ_DIRECT_BYTES, "a tensor"));
    b->data = b->memory + (FZ_DIRECT_BYTES - (uintptr_t)b->memory % FZ_DIRECT_BYTES) / 4;
    for (int64_t i = 0; i < ELEMENTS; i++)
        b->data[i] = (float)(i * 2654435761u % 16777216u); /* nothing that a disk could compress */
    FZ_TRY(FZ_NEW(&b->tensors, b->n_tensors));
    FZ_TRY(FZ_NEW(&b->views, KINDS * b->n_tensors));
    for (int i = 0; i < b->n_tensors; i++) {
        fz_state_tensor *tensor = &b->tensors[i];
        *tensor = (fz_state_tensor){.ndim = 2, .shape = {SIDE, SIDE}, .trainable = true};
        /* Three names in one, each a different one. */
        snprintf(tensor->name, sizeof tensor->name, "abc%d", i);
        for (int kind = 0; kind < KINDS; kind++) {
            fz_state_view *view = &b->views[KINDS * i + kind];
            *view = (fz_state_view){.tensor = i,
                                    .kind = (fz_state_kind)kind,
                                    .hi = {SIDE, SIDE, 1, 1, 1},
                                    .data = b->data,
                                    .is_owner = true};
        }
    }
    b->state = (fz_state){b->n_tensors, b->tensors, KINDS * b->n_tensors, b->views};
    return FZ_OK;
}

static fz_status run_rounds(bench *b, bool is_json)
{
    times(*t)[N_ROWS] = NULL;
    fz_status status = FZ_NEW(&t, b->rounds);
    for (long long round = 0; round < b->rounds; round++)
        for (int row = 0; row < N_ROWS && status == FZ_OK; row++) {
            fz_info("round %lld of %lld: %s", round + 1, b->rounds, rows[row].name);
            status = rows[row].run(b, &t[round][row]);
        }
    if (status == FZ_OK) (is_json ? print_json : print_table)(b, t);
    fz_free(&t);
    return status;
}

static fz_status run(bench *b, const fz_options *options)
{
    fz_environment environment;
    char name[48];
    FZ_TRY(read_options(b, options));
    FZ_CHECK(access(options->arg[0], W_OK) == 0, FZ_ERR_USAGE, "%s: %s", options->arg[0],
             strerror(errno));
    snprintf(name, sizeof name, ".florenz-bench.tmp-%ld", (long)getpid());
    FZ_TRY(fz_environment_read(&environment));
    fz_environment_prepare_mpi();
    FZ_TRY(fz_world_start(environment.n_ranks, environment.n_ranks_from, &b->world));
    FZ_CHECK(b->world.size == 1, FZ_ERR_USAGE, "ckpt bench: one process, not %d", b->world.size);
    FZ_TRY(fz_ckpt_start());
    FZ_TRY(make_state(b));
    FZ_TRY(fz_disk_join(b->dir, options->arg[0], name));
    FZ_TRY(fz_disk_make_directory(b->dir));
    const fz_status status = run_rounds(b, fz_options_get(options, "--json") != NULL);
    fz_disk_remove_tree(b->dir);
    return status;
}

int fz_ckpt_bench(int argc, char **argv)
{
    static bench b; /* large, and there is one */
    fz_options options;
    int code;
    if (!fz_command_begins(&command, argc, argv, &options, &code)) return code;
    const fz_status status = run(&b, &options);
    const int left = fz_exit_with(status, false);
    fz_free(&b.memory);
    fz_free(&b.tensors);
    fz_free(&b.views);
    fz_world_stop(&b.world);
    return left;
}
