/* Tensors read ahead by a thread: all of them in order, given up at any place, and a damaged one
 * told where it is taken. */
#include "tests/support/unit.h"

#include <unistd.h>

#include "checkpoint/directory.h"
#include "checkpoint/disk.h"
#include "checkpoint/read_ahead.h"
#include "core/memory.h"

#include "tests/support/ranks.h"

enum { N = 9, MOST = 9 * 15 };

static char dir[128], step[FZ_PATH_BYTES];
static fz_state_tensor tensors[N];

static int64_t elements(int tensor)
{
    return tensors[tensor].shape[0] * tensors[tensor].shape[1];
}

static fz_status read_tensor(void *context, int tensor, float *out)
{
    (void)context;
    for (int64_t i = 0; i < elements(tensor); i++)
        out[i] = (float)(1000 * tensor + i);
    return FZ_OK;
}

static int start(void **state)
{
    fz_ckpt_info info = {.run_id = "test", .config = NULL, .tp = 1, .pp = 1, .dp = 1};
    char name[FZ_STEP_NAME_BYTES];
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/fz-read-ahead-%ld", (long)getpid());
    for (int i = 0; i < N; i++) {
        tensors[i] = (fz_state_tensor){.ndim = 2, .shape = {i + 1, 7 * (i % 3) + 1, 1, 1, 1}};
        tensors[i].trainable = i % 2 == 0;
        snprintf(tensors[i].name, sizeof tensors[i].name, "tensor.%d", i);
    }
    fz_step_name(name, 0);
    if (fz_ckpt_start() != FZ_OK || fz_disk_make_directory(dir) != FZ_OK ||
        fz_ckpt_save_tensors(world.group, dir, N, tensors, read_tensor, NULL, &info, NULL) !=
            FZ_OK ||
        fz_disk_join(step, dir, name) != FZ_OK) {
        fprintf(stderr, "%s\n", fz_last_error()->text);
        return -1;
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fz_disk_remove_tree(dir);
    return 0;
}

static void tensors_come_in_the_order_asked_for(void **state)
{
    static const int list[] = {8, 0, 3, 3, 1, 7, 2};
    fz_ckpt_reader *reader = NULL;
    fz_read_ahead *ahead = NULL;
    (void)state;
    assert_ok(fz_ckpt_reader_open(step, &reader));
    assert_ok(fz_read_ahead_start(fz_ckpt_reader_weights, reader, list, 7, MOST, &ahead));
    for (int k = 0; k < 7; k++) {
        float *x = NULL;
        assert_ok(fz_read_ahead_next(ahead, &x));
        if (k == 2) usleep(20000); /* the thread may not take this one's buffer in the meantime */
        for (int64_t i = 0; i < elements(list[k]); i++)
            assert_true(x[i] == (float)(1000 * list[k] + i));
    }
    float *none = NULL;
    assert_fails(fz_read_ahead_next(ahead, &none), FZ_ERR_ARG, "all 7 tensors");
    fz_read_ahead_stop(&ahead);
    assert_null(ahead);
    fz_ckpt_reader_close(&reader);
}

static void reading_stops_wherever_it_is_given_up(void **state)
{
    static const int list[] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    fz_ckpt_reader *reader = NULL;
    (void)state;
    assert_ok(fz_ckpt_reader_open(step, &reader));
    for (int n = 0; n <= N; n++) {
        fz_read_ahead *ahead = NULL;
        float *x = NULL;
        assert_ok(fz_read_ahead_start(fz_ckpt_reader_weights, reader, list, n, MOST, &ahead));
        for (int k = 0; k < n / 2; k++)
            assert_ok(fz_read_ahead_next(ahead, &x));
        fz_read_ahead_stop(&ahead);
    }
    fz_ckpt_reader_close(&reader);
}

static void a_damaged_tensor_is_told_where_it_is_taken(void **state)
{
    static const int list[] = {1, 3, 8, 0};
    fz_ckpt_reader *reader = NULL;
    fz_read_ahead *ahead = NULL;
    char path[FZ_PATH_BYTES];
    float *x = NULL;
    (void)state;
    assert_ok(fz_disk_join(path, step, "s00/rank-00000.h5"));
    assert_ok(fz_ckpt_reader_open(step, &reader));
    FILE *file = fopen(path, "r+"); /* of the trained ones: 8 and 0 */
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    const long size = ftell(file);
    char *bytes = malloc((size_t)size);
    rewind(file);
    assert_int_equal(fread(bytes, 1, (size_t)size, file), (size_t)size);
    const float wanted = 8000.0f + 5;
    long at = 0;
    while (at + 4 <= size && memcmp(bytes + at, &wanted, 4) != 0)
        at++;
    assert_true(at + 4 <= size);
    fseek(file, at, SEEK_SET);
    fputc(bytes[at] ^ 1, file);
    fclose(file);
    free(bytes);
    assert_ok(fz_read_ahead_start(fz_ckpt_reader_weights, reader, list, 4, MOST, &ahead));
    assert_ok(fz_read_ahead_next(ahead, &x));
    assert_ok(fz_read_ahead_next(ahead, &x));
    assert_fails(fz_read_ahead_next(ahead, &x), FZ_ERR_FORMAT, "rank-00000.h5");
    fz_read_ahead_stop(&ahead);
    fz_ckpt_reader_close(&reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_come_in_the_order_asked_for),
        cmocka_unit_test(reading_stops_wherever_it_is_given_up),
        cmocka_unit_test(a_damaged_tensor_is_told_where_it_is_taken), /* last: damage stays */
    };
    run_on_all_ranks_with(tests, start, stop);
}
