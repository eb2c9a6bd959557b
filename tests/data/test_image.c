#include "fixtures.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "data/image_internal.h"

static void *read_golden(const char *name, size_t *n_p)
{
    char path[512];
    void *bytes = malloc(1 << 20);

    snprintf(path, sizeof path, "%s/tests/data/golden/%s", FZ_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    *n_p = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

static void a_jpeg_comes_back_nearly_as_it_was(void **state)
{
    fz_image image = make_picture(40, 30, 7), back;
    void *bytes = NULL;
    size_t n = 0;

    (void)state;
    assert_ok(fz_image_encode_jpeg(&image, 95, &bytes, &n));
    assert_ok(fz_image_decode(bytes, n, &back));
    assert_int_equal(back.width, 40);
    assert_int_equal(back.height, 30);
    for (int i = 0; i < 40 * 30 * 3; i++)
        assert_in_range(back.rgb[i] - image.rgb[i] + 16, 0, 32);
    fz_free(&bytes);
    fz_image_reset(&image);
    fz_image_reset(&back);
    assert_null(back.rgb);
    assert_fails(fz_image_encode_jpeg(&image, 101, &bytes, &n), FZ_ERR_ARG, "101");
}

static void a_png_comes_back_exactly(void **state)
{
    fz_image image = make_picture(13, 11, 3), back;
    static char bytes[1 << 16];

    (void)state;
    if (FZ_HAVE_PNG == 0) skip();
    assert_ok(fz_image_write_png(&image, in_folder("x.png")));
    FILE *file = fopen(in_folder("x.png"), "rb");
    const size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_ok(fz_image_decode(bytes, n, &back));
    assert_memory_equal(back.rgb, image.rgb, 13 * 11 * 3);
    fz_image_reset(&back);
    assert_fails(fz_image_write_png(&image, in_folder("no/such/folder.png")), FZ_ERR_IO,
                 "no/such/folder.png");
    /* Every shorter file is an error. */
    for (size_t cut = 0; cut + 12 < n; cut++)
        assert_int_equal(fz_image_decode(bytes, cut, &back), FZ_ERR_FORMAT);
    fz_image_reset(&image);
}

/* What Pillow's convert("RGB") gives (tests/reference/make_resize_golden.py). */
static void other_modes_become_the_rgb_of_pillow(void **state)
{
    static const char *const names[][2] = {
        {"cmyk.jpg", "cmyk.rgb"}, {"alpha.png", "alpha.rgb"}, {"palette.png", "palette.rgb"}};

    (void)state;
    for (int i = 0; i < (FZ_HAVE_PNG ? 3 : 1); i++) {
        size_t n = 0, n_want = 0;
        void *bytes = read_golden(names[i][0], &n);
        uint8_t *want = read_golden(names[i][1], &n_want);
        fz_image image;
        assert_ok(fz_image_decode(bytes, n, &image));
        assert_int_equal(n_want, (size_t)image.width * (size_t)image.height * 3);
        assert_memory_equal(image.rgb, want, n_want);
        fz_image_reset(&image);
        free(bytes);
        free(want);
    }
}

/* 1x1 and 8x8 grey JPEGs are the commonest "not RGB" pictures of web data. */
static void a_grey_jpeg_becomes_rgb(void **state)
{
    size_t n = 0;
    uint8_t *bytes = read_golden("grey.jpg", &n);
    fz_image image;

    (void)state;
    assert_ok(fz_image_decode(bytes, n, &image));
    for (int i = 0; i < image.width * image.height; i++) {
        assert_int_equal(image.rgb[3 * i], image.rgb[3 * i + 1]);
        assert_int_equal(image.rgb[3 * i], image.rgb[3 * i + 2]);
    }
    fz_image_reset(&image);
    free(bytes);
}

static void a_webp_is_decoded(void **state)
{
    size_t n = 0, n_want = 0;
    uint8_t *bytes = read_golden("lossless.webp", &n);
    uint8_t *want = read_golden("palette.rgb", &n_want);
    fz_image image;

    (void)state;
    if (FZ_HAVE_WEBP == 0) {
        assert_fails(fz_image_decode(bytes, n, &image), FZ_ERR_FORMAT, "libwebp-dev");
    } else {
        assert_ok(fz_image_decode(bytes, n, &image));
        assert_memory_equal(image.rgb, want, n_want);
        fz_image_reset(&image);
        for (size_t cut = 12; cut < n; cut += 7)
            assert_fails(fz_image_decode(bytes, cut, &image), FZ_ERR_FORMAT, "WebP");
    }
    free(bytes);
    free(want);
}

static void a_truncated_jpeg_is_bad_wherever_it_ends(void **state)
{
    fz_image image = make_picture(64, 48, 7), back;
    void *bytes = NULL;
    size_t n = 0;

    (void)state;
    assert_ok(fz_image_encode_jpeg(&image, 90, &bytes, &n));
    for (size_t cut = 0; cut + 2 < n; cut += 3)
        assert_int_equal(fz_image_decode(bytes, cut, &back), FZ_ERR_FORMAT);
    assert_fails(fz_image_decode(bytes, n / 2, &back), FZ_ERR_FORMAT, "JPEG: ");
    fz_free(&bytes);
    fz_image_reset(&image);
}

/* Whatever is flipped: decoded or refused, never a crash, and no memory left (the group's end). */
static void flipped_bytes_never_crash(void **state)
{
    static const char *const names[] = {"cmyk.jpg", "grey.jpg", "alpha.png", "palette.png",
                                        "lossless.webp"};
    int n_refused = 0;

    (void)state;
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        size_t n = 0;
        uint8_t *bytes = read_golden(names[k], &n);
        for (size_t at = 0; at < n; at++) {
            fz_image image;
            const uint8_t was = bytes[at];
            bytes[at] = (uint8_t)(was ^ (1 << at % 8) ^ 0x55);
            const fz_status status = fz_image_decode(bytes, n, &image);
            if (status == FZ_OK)
                fz_image_reset(&image);
            else
                assert_int_equal(status, FZ_ERR_FORMAT);
            n_refused += status != FZ_OK;
            bytes[at] = was;
        }
        free(bytes);
    }
    assert_true(n_refused > 500);
}

static void what_is_no_image_is_named(void **state)
{
    fz_image image;
    fz_buffer pixels = {0};

    (void)state;
    assert_fails(fz_image_decode("", 0, &image), FZ_ERR_FORMAT, "empty");
    assert_fails(fz_image_decode("GIF89a........", 14, &image), FZ_ERR_FORMAT, "47 49 46 38");
    assert_fails(fz_image_decode("short", 5, &image), FZ_ERR_FORMAT, "5 bytes");
    assert_fails(fz_image_make_room("JPEG", 65501, 1, &pixels), FZ_ERR_FORMAT, "65501 x 1");
    assert_fails(fz_image_make_room("JPEG", 60000, 60000, &pixels), FZ_ERR_FORMAT, "60000 x 60000");
    assert_fails(fz_image_make_room("JPEG", 0, 5, &pixels), FZ_ERR_FORMAT, "0 x 5");
    assert_int_equal(pixels.n_grown, 0);
}

/* A header that promises 60000 x 60000 pixels over 600 bytes: refused before memory is taken. */
static void a_decompression_bomb_takes_no_memory(void **state)
{
    size_t n = 0;
    uint8_t *bytes = read_golden("grey.jpg", &n);
    fz_image image;

    (void)state;
    for (size_t i = 0; i + 9 < n; i++) {
        if (bytes[i] != 0xff || bytes[i + 1] != 0xc0) continue;
        bytes[i + 5] = bytes[i + 7] = 0xea;
        bytes[i + 6] = bytes[i + 8] = 0x60;
        break;
    }
    const int64_t before = fz_memory_get().n_total;
    assert_fails(fz_image_decode(bytes, n, &image), FZ_ERR_FORMAT, "60000 x 60000");
    assert_int_equal(fz_memory_get().n_total, before);
    free(bytes);
}

static void normalising_uses_imagenets_numbers(void **state)
{
    const uint8_t rgb[12] = {0, 0, 0, 255, 255, 255, 128, 64, 32, 1, 2, 3};
    float out[12];

    (void)state;
    fz_image_normalise(rgb, 2, out);
    assert_float_equal(out[0], -0.485f / 0.229f, 1e-6f);
    assert_float_equal(out[1], -0.456f / 0.224f, 1e-6f);
    assert_float_equal(out[2], -0.406f / 0.225f, 1e-6f);
    assert_float_equal(out[3], (1.0f - 0.485f) / 0.229f, 1e-6f);
    assert_float_equal(out[6], (128.0f / 255.0f - 0.485f) / 0.229f, 1e-6f);
    assert_float_equal(out[11], (3.0f / 255.0f - 0.406f) / 0.225f, 1e-6f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_jpeg_comes_back_nearly_as_it_was),
        cmocka_unit_test(a_png_comes_back_exactly),
        cmocka_unit_test(other_modes_become_the_rgb_of_pillow),
        cmocka_unit_test(a_grey_jpeg_becomes_rgb),
        cmocka_unit_test(a_webp_is_decoded),
        cmocka_unit_test(a_truncated_jpeg_is_bad_wherever_it_ends),
        cmocka_unit_test(flipped_bytes_never_crash),
        cmocka_unit_test(what_is_no_image_is_named),
        cmocka_unit_test(a_decompression_bomb_takes_no_memory),
        cmocka_unit_test(normalising_uses_imagenets_numbers),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
