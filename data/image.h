/* Images: decode (JPEG always; PNG, WebP where built in) to RGB, and Pillow's bicubic. Local. */
#ifndef FZ_DATA_IMAGE_H
#define FZ_DATA_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct fz_image {
    int width, height;
    uint8_t *rgb; /* owned (height, width, 3) */
} fz_image;

/* Format by magic bytes. FZ_ERR_FORMAT: not an image, truncated (a JPEG that libjpeg had to make up
 * data for is bad), format not built in (names the package). */
fz_status fz_image_decode(const void *bytes, size_t n, fz_image *image);
void fz_image_reset(fz_image *image);
/* JPEG of quality 1..100; memory is the caller's (fz_free). */
fz_status fz_image_encode_jpeg(const fz_image *image, int quality, void **bytes_p, size_t *n_p);
fz_status fz_image_write_png(const fz_image *image, const char *path);

/* Pillow's Image.resize((side, side), BICUBIC), bit for bit: a = -0.5, support 2*max(1, scale),
 * 22-bit fixed-point weights, horizontal then vertical with 8-bit rounding between (Pillow up to
 * 12.1; later ones swap the passes for some upright shapes). out (side, side, 3). */
fz_status fz_image_resize(const fz_image *image, int side, uint8_t *out);
/* (x/255 - mean) / std with ImageNet's numbers, channels last: out (side, side, 3) floats. */
void fz_image_normalise(const uint8_t *rgb, int side, float *out);

#endif
