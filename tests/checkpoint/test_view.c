/* The view: one HDF5 file whose datasets are what the reader gives, in any layout, and NaN where a
 * shard is missing; and the ways to read that docs/reading-checkpoints.md shows. */
#include "tests/checkpoint/toy_state.h"

#include "tests/support/unit.h"

#include <hdf5.h>

#include "checkpoint/h5.h"
#include "checkpoint/stream.h"
#include "checkpoint/view.h"

static char scratch[FZ_PATH_BYTES];

static void save(const char *dir, const toy_layout *l, uint64_t seed)
{
    const fz_ckpt_info info = toy_info(42);
    toy t;

    toy_create(&t, world.group, l, seed);
    assert_int_equal(fz_ckpt_save(world.group, dir, &t.state, &info, 0, NULL), FZ_OK);
    toy_reset(&t);
}

/* Elements whose bits are not the seed's; NaNs of holes among them. */
static int64_t count_wrong(hid_t file, int tensor, int kind, uint64_t seed, int64_t *n_nan)
{
    const fz_box whole = fz_box_of_tensor(&TOY_TENSORS[tensor]);
    const int64_t n = fz_box_elements(&whole);
    char path[256];
    float *x = NULL;
    int64_t n_wrong = 0;

    snprintf(path, sizeof path, "/%s/%s", FZ_KIND_NAMES[kind], TOY_TENSORS[tensor].name);
    assert_int_equal(FZ_NEW(&x, n), FZ_OK);
    const hid_t set = H5Dopen2(file, path, H5P_DEFAULT);
    assert_true(set >= 0);
    const hid_t space = H5Dget_space(set);
    assert_int_equal(H5Sget_simple_extent_ndims(space), TOY_TENSORS[tensor].ndim);
    assert_int_equal(H5Sget_simple_extent_npoints(space), n);
    assert_true(H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = toy_bits(seed, tensor, kind, i), hole = 0x7fc00000;
        n_wrong += memcmp(&x[i], &bits, sizeof bits) != 0;
        *n_nan += memcmp(&x[i], &hole, sizeof hole) == 0 && bits != hole;
    }
    H5Sclose(space);
    H5Dclose(set);
    fz_free(&x);
    return n_wrong;
}

static int64_t count_all(const char *path, uint64_t seed, int64_t *n_nan)
{
    int64_t n_wrong = 0;
    hid_t file;

    *n_nan = 0;
    assert_ok(fz_h5_open(path, &file));
    for (int t = 0; t < N_TOY_TENSORS; t++)
        for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
            if (TOY_TENSORS[t].trainable == (kind != FZ_STATE_WEIGHT))
                n_wrong += count_wrong(file, t, kind, seed, n_nan);
    assert_ok(fz_h5_close(file, path));
    return n_wrong;
}

static void h5dread_equals_what_was_saved_at_every_layout(void **state)
{
    (void)state;
    for (int l = 0; l < N_TOY_LAYOUTS; l++) {
        char dir[FZ_PATH_BYTES], step[FZ_PATH_BYTES], moved[FZ_PATH_BYTES], path[FZ_PATH_BYTES];
        char name[32];
        int64_t n = 0, n_nan;

        snprintf(name, sizeof name, "layout %%%d", l); /* a percent sign in a path */
        fz_disk_join(dir, scratch, name);
        save(dir, &TOY_LAYOUTS[l], (uint64_t)l);
        if (world.rank != 0) continue;
        fz_disk_join(step, dir, "step-000000042");
        fz_disk_join(path, step, "view.h5");
        assert_ok(fz_view_write(step, path, &n));
        assert_int_equal(n, 6 * 3 + 2);
        assert_int_equal(count_all(path, (uint64_t)l, &n_nan), 0);
        fz_disk_join(path, scratch, "elsewhere.h5");
        assert_ok(fz_view_write(step, path, &n));
        assert_int_equal(count_all(path, (uint64_t)l, &n_nan), 0);
        /* In the step it moves with it. */
        snprintf(name, sizeof name, "moved %d", l);
        fz_disk_join(moved, scratch, name);
        assert_int_equal(rename(dir, moved), 0);
        fz_disk_join(step, moved, "step-000000042");
        fz_disk_join(path, step, "view.h5");
        assert_int_equal(count_all(path, (uint64_t)l, &n_nan), 0);
        fz_disk_join(path, scratch, "elsewhere.h5");
        assert_true(count_all(path, (uint64_t)l, &n_nan) > 0);
        assert_true(n_nan > 10000);
    }
}

static void what_a_missing_shard_held_is_nan(void **state)
{
    char dir[FZ_PATH_BYTES], step[FZ_PATH_BYTES], path[FZ_PATH_BYTES];
    int64_t n = 0, n_nan = 0;

    (void)state;
    fz_disk_join(dir, scratch, "holes");
    save(dir, &TOY_LAYOUTS[1], 3);
    if (world.rank != 0) return;
    fz_disk_join(step, dir, "step-000000042");
    fz_disk_join(path, step, "view.h5");
    assert_ok(fz_view_write(step, path, &n));
    fz_disk_join(dir, step, "s00/rank-00000.h5");
    fz_disk_remove(dir);
    /* A scalar was copied: it stays, wherever it was. */
    const int64_t n_wrong = count_all(path, 3, &n_nan);
    assert_true(n_wrong > 1000);
    assert_int_equal(n_wrong, n_nan);
    assert_fails(fz_view_write(step, path, &n), FZ_ERR_FORMAT, "rank-00000.h5 is missing");
}

/* The page's pieces of Python, run as they stand there. */
static void the_documented_readers_work(void **state)
{
    static const char python[] = "/usr/bin/python3";
    char dir[FZ_PATH_BYTES], step[FZ_PATH_BYTES], path[FZ_PATH_BYTES], script[FZ_PATH_BYTES];
    char command[4 * FZ_PATH_BYTES], *page, *at;
    size_t bytes;
    int64_t n = 0;

    (void)state;
    fz_disk_join(dir, scratch, "documented");
    save(dir, &TOY_LAYOUTS[3], 8);
    if (world.rank != 0) return;
    snprintf(command, sizeof command, "%s -c 'import h5py' 2>/dev/null", python);
    if (system(command) != 0) skip();
    fz_disk_join(step, dir, "step-000000042");
    fz_disk_join(path, step, "view.h5");
    assert_ok(fz_view_write(step, path, &n));
    assert_ok(fz_disk_read_file(FZ_SOURCE_DIR "/docs/reading-checkpoints.md", &page, &bytes));
    fz_disk_join(script, scratch, "documented.py");
    int n_scripts = 0;
    for (char *from = page; (from = strstr(from, "```python\n")) != NULL; n_scripts++) {
        from += strlen("```python\n");
        at = strstr(from, "```");
        assert_non_null(at);
        FILE *file = fopen(script, "w");
        assert_non_null(file);
        fprintf(file, "step, kind, name = '%s', 'exp_avg', 'conv.patch'\n%.*s", step,
                (int)(at - from), from);
        fprintf(file, "assert x.shape == (5, 3, 4, 6) and x.dtype == 'f4'\n"
                      "open(step + '/out', 'wb').write(x.tobytes())\n");
        assert_int_equal(fclose(file), 0);
        snprintf(command, sizeof command, "%s '%s'", python, script);
        assert_int_equal(system(command), 0);
        char *out;
        size_t n_out;
        fz_disk_join(path, step, "out");
        assert_ok(fz_disk_read_file(path, &out, &n_out));
        assert_int_equal(n_out, 360 * 4);
        for (int64_t i = 0; i < 360; i++) {
            const uint32_t expected = toy_bits(8, 3, FZ_STATE_EXP_AVG, i);
            assert_memory_equal(out + 4 * i, &expected, 4);
        }
        fz_free(&out);
        fz_disk_remove(path);
    }
    assert_int_equal(n_scripts, 2);
    fz_free(&page);
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(h5dread_equals_what_was_saved_at_every_layout),
        cmocka_unit_test(what_a_missing_shard_held_is_nan),
        cmocka_unit_test(the_documented_readers_work),
    };

    if (fz_ckpt_start() != FZ_OK) return 1;
    run_on_all_ranks_with(tests, start, stop);
}
