/* Pictures of awkward sizes and kinds, decoded, resized and normalised, against Pillow's bits
 * (tests/reference/make_images.py, golden/images/images.txt). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/checksum.h"
#include "core/memory.h"
#include "data/image.h"

#define FOLDER FZ_SOURCE_DIR "/tests/data/golden/images/"

enum { SIDE_MAX = 768, N_SIDES = 3 };
static const int sides[N_SIDES] = {24, 224, SIDE_MAX};

typedef struct expected {
    char name[64];
    int width, height;
    unsigned decoded, resized[N_SIDES], normalised; /* CRC-32C */
} expected;

static size_t read_picture(const char *name, void *bytes, size_t most)
{
    char path[512];

    snprintf(path, sizeof path, "%s%s", FOLDER, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t n = fread(bytes, 1, most, file);
    fclose(file);
    assert_in_range(n, 1, most - 1);
    return n;
}

static bool is_built_in(const char *name)
{
    const char *end = strrchr(name, '.');
    if (strcmp(end, ".png") == 0) return FZ_HAVE_PNG != 0;
    return strcmp(end, ".webp") != 0 || FZ_HAVE_WEBP != 0;
}

/* The number of steps whose bits are not Pillow's; each is named. */
static int check_picture(const expected *want, uint8_t *out, float *pixels)
{
    static uint8_t bytes[1 << 16];
    const size_t n = read_picture(want->name, bytes, sizeof bytes);
    fz_image image;
    int n_bad = 0;

    if (fz_image_decode(bytes, n, &image) != FZ_OK) {
        print_error("%s is not decoded: %s\n", want->name, fz_last_error()->text);
        return 1;
    }
    assert_int_equal(image.width, want->width);
    assert_int_equal(image.height, want->height);
    if (fz_crc32c(0, image.rgb, (size_t)image.width * (size_t)image.height * 3) != want->decoded) {
        print_error("%s is decoded otherwise\n", want->name);
        n_bad++;
    }
    for (int i = 0; i < N_SIDES; i++) {
        const size_t n_bytes = (size_t)sides[i] * (size_t)sides[i] * 3;
        assert_int_equal(fz_image_resize(&image, sides[i], out), FZ_OK);
        if (fz_crc32c(0, out, n_bytes) != want->resized[i]) {
            print_error("%s is resized to %d otherwise\n", want->name, sides[i]);
            n_bad++;
        }
        if (i != 0) continue;
        fz_image_normalise(out, sides[i], pixels);
        if (fz_crc32c(0, pixels, n_bytes * sizeof(float)) != want->normalised) {
            print_error("%s is normalised otherwise\n", want->name);
            n_bad++;
        }
    }
    fz_image_reset(&image);
    return n_bad;
}

static void every_picture_has_the_bits_of_pillow(void **state)
{
    uint8_t *out = malloc((size_t)SIDE_MAX * SIDE_MAX * 3);
    float *pixels = malloc(sizeof(float) * 3 * (size_t)(sides[0] * sides[0]));
    FILE *list = fopen(FOLDER "images.txt", "r");
    char line[256];
    int n_pictures = 0, n_bad = 0;

    (void)state;
    assert_non_null(list);
    while (fgets(line, sizeof line, list) != NULL) {
        expected want;
        if (line[0] == '#') continue;
        assert_int_equal(sscanf(line, "%63s %d %d %x %x %x %x %x", want.name, &want.width,
                                &want.height, &want.decoded, &want.resized[0], &want.resized[1],
                                &want.resized[2], &want.normalised),
                         8);
        n_pictures++;
        if (is_built_in(want.name)) n_bad += check_picture(&want, out, pixels);
    }
    fclose(list);
    free(out);
    free(pixels);
    assert_true(n_pictures >= 50);
    assert_int_equal(n_bad, 0);
}

static int memory_balances(void **state)
{
    (void)state;
    return fz_memory_get().n_live == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_picture_has_the_bits_of_pillow)};

    return cmocka_run_group_tests(tests, NULL, memory_balances);
}
