/* English. */
#include "data/synth_grammar.h"

static const char *const NOUN[FZ_N_SHAPES][2] = {
    [FZ_CIRCLE] = {"circle", "circles"},
    [FZ_SQUARE] = {"square", "squares"},
    [FZ_TRIANGLE] = {"triangle", "triangles"},
    [FZ_STAR] = {"star", "stars"},
    [FZ_CROSS] = {"cross", "crosses"},
    [FZ_HEART] = {"heart", "hearts"},
    [FZ_RING] = {"ring", "rings"},
    [FZ_DIAMOND] = {"diamond", "diamonds"},
    [FZ_ARROW] = {"arrow", "arrows"},
    [FZ_CRESCENT] = {"crescent", "crescents"},
};
static const char *const COLOUR[FZ_N_COLOURS] = {
    [FZ_RED] = "red",     [FZ_BLUE] = "blue",   [FZ_GREEN] = "green",   [FZ_YELLOW] = "yellow",
    [FZ_BLACK] = "black", [FZ_WHITE] = "white", [FZ_ORANGE] = "orange", [FZ_PURPLE] = "purple",
    [FZ_BROWN] = "brown", [FZ_GREY] = "grey",   [FZ_PINK] = "pink",
};
static const char *const SIZE[FZ_N_OBJECT_SIZES] = {"small ", "big "};
static const char *const NUMBER[] = {"", "a ", "two ", "three ", "four "};
static const char *const THE_NUMBER[] = {"", "the ", "the two ", "the three ", "the four "};

static const fz_rewrite REWRITES[] = {{"a orange ", "an orange "}, {NULL, NULL}};

static void colour(fz_text *text, int which, fz_form form)
{
    (void)form;
    fz_text_add(text, COLOUR[which]);
}

static void noun_phrase(fz_text *text, const fz_entity *entity, bool with_size, fz_form form)
{
    fz_text_add(text, (form.article == FZ_DEFINITE ? THE_NUMBER : NUMBER)[entity->count]);
    if (with_size) fz_text_add(text, SIZE[entity->size]);
    fz_text_add(text, COLOUR[entity->colour]);
    fz_text_add(text, " ");
    fz_text_add(text, NOUN[entity->shape][form.plural ? 1 : 0]);
}

const fz_language fz_language_en = {
    .code = "en",
    .name = "English",
    .pattern =
        {
            [FZ_SCENE_ONE] = {"the image shows {a} {bg}.", "there {is|are:a} {a} {pos}.",
                              "{bg} you can see {a}.", "{a} {is|are:a} {pos} {bg}.",
                              "a picture of {a} {bg}."},
            [FZ_SCENE_PAIR] = {"the image shows {a} and {b} {bg}.", "here you can see {a} and {b}.",
                               "{a} and {b} can be seen {bg}."},
            [FZ_SCENE_RELATED] = {"{a} {is|are:a} {rel} {b}.",
                                  "the image shows {a} {rel} {b} {bg}.",
                                  "{rel} {b} there {is|are:a} {a}.",
                                  "{a.def} {is|are:a} {rel} {b.def}."},
            [FZ_SCENE_BETWEEN] = {"{a} {is|are:a} between {b} and {c}.",
                                  "the image shows {a} between {b} and {c} {bg}.",
                                  "between {b.def} and {c.def} there {is|are:a} {a}."},
            [FZ_SCENE_TRIPLE] = {"the image shows {a}, {b} and {c}.",
                                 "{bg} you can see {a}, {b} and {c}.",
                                 "{a}, {b} and {c} can be seen {bg}."},
        },
    .relation = {[FZ_LEFT_OF] = "to the left of",
                 [FZ_RIGHT_OF] = "to the right of",
                 [FZ_ABOVE] = "above",
                 [FZ_BELOW] = "below",
                 [FZ_NEXT_TO] = "next to"},
    .position = {[FZ_TOP_LEFT] = "in the upper left corner",
                 [FZ_TOP] = "at the top edge",
                 [FZ_TOP_RIGHT] = "in the upper right corner",
                 [FZ_LEFT] = "at the left edge",
                 [FZ_CENTRE] = "in the centre",
                 [FZ_RIGHT] = "at the right edge",
                 [FZ_BOTTOM_LEFT] = "in the lower left corner",
                 [FZ_BOTTOM] = "at the bottom edge",
                 [FZ_BOTTOM_RIGHT] = "in the lower right corner",
                 [FZ_ROW] = "in a row",
                 [FZ_COLUMN] = "in a column"},
    .background = {[FZ_PLAIN] = "on a {k} background",
                   [FZ_GRADIENT] = "on a background with a {k} gradient",
                   [FZ_STRIPES] = "on a background with {k} stripes",
                   [FZ_CHECKS] = "on a {k} checked background",
                   [FZ_NOISE] = "on a noisy {k} background"},
    .rewrites = REWRITES,
    .noun_phrase = noun_phrase,
    .colour = colour,
};
