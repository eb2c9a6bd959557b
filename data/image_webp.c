#include <string.h>

#if FZ_HAVE_WEBP
#include <webp/decode.h>
#endif

#include "data/image_internal.h"

#if FZ_HAVE_WEBP

static const char *code_text(VP8StatusCode code)
{
    switch (code) {
    case VP8_STATUS_OUT_OF_MEMORY:
        return "out of memory";
    case VP8_STATUS_BITSTREAM_ERROR:
        return "corrupt data";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return "unsupported feature";
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return "truncated";
    default:
        return "cannot be decoded";
    }
}

fz_status fz_image_decode_webp(const void *bytes, size_t n, fz_buffer *pixels, int *width_p,
                               int *height_p)
{
    WebPDecoderConfig config;

    if (WebPInitDecoderConfig(&config) == 0)
        return FZ_FAIL(FZ_ERR_FORMAT, "WebP: library and header are of different versions");
    VP8StatusCode code = WebPGetFeatures(bytes, n, &config.input);
    FZ_CHECK(code == VP8_STATUS_OK, FZ_ERR_FORMAT, "WebP: %s", code_text(code));
    FZ_CHECK(config.input.has_animation == 0, FZ_ERR_FORMAT, "WebP: an animation, not an image");
    FZ_TRY(fz_image_make_room("WebP", config.input.width, config.input.height, pixels));
    config.output.colorspace = MODE_RGB; /* drops alpha, as Pillow's convert("RGB") does */
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = pixels->bytes;
    config.output.u.RGBA.stride = config.input.width * 3;
    config.output.u.RGBA.size = (size_t)config.input.width * (size_t)config.input.height * 3;
    code = WebPDecode(bytes, n, &config);
    WebPFreeDecBuffer(&config.output);
    FZ_CHECK(code == VP8_STATUS_OK, FZ_ERR_FORMAT, "WebP: %s", code_text(code));
    *width_p = config.input.width;
    *height_p = config.input.height;
    return FZ_OK;
}

#else

fz_status fz_image_decode_webp(const void *bytes, size_t n, fz_buffer *pixels, int *width_p,
                               int *height_p)
{
    (void)bytes, (void)n, (void)pixels, (void)width_p, (void)height_p;
    return FZ_FAIL(FZ_ERR_FORMAT,
                   "WebP images are not built in; install libwebp-dev and build again");
}

#endif
