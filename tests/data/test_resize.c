/* The resize against Pillow's own results (tests/reference/make_resize_golden.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/fault.h"
#include "core/memory.h"
#include "data/image.h"
#include "data/image_internal.h"

typedef struct golden {
    int32_t width, height, side;
    uint32_t seed;
} golden;

/* As noise() of the script. */
static void make_noise(uint8_t *out, int width, int height, uint32_t seed)
{
    for (int i = 0; i < width * height * 3; i++) {
        const int pixel = i / 3;
        seed = seed * 1664525u + 1013904223u;
        const int flat = (pixel % width / 4 + pixel / width / 4) % 2 ? 255 : 0;
        out[i] = (uint8_t)((seed >> 16 & 3) != 0 ? (uint32_t)flat : seed >> 24);
    }
}

static void the_resize_equals_pillows_bit_for_bit(void **state)
{
    FILE *file = fopen(FZ_SOURCE_DIR "/tests/data/golden/resize.bin", "rb");
    char magic[4];
    int32_t n = 0;

    (void)state;
    assert_non_null(file);
    assert_int_equal(fread(magic, 1, 4, file), 4);
    assert_memory_equal(magic, "FZRS", 4);
    assert_int_equal(fread(&n, sizeof n, 1, file), 1);
    assert_true(n >= 20);
    for (int32_t i = 0; i < n; i++) {
        golden g;
        assert_int_equal(fread(&g, sizeof g, 1, file), 1);
        const size_t bytes = (size_t)g.side * (size_t)g.side * 3;
        uint8_t *in = malloc((size_t)g.width * (size_t)g.height * 3);
        uint8_t *want = malloc(bytes), *got = malloc(bytes);
        assert_int_equal(fread(want, 1, bytes, file), bytes);
        make_noise(in, g.width, g.height, g.seed);
        const fz_image image = {.width = g.width, .height = g.height, .rgb = in};
        assert_int_equal(fz_image_resize(&image, g.side, got), FZ_OK);
        if (memcmp(got, want, bytes) != 0)
            fail_msg("%d x %d to %d differs", g.width, g.height, g.side);
        free(in);
        free(want);
        free(got);
    }
    assert_int_equal(fgetc(file), EOF);
    fclose(file);
}

static void scratch_that_is_large_enough_does_not_grow(void **state)
{
    fz_buffer scratch = {0};
    uint8_t in[40 * 30 * 3], out[16 * 16 * 3];

    (void)state;
    make_noise(in, 40, 30, 1);
    assert_int_equal(fz_buffer_need(&scratch, fz_image_resize_bytes(40, 30, 16), "test"), FZ_OK);
    assert_int_equal(fz_image_resize_into(in, 40, 30, 16, &scratch, out), FZ_OK);
    assert_int_equal(fz_image_resize_into(in, 20, 30, 16, &scratch, out), FZ_OK);
    assert_int_equal(scratch.n_grown, 1);
    fz_buffer_reset(&scratch);
}

static void a_resize_without_memory_says_so(void **state)
{
    uint8_t in[3] = {1, 2, 3}, out[12];
    const fz_image image = {.width = 1, .height = 1, .rgb = in};

    (void)state;
    fz_fault_set("alloc:1");
    assert_int_equal(fz_image_resize(&image, 2, out), FZ_ERR_MEMORY);
    fz_fault_set(NULL);
}

static int memory_balances(void **state)
{
    (void)state;
    return fz_memory_get().n_live == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_resize_equals_pillows_bit_for_bit),
        cmocka_unit_test(scratch_that_is_large_enough_does_not_grow),
        cmocka_unit_test(a_resize_without_memory_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, memory_balances);
}
