/* Between the image files of data/ only. Local. */
#ifndef FZ_DATA_IMAGE_INTERNAL_H
#define FZ_DATA_IMAGE_INTERNAL_H

#include "data/buffer.h"

/* A side or a number of pixels that no training image has: a decompression bomb. */
enum { FZ_IMAGE_SIDE_MAX = 65500 };
#define FZ_IMAGE_PIXELS_MAX (INT64_C(1) << 27)

/* Decode into the start of pixels, (height, width, 3), which grows if it is too small. */
fz_status fz_image_decode_into(const void *bytes, size_t n, fz_buffer *pixels, int *width_p,
                               int *height_p);
/* FZ_ERR_FORMAT: sides or pixels beyond the limits above, or zero; else room in pixels. */
fz_status fz_image_make_room(const char *format, int64_t width, int64_t height, fz_buffer *pixels);

fz_status fz_image_decode_jpeg(const void *bytes, size_t n, fz_buffer *pixels, int *width_p,
                               int *height_p);
fz_status fz_image_decode_png(const void *bytes, size_t n, fz_buffer *pixels, int *width_p,
                              int *height_p);
fz_status fz_image_decode_webp(const void *bytes, size_t n, fz_buffer *pixels, int *width_p,
                               int *height_p);

/* fz_image_resize in scratch; fz_image_resize_bytes says how much of it is taken. */
fz_status fz_image_resize_into(const uint8_t *rgb, int width, int height, int side,
                               fz_buffer *scratch, uint8_t *out);
size_t fz_image_resize_bytes(int width, int height, int side);

#endif
