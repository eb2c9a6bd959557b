/* What is written comes back bit for bit, however it was split, and a failure leaves nothing. */
#include "tests/checkpoint/scratch.h"

#include <dirent.h>
#include <sys/stat.h>

#include "checkpoint/safetensors.h"
#include "core/fault.h"
#include "core/memory.h"
#include "core/rng.h"

static const fz_safetensor MODEL[] = {
    {.name = "half", .dtype = FZ_DTYPE_F16, .ndim = 2, .shape = {3, 4}, .elements = 12},
    {.name = "brain", .dtype = FZ_DTYPE_BF16, .ndim = 1, .shape = {7}, .elements = 7},
    {.name = "scalar", .dtype = FZ_DTYPE_F32, .ndim = 0, .elements = 1},
    {.name = "empty", .dtype = FZ_DTYPE_F32, .ndim = 2, .shape = {0, 4}, .elements = 0},
    {.name = "quote \" \\ \n \xc3\xbc",
     .dtype = FZ_DTYPE_F64,
     .ndim = 1,
     .shape = {9},
     .elements = 9},
    {.name = "long", .dtype = FZ_DTYPE_F32, .ndim = 3, .shape = {2, 2, 50}, .elements = 200},
    {.name = "last", .dtype = FZ_DTYPE_BF16, .ndim = 1, .shape = {3}, .elements = 3},
};
enum { N_TENSORS = sizeof MODEL / sizeof *MODEL };
static const char *const METADATA[][2] = {{"format", "pt"}, {"note", "one \"line\""}, {0}};

/* Floats of any bits, NaNs too; what the tensor's dtype makes of them is what must come back. */
static float number(int tensor, int64_t i)
{
    const uint32_t bits = (uint32_t)fz_mix64((uint64_t)tensor * 1000 + (uint64_t)i);
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static float rounded(fz_dtype dtype, float x)
{
    uint16_t half;

    if (dtype == FZ_DTYPE_F16) {
        fz_narrow_f16(&half, &x, 1);
        fz_widen_f16(&x, &half, 1);
    } else if (dtype == FZ_DTYPE_BF16) {
        fz_narrow_bf16(&half, &x, 1);
        fz_widen_bf16(&x, &half, 1);
    } else if (dtype == FZ_DTYPE_F64) {
        const volatile double wide = (double)x; /* makes a NaN quiet, as in the file */
        x = (float)wide;
    }
    return x;
}

static int count_files(const char *folder)
{
    DIR *dir = opendir(folder);
    int n = -2; /* . and .. */

    if (!dir) return 0;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void check_folder(const char *path)
{
    fz_safetensors *st = NULL;
    float x[200];

    assert_ok(fz_safetensors_open(path, &st));
    assert_int_equal(fz_safetensors_count(st), N_TENSORS);
    assert_string_equal(fz_safetensors_metadata(st, "format"), "pt");
    assert_string_equal(fz_safetensors_metadata(st, "note"), "one \"line\"");
    for (int i = 0; i < N_TENSORS; i++) {
        const fz_safetensor *t = fz_safetensors_find(st, MODEL[i].name);
        assert_non_null(t);
        assert_int_equal(t->dtype, MODEL[i].dtype);
        assert_int_equal(t->ndim, MODEL[i].ndim);
        assert_memory_equal(t->shape, MODEL[i].shape, sizeof t->shape);
        assert_int_equal(t->offset % (int64_t)fz_dtype_bytes(t->dtype), 0);
        for (int64_t first = 0; first < t->elements; first += 3) {
            const int64_t n = t->elements - first < 100 ? t->elements - first : 100;
            assert_ok(fz_safetensors_read_float(st, t, first, n, x));
            for (int64_t k = 0; k < n; k++) {
                const float expected = rounded(t->dtype, number(i, first + k));
                assert_memory_equal(&x[k], &expected, sizeof expected);
            }
        }
    }
    fz_safetensors_close(&st);
}

/* Writes every n-th range of three elements, beginning at the first-th. */
static fz_status write_part(fz_safetensors_writer *w, int part, int n_parts)
{
    float x[3];
    int64_t at = 0;

    for (int i = 0; i < N_TENSORS; i++)
        for (int64_t first = 0; first < MODEL[i].elements; first += 3, at++) {
            const int64_t n = MODEL[i].elements - first < 3 ? MODEL[i].elements - first : 3;
            if (at % n_parts != part) continue;
            for (int64_t k = 0; k < n; k++)
                x[k] = number(i, first + k);
            FZ_TRY(fz_safetensors_write(w, i, first, n, x));
        }
    return FZ_OK;
}

static fz_status write_all(fz_safetensors_writer *w)
{
    FZ_TRY(fz_safetensors_writer_start(w));
    FZ_TRY(write_part(w, 0, 1));
    FZ_TRY(fz_safetensors_writer_sync(w));
    return fz_safetensors_writer_commit(w);
}

static fz_status write_model(const char *dir, int64_t max_file_bytes, int *n_files)
{
    fz_safetensor model[N_TENSORS];
    fz_safetensors_writer *w = NULL;

    memcpy(model, MODEL, sizeof model);
    FZ_TRY(fz_safetensors_writer_create(dir, N_TENSORS, model, max_file_bytes, METADATA, &w));
    *n_files = fz_safetensors_writer_files(w);
    const fz_status status = write_all(w);
    if (status != FZ_OK) fz_safetensors_writer_abandon(w);
    fz_safetensors_writer_destroy(&w);
    return status;
}

static void what_was_written_comes_back_from_any_number_of_files(void **state)
{
    static const struct {
        int64_t max_bytes;
        int n_files;
    } SPLITS[] = {{INT64_MAX, 1}, {2500, 2}, {1, N_TENSORS}};
    char folder[FZ_PATH_BYTES];
    int n_files;
    (void)state;

    for (size_t i = 0; i < sizeof SPLITS / sizeof *SPLITS; i++) {
        make_folder(folder);
        assert_ok(write_model(in_folder(folder, "new"), SPLITS[i].max_bytes, &n_files));
        assert_int_equal(n_files, SPLITS[i].n_files);
        assert_int_equal(count_files(in_folder(folder, "new")), n_files + (n_files > 1));
        check_folder(in_folder(folder, "new"));
        if (n_files == 1) check_folder(in_folder(folder, "new/model.safetensors"));
        if (n_files == 2) { /* no file is larger than asked for */
            struct stat info;
            assert_int_equal(stat(in_folder(folder, "new/model-00001-of-00002.safetensors"), &info),
                             0);
            assert_in_range(info.st_size, 1, 2500);
        }
        /* Not over what is there, split in whatever way. */
        assert_fails(write_model(in_folder(folder, "new"), SPLITS[i].max_bytes, &n_files),
                     FZ_ERR_USAGE, "is there already");
        check_folder(in_folder(folder, "new"));
        fz_disk_remove_tree(folder);
    }
}

/* Longer than any buffer on the way. */
static void long_tensors_come_back_whole(void **state)
{
    enum { N = 2500001, PART = 3 };
    fz_safetensor list[3] = {{.name = "f32", .dtype = FZ_DTYPE_F32},
                             {.name = "bf16", .dtype = FZ_DTYPE_BF16},
                             {.name = "f64", .dtype = FZ_DTYPE_F64}};
    char folder[FZ_PATH_BYTES];
    fz_safetensors_writer *w = NULL;
    fz_safetensors *st = NULL;
    float *x = NULL, *back = NULL;
    (void)state;

    make_folder(folder);
    assert_ok(FZ_NEW(&x, N));
    assert_ok(FZ_NEW(&back, N));
    for (int64_t i = 0; i < N; i++)
        x[i] = rounded(FZ_DTYPE_BF16, (float)i);
    for (int t = 0; t < 3; t++) {
        list[t].ndim = 1;
        list[t].shape[0] = list[t].elements = N;
    }
    assert_ok(fz_safetensors_writer_create(folder, 3, list, INT64_MAX, NULL, &w));
    assert_ok(fz_safetensors_writer_start(w));
    for (int t = 0; t < 3; t++)
        assert_ok(fz_safetensors_write(w, t, 0, N, x));
    assert_ok(fz_safetensors_writer_sync(w));
    assert_ok(fz_safetensors_writer_commit(w));
    fz_safetensors_writer_destroy(&w);
    assert_ok(fz_safetensors_open(folder, &st));
    for (int t = 0; t < 3; t++) {
        const fz_safetensor *tensor = fz_safetensors_find(st, list[t].name);
        memset(back, 0x55, N * sizeof *back);
        assert_ok(fz_safetensors_read_float(st, tensor, PART, N - PART, back));
        assert_memory_equal(back, x + PART, (N - PART) * sizeof *back);
        assert_ok(fz_safetensors_read_float(st, tensor, 0, PART, back));
        assert_memory_equal(back, x, PART * sizeof *back);
    }
    fz_safetensors_close(&st);
    fz_free(&x);
    fz_free(&back);
    fz_disk_remove_tree(folder);
}

static void no_file_grows_beyond_its_limit(void **state)
{
    enum { N = 10, ELEMENTS = 25000, LIMIT = 250000 };
    fz_safetensor list[N];
    char names[N][8];
    fz_safetensors_writer *w = NULL;
    int64_t end = 0;
    (void)state;

    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "%d", i);
        list[i] = (fz_safetensor){.name = names[i],
                                  .dtype = FZ_DTYPE_F32,
                                  .ndim = 1,
                                  .shape = {ELEMENTS},
                                  .elements = ELEMENTS};
    }
    assert_ok(fz_safetensors_writer_create("x", N, list, LIMIT, NULL, &w));
    assert_int_equal(fz_safetensors_writer_files(w), N / 2);
    for (int i = 0; i < N; i++) {
        assert_int_equal(list[i].file, i / 2);
        if (list[i].offset + list[i].bytes > end) end = list[i].offset + list[i].bytes;
    }
    assert_in_range(end, 200000, LIMIT);
    fz_safetensors_writer_destroy(&w);
}

static void three_writers_of_one_plan_make_one_model(void **state)
{
    fz_safetensor model[3][N_TENSORS];
    fz_safetensors_writer *w[3] = {NULL, NULL, NULL};
    char folder[FZ_PATH_BYTES];
    (void)state;

    make_folder(folder);
    for (int r = 0; r < 3; r++) {
        memcpy(model[r], MODEL, sizeof MODEL);
        assert_ok(fz_safetensors_writer_create(folder, N_TENSORS, model[r], 2500, METADATA, &w[r]));
    }
    assert_ok(fz_safetensors_writer_start(w[0]));
    for (int r = 2; r >= 0; r--)
        assert_ok(write_part(w[r], r, 3));
    for (int r = 0; r < 3; r++)
        assert_ok(fz_safetensors_writer_sync(w[r]));
    assert_ok(fz_safetensors_writer_commit(w[0]));
    for (int r = 0; r < 3; r++)
        fz_safetensors_writer_destroy(&w[r]);
    check_folder(folder);
    fz_disk_remove_tree(folder);
}

/* Every write, rename and sync fails once, then every allocation. */
static void a_writer_that_fails_anywhere_leaves_nothing(void **state)
{
    static const char *const SITES[] = {"write", "alloc"};
    char folder[FZ_PATH_BYTES], spec[32];
    int n_files, n_failed = 0;
    (void)state;

    for (size_t site = 0; site < sizeof SITES / sizeof *SITES; site++)
        for (int n = 1;; n++) {
            make_folder(folder);
            snprintf(spec, sizeof spec, "%s:%d", SITES[site], n);
            assert_ok(fz_fault_set(spec));
            const fz_status status = write_model(folder, 2500, &n_files);
            assert_ok(fz_fault_set(NULL));
            assert_int_equal(fz_memory_get().n_live, 0);
            if (status == FZ_OK)
                check_folder(folder);
            else
                assert_int_equal(count_files(folder), 0);
            fz_disk_remove_tree(folder);
            if (status == FZ_OK) break;
            n_failed++;
        }
    assert_true(n_failed > 20);
}

static void a_reader_that_fails_anywhere_leaves_nothing(void **state)
{
    static const char *const SITES[] = {"read", "alloc"};
    char folder[FZ_PATH_BYTES], spec[32];
    fz_safetensors *st = NULL;
    int n_files, n_failed = 0;
    (void)state;

    make_folder(folder);
    assert_ok(write_model(folder, 2500, &n_files));
    for (size_t site = 0; site < sizeof SITES / sizeof *SITES; site++)
        for (int n = 1;; n++) {
            snprintf(spec, sizeof spec, "%s:%d", SITES[site], n);
            assert_ok(fz_fault_set(spec));
            const fz_status status = fz_safetensors_open(folder, &st);
            assert_ok(fz_fault_set(NULL));
            if (status == FZ_OK) fz_safetensors_close(&st);
            assert_null(st);
            assert_int_equal(fz_memory_get().n_live, 0);
            if (status == FZ_OK) break;
            n_failed++;
        }
    assert_true(n_failed > 10);
    fz_disk_remove_tree(folder);
}

static void what_cannot_be_written_is_said(void **state)
{
    fz_safetensor list[2];
    fz_safetensors_writer *w = NULL;
    const float x[3] = {0};
    (void)state;

    list[0] = list[1] = MODEL[1];
    assert_fails(fz_safetensors_writer_create("x", 2, list, 1000, NULL, &w), FZ_ERR_ARG,
                 "brain is there twice");
    assert_fails(fz_safetensors_writer_create("x", 2, list, 1, NULL, &w), FZ_ERR_ARG,
                 "brain is there twice"); /* in two files */
    list[1].name = "\xff";
    assert_fails(fz_safetensors_writer_create("x", 2, list, 1000, NULL, &w), FZ_ERR_ARG, "utf-8");
    list[1].name = "__metadata__";
    assert_fails(fz_safetensors_writer_create("x", 2, list, 1000, NULL, &w), FZ_ERR_ARG,
                 "__metadata__");
    list[1].name = "numbers";
    list[1].dtype = FZ_DTYPE_I32;
    assert_fails(fz_safetensors_writer_create("x", 2, list, 1000, NULL, &w), FZ_ERR_ARG, "I32");
    list[1].dtype = FZ_DTYPE_F32;
    list[1].elements = 8;
    assert_fails(fz_safetensors_writer_create("x", 2, list, 1000, NULL, &w), FZ_ERR_ARG,
                 "makes 7 elements");
    list[1].elements = 7;
    assert_ok(fz_safetensors_writer_create("x", 2, list, 1000, NULL, &w));
    assert_fails(fz_safetensors_write(w, 1, 5, 3, x), FZ_ERR_ARG, "7 elements");
    fz_safetensors_writer_destroy(&w);
    assert_int_equal(fz_memory_get().n_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_comes_back_from_any_number_of_files),
        cmocka_unit_test(long_tensors_come_back_whole),
        cmocka_unit_test(no_file_grows_beyond_its_limit),
        cmocka_unit_test(three_writers_of_one_plan_make_one_model),
        cmocka_unit_test(a_writer_that_fails_anywhere_leaves_nothing),
        cmocka_unit_test(a_reader_that_fails_anywhere_leaves_nothing),
        cmocka_unit_test(what_cannot_be_written_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
