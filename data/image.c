#include "data/image.h"

#include <string.h>

#include "core/memory.h"
#include "data/image_internal.h"

fz_status fz_image_make_room(const char *format, int64_t width, int64_t height, fz_buffer *pixels)
{
    FZ_CHECK(width > 0 && height > 0, FZ_ERR_FORMAT, "%s of %lld x %lld pixels", format,
             (long long)width, (long long)height);
    FZ_CHECK(width <= FZ_IMAGE_SIDE_MAX && height <= FZ_IMAGE_SIDE_MAX, FZ_ERR_FORMAT,
             "%s of %lld x %lld pixels: a side is larger than %d", format, (long long)width,
             (long long)height, FZ_IMAGE_SIDE_MAX);
    FZ_CHECK(width * height <= FZ_IMAGE_PIXELS_MAX, FZ_ERR_FORMAT,
             "%s of %lld x %lld pixels: more than %lld in all", format, (long long)width,
             (long long)height, (long long)FZ_IMAGE_PIXELS_MAX);
    return fz_buffer_need(pixels, (size_t)(width * height * 3), "image pixels");
}

fz_status fz_image_decode_into(const void *bytes, size_t n, fz_buffer *pixels, int *width_p,
                               int *height_p)
{
    const uint8_t *head = bytes;

    FZ_CHECK(n > 0, FZ_ERR_FORMAT, "empty file");
    if (n >= 3 && memcmp(head, "\xff\xd8\xff", 3) == 0)
        return fz_image_decode_jpeg(bytes, n, pixels, width_p, height_p);
    if (n >= 8 && memcmp(head, "\x89PNG\r\n\x1a\n", 8) == 0)
        return fz_image_decode_png(bytes, n, pixels, width_p, height_p);
    if (n >= 12 && memcmp(head, "RIFF", 4) == 0 && memcmp(head + 8, "WEBP", 4) == 0)
        return fz_image_decode_webp(bytes, n, pixels, width_p, height_p);
    if (n < 12) return FZ_FAIL(FZ_ERR_FORMAT, "%zu bytes are too few for an image", n);
    return FZ_FAIL(FZ_ERR_FORMAT, "not a JPEG, PNG or WebP image (begins with %02x %02x %02x %02x)",
                   head[0], head[1], head[2], head[3]);
}

fz_status fz_image_decode(const void *bytes, size_t n, fz_image *image)
{
    fz_buffer pixels = {0};
    int width = 0, height = 0;
    const fz_status status = fz_image_decode_into(bytes, n, &pixels, &width, &height);

    if (status != FZ_OK) {
        fz_buffer_reset(&pixels);
        return status;
    }
    *image = (fz_image){.width = width, .height = height, .rgb = pixels.bytes};
    return FZ_OK;
}

void fz_image_reset(fz_image *image)
{
    fz_free(&image->rgb);
    *image = (fz_image){0};
}

void fz_image_normalise(const uint8_t *rgb, int side, float *out)
{
    static const float mean[3] = {0.485f, 0.456f, 0.406f};
    static const float std[3] = {0.229f, 0.224f, 0.225f};
    float table[256][3];
    const int64_t n = (int64_t)side * side;

    /* 768 values are computed instead of 3 side^2, and each pixel value always has the same bits.
     */
    for (int v = 0; v < 256; v++)
        for (int c = 0; c < 3; c++)
            table[v][c] = ((float)v / 255.0f - mean[c]) / std[c];
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            out[3 * i + c] = table[rgb[3 * i + c]][c];
}
