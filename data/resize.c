/* Pillow's Image.resize(size, BICUBIC) on 8-bit channels: what its resampling computes, in its
 * order of roundings. */
#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "core/assert.h"
#include "data/image.h"
#include "data/image_internal.h"

enum { PRECISION_BITS = 32 - 8 - 2 }; /* 8 bits of the result, 2 for sums that overshoot */

/* Weights of one direction: output i reads inputs first[i] .. first[i] + n[i]. */
typedef struct axis {
    int n_in, n_out, stride;
    double scale, support;
    int32_t *first, *n; /* (n_out) */
    int32_t *weights;   /* (n_out, stride), fixed point */
    double *exact;      /* (stride) */
} axis;

/* Keys 1981 with a = -0.5 */
static double bicubic(double x)
{
    const double a = -0.5;
    if (x < 0.0) x = -x;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static axis axis_of(int n_in, int n_out)
{
    axis ax = {.n_in = n_in, .n_out = n_out};
    ax.scale = (double)n_in / n_out;
    ax.support = 2.0 * (ax.scale < 1.0 ? 1.0 : ax.scale); /* shrinking widens the filter */
    ax.stride = (int)ceil(ax.support) * 2 + 1;
    return ax;
}

static void axis_take(axis *ax, fz_arena *arena)
{
    ax->first = fz_arena_ints(arena, ax->n_out);
    ax->n = fz_arena_ints(arena, ax->n_out);
    ax->weights = fz_arena_ints(arena, (int64_t)ax->n_out * ax->stride);
    ax->exact = fz_arena_take(arena, (size_t)ax->stride * sizeof(double));
}

static void axis_fill(axis *ax)
{
    const double inverse = 1.0 / (ax->scale < 1.0 ? 1.0 : ax->scale);

    for (int i = 0; i < ax->n_out; i++) {
        const double center = (i + 0.5) * ax->scale;
        int first = (int)(center - ax->support + 0.5);
        int end = (int)(center + ax->support + 0.5);
        double sum = 0.0;
        if (first < 0) first = 0;
        if (end > ax->n_in) end = ax->n_in;
        for (int k = 0; k < end - first; k++) {
            ax->exact[k] = bicubic((k + first - center + 0.5) * inverse);
            sum += ax->exact[k];
        }
        for (int k = 0; k < end - first; k++) {
            const double w =
                (sum != 0.0 ? ax->exact[k] / sum : ax->exact[k]) * (1 << PRECISION_BITS);
            ax->weights[(int64_t)i * ax->stride + k] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        ax->first[i] = first;
        ax->n[i] = end - first;
    }
}

static uint8_t clip8(int32_t sum)
{
    const int32_t v = sum >> PRECISION_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void resize_rows(uint8_t *out, const uint8_t *in, const axis *ax, int n_rows)
{
    for (int y = 0; y < n_rows; y++) {
        const uint8_t *row = in + (size_t)y * (size_t)ax->n_in * 3;
        for (int i = 0; i < ax->n_out; i++, out += 3) {
            const int32_t *w = ax->weights + (int64_t)i * ax->stride;
            const uint8_t *pixel = row + (size_t)ax->first[i] * 3;
            int32_t r = 1 << (PRECISION_BITS - 1), g = r, b = r;
            for (int k = 0; k < ax->n[i]; k++) {
                r += pixel[3 * k] * w[k];
                g += pixel[3 * k + 1] * w[k];
                b += pixel[3 * k + 2] * w[k];
            }
            out[0] = clip8(r);
            out[1] = clip8(g);
            out[2] = clip8(b);
        }
    }
}

static void resize_columns(uint8_t *out, const uint8_t *in, const axis *ax, int row_bytes,
                           int32_t *sums)
{
    for (int i = 0; i < ax->n_out; i++, out += row_bytes) {
        const int32_t *w = ax->weights + (int64_t)i * ax->stride;
        for (int x = 0; x < row_bytes; x++)
            sums[x] = 1 << (PRECISION_BITS - 1);
        for (int k = 0; k < ax->n[i]; k++) {
            const uint8_t *row = in + (size_t)(ax->first[i] + k) * (size_t)row_bytes;
            for (int x = 0; x < row_bytes; x++)
                sums[x] += row[x] * w[k];
        }
        for (int x = 0; x < row_bytes; x++)
            out[x] = clip8(sums[x]);
    }
}

typedef struct plan {
    axis across, down;
    uint8_t *middle; /* (height, side, 3) */
    int32_t *sums;   /* (side, 3) */
} plan;

static void plan_take(plan *p, fz_arena *arena)
{
    axis_take(&p->across, arena);
    axis_take(&p->down, arena);
    p->middle = fz_arena_take(arena, (size_t)p->down.n_in * (size_t)p->across.n_out * 3);
    p->sums = fz_arena_ints(arena, (int64_t)p->across.n_out * 3);
}

size_t fz_image_resize_bytes(int width, int height, int side)
{
    plan p = {.across = axis_of(width, side), .down = axis_of(height, side)};
    fz_arena arena = fz_arena_counting();

    plan_take(&p, &arena);
    return arena.used;
}

fz_status fz_image_resize_into(const uint8_t *rgb, int width, int height, int side,
                               fz_buffer *scratch, uint8_t *out)
{
    plan p = {.across = axis_of(width, side), .down = axis_of(height, side)};
    const uint8_t *from = rgb;

    FZ_TRY(fz_buffer_need(scratch, fz_image_resize_bytes(width, height, side), "a resize"));
    fz_arena arena = fz_arena_over(scratch->bytes, scratch->size);
    plan_take(&p, &arena);
    /* A direction that keeps its size is not touched: its weights would be exactly 1. */
    if (width != side) {
        axis_fill(&p.across);
        resize_rows(height != side ? p.middle : out, from, &p.across, height);
        from = p.middle;
    }
    if (height != side) {
        axis_fill(&p.down);
        resize_columns(out, from, &p.down, side * 3, p.sums);
    }
    if (width == side && height == side) memcpy(out, rgb, (size_t)side * (size_t)side * 3);
    return FZ_OK;
}

fz_status fz_image_resize(const fz_image *image, int side, uint8_t *out)
{
    fz_buffer scratch = {0};

    FZ_ASSERT(side > 0);
    const fz_status status =
        fz_image_resize_into(image->rgb, image->width, image->height, side, &scratch, out);
    fz_buffer_reset(&scratch);
    return status;
}
