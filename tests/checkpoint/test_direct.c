/* How a file is written changes nothing that is in it. */
#include "tests/checkpoint/toy_state.h"
#include "tests/support/unit.h"

#include "checkpoint/direct.h"
#include "checkpoint/safetensors.h"
#include "core/log.h"

static char scratch[FZ_PATH_BYTES];

static int start(void **state)
{
    (void)state;
    make_scratch(scratch);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    remove_scratch(scratch);
    return 0;
}

/* A file's bytes, owned by the caller. */
static char *bytes_of(const char *dir, const char *name, size_t *n)
{
    char path[FZ_PATH_BYTES], *bytes = NULL;

    fz_disk_join(path, dir, name);
    assert_ok(fz_disk_read_file(path, &bytes, n));
    return bytes;
}

static void assert_same(const char *dir, const char *other, const char *name)
{
    size_t n, m;
    char *a = bytes_of(dir, name, &n), *b = bytes_of(other, name, &m);

    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    fz_free(&a);
    fz_free(&b);
}

/* Steps of several layouts, loaded by another one. */
static void a_shard_is_the_same_either_way(void **state)
{
    static const fz_io WAYS[] = {FZ_IO_DIRECT, FZ_IO_BUFFERED};
    static const int LAYOUTS[] = {1, 5};
    char dir[2][FZ_PATH_BYTES], shard[64];
    toy t;

    (void)state;
    snprintf(shard, sizeof shard, "s00/rank-%05d.h5", world.rank);
    for (int l = 0; l < 2; l++) {
        const fz_ckpt_info info = toy_info(l);
        for (int way = 0; way < 2; way++) {
            char top[FZ_PATH_BYTES], name[FZ_STEP_NAME_BYTES];
            fz_io_set(WAYS[way]);
            fz_disk_join(top, scratch, FZ_IO_NAMES[WAYS[way]]);
            toy_create(&t, world.group, &TOY_LAYOUTS[LAYOUTS[l]], 8);
            assert_all_ranks(fz_ckpt_save(world.group, top, &t.state, &info, 0, NULL) == FZ_OK);
            toy_reset(&t);
            toy_create(&t, world.group, &TOY_LAYOUTS[0], 9);
            assert_all_ranks(fz_ckpt_load(world.group, top, l, &t.state) == FZ_OK);
            assert_all_ranks(toy_each(&t, 8, false, false) == 0);
            toy_reset(&t);
            fz_step_name(name, l);
            fz_disk_join(dir[way], top, name);
        }
        assert_same(dir[0], dir[1], shard);
    }
    fz_io_set(FZ_IO_AUTO);
}

/* Tensors that begin and end inside pages, each written by one rank. */
static void safetensors_are_the_same_either_way(void **state)
{
    enum { N = 7 };
    static const int64_t ELEMENTS[N] = {5000, 3, 40001, 0, 2048, 100000, 9};
    char names[N][8], dir[2][FZ_PATH_BYTES];
    float *x = NULL;

    (void)state;
    assert_ok(FZ_NEW(&x, 100000));
    for (int64_t i = 0; i < 100000; i++)
        x[i] = (float)i / 7.0f;
    for (int way = 0; way < 2; way++) {
        fz_safetensor list[N];
        fz_safetensors_writer *w = NULL;
        for (int i = 0; i < N; i++) {
            snprintf(names[i], sizeof names[i], "t%d", i);
            list[i] = (fz_safetensor){.name = names[i],
                                      .dtype = i % 2 ? FZ_DTYPE_BF16 : FZ_DTYPE_F32,
                                      .ndim = 1,
                                      .shape = {ELEMENTS[i]},
                                      .elements = ELEMENTS[i]};
        }
        fz_disk_join(dir[way], scratch, way ? "buffered folder" : "direct folder");
        assert_ok(fz_safetensors_writer_create(dir[way], N, list, INT64_MAX, NULL, &w));
        fz_safetensors_writer_set_direct(w, way == 0);
        assert_all_ranks(world.rank != 0 || fz_safetensors_writer_start(w) == FZ_OK);
        for (int i = 0; i < N; i++)
            if (i % world.size == world.rank)
                assert_ok(fz_safetensors_write(w, i, 0, ELEMENTS[i], x));
        assert_all_ranks(fz_safetensors_writer_sync(w) == FZ_OK);
        assert_all_ranks(world.rank != 0 || fz_safetensors_writer_commit(w) == FZ_OK);
        fz_safetensors_writer_destroy(&w);
    }
    assert_same(dir[0], dir[1], "model.safetensors");
    fz_free(&x);
}

/* Nobody waits for a probe before a small save; what is asked for is done; nothing stays behind. */
static void ranks_choose_alike(void **state)
{
    char dir[FZ_PATH_BYTES];
    int64_t is_same;
    bool is_direct = true;
    double seconds = 0;

    (void)state;
    fz_disk_join(dir, scratch, "probed");
    if (world.rank == 0) assert_ok(fz_disk_make_directory(dir));
    assert_ok(fz_io_choose(world.group, dir, 1 << 20, &is_direct));
    assert_all_ranks(!is_direct);
    fz_io_set(FZ_IO_BUFFERED);
    is_direct = true;
    assert_ok(fz_io_choose(world.group, dir, INT64_C(1) << 40, &is_direct));
    assert_all_ranks(!is_direct);
    fz_io_set(FZ_IO_DIRECT);
    assert_ok(fz_io_choose(world.group, dir, 1, &is_direct));
    const bool can = fz_io_probe(scratch, true, 2, 1 << 16, &seconds) == FZ_OK;
    assert_all_ranks(is_direct == can);
    fz_io_set(FZ_IO_AUTO);
    assert_ok(fz_io_choose(world.group, dir, INT64_C(1) << 40, &is_direct));
    is_same = is_direct;
    assert_ok(fz_allreduce_sum_int(world.group, &is_same, 1));
    assert_all_ranks(is_same == (is_direct ? world.size : 0));
    assert_all_ranks(world.rank != 0 || rmdir(dir) == 0); /* it is empty */
}

/* A folder that is not there takes no direct writes; that is a warning and no reason to stop. */
static void a_probe_that_fails_means_buffered(void **state)
{
    char dir[FZ_PATH_BYTES];
    bool is_direct = true;
    double seconds = 0;

    (void)state;
    fz_disk_join(dir, scratch, "nowhere");
    fz_log_set_level(FZ_LOG_ERROR);
    fz_io_set(FZ_IO_DIRECT);
    assert_all_ranks(fz_io_choose(world.group, dir, 1, &is_direct) == FZ_OK && !is_direct);
    fz_io_set(FZ_IO_AUTO);
    fz_log_set_level(FZ_LOG_INFO);
    assert_all_ranks(fz_io_probe(dir, false, 1, 4096, &seconds) == FZ_ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_shard_is_the_same_either_way, start, stop),
        cmocka_unit_test_setup_teardown(safetensors_are_the_same_either_way, start, stop),
        cmocka_unit_test_setup_teardown(ranks_choose_alike, start, stop),
        cmocka_unit_test_setup_teardown(a_probe_that_fails_means_buffered, start, stop),
    };

    if (fz_ckpt_start() != FZ_OK) return 1;
    run_on_all_ranks(tests);
}
