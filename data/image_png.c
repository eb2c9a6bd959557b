#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#if FZ_HAVE_PNG
#include <png.h>
#endif

#include "data/image.h"
#include "data/image_internal.h"

#if FZ_HAVE_PNG

typedef struct png_input {
    const uint8_t *bytes;
    size_t n, at;
    fz_buffer *pixels; /* borrowed */
    char error[128];
    int width, height;
} png_input;

static void on_error(png_structp png, png_const_charp text)
{
    char *out = png_get_error_ptr(png);
    snprintf(out, sizeof((png_input *)0)->error, "%s", text);
    longjmp(png_jmpbuf(png), 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void read_bytes(png_structp png, png_bytep out, size_t n)
{
    png_input *input = png_get_io_ptr(png);
    if (n > input->n - input->at) png_error(png, "truncated");
    memcpy(out, input->bytes + input->at, n);
    input->at += n;
}

/* Pillow's convert("RGB") cuts 16-bit grey at 255 where it takes the high byte of other kinds. What
 * the public models were given is what ours are given. */
static bool is_cut_grey(png_structp png, png_infop info)
{
    return png_get_bit_depth(png, info) == 16 &&
           png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY;
}

/* A row of 16-bit grey to RGB, in place: from the end, since it grows. */
static void cut_grey_to_rgb(uint8_t *row, int width)
{
    for (int x = width - 1; x >= 0; x--)
        memset(row + 3 * (size_t)x, row[2 * (size_t)x] != 0 ? 255 : row[2 * (size_t)x + 1], 3);
}

/* To 8-bit RGB without colour management; alpha is dropped, as Pillow's convert("RGB") does. */
static void ask_for_rgb(png_structp png, png_infop info)
{
    png_set_expand(png);
    png_set_strip_16(png);
    if ((png_get_color_type(png, info) & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
}

static fz_status decode(png_structp png, png_infop info, png_input *input)
{
    if (setjmp(png_jmpbuf(png)) != 0) return FZ_FAIL(FZ_ERR_FORMAT, "PNG: %s", input->error);
    png_set_read_fn(png, input, read_bytes);
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);
    png_read_info(png, info);
    input->width = (int)png_get_image_width(png, info);
    input->height = (int)png_get_image_height(png, info);
    FZ_TRY(fz_image_make_room("PNG", input->width, input->height, input->pixels));
    const bool is_cut = is_cut_grey(png, info);
    if (!is_cut) ask_for_rgb(png, info);
    const int n_passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    const size_t row_bytes = (size_t)input->width * 3;
    if (png_get_rowbytes(png, info) != (is_cut ? (size_t)input->width * 2 : row_bytes))
        png_error(png, "rows are not 8-bit RGB");
    for (int pass = 0; pass < n_passes; pass++)
        for (int y = 0; y < input->height; y++)
            png_read_row(png, (png_bytep)input->pixels->bytes + row_bytes * (size_t)y, NULL);
    png_read_end(png, NULL);
    for (int y = 0; is_cut && y < input->height; y++)
        cut_grey_to_rgb((uint8_t *)input->pixels->bytes + row_bytes * (size_t)y, input->width);
    return FZ_OK;
}

fz_status fz_image_decode_png(const void *bytes, size_t n, fz_buffer *pixels, int *width_p,
                              int *height_p)
{
    png_input input = {.bytes = bytes, .n = n, .pixels = pixels};
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, input.error, on_error, on_warning);
    png_infop info = png != NULL ? png_create_info_struct(png) : NULL;
    fz_status status = FZ_OK;

    if (info == NULL)
        status = FZ_FAIL(FZ_ERR_MEMORY, "PNG: libpng has no memory");
    else
        status = decode(png, info, &input);
    png_destroy_read_struct(&png, &info, NULL);
    if (status != FZ_OK) return status;
    *width_p = input.width;
    *height_p = input.height;
    return FZ_OK;
}

fz_status fz_image_write_png(const fz_image *image, const char *path)
{
    png_image png;

    memset(&png, 0, sizeof png);
    png.version = PNG_IMAGE_VERSION;
    png.width = (png_uint_32)image->width;
    png.height = (png_uint_32)image->height;
    png.format = PNG_FORMAT_RGB;
    if (png_image_write_to_file(&png, path, 0, image->rgb, 0, NULL) == 0) {
        const int code = errno;
        return FZ_FAIL(FZ_ERR_IO, "write %s: %s (%s)", path, png.message, strerror(code));
    }
    return FZ_OK;
}

#else

fz_status fz_image_decode_png(const void *bytes, size_t n, fz_buffer *pixels, int *width_p,
                              int *height_p)
{
    (void)bytes, (void)n, (void)pixels, (void)width_p, (void)height_p;
    return FZ_FAIL(FZ_ERR_FORMAT,
                   "PNG images are not built in; install libpng-dev and build again");
}

fz_status fz_image_write_png(const fz_image *image, const char *path)
{
    (void)image;
    return FZ_FAIL(FZ_ERR_FORMAT,
                   "write %s: PNG is not built in; install libpng-dev and build again", path);
}

#endif
