#include "tests/support/unit.h"

#include <pthread.h>

#include "core/fault.h"
#include "core/memory.h"

static void blocks_are_zeroed_aligned_and_counted(void **state)
{
    char *p = NULL, *q = NULL;
    (void)state;
    const fz_memory_counters before = fz_memory_get();
    assert_ok(fz_alloc((void **)&p, 1000, "p"));
    assert_ok(fz_alloc((void **)&q, 0, "q"));
    assert_true((uintptr_t)p % 64 == 0 && (uintptr_t)q % 64 == 0 && p != q);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(p[i], 0);
    const fz_memory_counters during = fz_memory_get();
    assert_int_equal(during.n_live - before.n_live, 2);
    assert_int_equal(during.bytes_live - before.bytes_live, 1000);
    fz_free(&p);
    fz_free(&q);
    assert_null(p);
    fz_free(&p);
    const fz_memory_counters after = fz_memory_get();
    assert_int_equal(after.n_live, before.n_live);
    assert_int_equal(after.bytes_live, before.bytes_live);
    assert_int_equal(after.n_total - before.n_total, 2);
    assert_true(after.bytes_peak >= before.bytes_live + 1000);
}

static void growing_keeps_the_contents_and_zeroes_the_rest(void **state)
{
    int *p = NULL;
    (void)state;
    assert_ok(FZ_NEW(&p, 3));
    for (int i = 0; i < 3; i++)
        p[i] = i + 1;
    assert_ok(fz_realloc((void **)&p, 100 * sizeof *p, "p"));
    for (int i = 0; i < 100; i++)
        assert_int_equal(p[i], i < 3 ? i + 1 : 0);
    assert_ok(fz_realloc((void **)&p, 2 * sizeof *p, "p"));
    assert_int_equal(p[1], 2);
    fz_free(&p);
    assert_ok(fz_realloc((void **)&p, 4, "p"));
    assert_int_equal(p[0], 0);
    fz_free(&p);
}

static void a_copy_of_a_text_is_its_own(void **state)
{
    char text[] = "florenz", *copy = NULL;
    (void)state;
    assert_ok(fz_strdup(&copy, text));
    text[0] = 'F';
    assert_string_equal(copy, "florenz");
    fz_free(&copy);
}

static void failure_names_what_and_how_much_and_changes_nothing(void **state)
{
    int *p = NULL;
    (void)state;
    assert_ok(FZ_NEW(&p, 1));
    p[0] = 7;
    assert_ok(fz_fault_set("alloc:1"));
    assert_fails(fz_realloc((void **)&p, 12345, "the ring"), FZ_ERR_MEMORY,
                 "allocate 12345 bytes for the ring");
    assert_ok(fz_fault_set(NULL));
    assert_int_equal(p[0], 7);
    void *huge = NULL;
    assert_fails(fz_alloc(&huge, SIZE_MAX - 8, "huge"), FZ_ERR_MEMORY, "for huge");
    assert_null(huge);
    fz_free(&p);
}

static char failure[] = "failed";

static void *take_and_free(void *unused)
{
    (void)unused;
    for (int i = 0; i < 5000; i++) {
        void *p = NULL;
        if (fz_alloc(&p, 64, "p") != FZ_OK) return failure;
        fz_free(&p);
    }
    return NULL;
}

static void threads_count_right_and_a_seal_is_per_thread(void **state)
{
    pthread_t thread[4];
    void *failed;
    (void)state;
    const fz_memory_counters before = fz_memory_get();
    fz_memory_seal(true);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, take_and_free, NULL), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(thread[i], &failed), 0);
        assert_null(failed);
    }
    fz_memory_counters after = fz_memory_get();
    assert_int_equal(after.n_live, before.n_live);
    assert_int_equal(after.bytes_live, before.bytes_live);
    assert_int_equal(after.n_total - before.n_total, 4 * 5000);
    assert_int_equal(after.n_sealed, before.n_sealed);
    take_and_free(NULL);
    fz_memory_seal(false);
    take_and_free(NULL);
    after = fz_memory_get();
    assert_int_equal(after.n_sealed - before.n_sealed, 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_zeroed_aligned_and_counted),
        cmocka_unit_test(growing_keeps_the_contents_and_zeroes_the_rest),
        cmocka_unit_test(a_copy_of_a_text_is_its_own),
        cmocka_unit_test(failure_names_what_and_how_much_and_changes_nothing),
        cmocka_unit_test(threads_count_right_and_a_seal_is_per_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
