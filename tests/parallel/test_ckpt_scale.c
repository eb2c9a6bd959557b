/* Checkpoints of 11.2b on 16,384 ranks, planned in one process without their data: what every rank
 * does before it writes, what rank 0 puts together, what every rank does before it reads at another
 * layout. Prints a table; --measure tells also times that a busy machine would miss, as failures.
 *
 * Arenas lie as a shard file has them, but for the length of its metadata.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/unit.h"

#include "checkpoint/checkpoint.h"
#include "checkpoint/compare.h"
#include "checkpoint/coverage.h"
#include "checkpoint/disk.h"
#include "checkpoint/index_file.h"
#include "checkpoint/load_plan.h"
#include "core/clock.h"
#include "core/memory.h"
#include "core/rng.h"
#include "parallel/plan.h"
#include "tests/parallel/ghost_rank.h"

enum { METADATA_BYTES = 1 << 20, N_TIMED = 64, HOST_RANKS = 8 };
static const fz_mesh_shape SAVED_AT = {.pp = 8, .dp = 256, .tp = 8};
static const fz_mesh_shape LOADED_AT = {.pp = 4, .dp = 768, .tp = 4};

static bool must_be_fast;
static int n_missed;

static double ms(double seconds)
{
    return 1e3 * seconds;
}

static void tell(const char *what, double value, const char *unit, double limit, bool is_time)
{
    printf("| %s | %.3f %s | %g %s |\n", what, value, unit, limit, unit);
    if (!is_time || must_be_fast) n_missed += value > limit;
}

/* ---- ranks without memory ---- */

typedef struct job { /* the model at a layout */
    fz_program *program;
    fz_plan *plan;
} job;

static void job_start(job *j, fz_mesh_shape shape)
{
    const fz_train_config train = {.seed = 1,
                                   .steps = 1000,
                                   .global_batch = 1024,
                                   .loss_batch = 32,
                                   .micro_batch = 1,
                                   .lr = 1e-4,
                                   .beta1 = 0.9,
                                   .beta2 = 0.999,
                                   .eps = 1e-8};
    const fz_layout_config layout = {
        .shape = shape, .schedule = FZ_SCHEDULE_1F1B, .n_shards = 8, .n_lanes = 1024};
    fz_model_config c;

    assert_ok(fz_model_variant("11.2b", &c));
    c.freeze_recipe = false; /* all of it is trained */
    assert_ok(fz_program_create(&c, 8, &j->program));
    assert_ok(fz_plan_create(j->program, &train, &layout, &j->plan));
}

static void job_stop(job *j)
{
    fz_plan_destroy(&j->plan);
    fz_program_destroy(&j->program);
}

/* ---- the index of all ranks ---- */

typedef struct saved {
    fz_index index;
    int64_t room;
    double most_s; /* processor time of the slowest rank */
} saved;

/* The rows of one rank behind those of the ranks below it. */
static void add_rank(saved *s, const job *j, int rank)
{
    fz_index_file *file = &s->index.files[rank];
    uint64_t *views = NULL, *digests = NULL;
    int *view_of = NULL;
    ghost g;

    assert_ok(ghost_start(&g, j->plan, rank, PROT_NONE));
    assert_ok(FZ_NEW(&views, g.state.n_views));
    while (s->index.n_rows + g.state.n_views > s->room) {
        s->room = 2 * s->room + 4096;
        assert_ok(
            fz_realloc((void **)&s->index.rows, (size_t)s->room * sizeof *s->index.rows, "rows"));
    }
    fz_fragment *rows = s->index.rows + s->index.n_rows;
    const double start = fz_clock_cpu_s();
    assert_ok(FZ_NEW(&digests, g.state.n_views));
    assert_ok(FZ_NEW(&view_of, g.state.n_views));
    const int64_t n = fz_owned_rows(&g.state, rank, 7, views, rows, digests, view_of);
    const double took = fz_clock_cpu_s() - start;
    if (took > s->most_s) s->most_s = took;
    s->index.n_rows += n;
    int64_t at = METADATA_BYTES;
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
        file->arena[kind].offset = n > 0 ? at : 0;
        for (int64_t i = 0; i < n; i++) {
            if (rows[i].kind != kind) continue;
            rows[i].offset = at;
            at += 4 * rows[i].b;
        }
        file->arena[kind].bytes = n > 0 ? at - file->arena[kind].offset : 0;
        file->first_block[kind] = s->index.n_blocks;
        s->index.n_blocks += fz_blocks_of(file->arena[kind].bytes);
    }
    file->size = n > 0 ? at : 0;
    fz_free(&views);
    fz_free(&digests);
    fz_free(&view_of);
    ghost_stop(&g);
}

static void save_all(saved *s, const job *j)
{
    fz_index *index = &s->index;
    const int size = fz_mesh_size(j->plan->layout.shape);

    memset(s, 0, sizeof *s);
    index->n_tensors = j->program->n_params;
    index->n_files = size;
    assert_ok(fz_state_tensors_create(j->program, &index->tensors));
    assert_ok(FZ_NEW(&index->files, size));
    for (int r = 0; r < size; r++)
        add_rank(s, j, r);
    assert_ok(FZ_NEW(&index->row_digests, index->n_rows));
    assert_ok(FZ_NEW(&index->crcs, index->n_blocks));
    assert_ok(FZ_NEW(&index->sums, FZ_N_STATE_KINDS * index->n_tensors));
    for (int64_t i = 0; i < index->n_rows; i++) /* what a file has that cannot be compressed */
        index->row_digests[i] = fz_mix64((uint64_t)i + 1);
    for (int64_t i = 0; i < FZ_STATE_WEIGHT * index->n_tensors; i++)
        index->sums[i][0] = fz_mix64((uint64_t)i + 7);
}

/* ---- loading at another layout ---- */

static void want_views(fz_wants *w, const fz_state *state, int64_t *room)
{
    for (int v = 0; v < state->n_views; v++) {
        const fz_state_view *view = &state->views[v];
        const fz_box box = fz_box_of_view(view, state->tensors[view->tensor].ndim);
        if (fz_box_elements(&box) == 0) continue;
        int64_t *n = &w->first[w->n_classes + 1];
        if (*n == *room) {
            *room = 2 * *room + 4096;
            assert_ok(fz_realloc((void **)&w->list, (size_t)*room * sizeof *w->list, "wants"));
        }
        fz_want *want = &w->list[(*n)++];
        *want = (fz_want){.tensor = view->tensor, .kind = (int)view->kind};
        memcpy(want->lo, box.lo, sizeof box.lo);
        memcpy(want->hi, box.hi, sizeof box.hi);
    }
}

/* Data ranks hold the same: a class for every pipeline and tensor rank, as fz_wants_gather makes
 * them. */
static void want_all(fz_wants *w, const job *j)
{
    const fz_mesh_shape shape = j->plan->layout.shape;
    const int most = shape.pp * shape.tp;
    int64_t room = 0;
    int n = 0;

    memset(w, 0, sizeof *w);
    w->size = fz_mesh_size(shape);
    assert_ok(FZ_NEW(&w->class_of, w->size));
    assert_ok(FZ_NEW(&w->first_member, most + 1));
    assert_ok(FZ_NEW(&w->members, w->size));
    assert_ok(FZ_NEW(&w->first, most + 1));
    for (fz_mesh_coord c = {0}; c.pp < shape.pp; c.pp++)
        for (c.tp = 0; c.tp < shape.tp; c.tp++, w->n_classes++) {
            ghost g;
            c.dp = 0;
            assert_ok(ghost_start(&g, j->plan, fz_mesh_rank(shape, c), PROT_NONE));
            w->first[w->n_classes + 1] = w->first[w->n_classes];
            want_views(w, &g.state, &room);
            ghost_stop(&g);
            for (; c.dp < shape.dp; c.dp++) {
                w->class_of[fz_mesh_rank(shape, c)] = w->n_classes;
                w->members[n++] = fz_mesh_rank(shape, c);
            }
            w->first_member[w->n_classes + 1] = n;
        }
}

static void time_load(const fz_index *index, double *mean_s, int64_t *n_cuts, int *n_rounds)
{
    fz_source sources[FZ_LOAD_SOURCES] = {{.head = NULL}};
    int64_t *hosts = NULL;
    fz_wants wants;
    job j;

    sources[0].index = *index; /* borrowed */
    assert_ok(fz_rows_chain(index->n_tensors, index->rows, index->n_rows, &sources[0].head,
                            &sources[0].next));
    job_start(&j, LOADED_AT);
    want_all(&wants, &j);
    assert_ok(FZ_NEW(&hosts, wants.size));
    for (int r = 0; r < wants.size; r++)
        hosts[r] = r / HOST_RANKS;
    double sum = 0;
    const int n = must_be_fast ? N_TIMED : 2;
    for (int i = 0; i < n; i++) {
        const fz_load_plan_args args = {.sources = sources,
                                        .wants = &wants,
                                        .hosts = hosts,
                                        .rank = i * (wants.size / n),
                                        .round_bytes = INT64_C(64) << 20};
        fz_load_plan plan;
        const double start = fz_clock_cpu_s();
        assert_ok(fz_load_plan_make(&args, &plan));
        sum += fz_clock_cpu_s() - start;
        assert_true(plan.n_blocks == index->n_blocks); /* each is read by somebody */
        *n_cuts = plan.n_cuts;
        *n_rounds = plan.n_rounds;
        fz_load_plan_reset(&plan);
    }
    *mean_s = sum / n;
    fz_free(&hosts);
    fz_wants_reset(&wants);
    job_stop(&j);
    fz_free(&sources[0].head);
    fz_free(&sources[0].next);
}

/* ---- the test ---- */

static fz_status count_difference(void *context, const fz_difference *difference)
{
    *(int64_t *)context += difference->what == FZ_DIFFERS_BITS;
    return FZ_OK;
}

/* Reads the index as ckpt diff does, twice, and compares: seconds of processor time. */
static void time_diff(char *const path[2], int64_t n_tensors, double *read_s, double *diff_s)
{
    fz_index index[2];
    int64_t n_differ = 0, n_same = 0;

    const double start = fz_clock_cpu_s();
    for (int i = 0; i < 2; i++) {
        char *bytes = NULL;
        size_t n = 0;
        assert_ok(fz_disk_read_file(path[i], &bytes, &n));
        memset(&index[i], 0, sizeof index[i]);
        assert_ok(fz_index_read(bytes, n, path[i], &index[i]));
        fz_free(&bytes);
        if (i == 0) *read_s = fz_clock_cpu_s() - start;
    }
    assert_ok(fz_compare(&index[0], &index[1], count_difference, &n_differ, &n_same));
    *diff_s = fz_clock_cpu_s() - start;
    assert_int_equal(n_differ, 1);
    assert_int_equal(n_same, FZ_STATE_WEIGHT * n_tensors - 1);
    for (int i = 0; i < 2; i++)
        fz_index_reset(&index[i]);
}

static void sixteen_thousand_ranks_are_planned(void **state)
{
    char folder[FZ_PATH_BYTES], one[FZ_PATH_BYTES], two[FZ_PATH_BYTES];
    char *const path[2] = {one, two};
    int64_t size = 0, n_cuts = 0;
    double read_s = 0, diff_s = 0, load_s = 0;
    int n_rounds = 0;
    uint32_t crc;
    saved s;
    job j;

    (void)state;
    snprintf(folder, sizeof folder, "%s/scale-test-XXXXXX", FZ_BINARY_DIR);
    assert_non_null(mkdtemp(folder));
    assert_ok(fz_disk_join(one, folder, "one.h5"));
    assert_ok(fz_disk_join(two, folder, "two.h5"));
    job_start(&j, SAVED_AT);
    save_all(&s, &j);
    const double start = fz_clock_cpu_s();
    assert_ok(fz_ckpt_index_write(one, &s.index, &size, &crc));
    const double write_s = fz_clock_cpu_s() - start;
    s.index.sums[17][0]++;
    assert_ok(fz_ckpt_index_write(two, &s.index, &size, &crc));
    time_diff(path, s.index.n_tensors, &read_s, &diff_s);
    time_load(&s.index, &load_s, &n_cuts, &n_rounds);

    printf("%d ranks (pp %d, dp %d, tp %d) save, %d (pp %d, dp %d, tp %d) load; %d tensors, %lld "
           "fragments, %lld blocks, %.1f GB; the load: %lld cuts, %d rounds\n\n",
           fz_mesh_size(SAVED_AT), SAVED_AT.pp, SAVED_AT.dp, SAVED_AT.tp, fz_mesh_size(LOADED_AT),
           LOADED_AT.pp, LOADED_AT.dp, LOADED_AT.tp, s.index.n_tensors, (long long)s.index.n_rows,
           (long long)s.index.n_blocks, 12e-9 * (double)j.program->n_elements, (long long)n_cuts,
           n_rounds);
    printf("| | measured | at most |\n| --- | ---: | ---: |\n");
    tell("plan of a save, slowest rank", ms(s.most_s), "ms", 1, true);
    tell("plan of a load, of all ranks by each", ms(load_s), "ms", 20, true);
    tell("index", 1e-6 * (double)size, "MB", 6, false);
    tell("index written by rank 0", ms(write_s), "ms", 100, true);
    tell("index read", ms(read_s), "ms", 50, true);
    tell("diff of two, reading included", ms(diff_s), "ms", 100, true);
    fz_index_reset(&s.index);
    job_stop(&j);
    fz_disk_remove_tree(folder);
    assert_int_equal(n_missed, 0);
    assert_int_equal(fz_memory_get().n_live, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixteen_thousand_ranks_are_planned),
    };

    must_be_fast = argc > 1 && strcmp(argv[1], "--measure") == 0;
    if (fz_ckpt_start() != FZ_OK) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
