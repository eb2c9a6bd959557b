/* Bytes arrive where they belong in whatever order they are given, past the page cache or not, and
 * the first failure ends the writing. */
#include "tests/checkpoint/scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "checkpoint/block_writer.h"
#include "core/fault.h"
#include "core/memory.h"
#include "core/rng.h"

enum { BYTES = 1 << 20, LEAST = 1 << 16 };
static char expected[BYTES], found[BYTES];

typedef struct output {
    char folder[FZ_PATH_BYTES], path[FZ_PATH_BYTES];
    fz_block_file file;
} output;

/* False where the file system of the build folder knows no direct writes. */
static bool open_output(output *o, bool is_direct)
{
    make_folder(o->folder);
    strcpy(o->path, in_folder(o->folder, "file"));
    o->file = (fz_block_file){.direct_fd = -1, .path = o->path};
    assert_ok(fz_disk_open(o->path, true, &o->file.fd));
    assert_ok(fz_disk_reserve(o->file.fd, o->path, BYTES));
    return !is_direct || fz_disk_open_direct(o->path, true, &o->file.direct_fd) == FZ_OK;
}

static void close_output(output *o)
{
    if (o->file.direct_fd >= 0) close(o->file.direct_fd);
    close(o->file.fd);
    fz_disk_remove_tree(o->folder);
}

static void fill_expected(uint64_t seed)
{
    for (int i = 0; i < BYTES; i++)
        expected[i] = (char)fz_mix64(seed + (uint64_t)i);
}

static void check_file(const output *o)
{
    int64_t size = 0;
    int fd;

    assert_ok(fz_disk_size(o->path, &size));
    assert_int_equal(size, BYTES);
    assert_ok(fz_disk_open(o->path, false, &fd));
    assert_ok(fz_disk_read(fd, o->path, found, BYTES, 0));
    close(fd);
    assert_memory_equal(found, expected, BYTES);
}

/* Ranges of many lengths, around 4 KiB and around a block. */
static int64_t length_of(uint64_t seed, int64_t left)
{
    static const int64_t MOST[] = {7, 300, 5000, 3 * FZ_DIRECT_BYTES, 2 * LEAST + 9000};
    const uint64_t random = fz_mix64(seed);
    int64_t n = 1 + (int64_t)(random >> 8) % MOST[random % 5];

    if (random % 7 == 0) n = FZ_DIRECT_BYTES;
    return n < left ? n : left;
}

/* The whole file in ranges from its start to its end, or only every n-th of them. */
static fz_status put_ranges(fz_block_writer *w, const fz_block_file *file, uint64_t seed, int part,
                            int n_parts)
{
    int64_t n;

    for (int64_t at = 0, i = 0; at < BYTES; at += n, i++) {
        n = length_of(seed + (uint64_t)i, BYTES - at);
        if (i % n_parts == part) FZ_TRY(fz_block_writer_put(w, file, at, expected + at, (size_t)n));
    }
    return FZ_OK;
}

static void what_is_put_arrives(void **state)
{
    (void)state;
    for (int i = 0; i < 24; i++) {
        const int n_parts = 1 + i / 2 % 3; /* runs, and pages that the passes share */
        fz_block_writer *w = NULL;
        output o;

        fill_expected((uint64_t)i);
        const bool can = open_output(&o, i % 2 == 1);
        assert_ok(fz_block_writer_create(i < 12 ? 0 : BYTES, &w));
        for (int part = n_parts - 1; part >= 0 && can; part--)
            assert_ok(put_ranges(w, &o.file, (uint64_t)i, part, n_parts));
        assert_ok(fz_block_writer_wait(w));
        if (can) check_file(&o);
        fz_block_writer_destroy(&w);
        close_output(&o);
    }
    assert_int_equal(fz_memory_get().n_live, 0);
}

/* Two writers, as two ranks, whose ranges meet inside pages. */
static void two_writers_share_a_file(void **state)
{
    (void)state;
    for (int is_direct = 0; is_direct < 2; is_direct++) {
        fz_block_writer *w[2] = {NULL, NULL};
        output o;

        fill_expected(99);
        const bool can = open_output(&o, is_direct);
        for (int r = 0; r < 2; r++)
            assert_ok(fz_block_writer_create(BYTES, &w[r]));
        for (int r = 0; r < 2 && can; r++)
            assert_ok(put_ranges(w[r], &o.file, 4, r, 2));
        for (int r = 0; r < 2; r++) {
            assert_ok(fz_block_writer_wait(w[r]));
            fz_block_writer_destroy(&w[r]);
        }
        if (can) check_file(&o);
        close_output(&o);
    }
}

/* One writer, two files in turn: as when a model has several. */
static void files_take_turns(void **state)
{
    fz_block_writer *w = NULL;
    output o[2];

    (void)state;
    fill_expected(7);
    for (int f = 0; f < 2; f++)
        open_output(&o[f], f == 1);
    assert_ok(fz_block_writer_create(2 * BYTES, &w));
    for (int64_t at = 0; at < BYTES; at += 50000)
        for (int f = 0; f < 2; f++)
            assert_ok(fz_block_writer_put(w, &o[f].file, at, expected + at,
                                          (size_t)(BYTES - at < 50000 ? BYTES - at : 50000)));
    assert_ok(fz_block_writer_wait(w));
    for (int f = 0; f < 2; f++) {
        check_file(&o[f]);
        close_output(&o[f]);
    }
    fz_block_writer_destroy(&w);
}

/* With the n-th write failing, exactly those before it are in the file: the order is the caller's.
 */
static void the_first_failure_is_the_last_write(void **state)
{
    char spec[32];
    int n = 1;

    (void)state;
    fill_expected(3);
    for (;; n++) {
        fz_block_writer *w = NULL;
        fz_status status = FZ_OK;
        output o;

        open_output(&o, false);
        assert_ok(fz_block_writer_create(0, &w));
        snprintf(spec, sizeof spec, "write:%d", n);
        assert_ok(fz_fault_set(spec));
        for (int64_t at = 0; at < BYTES && status == FZ_OK; at += LEAST)
            status = fz_block_writer_put(w, &o.file, at, expected + at, LEAST);
        const fz_status waited = fz_block_writer_wait(w);
        assert_ok(fz_fault_set(NULL));
        if (waited != FZ_OK) {
            assert_fails(fz_block_writer_put(w, &o.file, 0, expected, 1), FZ_ERR_IO, "write");
            assert_fails(fz_block_writer_wait(w), FZ_ERR_IO, o.path);
            assert_int_equal(pread(o.file.fd, found, BYTES, 0), BYTES);
            assert_memory_equal(found, expected, (size_t)(n - 1) * LEAST);
            for (int64_t at = (n - 1) * LEAST; at < BYTES; at++)
                assert_int_equal(found[at], 0);
        }
        fz_block_writer_destroy(&w);
        close_output(&o);
        if (waited == FZ_OK) break;
    }
    assert_int_equal(n, BYTES / LEAST + 1);
    assert_int_equal(fz_memory_get().n_live, 0);
}

static void a_writer_without_memory_is_none(void **state)
{
    char spec[32];

    (void)state;
    for (int n = 1; n <= 2; n++) {
        fz_block_writer *w = NULL;
        snprintf(spec, sizeof spec, "alloc:%d", n);
        assert_ok(fz_fault_set(spec));
        assert_int_equal(fz_block_writer_create(BYTES, &w), FZ_ERR_MEMORY);
        assert_ok(fz_fault_set(NULL));
        assert_null(w);
        assert_int_equal(fz_memory_get().n_live, 0);
    }
}

/* Given up with blocks on their way. */
static void a_writer_may_be_destroyed_at_any_time(void **state)
{
    (void)state;
    fill_expected(5);
    for (int i = 0; i < 20; i++) {
        fz_block_writer *w = NULL;
        output o;

        open_output(&o, i % 2);
        assert_ok(fz_block_writer_create(0, &w));
        for (int64_t at = 0; at < i * 30000; at += 30000)
            assert_ok(fz_block_writer_put(w, &o.file, at, expected + at, 30000));
        fz_block_writer_destroy(&w);
        close_output(&o);
    }
    assert_int_equal(fz_memory_get().n_live, 0);
}

/* A file that cannot become so large says so before it has a byte. */
static void space_is_reserved_at_once(void **state)
{
    const struct rlimit few = {.rlim_cur = 1 << 16, .rlim_max = 1 << 16};
    char folder[FZ_PATH_BYTES];
    int status = 0, fd;

    (void)state;
    make_folder(folder);
    assert_ok(fz_disk_open(in_folder(folder, "file"), true, &fd));
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &few);
        const bool is_said =
            fz_disk_reserve(fd, "the path", 1 << 20) == FZ_ERR_IO &&
            strstr(fz_last_error()->text, "1048576 bytes for the path: File too large");
        struct stat info;
        _exit(is_said && fstat(fd, &info) == 0 && info.st_size == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_ok(fz_disk_reserve(fd, "the path", 1 << 20));
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    assert_int_equal(info.st_size, 1 << 20);
    close(fd);
    fz_disk_remove_tree(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_arrives),
        cmocka_unit_test(two_writers_share_a_file),
        cmocka_unit_test(files_take_turns),
        cmocka_unit_test(the_first_failure_is_the_last_write),
        cmocka_unit_test(a_writer_without_memory_is_none),
        cmocka_unit_test(a_writer_may_be_destroyed_at_any_time),
        cmocka_unit_test(space_is_reserved_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
