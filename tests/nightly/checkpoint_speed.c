/* The speed of saves and loads beside that of plain files, on the same disk in the same run.
 *   mpirun -n N checkpoint_speed DIR VARIANT ROUNDS SAVE_AT LOAD_AT
 * SAVE_AT, LOAD_AT: layouts PPxDPxTP of N ranks. Everything of VARIANT is trained: 12 bytes a
 * parameter, all ranks together, in memory and twice on the disk. A round writes plain files past
 * the page cache in blocks of 16 MiB (every rank as much as its part of a checkpoint), saves, reads
 * the plain files, loads at the same layout, and at the other one. Prints medians as Markdown, and
 * with a sixth argument a list of names and shapes to that file.
 */
#define _GNU_SOURCE /* O_DIRECT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/disk.h"
#include "checkpoint/index_file.h"
#include "checkpoint/layout.h"
#include "core/clock.h"
#include "dist/world.h"
#include "tests/parallel/ghost_rank.h"

enum { MOST_ROUNDS = 99, RAW_BYTES = 16 << 20, RAW_BUFFERS = 4 };
enum { RAW_WRITE, SAVE, RAW_READ, LOAD, LOAD_OTHER, N_ROWS };
static const char *const ROW_NAMES[N_ROWS] = {"plain files, written", "checkpoint, saved",
                                              "plain files, read", "checkpoint, loaded",
                                              "checkpoint, loaded at another layout"};

typedef struct speed {
    fz_world world;
    const char *dir, *variant, *list;
    int rounds;
    fz_mesh_shape shape[2]; /* save, load elsewhere */
    fz_program *program;
    int64_t own_bytes, all_bytes; /* of a checkpoint */
    char *raw;                    /* RAW_BUFFERS blocks */
    double seconds[N_ROWS][MOST_ROUNDS];
} speed;

static fz_status failed(const char *what, const char *path)
{
    return FZ_FAIL(FZ_ERR_IO, "%s %s: %s", what, path, strerror(errno));
}

/* ---- plain files ---- */

static fz_status raw_path(const speed *s, char path[FZ_PATH_BYTES])
{
    char name[32];
    snprintf(name, sizeof name, "plain-%05d", s->world.rank);
    return fz_disk_join(path, s->dir, name);
}

static fz_status raw_open(const speed *s, bool writes, int *fd_p)
{
    char path[FZ_PATH_BYTES];

    FZ_TRY(raw_path(s, path));
    const int fd = open(path, O_DIRECT | (writes ? O_RDWR | O_CREAT | O_TRUNC : O_RDONLY), 0666);
    if (fd < 0) return failed("open past the page cache", path);
    const int64_t bytes = (s->own_bytes + 4095) / 4096 * 4096;
    if (writes && bytes > 0 && posix_fallocate(fd, 0, bytes) != 0) {
        close(fd);
        return FZ_FAIL(FZ_ERR_IO, "no room for %lld bytes in %s", (long long)bytes, path);
    }
    *fd_p = fd;
    return FZ_OK;
}

static fz_status raw_blocks(const speed *s, int fd, bool writes)
{
    const int64_t all = (s->own_bytes + 4095) / 4096 * 4096;

    for (int64_t at = 0, n = 0; at < all; n++) {
        char *block = s->raw + n % RAW_BUFFERS * RAW_BYTES;
        const size_t bytes = (size_t)(all - at < RAW_BYTES ? all - at : RAW_BYTES);
        const ssize_t done = writes ? pwrite(fd, block, bytes, at) : pread(fd, block, bytes, at);
        if (done <= 0) return failed(writes ? "write" : "read", "a plain file");
        at += done;
    }
    if (writes && fsync(fd) != 0) return failed("sync", "a plain file");
    return FZ_OK;
}

/* The clock begins when all have made room and ends when all are on the disk. */
static fz_status time_raw(speed *s, bool writes, double *seconds)
{
    int fd = -1;

    FZ_TRY(fz_agree(s->world.group, raw_open(s, writes, &fd)));
    const double start = fz_clock_s();
    const fz_status status = fz_agree(s->world.group, raw_blocks(s, fd, writes));
    *seconds = fz_clock_s() - start;
    close(fd);
    return status;
}

/* ---- checkpoints ---- */

static fz_status make_plan(const speed *s, fz_mesh_shape shape, fz_plan **plan_p)
{
    const fz_train_config train = {.seed = 1,
                                   .steps = 10,
                                   .global_batch = 64,
                                   .loss_batch = 32,
                                   .micro_batch = 1,
                                   .lr = 1e-4,
                                   .beta1 = 0.9,
                                   .beta2 = 0.999,
                                   .eps = 1e-8};
    const fz_layout_config layout = {.shape = shape,
                                     .schedule = FZ_SCHEDULE_1F1B,
                                     .n_shards = s->program->n_shards,
                                     .n_lanes = 8};
    return fz_plan_create(s->program, &train, &layout, plan_p);
}

/* Bits that differ everywhere and are the same in all copies of a piece. */
static void fill(const fz_state *state)
{
    for (int v = 0; v < state->n_views; v++) {
        const fz_state_view *view = &state->views[v];
        const fz_box box = fz_box_of_view(view, state->tensors[view->tensor].ndim);
        const int64_t n = fz_box_elements(&box);
        uint32_t bits = (uint32_t)(view->tensor * 4 + (int)view->kind) * 2654435761u;
        for (int64_t i = 0; i < n; i++, bits += 2246822519u)
            memcpy(&view->data[i], &bits, sizeof bits);
    }
}

/* So that a load reads the disk. */
static void forget(const speed *s, const char *step)
{
    char name[FZ_SHARD_NAME_BYTES], path[FZ_PATH_BYTES];

    fz_shard_name(name, s->world.rank);
    if (fz_disk_join(path, step, name) != FZ_OK) return;
    const int fd = open(path, O_RDONLY);
    if (fd < 0) return; /* this rank owns nothing */
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static fz_status time_load(speed *s, const char *dir, const fz_state *state, double *seconds)
{
    char step[FZ_PATH_BYTES];

    FZ_TRY(fz_disk_join(step, dir, "step-000000001"));
    forget(s, step);
    FZ_TRY(fz_barrier(s->world.group));
    const double start = fz_clock_s();
    FZ_TRY(fz_ckpt_load(s->world.group, dir, 1, state));
    *seconds = fz_clock_s() - start;
    return FZ_OK;
}

static fz_status save_and_load(speed *s, const char *dir, const ghost *g, int round)
{
    static char config[] = "model: {variant: speed}\n";
    const fz_mesh_shape shape = s->shape[0];
    const fz_ckpt_info info = {.step = 1,
                               .samples = 1,
                               .tp = shape.tp,
                               .pp = shape.pp,
                               .dp = shape.dp,
                               .shards = s->program->n_shards,
                               .lanes = 8,
                               .global_batch = 64,
                               .micro_batch = 1,
                               .run_id = "speed",
                               .config = config};

    fill(&g->state);
    FZ_TRY(time_raw(s, true, &s->seconds[RAW_WRITE][round]));
    FZ_TRY(fz_barrier(s->world.group));
    const double start = fz_clock_s();
    FZ_TRY(fz_ckpt_save(s->world.group, dir, &g->state, &info, 0, NULL));
    s->seconds[SAVE][round] = fz_clock_s() - start;
    FZ_TRY(time_raw(s, false, &s->seconds[RAW_READ][round]));
    return time_load(s, dir, &g->state, &s->seconds[LOAD][round]);
}

static fz_status with_layout(speed *s, const char *dir, int which, int round)
{
    fz_plan *plan = NULL;
    ghost g = {.state = {.n_views = 0}};

    fz_status status = make_plan(s, s->shape[which], &plan);
    if (status == FZ_OK) status = ghost_start(&g, plan, s->world.rank, PROT_READ | PROT_WRITE);
    status = fz_agree(s->world.group, status);
    if (status == FZ_OK && which == 0 && s->own_bytes == 0) {
        for (int v = 0; v < g.state.n_views; v++) {
            const fz_state_view *view = &g.state.views[v];
            const fz_box box = fz_box_of_view(view, g.state.tensors[view->tensor].ndim);
            if (view->is_owner) s->own_bytes += 4 * fz_box_elements(&box);
        }
        s->all_bytes = s->own_bytes;
        status = fz_allreduce_sum_int(s->world.group, &s->all_bytes, 1);
    }
    if (status == FZ_OK)
        status = which == 0 ? save_and_load(s, dir, &g, round)
                            : time_load(s, dir, &g.state, &s->seconds[LOAD_OTHER][round]);
    ghost_stop(&g);
    fz_plan_destroy(&plan);
    return status;
}

static fz_status one_round(speed *s, int round)
{
    char dir[FZ_PATH_BYTES];

    FZ_TRY(fz_disk_join(dir, s->dir, "checkpoints"));
    fz_status status = with_layout(s, dir, 0, round);
    if (status == FZ_OK) status = with_layout(s, dir, 1, round);
    fz_barrier(s->world.group);
    if (s->world.rank == 0) fz_disk_remove_tree(dir);
    return status;
}

/* ---- what is said ---- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_table(speed *s)
{
    double median[N_ROWS];
    const fz_mesh_shape a = s->shape[0], b = s->shape[1];

    printf("%s with its optimizer state, %.2f GB; %d ranks, saved at pp %d dp %d tp %d, loaded "
           "there and at pp %d dp %d tp %d; medians of %d rounds\n\n"
           "| | s | fastest | slowest | GB/s | of plain files |\n"
           "| --- | ---: | ---: | ---: | ---: | ---: |\n",
           s->variant, 1e-9 * (double)s->all_bytes, s->world.size, a.pp, a.dp, a.tp, b.pp, b.dp,
           b.tp, s->rounds);
    for (int r = 0; r < N_ROWS; r++) {
        qsort(s->seconds[r], (size_t)s->rounds, sizeof *s->seconds[r], by_value);
        median[r] = s->seconds[r][s->rounds / 2];
        const double raw = r == RAW_WRITE || r == SAVE ? median[RAW_WRITE] : median[RAW_READ];
        printf("| %s | %.2f | %.2f | %.2f | %.2f | %.1f %% |\n", ROW_NAMES[r], median[r],
               s->seconds[r][0], s->seconds[r][s->rounds - 1],
               1e-9 * (double)s->all_bytes / median[r], 100 * raw / median[r]);
    }
}

/* name, then its axes: what other programs make the same tensors from. */
static fz_status write_list(const speed *s)
{
    FILE *out = fopen(s->list, "w");

    if (!out) return failed("open", s->list);
    for (int p = 0; p < s->program->n_params; p++) {
        const fz_param *param = &s->program->params[p];
        fprintf(out, "%s", param->name);
        for (int axis = 0; axis < param->ndim; axis++)
            fprintf(out, " %lld", (long long)param->shape[axis]);
        fprintf(out, "\n");
    }
    return fclose(out) == 0 ? FZ_OK : failed("write", s->list);
}

static fz_status run(speed *s)
{
    char path[FZ_PATH_BYTES];
    fz_model_config c;

    FZ_TRY(fz_model_variant(s->variant, &c));
    c.freeze_recipe = false;
    FZ_TRY(fz_program_create(&c, fz_model_auto_shards(&c), &s->program));
    if (s->list && s->world.rank == 0) FZ_TRY(write_list(s));
    FZ_TRY(raw_path(s, path));
    fz_status status = FZ_OK;
    for (int round = 0; round < s->rounds && status == FZ_OK; round++)
        status = one_round(s, round);
    unlink(path);
    if (status == FZ_OK && s->world.rank == 0) print_table(s);
    return status;
}

static bool read_shape(const char *text, fz_mesh_shape *shape)
{
    return sscanf(text, "%dx%dx%d", &shape->pp, &shape->dp, &shape->tp) == 3;
}

int main(int argc, char **argv)
{
    static speed s;

    if (argc < 6 || !read_shape(argv[4], &s.shape[0]) || !read_shape(argv[5], &s.shape[1])) {
        fprintf(stderr, "usage: checkpoint_speed DIR VARIANT ROUNDS PPxDPxTP PPxDPxTP [LIST]\n");
        return 64;
    }
    s.dir = argv[1];
    s.variant = argv[2];
    s.rounds = atoi(argv[3]);
    s.list = argc > 6 ? argv[6] : NULL;
    s.raw = aligned_alloc(4096, (size_t)RAW_BUFFERS * RAW_BYTES);
    if (s.rounds < 1 || s.rounds > MOST_ROUNDS || !s.raw) return 64;
    for (size_t i = 0; i < (size_t)RAW_BUFFERS * RAW_BYTES; i++)
        s.raw[i] = (char)(i * 2654435761u >> 13);
    fz_status status = fz_world_start(0, NULL, &s.world);
    if (status == FZ_OK) status = fz_ckpt_start();
    if (status == FZ_OK && fz_mesh_size(s.shape[0]) != s.world.size)
        status = FZ_FAIL(FZ_ERR_ARG, "the layouts are not of %d ranks", s.world.size);
    if (status == FZ_OK) status = run(&s);
    if (status != FZ_OK) fprintf(stderr, "checkpoint_speed: %s\n", fz_last_error()->text);
    fz_program_destroy(&s.program);
    free(s.raw);
    if (s.world.group) fz_world_stop(&s.world);
    return status == FZ_OK ? 0 : 1;
}
