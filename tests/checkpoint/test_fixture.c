/* Format 1 as it was: a step and its base, written by two ranks and kept in the repository. What is
 * there must load at any layout, verify, be rebuilt, and hold these values, forever.
 *
 *   FZ_WRITE_FIXTURE=FOLDER mpirun -n 2 checkpoint_test_fixture    writes one anew, for another
 *   tar -C FOLDER --sort=name --owner=0 --group=0 -cz . > v2.tar.gz    format; packed, as HDF5
 * leaves room
 */
#include "tests/support/ranks.h"

#include "tests/support/unit.h"

#include <unistd.h>

#include "checkpoint/disk.h"
#include "checkpoint/layout.h"
#include "checkpoint/rebuild.h"
#include "checkpoint/stream.h"
#include "checkpoint/verify.h"

#define FIXTURE FZ_SOURCE_DIR "/tests/checkpoint/fixtures/v1.tar.gz"
#define STEP "step-000000007"
static char scratch[512];                    /* made by the test */
static char fixture[600], fixture_step[640]; /* unpacked there */

/* Small: what HDF5 takes for a group is most of a file. */
static const fz_state_tensor TENSORS[] = {
    {.name = "embed.weight", .ndim = 2, .shape = {7, 4}, .trainable = true},
    {.name = "conv.patch", .ndim = 4, .shape = {2, 3, 1, 2}, .trainable = true},
    {.name = "gate", .ndim = 0, .trainable = true},
    {.name = "vision.frozen", .ndim = 2, .shape = {4, 3}, .trainable = false},
};
enum { N_TENSORS = sizeof TENSORS / sizeof *TENSORS, N_VIEWS = 64 };

/* Written down, not drawn: a generator that changes must not change the fixture. */
static float value(int tensor, int kind, int64_t i)
{
    if (kind == FZ_STATE_WEIGHT) kind = FZ_STATE_MASTER;
    return (float)(tensor * 1000 + kind * 100) + (float)i + 0.25f;
}

typedef struct holder { /* a rank's state: rows cut over so many pieces */
    fz_state state;
    fz_state_view views[N_VIEWS];
    float data[N_VIEWS][32];
} holder;

static void fill(holder *h, int rank, int size, bool sets)
{
    memset(h, 0, sizeof *h);
    h->state =
        (fz_state){.n_tensors = N_TENSORS, .tensors = TENSORS, .views = h->views, .n_views = 0};
    for (int t = 0; t < N_TENSORS; t++)
        for (int p = 0; p < size; p++) {
            if (p % size != rank || (TENSORS[t].ndim == 0 && p > 0)) continue;
            fz_box box = fz_box_of_tensor(&TENSORS[t]);
            const fz_box whole = box;
            if (TENSORS[t].ndim > 0) {
                box.lo[0] = whole.hi[0] * p / size;
                box.hi[0] = whole.hi[0] * (p + 1) / size;
            }
            for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
                if (TENSORS[t].trainable == (kind == FZ_STATE_WEIGHT)) continue;
                fz_state_view *view = &h->views[h->state.n_views];
                *view = (fz_state_view){.tensor = t,
                                        .piece = p,
                                        .kind = (fz_state_kind)kind,
                                        .is_owner = true,
                                        .data = h->data[h->state.n_views++]};
                memcpy(view->lo, box.lo, sizeof box.lo);
                memcpy(view->hi, box.hi, sizeof box.hi);
                const int64_t first = fz_box_offset(&whole, box.lo);
                for (int64_t i = 0; i < fz_box_elements(&box) && sets; i++)
                    view->data[i] = value(t, kind, first + i);
            }
        }
}

static fz_ckpt_info info_of_that_time(void)
{
    static char config[] = "model: {variant: toy}\ntrain: {steps: 7}\n";
    fz_ckpt_info info = {.step = 7,
                         .samples = 224,
                         .seed = UINT64_MAX - 5,
                         .data_fingerprint = 0x1234567890abcdef,
                         .config_hash = 77,
                         .tp = 2,
                         .pp = 1,
                         .dp = 1,
                         .shards = 8,
                         .lanes = 16,
                         .global_batch = 32,
                         .micro_batch = 4,
                         .config = config};
    strcpy(info.run_id, "run of a test");
    strcpy(info.arithmetic_id, "openblas 1 haswell");
    return info;
}

static int write_fixture(const char *dir)
{
    const fz_ckpt_info info = info_of_that_time();
    static holder h;

    fill(&h, world.rank, world.size, true);
    return fz_ckpt_save(world.group, dir, &h.state, &info, 0, NULL) == FZ_OK ? 0 : 1;
}

static void every_tensor_reads_with_its_values(void **state)
{
    fz_ckpt_reader *reader = NULL;
    float x[32];

    (void)state;
    assert_ok(fz_ckpt_reader_open(fixture_step, &reader));
    const fz_ckpt_info *info = fz_ckpt_reader_info(reader), expected = info_of_that_time();
    assert_int_equal(info->step, 7);
    assert_int_equal(info->samples, expected.samples);
    assert_true(info->seed == expected.seed);
    assert_true(info->data_fingerprint == expected.data_fingerprint);
    assert_int_equal(info->shards, expected.shards);
    assert_string_equal(info->arithmetic_id, expected.arithmetic_id);
    assert_string_equal(info->config, expected.config);
    assert_int_equal(fz_ckpt_reader_count(reader), N_TENSORS);
    for (int t = 0; t < N_TENSORS; t++) {
        const fz_box whole = fz_box_of_tensor(&TENSORS[t]);
        assert_string_equal(fz_ckpt_reader_tensor(reader, t)->name, TENSORS[t].name);
        for (int kind = 0; kind < FZ_STATE_WEIGHT; kind++) {
            assert_ok(fz_ckpt_reader_read(reader, t, (fz_state_kind)kind, x));
            for (int64_t i = 0; i < fz_box_elements(&whole); i++) {
                const bool is_none = !TENSORS[t].trainable && kind != FZ_STATE_MASTER;
                assert_true(x[i] == (is_none ? 0 : value(t, kind, i)));
            }
        }
    }
    fz_ckpt_reader_close(&reader);
}

static void it_loads_on_any_number_of_ranks(void **state)
{
    static holder mine, expected;
    bool found = false;
    fz_ckpt_info info = {.step = 0};

    (void)state;
    fill(&mine, world.rank, world.size, false);
    fill(&expected, world.rank, world.size, true);
    assert_int_equal(fz_ckpt_find(world.group, fixture, &found, &info), FZ_OK);
    assert_true(found && info.step == 7);
    fz_ckpt_info_reset(&info);
    assert_int_equal(fz_ckpt_load(world.group, fixture, 7, &mine.state), FZ_OK);
    assert_memory_equal(mine.data, expected.data, sizeof mine.data);
}

static void say(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

static void it_verifies(void **state)
{
    fz_verify verify = {.is_deep = true, .say = say};

    (void)state;
    assert_ok(fz_verify_directory(&verify, fixture_step));
    assert_int_equal(verify.n_faults, 0);
    assert_int_equal(verify.n_files, 2 + 2 + 2);
}

/* From the shards of that time, which must say enough. */
static void its_index_can_be_made_from_its_shards(void **state)
{
    char command[2048], path[1024];
    static fz_rebuilt rebuilt;

    (void)state;
    if (world.rank != 0) return;
    snprintf(command, sizeof command, "cp -r '%s' '%s/copy' && rm '%s/copy/" STEP "/MANIFEST'",
             fixture, scratch, scratch);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof path, "%s/copy/" STEP, scratch);
    assert_ok(fz_rebuild_read(path, NULL, &rebuilt));
    assert_true(rebuilt.has_numbers && rebuilt.has_old_info);
    assert_ok(fz_rebuild_write(&rebuilt));
    fz_rebuilt_reset(&rebuilt);
    fz_verify verify = {.is_deep = true, .say = say};
    assert_ok(fz_verify_directory(&verify, path));
    assert_int_equal(verify.n_faults, 0);
}

static int start(void **state)
{
    char command[2048];
    int is_there = 1;

    (void)state;
    if (world.rank == 0) {
        snprintf(scratch, sizeof scratch, "%.400s/fixture-test-XXXXXX", FZ_BINARY_DIR);
        is_there = mkdtemp(scratch) != NULL;
    }
    assert_int_equal(fz_broadcast(world.group, scratch, sizeof scratch, 0), FZ_OK);
    snprintf(fixture, sizeof fixture, "%s/v1", scratch);
    snprintf(fixture_step, sizeof fixture_step, "%s/" STEP, fixture);
    snprintf(command, sizeof command, "mkdir '%s' && tar -C '%s' -xzf '%s'", fixture, fixture,
             FIXTURE);
    if (world.rank == 0) is_there = is_there && system(command) == 0;
    return fz_barrier(world.group) == FZ_OK && is_there ? 0 : 1;
}

static int stop(void **state)
{
    (void)state;
    assert_int_equal(fz_barrier(world.group), FZ_OK);
    if (world.rank == 0) fz_disk_remove_tree(scratch);
    return 0;
}

static int write_instead(void **state)
{
    (void)state;
    return write_fixture(getenv("FZ_WRITE_FIXTURE"));
}

static void is_written(void **state)
{
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_reads_with_its_values),
        cmocka_unit_test(it_loads_on_any_number_of_ranks),
        cmocka_unit_test(it_verifies),
        cmocka_unit_test(its_index_can_be_made_from_its_shards),
    };
    const struct CMUnitTest writing[] = {cmocka_unit_test_setup(is_written, write_instead)};

    if (fz_ckpt_start() != FZ_OK) return 1;
    if (getenv("FZ_WRITE_FIXTURE")) {
        run_on_all_ranks(writing);
    } else {
        run_on_all_ranks_with(tests, start, stop);
    }
}
