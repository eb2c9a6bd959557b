#include "tests/support/unit.h"

#include "core/arena.h"

static char memory[1024] __attribute__((aligned(64)));

static void counting_and_taking_agree(void **state)
{
    (void)state;
    fz_arena count = fz_arena_counting(), real = fz_arena_over(memory, sizeof memory);
    for (size_t bytes = 1; bytes < 200; bytes += 66) {
        assert_null(fz_arena_take(&count, bytes));
        assert_non_null(fz_arena_take(&real, bytes));
        assert_int_equal(count.used, real.used);
    }
    assert_int_equal(real.used, 64 + 128 + 192 + 256);
}

static void slices_are_aligned_and_do_not_overlap(void **state)
{
    (void)state;
    fz_arena arena = fz_arena_over(memory, sizeof memory);
    char *a = fz_arena_take(&arena, 65), *b = (char *)fz_arena_floats(&arena, 3);
    char *c = (char *)fz_arena_ints(&arena, 1);
    assert_ptr_equal(a, memory);
    assert_ptr_equal(b, memory + 128);
    assert_ptr_equal(c, memory + 192);
}

static void a_released_mark_gives_the_memory_back_and_keeps_the_peak(void **state)
{
    (void)state;
    fz_arena arena = fz_arena_over(memory, sizeof memory);
    fz_arena_take(&arena, 64);
    const size_t mark = fz_arena_mark(&arena);
    fz_arena_take(&arena, 256);
    fz_arena_release(&arena, mark);
    assert_int_equal(arena.used, 64);
    assert_int_equal(arena.peak, 320);
    assert_ptr_equal(fz_arena_take(&arena, 1), memory + 64);
}

static void an_empty_slice_takes_nothing(void **state)
{
    (void)state;
    fz_arena arena = fz_arena_counting();
    fz_arena_take(&arena, 0);
    assert_int_equal(arena.used, 0);
    assert_int_equal(fz_align_up(0), 0);
    assert_int_equal(fz_align_up(64), 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counting_and_taking_agree),
        cmocka_unit_test(slices_are_aligned_and_do_not_overlap),
        cmocka_unit_test(a_released_mark_gives_the_memory_back_and_keeps_the_peak),
        cmocka_unit_test(an_empty_slice_takes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
