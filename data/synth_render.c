#include "data/synth_render.h"

#include <math.h>
#include <stdbool.h>

#include "core/rng.h"

enum { SAMPLES = 4, PIXEL_NOISE = 6 };

/* Shapes live in a square of half side 1, y down. A polygon's points go round once. */
typedef struct polygon {
    int n;
    float point[12][2];
} polygon;

static const polygon TRIANGLE = {3, {{0.0F, -1.0F}, {1.0F, 0.8F}, {-1.0F, 0.8F}}};
static const polygon ARROW = {7,
                              {{-1.0F, -0.3F},
                               {0.1F, -0.3F},
                               {0.1F, -0.8F},
                               {1.0F, 0.0F},
                               {0.1F, 0.8F},
                               {0.1F, 0.3F},
                               {-1.0F, 0.3F}}};
/* Five points on the circle of radius 1.05, five on that of 0.45, from the top, 36 degrees apart.
 */
static const polygon STAR = {10,
                             {{0.0F, -1.05F},
                              {0.2645F, -0.3641F},
                              {0.9986F, -0.3245F},
                              {0.428F, 0.1391F},
                              {0.6172F, 0.8495F},
                              {0.0F, 0.45F},
                              {-0.6172F, 0.8495F},
                              {-0.428F, 0.1391F},
                              {-0.9986F, -0.3245F},
                              {-0.2645F, -0.3641F}}};

static bool inside_polygon(const polygon *shape, float u, float v)
{
    bool inside = false;

    for (int i = 0, j = shape->n - 1; i < shape->n; j = i++) {
        const float *p = shape->point[i], *q = shape->point[j];

        if ((p[1] > v) != (q[1] > v) && u < (q[0] - p[0]) * (v - p[1]) / (q[1] - p[1]) + p[0])
            inside = !inside;
    }
    return inside;
}

static bool inside_heart(float u, float v)
{
    /* (x^2 + y^2 - 1)^3 < x^2 y^3, whose extent is about 1.2 each way. */
    const float x = 1.16F * u, y = 0.12F - 1.16F * v;
    const float a = x * x + y * y - 1.0F;

    return a * a * a < x * x * y * y * y;
}

static bool inside(int shape, float u, float v)
{
    const float r2 = u * u + v * v, au = fabsf(u), av = fabsf(v);

    switch (shape) {
    case FZ_CIRCLE:
        return r2 < 1.0F;
    case FZ_SQUARE:
        return au < 0.86F && av < 0.86F;
    case FZ_TRIANGLE:
        return inside_polygon(&TRIANGLE, u, v);
    case FZ_STAR:
        return inside_polygon(&STAR, u, v);
    case FZ_CROSS:
        return (au < 0.33F && av < 1.0F) || (av < 0.33F && au < 1.0F);
    case FZ_HEART:
        return inside_heart(u, v);
    case FZ_RING:
        return r2 < 1.0F && r2 > 0.3F;
    case FZ_DIAMOND:
        return au / 0.7F + av / 1.1F < 1.0F;
    case FZ_ARROW:
        return inside_polygon(&ARROW, u, v);
    case FZ_CRESCENT:
        return r2 < 1.0F && (u - 0.5F) * (u - 0.5F) + v * v > 0.72F;
    default:
        return false;
    }
}

static uint8_t clamp_byte(float v)
{
    return (uint8_t)(v < 0.0F ? 0.0F : v > 255.0F ? 255.0F : v + 0.5F);
}

/* -1..1: how much darker or lighter than the background's colour this pixel is. */
static float shade(const fz_scene *scene, float x, float y, uint64_t key)
{
    const float angle = (float)(key & 1023U) * (6.2831853F / 1024.0F);
    const float cells = 5.0F + (float)((key >> 10) & 3U);
    const float along = x * cosf(angle) + y * sinf(angle);

    switch (scene->background) {
    case FZ_GRADIENT:
        return 1.6F * along;
    case FZ_STRIPES:
        return fmodf(fabsf(along + 4.0F) * cells, 1.0F) < 0.5F ? -1.0F : 1.0F;
    case FZ_CHECKS:
        return ((int)((x + 0.5F) * cells) + (int)((y + 0.5F) * cells)) % 2 == 0 ? -1.0F : 1.0F;
    case FZ_NOISE: {
        const uint64_t cell = (uint64_t)((x + 0.5F) * 24.0F) * 64U + (uint64_t)((y + 0.5F) * 24.0F);
        return (float)(fz_mix64(key + cell) >> 40) * (2.0F / 16777216.0F) - 1.0F;
    }
    default:
        return 0.0F;
    }
}

static void paint_background(const fz_scene *scene, int side, uint8_t *rgb)
{
    const uint64_t key = fz_mix64(scene->noise_key);
    const float step = 1.0F / (float)side;

    for (int row = 0; row < side; row++)
        for (int column = 0; column < side; column++) {
            const float x = ((float)column + 0.5F) * step - 0.5F;
            const float y = ((float)row + 0.5F) * step - 0.5F;
            /* Enough to see stripes on black and on white alike, too little to change the name. */
            const float lift = 26.0F * shade(scene, x, y, key);
            uint8_t *pixel = rgb + 3 * ((long)row * side + column);

            for (int i = 0; i < 3; i++)
                pixel[i] = clamp_byte((float)scene->background_rgb[i] + lift);
        }
}

static float coverage(int shape, float u, float v, float u_step, float v_step)
{
    int hits = 0;

    /* u_step, v_step: a pixel's width along the object's own axes (they are turned by its tilt) */
    for (int i = 0; i < SAMPLES; i++)
        for (int j = 0; j < SAMPLES; j++) {
            const float a = ((float)i + 0.5F) / SAMPLES - 0.5F;
            const float b = ((float)j + 0.5F) / SAMPLES - 0.5F;
            hits += inside(shape, u + a * u_step - b * v_step, v + a * v_step + b * u_step);
        }
    return (float)hits / (float)(SAMPLES * SAMPLES);
}

static void paint_object(const fz_object *object, int shape, int side, uint8_t *rgb)
{
    const float cx = object->x * (float)side, cy = object->y * (float)side;
    const float r = object->radius * (float)side;
    const float c = cosf(object->tilt) / r, s = sinf(object->tilt) / r;
    const int reach = (int)(1.5F * r) + 1;
    const int x0 = (int)cx - reach, y0 = (int)cy - reach;

    for (int row = y0 < 0 ? 0 : y0; row <= (int)cy + reach && row < side; row++)
        for (int column = x0 < 0 ? 0 : x0; column <= (int)cx + reach && column < side; column++) {
            const float dx = (float)column + 0.5F - cx, dy = (float)row + 0.5F - cy;
            const float share = coverage(shape, dx * c - dy * s, dx * s + dy * c, c, s);
            uint8_t *pixel = rgb + 3 * ((long)row * side + column);

            if (share == 0.0F) continue;
            for (int i = 0; i < 3; i++)
                pixel[i] =
                    clamp_byte((float)pixel[i] + share * ((float)object->rgb[i] - (float)pixel[i]));
        }
}

static void add_noise(uint64_t key, int side, uint8_t *rgb)
{
    const long n = (long)side * side;

    for (long i = 0; i < n; i++) {
        const uint64_t bits = fz_mix64(key + (uint64_t)i);

        for (int j = 0; j < 3; j++) {
            const int lift = (int)((bits >> (16 * j)) % (2 * PIXEL_NOISE + 1)) - PIXEL_NOISE;
            const int v = rgb[3 * i + j] + lift;
            rgb[3 * i + j] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
        }
    }
}

void fz_scene_render(const fz_scene *scene, int side, uint8_t *rgb)
{
    paint_background(scene, side, rgb);
    for (int i = 0; i < scene->n_objects; i++)
        paint_object(&scene->object[i], scene->entity[scene->object[i].entity].shape, side, rgb);
    add_noise(scene->noise_key, side, rgb);
}
