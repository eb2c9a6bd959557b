#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "core/memory.h"
#include "data/image.h"
#include "data/image_internal.h"

/* libjpeg reports through callbacks that may not return. */
typedef struct jpeg_errors {
    struct jpeg_error_mgr manager; /* first: libjpeg hands it back */
    jmp_buf jump;
    char text[JMSG_LENGTH_MAX];
} jpeg_errors;

static void on_error(j_common_ptr info)
{
    jpeg_errors *errors = (jpeg_errors *)(void *)info->err;
    info->err->format_message(info, errors->text);
    longjmp(errors->jump, 1);
}

/* A warning means that libjpeg went on with data it made up (truncated or corrupt entropy codes),
 * so the sample is bad; but for those about headers that change no pixel. */
static void on_message(j_common_ptr info, int level)
{
    if (level >= 0) return;
    if (info->err->msg_code == JWRN_ADOBE_XFORM || info->err->msg_code == JWRN_JFIF_MAJOR) return;
    on_error(info);
}

static void set_errors(jpeg_errors *errors, struct jpeg_error_mgr **manager_p)
{
    *manager_p = jpeg_std_error(&errors->manager);
    errors->manager.error_exit = on_error;
    errors->manager.emit_message = on_message;
}

/* a*b/255 rounded, as Pillow does it. */
static int mul_255(int a, int b)
{
    const int t = a * b + 128;
    return ((t >> 8) + t) >> 8;
}

/* Adobe's inverted CMYK to RGB as Pillow converts it: pixels (n, 4) to (n, 3), in place. */
static void cmyk_to_rgb(uint8_t *pixels, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *cmyk = pixels + 4 * i;
        const int k = cmyk[3];
        uint8_t rgb[3];
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)(k - mul_255(255 - cmyk[c], k));
        memcpy(pixels + 3 * i, rgb, 3);
    }
}

static fz_status make_room(const struct jpeg_decompress_struct *info, fz_buffer *pixels)
{
    FZ_TRY(fz_image_make_room("JPEG", info->image_width, info->image_height, pixels));
    return fz_buffer_need(pixels,
                          (size_t)info->image_width * info->image_height *
                              (info->num_components == 4 ? 4 : 3),
                          "image pixels");
}

/* Every local that lives across a longjmp belongs to the caller. */
static fz_status decode(struct jpeg_decompress_struct *info, jpeg_errors *errors, const void *bytes,
                        size_t n, fz_buffer *pixels)
{
    if (setjmp(errors->jump) != 0) return FZ_FAIL(FZ_ERR_FORMAT, "JPEG: %s", errors->text);
    jpeg_create_decompress(info);
    jpeg_mem_src(info, bytes, (unsigned long)n);
    jpeg_read_header(info, TRUE);
    FZ_TRY(make_room(info, pixels));
    info->out_color_space = info->num_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(info);
    const size_t row_bytes = (size_t)info->output_width * (size_t)info->output_components;
    while (info->output_scanline < info->output_height) {
        JSAMPROW row = (JSAMPROW)pixels->bytes + row_bytes * info->output_scanline;
        jpeg_read_scanlines(info, &row, 1);
    }
    jpeg_finish_decompress(info);
    return FZ_OK;
}

fz_status fz_image_decode_jpeg(const void *bytes, size_t n, fz_buffer *pixels, int *width_p,
                               int *height_p)
{
    struct jpeg_decompress_struct info;
    jpeg_errors errors;

    memset(&info, 0, sizeof info);
    set_errors(&errors, &info.err);
    const fz_status status = decode(&info, &errors, bytes, n, pixels);
    if (status == FZ_OK) {
        if (info.num_components == 4)
            cmyk_to_rgb(pixels->bytes, (int64_t)info.output_width * info.output_height);
        *width_p = (int)info.output_width;
        *height_p = (int)info.output_height;
    }
    jpeg_destroy_decompress(&info);
    return status;
}

/* ---- encode ---- */

typedef struct jpeg_output {
    unsigned char *bytes; /* libjpeg's, free() */
    unsigned long n;
} jpeg_output;

static fz_status encode(struct jpeg_compress_struct *info, jpeg_errors *errors,
                        const fz_image *image, int quality, jpeg_output *output)
{
    if (setjmp(errors->jump) != 0) return FZ_FAIL(FZ_ERR_ARG, "write JPEG: %s", errors->text);
    jpeg_create_compress(info);
    jpeg_mem_dest(info, &output->bytes, &output->n);
    info->image_width = (JDIMENSION)image->width;
    info->image_height = (JDIMENSION)image->height;
    info->input_components = 3;
    info->in_color_space = JCS_RGB;
    jpeg_set_defaults(info);
    jpeg_set_quality(info, quality, TRUE);
    jpeg_start_compress(info, TRUE);
    while (info->next_scanline < info->image_height) {
        JSAMPROW row = image->rgb + (size_t)info->next_scanline * (size_t)image->width * 3;
        jpeg_write_scanlines(info, &row, 1);
    }
    jpeg_finish_compress(info);
    return FZ_OK;
}

fz_status fz_image_encode_jpeg(const fz_image *image, int quality, void **bytes_p, size_t *n_p)
{
    struct jpeg_compress_struct info;
    jpeg_errors errors;
    jpeg_output output = {0};
    void *copy = NULL;

    FZ_CHECK(quality >= 1 && quality <= 100, FZ_ERR_ARG, "JPEG quality %d is not in 1..100",
             quality);
    memset(&info, 0, sizeof info);
    set_errors(&errors, &info.err);
    fz_status status = encode(&info, &errors, image, quality, &output);
    jpeg_destroy_compress(&info);
    if (status == FZ_OK) status = fz_alloc(&copy, output.n, "a JPEG");
    if (status == FZ_OK) {
        memcpy(copy, output.bytes, output.n);
        *bytes_p = copy;
        *n_p = output.n;
    }
    free(output.bytes);
    return status;
}
