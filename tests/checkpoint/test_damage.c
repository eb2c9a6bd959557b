/* What is broken on disk is noticed, named, and an older checkpoint takes its place; what the
 * system refuses fails on all ranks and leaves nothing. */
#include "tests/checkpoint/toy_state.h"

#include "tests/checkpoint/tamper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "checkpoint/manifest.h"
#include "checkpoint/source.h"
#include "core/checksum.h"
#include "core/fault.h"
#include "core/log.h"

static const toy_layout *const LAYOUT = &TOY_LAYOUTS[1], *const OTHER = &TOY_LAYOUTS[2];

static fz_status save_step(const char *dir, int64_t step)
{
    const fz_ckpt_info info = toy_info(step);
    toy t;

    toy_create(&t, world.group, LAYOUT, (uint64_t)step);
    const fz_status status = fz_ckpt_save(world.group, dir, &t.state, &info, 0, NULL);
    toy_reset(&t);
    return status;
}

/* Loads at another layout; what came must be what was saved, or nothing may have come. */
static fz_status load_step(const char *dir, int64_t step, uint64_t seed)
{
    int64_t n_wrong;
    toy t;

    toy_create(&t, world.group, OTHER, 99);
    const fz_status status = fz_ckpt_load(world.group, dir, step, &t.state);
    n_wrong = toy_each(&t, seed, false, false);
    toy_reset(&t);
    assert_all_ranks(status != FZ_OK || n_wrong == 0);
    return status;
}

static int64_t newest(const char *dir)
{
    fz_ckpt_info info;
    bool found = false;

    assert_all_ranks(fz_ckpt_find(world.group, dir, &found, &info) == FZ_OK);
    const int64_t step = found ? info.step : -1;
    if (found) fz_ckpt_info_reset(&info);
    return step;
}

/* Rank 0 changes one byte. */
static void flip(const char *path, int64_t at)
{
    fz_barrier(world.group);
    if (world.rank == 0) flip_at(path, at);
    fz_barrier(world.group);
}

static void truncate_by(const char *path, int64_t bytes)
{
    int64_t size = 0;

    fz_barrier(world.group);
    if (world.rank == 0) {
        assert_int_equal(fz_disk_size(path, &size), FZ_OK);
        assert_int_equal(truncate(path, (off_t)(size - bytes)), 0);
    }
    fz_barrier(world.group);
}

static void hide(const char *path, bool back)
{
    char hidden[FZ_PATH_BYTES + 8];

    snprintf(hidden, sizeof hidden, "%s.away", path);
    fz_barrier(world.group);
    if (world.rank == 0) assert_int_equal(back ? rename(hidden, path) : rename(path, hidden), 0);
    fz_barrier(world.group);
}

static int64_t size_of(const char *path)
{
    int64_t size = 0;
    assert_int_equal(fz_disk_size(path, &size), FZ_OK);
    return size;
}

static void a_broken_step_gives_way_to_the_one_before(void **state)
{
    const char *const files[] = {"MANIFEST", "index.h5", "s00/rank-00000.h5"};
    char dir[FZ_PATH_BYTES], step[FZ_PATH_BYTES], path[FZ_PATH_BYTES];

    (void)state;
    make_scratch(dir);
    assert_all_ranks(save_step(dir, 1) == FZ_OK && save_step(dir, 2) == FZ_OK);
    fz_disk_join(step, dir, "step-000000002");
    for (int i = 0; i < 3; i++) {
        fz_disk_join(path, step, files[i]);
        hide(path, false);
        assert_all_ranks(newest(dir) == 1);
        assert_all_ranks(load_step(dir, 2, 2) == FZ_ERR_FORMAT);
        assert_all_ranks(strstr(fz_last_error()->text, files[i]) != NULL);
        hide(path, true);
        assert_all_ranks(newest(dir) == 2);
    }
    /* Every byte of the manifest, many of the index. */
    for (int i = 0; i < 2; i++) {
        fz_disk_join(path, step, files[i]);
        const int64_t size = size_of(path), stride = i == 0 ? 7 : size / 40;
        for (int64_t at = 0; at < size; at += stride) {
            flip(path, at);
            assert_all_ranks(newest(dir) == 1);
            flip(path, at);
        }
    }
    assert_all_ranks(load_step(dir, newest(dir), 2) == FZ_OK);
    for (int i = 0; i < 3; i++) {
        fz_disk_join(path, step, files[i]);
        truncate_by(path, 1);
        assert_all_ranks(newest(dir) == 1);
    }
    assert_all_ranks(load_step(dir, 1, 1) == FZ_OK);
    remove_scratch(dir);
}

static void a_flipped_bit_of_any_tensor_is_found_and_named(void **state)
{
    char dir[FZ_PATH_BYTES], step[FZ_PATH_BYTES], path[FZ_PATH_BYTES], name[FZ_SHARD_NAME_BYTES];
    fz_source source;
    int n_named = 0, n_flips = 0;

    (void)state;
    make_scratch(dir);
    assert_all_ranks(save_step(dir, 7) == FZ_OK);
    fz_disk_join(step, dir, "step-000000007");
    assert_all_ranks(fz_source_open(world.group, step, "step", &source) == FZ_OK);
    for (int64_t i = 0; i < source.index.n_rows; i += source.index.n_rows / 14 + 1) {
        const fz_fragment *row = &source.index.rows[i];
        fz_shard_name(name, row->file);
        fz_disk_join(path, step, name);
        flip(path, row->offset + (row->b - row->a) * 4 - 1);
        assert_all_ranks(newest(dir) == 7); /* nobody has read the payload yet */
        assert_all_ranks(load_step(dir, 7, 7) == FZ_ERR_FORMAT);
        n_named +=
            strstr(fz_last_error()->text, name) && strstr(fz_last_error()->text, "between bytes");
        n_flips++;
        flip(path, row->offset + (row->b - row->a) * 4 - 1);
    }
    assert_all_ranks(n_flips >= 10 && n_named == n_flips);
    fz_source_reset(&source);
    assert_all_ranks(load_step(dir, 7, 7) == FZ_OK);
    remove_scratch(dir);
}

/* Blocks and files pass, the digests do not. */
static void wrong_bits_with_right_checksums_are_refused(void **state)
{
    char dir[FZ_PATH_BYTES], step[FZ_PATH_BYTES];

    (void)state;
    make_scratch(dir);
    assert_all_ranks(save_step(dir, 3) == FZ_OK);
    fz_disk_join(step, dir, "step-000000003");
    if (world.rank == 0) flip_with_right_checksums(step, FZ_STATE_EXP_AVG, 9);
    fz_barrier(world.group);
    assert_all_ranks(newest(dir) == 3);
    assert_all_ranks(load_step(dir, 3, 3) == FZ_ERR_FORMAT);
    assert_all_ranks(strstr(fz_last_error()->text, "exp_avg of tensor ") != NULL);
    assert_all_ranks(strstr(fz_last_error()->text, " has digest ") != NULL);
    remove_scratch(dir);
}

static void frozen_weights_are_guarded_too(void **state)
{
    char dir[FZ_PATH_BYTES], path[FZ_PATH_BYTES], part[FZ_PATH_BYTES];
    fz_ckpt_info info;
    fz_source base;
    bool found;

    (void)state;
    make_scratch(dir);
    assert_all_ranks(save_step(dir, 4) == FZ_OK);
    assert_all_ranks(fz_ckpt_find(world.group, dir, &found, &info) == FZ_OK && found);
    fz_disk_join(path, dir, info.base);
    fz_ckpt_info_reset(&info);
    assert_all_ranks(fz_source_open(world.group, path, "base", &base) == FZ_OK);
    fz_shard_name(part, base.index.rows[0].file);
    char file[FZ_PATH_BYTES];
    fz_disk_join(file, path, part);
    flip(file, base.index.rows[0].offset);
    assert_all_ranks(load_step(dir, 4, 4) == FZ_ERR_FORMAT);
    assert_all_ranks(strstr(fz_last_error()->text, "weight of tensor vision.") != NULL);
    truncate_by(file, 4);
    assert_all_ranks(newest(dir) == -1);
    /* A save mends the base: it writes it anew. */
    assert_all_ranks(save_step(dir, 4) == FZ_OK);
    assert_all_ranks(newest(dir) == 4 && load_step(dir, 4, 4) == FZ_OK);
    fz_source_reset(&base);
    remove_scratch(dir);
}

static bool has_hidden_files(const char *dir)
{
    char command[FZ_PATH_BYTES + 64];
    snprintf(command, sizeof command, "ls -A '%s' | grep -q '^[.]'", dir);
    return system(command) == 0;
}

/* Every write of a save of `step` fails once, in turn on every rank, beside a step 1 that is whole.
 */
static int fail_every_write(const char *dir, int64_t step)
{
    char spec[32], path[FZ_PATH_BYTES];
    int n_failed = 0;

    for (int n = 0, n_quiet = 0; n_quiet < world.size; n++) {
        snprintf(spec, sizeof spec, "write:%d", n / world.size + 1);
        if (world.rank == n % world.size) fz_fault_set(spec);
        const fz_status status = save_step(dir, step);
        fz_fault_set(NULL);
        int64_t failed = status == FZ_ERR_IO;
        assert_all_ranks(status == FZ_OK || status == FZ_ERR_IO);
        assert_int_equal(fz_allreduce_sum_int(world.group, &failed, 1), FZ_OK);
        assert_all_ranks(failed == 0 || failed == world.size);
        n_quiet = failed ? 0 : n_quiet + 1;
        n_failed += failed != 0;
        if (failed) {
            assert_all_ranks(strstr(fz_last_error()->text, "No space left") != NULL);
            /* It, or the one that names it. */
            assert_all_ranks(strstr(fz_last_error()->text, dir) ||
                             strstr(fz_last_error()->text, "sync directory " FZ_BINARY_DIR ": "));
            assert_all_ranks(!has_hidden_files(dir));
        }
        assert_all_ranks(newest(dir) == (failed ? 1 : step));
        if (n % 8 == 0 || !failed)
            assert_all_ranks(load_step(dir, newest(dir), (uint64_t)newest(dir)) == FZ_OK);
        fz_barrier(world.group);
        if (world.rank == 0 && step > 1) { /* the next one starts from the same place */
            fz_disk_join(path, dir, "step-000000002");
            if (fz_disk_is_there(path)) fz_disk_remove_tree(path);
        }
        fz_barrier(world.group);
    }
    return n_failed;
}

static void a_full_disk_fails_every_rank_and_leaves_nothing(void **state)
{
    char dir[FZ_PATH_BYTES];

    (void)state;
    make_scratch(dir);
    assert_all_ranks(save_step(dir, 1) == FZ_OK);
    assert_all_ranks(fail_every_write(dir, 2) > 15); /* with a base, as frozen weights changed */
    assert_all_ranks(fail_every_write(dir, 1) > 10); /* over itself */
    remove_scratch(dir);
}

static int n_open_files(void)
{
    int n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* The system's own refusal, met by HDF5 and by us: no file may grow beyond a few KiB. */
static void a_limit_of_the_system_is_an_error_like_any_other(void **state)
{
    const rlim_t limits[] = {0, 100, 5000, 20000, 70000};
    struct rlimit old, limit;
    char dir[FZ_PATH_BYTES];

    (void)state;
    make_scratch(dir);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    const int n_open = n_open_files();
    for (int i = 0; i < 5; i++) {
        limit = old;
        limit.rlim_cur = limits[i];
        if (world.rank == world.size - 1) setrlimit(RLIMIT_FSIZE, &limit);
        const fz_status status = save_step(dir, 1);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_all_ranks(status == FZ_ERR_IO);
        assert_all_ranks(newest(dir) == -1 && !has_hidden_files(dir));
        assert_all_ranks(n_open_files() == n_open); /* or the space would not come back */
    }
    assert_all_ranks(save_step(dir, 1) == FZ_OK && load_step(dir, 1, 1) == FZ_OK);
    remove_scratch(dir);
}

static void a_place_that_cannot_be_written_is_named(void **state)
{
    char dir[FZ_PATH_BYTES], file[FZ_PATH_BYTES], below[FZ_PATH_BYTES];

    (void)state;
    make_scratch(dir);
    fz_disk_join(file, dir, "file");
    if (world.rank == 0) assert_int_equal(fz_disk_write_file(file, "x", 1), FZ_OK);
    fz_disk_join(below, file, "checkpoints");
    assert_all_ranks(save_step(below, 1) == FZ_ERR_IO);
    assert_all_ranks(strstr(fz_last_error()->text, below) != NULL);
    assert_all_ranks(strstr(fz_last_error()->text, "Not a directory") != NULL);
    fz_disk_join(below, dir, "a/b");
    assert_all_ranks(save_step(below, 1) == FZ_ERR_IO); /* only the last part is made */
    remove_scratch(dir);
}

static void a_failing_read_is_agreed_on(void **state)
{
    char dir[FZ_PATH_BYTES];

    (void)state;
    make_scratch(dir);
    assert_all_ranks(save_step(dir, 1) == FZ_OK);
    if (world.rank == world.size - 1) fz_fault_set("read:3");
    assert_all_ranks(load_step(dir, 1, 1) == FZ_ERR_IO);
    fz_fault_set(NULL);
    assert_all_ranks(load_step(dir, 1, 1) == FZ_OK);
    remove_scratch(dir);
}

/* Every allocation of a save and of a load fails once, on the last rank. */
static void running_out_of_memory_is_agreed_on(void **state)
{
    char dir[FZ_PATH_BYTES], spec[32];
    toy t;

    (void)state;
    make_scratch(dir);
    toy_create(&t, world.group, LAYOUT, 1);
    for (int is_load = 0; is_load < 2; is_load++)
        for (int n = 1;; n++) {
            const fz_ckpt_info info = toy_info(1);
            snprintf(spec, sizeof spec, "alloc:%d", n);
            if (world.rank == world.size - 1) fz_fault_set(spec);
            const fz_status status = is_load
                                         ? fz_ckpt_load(world.group, dir, 1, &t.state)
                                         : fz_ckpt_save(world.group, dir, &t.state, &info, 0, NULL);
            fz_fault_set(NULL);
            assert_all_ranks(status == FZ_OK || status == FZ_ERR_MEMORY);
            int64_t n_ok = status == FZ_OK;
            assert_int_equal(fz_allreduce_sum_int(world.group, &n_ok, 1), FZ_OK);
            assert_all_ranks(n_ok == 0 || n_ok == world.size);
            if (n_ok > 0) {
                assert_all_ranks(n > 5);
                break;
            }
        }
    toy_reset(&t);
    remove_scratch(dir);
}

/* More than one block in a file, and a tensor across their border, read in other pieces. */
static void tensors_longer_than_a_block_are_cut_anywhere(void **state)
{
    enum { ROWS = 4500, COLS = 2003 }; /* three blocks on one rank */
    const fz_state_tensor tensor = {"big", 2, {ROWS, COLS}, false};
    char dir[FZ_PATH_BYTES];
    fz_ckpt_info info = toy_info(1);
    int64_t n_wrong = 0;

    (void)state;
    make_scratch(dir);
    for (int is_load = 0; is_load < 2; is_load++) { /* saved by rows, loaded by columns */
        fz_state_view v = {.kind = FZ_STATE_WEIGHT, .piece = world.rank, .is_owner = true};
        const fz_state s = {.n_tensors = 1, .tensors = &tensor, .n_views = 1, .views = &v};
        const int64_t n = is_load ? COLS : ROWS;
        v.hi[0] = ROWS;
        v.hi[1] = COLS;
        v.lo[is_load] = n * world.rank / world.size;
        v.hi[is_load] = n * (world.rank + 1) / world.size;
        const int64_t rows = v.hi[0] - v.lo[0], cols = v.hi[1] - v.lo[1];
        assert_int_equal(FZ_NEW(&v.data, rows * cols), FZ_OK);
        for (int64_t i = 0; i < rows * cols && !is_load; i++)
            v.data[i] = (float)((v.lo[0] + i / cols) * COLS + v.lo[1] + i % cols);
        assert_all_ranks((is_load ? fz_ckpt_load(world.group, dir, 1, &s)
                                  : fz_ckpt_save(world.group, dir, &s, &info, 0, NULL)) == FZ_OK);
        for (int64_t i = 0; i < rows * cols; i++)
            n_wrong += v.data[i] != (float)((v.lo[0] + i / cols) * COLS + v.lo[1] + i % cols);
        fz_free(&v.data);
        assert_all_ranks(n_wrong == 0);
    }
    remove_scratch(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_step_gives_way_to_the_one_before),
        cmocka_unit_test(a_flipped_bit_of_any_tensor_is_found_and_named),
        cmocka_unit_test(wrong_bits_with_right_checksums_are_refused),
        cmocka_unit_test(frozen_weights_are_guarded_too),
        cmocka_unit_test(a_full_disk_fails_every_rank_and_leaves_nothing),
        cmocka_unit_test(a_limit_of_the_system_is_an_error_like_any_other),
        cmocka_unit_test(a_place_that_cannot_be_written_is_named),
        cmocka_unit_test(a_failing_read_is_agreed_on),
        cmocka_unit_test(running_out_of_memory_is_agreed_on),
        cmocka_unit_test(tensors_longer_than_a_block_are_cut_anywhere),
    };

    if (fz_ckpt_start() != FZ_OK) return 1;
    fz_log_set_level(FZ_LOG_ERROR); /* rejected steps are warnings, and there are hundreds */
    run_on_all_ranks_with(tests, NULL, NULL);
}
