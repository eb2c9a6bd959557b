/* Scenes of `florenz data synth`: what is in a picture, before anybody draws or describes it.
 * Local.
 *
 * A scene has one to three entities ("two small red circles"), at most four objects in all, a
 * background, and one fact about where things are. It is a pure function of (seed, split, n).
 */
#ifndef FZ_DATA_SYNTH_SCENE_H
#define FZ_DATA_SYNTH_SCENE_H

#include <stdint.h>

/* Order matters: the word tables of every language (synth_en.c, ...) follow it. */
typedef enum fz_shape {
    FZ_CIRCLE,
    FZ_SQUARE,
    FZ_TRIANGLE,
    FZ_STAR,
    FZ_CROSS,
    FZ_HEART,
    FZ_RING,
    FZ_DIAMOND,
    FZ_ARROW,
    FZ_CRESCENT,
    FZ_N_SHAPES
} fz_shape;

typedef enum fz_colour {
    FZ_RED,
    FZ_BLUE,
    FZ_GREEN,
    FZ_YELLOW,
    FZ_BLACK,
    FZ_WHITE,
    FZ_ORANGE,
    FZ_PURPLE,
    FZ_BROWN,
    FZ_GREY,
    FZ_PINK,
    FZ_N_COLOURS
} fz_colour;

typedef enum fz_object_size { FZ_SMALL, FZ_BIG, FZ_N_OBJECT_SIZES } fz_object_size;

typedef enum fz_relation {
    FZ_LEFT_OF,
    FZ_RIGHT_OF,
    FZ_ABOVE,
    FZ_BELOW,
    FZ_NEXT_TO,
    FZ_N_RELATIONS
} fz_relation;

/* Where a lone object is (a 3x3 grid, row by row), or how a group stands. */
typedef enum fz_position {
    FZ_TOP_LEFT,
    FZ_TOP,
    FZ_TOP_RIGHT,
    FZ_LEFT,
    FZ_CENTRE,
    FZ_RIGHT,
    FZ_BOTTOM_LEFT,
    FZ_BOTTOM,
    FZ_BOTTOM_RIGHT,
    FZ_ROW,
    FZ_COLUMN,
    FZ_N_POSITIONS
} fz_position;

typedef enum fz_background {
    FZ_PLAIN,
    FZ_GRADIENT,
    FZ_STRIPES,
    FZ_CHECKS,
    FZ_NOISE,
    FZ_N_BACKGROUNDS
} fz_background;

typedef enum fz_scene_kind {
    FZ_SCENE_ONE,     /* one entity, its position                     */
    FZ_SCENE_PAIR,    /* two entities, nothing said about where       */
    FZ_SCENE_RELATED, /* entity 0 is left of, above, ... entity 1     */
    FZ_SCENE_BETWEEN, /* entity 0 is between entities 1 and 2         */
    FZ_SCENE_TRIPLE,  /* three entities, nothing said about where     */
    FZ_N_SCENE_KINDS
} fz_scene_kind;

enum { FZ_MAX_ENTITIES = 3, FZ_MAX_OBJECTS = 4 };

typedef struct fz_entity {
    int shape, colour, size;
    int count; /* 1..4 */
} fz_entity;

/* Lengths are shares of the picture's side; y points down. */
typedef struct fz_object {
    int entity;
    float x, y, radius, tilt;
    uint8_t rgb[3];
} fz_object;

typedef struct fz_scene {
    fz_scene_kind kind;
    int n_entities, n_objects;
    fz_entity entity[FZ_MAX_ENTITIES];
    fz_object object[FZ_MAX_OBJECTS];
    int relation, position; /* where the kind has one */
    int background, background_colour;
    uint8_t background_rgb[3];
    uint64_t noise_key;
} fz_scene;

typedef enum fz_split { FZ_SPLIT_TRAIN, FZ_SPLIT_EVAL } fz_split;

/* A keyed stream of random numbers (Philox); copied freely. */
typedef struct fz_draws {
    uint32_t key[2];
    uint64_t n;
    uint32_t stream, block;
    uint32_t v[4];
    int left;
} fz_draws;

fz_draws fz_draws_init(uint64_t seed, fz_split split, uint64_t n, uint32_t stream);
uint32_t fz_draws_bits(fz_draws *draws);
int fz_draws_below(fz_draws *draws, int n);
float fz_draws_between(fz_draws *draws, float low, float high);

fz_scene fz_scene_draw(uint64_t seed, fz_split split, uint64_t n);

#endif
