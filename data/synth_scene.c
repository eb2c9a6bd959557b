#include "data/synth_scene.h"

#include <stdbool.h>

#include "core/assert.h"
#include "core/rng.h"

/* What a size means, as a share of the picture's side. Four big ones would not fit side by side. */
static const float RADIUS[FZ_N_OBJECT_SIZES] = {[FZ_SMALL] = 0.075F, [FZ_BIG] = 0.13F};
static const float RADIUS_SPREAD[FZ_N_OBJECT_SIZES] = {[FZ_SMALL] = 0.008F, [FZ_BIG] = 0.01F};
static const float STEP[FZ_N_OBJECT_SIZES] = {[FZ_SMALL] = 0.2F, [FZ_BIG] = 0.3F};

static const uint8_t PALETTE[FZ_N_COLOURS][3] = {
    [FZ_RED] = {214, 39, 40},     [FZ_BLUE] = {38, 84, 204},    [FZ_GREEN] = {44, 150, 60},
    [FZ_YELLOW] = {245, 213, 40}, [FZ_BLACK] = {20, 20, 24},    [FZ_WHITE] = {248, 248, 248},
    [FZ_ORANGE] = {250, 133, 20}, [FZ_PURPLE] = {130, 50, 168}, [FZ_BROWN] = {121, 72, 34},
    [FZ_GREY] = {128, 128, 132},  [FZ_PINK] = {245, 140, 185},
};

enum { COLOUR_JITTER = 12, LEAST_CONTRAST = 160 };

fz_draws fz_draws_init(uint64_t seed, fz_split split, uint64_t n, uint32_t stream)
{
    fz_draws draws = {.n = n, .stream = stream};

    fz_rng_key(draws.key, seed, split == FZ_SPLIT_TRAIN ? 0x73796e01U : 0x73796e02U);
    return draws;
}

uint32_t fz_draws_bits(fz_draws *draws)
{
    if (draws->left == 0) {
        const fz_philox counter = {
            {(uint32_t)draws->n, (uint32_t)(draws->n >> 32), draws->stream, draws->block++}};
        const fz_philox out = fz_philox4x32(counter, draws->key[0], draws->key[1]);

        for (int i = 0; i < 4; i++)
            draws->v[i] = out.v[i];
        draws->left = 4;
    }
    return draws->v[4 - draws->left--];
}

int fz_draws_below(fz_draws *draws, int n)
{
    FZ_ASSERT(n > 0);
    return (int)fz_rng_below(fz_draws_bits(draws), (uint32_t)n);
}

float fz_draws_between(fz_draws *draws, float low, float high)
{
    return low + (high - low) * fz_rng_unit(fz_draws_bits(draws));
}

static float jitter(fz_draws *draws, float reach)
{
    return fz_draws_between(draws, -reach, reach);
}

/* Index drawn by weight. */
static int pick(fz_draws *draws, const int *weights, int n)
{
    int total = 0;

    for (int i = 0; i < n; i++)
        total += weights[i];
    int left = fz_draws_below(draws, total);
    for (int i = 0; i < n; i++) {
        if (left < weights[i]) return i;
        left -= weights[i];
    }
    return n - 1;
}

static int contrast(int a, int b)
{
    int sum = 0;

    for (int i = 0; i < 3; i++) {
        const int d = PALETTE[a][i] - PALETTE[b][i];
        sum += d < 0 ? -d : d;
    }
    return sum;
}

static void draw_rgb(fz_draws *draws, int colour, uint8_t rgb[3])
{
    for (int i = 0; i < 3; i++) {
        int v = PALETTE[colour][i] + fz_draws_below(draws, 2 * COLOUR_JITTER + 1) - COLOUR_JITTER;
        v = v < 0 ? 0 : v;
        rgb[i] = (uint8_t)(v > 255 ? 255 : v);
    }
}

/* Entities of one picture differ in shape and in colour, so that each can be named without size. */
static void draw_entities(fz_draws *draws, fz_scene *scene)
{
    for (int i = 0; i < scene->n_entities; i++) {
        fz_entity *entity = &scene->entity[i];
        bool taken = true;

        while (taken) {
            entity->shape = fz_draws_below(draws, FZ_N_SHAPES);
            entity->colour = fz_draws_below(draws, FZ_N_COLOURS);
            taken = false;
            for (int j = 0; j < i; j++)
                taken |= scene->entity[j].shape == entity->shape ||
                         scene->entity[j].colour == entity->colour;
        }
        entity->size = fz_draws_below(draws, FZ_N_OBJECT_SIZES);
        entity->count = 1;
    }
}

static void draw_counts(fz_draws *draws, fz_scene *scene)
{
    static const int alone[] = {6, 3, 2, 1}, first[] = {7, 2, 1}, second[] = {4, 1};
    fz_entity *e = scene->entity;

    if (scene->kind == FZ_SCENE_ONE) {
        e[0].count = 1 + pick(draws, alone, e[0].size == FZ_BIG ? 3 : 4);
    } else if (scene->kind == FZ_SCENE_PAIR ||
               (scene->kind == FZ_SCENE_RELATED && scene->relation != FZ_NEXT_TO)) {
        e[0].count = 1 + pick(draws, first, 3);
        if (e[0].count < 3) e[1].count = 1 + pick(draws, second, 2);
    } else if (scene->kind == FZ_SCENE_TRIPLE) {
        e[fz_draws_below(draws, 3)].count = 1 + pick(draws, second, 2);
    }
}

static void draw_background(fz_draws *draws, fz_scene *scene)
{
    static const int weights[FZ_N_BACKGROUNDS] = {3, 2, 2, 2, 2};
    bool clear = false;

    scene->background = pick(draws, weights, FZ_N_BACKGROUNDS);
    while (!clear) {
        scene->background_colour = fz_draws_below(draws, FZ_N_COLOURS);
        clear = true;
        for (int i = 0; i < scene->n_entities; i++)
            clear &= contrast(scene->background_colour, scene->entity[i].colour) >= LEAST_CONTRAST;
    }
    draw_rgb(draws, scene->background_colour, scene->background_rgb);
}

/* along and across are x and y, or y and x where the picture is turned. */
static void place(fz_draws *draws, fz_scene *scene, int entity, float along, float across,
                  bool turned)
{
    FZ_ASSERT(scene->n_objects < FZ_MAX_OBJECTS);
    fz_object *object = &scene->object[scene->n_objects++];
    const int size = scene->entity[entity].size;

    object->entity = entity;
    object->x = turned ? across : along;
    object->y = turned ? along : across;
    object->radius = RADIUS[size] + jitter(draws, RADIUS_SPREAD[size]);
    object->tilt = jitter(draws, 0.2F);
    draw_rgb(draws, scene->entity[entity].colour, object->rgb);
}

/* A group side by side across the axis that its place is given on. */
static void place_group(fz_draws *draws, fz_scene *scene, int entity, float along, float centre,
                        bool turned)
{
    const int count = scene->entity[entity].count;
    const float step = STEP[scene->entity[entity].size];

    for (int i = 0; i < count; i++)
        place(draws, scene, entity, along, centre + ((float)i - 0.5F * (float)(count - 1)) * step,
              turned);
}

static void lay_out_one(fz_draws *draws, fz_scene *scene)
{
    if (scene->entity[0].count == 1) {
        scene->position = fz_draws_below(draws, FZ_ROW);
        const float x = 0.2F + 0.3F * (float)(scene->position % 3) + jitter(draws, 0.04F);
        const float y = 0.2F + 0.3F * (float)(scene->position / 3) + jitter(draws, 0.04F);
        place(draws, scene, 0, x, y, false);
        return;
    }
    scene->position = fz_draws_below(draws, 2) == 0 ? FZ_ROW : FZ_COLUMN;
    const float along = 0.5F + jitter(draws, 0.2F);
    place_group(draws, scene, 0, along, 0.5F + jitter(draws, 0.04F), scene->position == FZ_ROW);
}

static void lay_out_related(fz_draws *draws, fz_scene *scene)
{
    const bool turned = scene->relation == FZ_ABOVE || scene->relation == FZ_BELOW;

    if (scene->relation == FZ_NEXT_TO) {
        /* Touching, nearly, and on either side: what sets "next to" apart from "left of". */
        const float reach =
            0.6F * (RADIUS[scene->entity[0].size] + RADIUS[scene->entity[1].size]) + 0.02F;
        const float side = fz_draws_below(draws, 2) == 0 ? reach : -reach;
        const float centre = 0.5F + jitter(draws, 0.12F), across = 0.5F + jitter(draws, 0.2F);
        place(draws, scene, 0, centre + side, across, false);
        place(draws, scene, 1, centre - side, across + jitter(draws, 0.02F), false);
        return;
    }
    const bool before = scene->relation == FZ_LEFT_OF || scene->relation == FZ_ABOVE;
    const float near = 0.24F + jitter(draws, 0.05F), far = 0.76F + jitter(draws, 0.05F);
    for (int i = 0; i < 2; i++) {
        const float reach = scene->entity[i].count == 3 ? 0.03F : 0.1F;
        place_group(draws, scene, i, (i == 0) == before ? near : far, 0.5F + jitter(draws, reach),
                    turned);
    }
}

static void lay_out_between(fz_draws *draws, fz_scene *scene)
{
    const bool turned = fz_draws_below(draws, 2) != 0;
    const bool swapped = fz_draws_below(draws, 2) != 0;
    const float across = 0.5F + jitter(draws, 0.2F);

    for (int i = 0; i < 3; i++) {
        static const float spot[3] = {0.5F, 0.17F, 0.83F};
        const float along = swapped ? 1.0F - spot[i] : spot[i];
        place(draws, scene, i, along + jitter(draws, 0.02F), across + jitter(draws, 0.04F), turned);
    }
}

/* One object a quarter, the quarters shuffled. */
static void lay_out_scattered(fz_draws *draws, fz_scene *scene)
{
    int quarter[4] = {0, 1, 2, 3}, next = 0;

    for (int i = 3; i > 0; i--) {
        const int j = fz_draws_below(draws, i + 1), keep = quarter[i];
        quarter[i] = quarter[j];
        quarter[j] = keep;
    }
    for (int e = 0; e < scene->n_entities; e++)
        for (int i = 0; i < scene->entity[e].count; i++, next++) {
            const float x = 0.26F + 0.48F * (float)(quarter[next] % 2) + jitter(draws, 0.08F);
            const float y = 0.26F + 0.48F * (float)(quarter[next] / 2) + jitter(draws, 0.08F);
            place(draws, scene, e, x, y, false);
        }
}

fz_scene fz_scene_draw(uint64_t seed, fz_split split, uint64_t n)
{
    static const int kinds[FZ_N_SCENE_KINDS] = {30, 15, 35, 12, 8};
    static const int n_entities[FZ_N_SCENE_KINDS] = {1, 2, 2, 3, 3};
    fz_draws draws = fz_draws_init(seed, split, n, 0);
    fz_scene scene = {.kind = FZ_SCENE_ONE};

    scene.kind = (fz_scene_kind)pick(&draws, kinds, FZ_N_SCENE_KINDS);
    scene.n_entities = n_entities[scene.kind];
    if (scene.kind == FZ_SCENE_RELATED) scene.relation = fz_draws_below(&draws, FZ_N_RELATIONS);
    draw_entities(&draws, &scene);
    draw_counts(&draws, &scene);
    draw_background(&draws, &scene);
    switch (scene.kind) {
    case FZ_SCENE_ONE:
        lay_out_one(&draws, &scene);
        break;
    case FZ_SCENE_RELATED:
        lay_out_related(&draws, &scene);
        break;
    case FZ_SCENE_BETWEEN:
        lay_out_between(&draws, &scene);
        break;
    default:
        lay_out_scattered(&draws, &scene);
        break;
    }
    scene.noise_key = ((uint64_t)fz_draws_bits(&draws) << 32) | fz_draws_bits(&draws);
    return scene;
}
