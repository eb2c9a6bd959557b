/* Spanish: two genders, colour and size after the noun, contractions. */
#include "data/synth_grammar.h"

static const char *const NOUN[FZ_N_SHAPES][2] = {
    [FZ_CIRCLE] = {"círculo", "círculos"},
    [FZ_SQUARE] = {"cuadrado", "cuadrados"},
    [FZ_TRIANGLE] = {"triángulo", "triángulos"},
    [FZ_STAR] = {"estrella", "estrellas"},
    [FZ_CROSS] = {"cruz", "cruces"},
    [FZ_HEART] = {"corazón", "corazones"},
    [FZ_RING] = {"anillo", "anillos"},
    [FZ_DIAMOND] = {"rombo", "rombos"},
    [FZ_ARROW] = {"flecha", "flechas"},
    [FZ_CRESCENT] = {"media luna", "medias lunas"},
};
/* m f m-pl f-pl. naranja and rosa are nouns that lend their name: they never change. */
static const char *const COLOUR[FZ_N_COLOURS][4] = {
    [FZ_RED] = {"rojo", "roja", "rojos", "rojas"},
    [FZ_BLUE] = {"azul", "azul", "azules", "azules"},
    [FZ_GREEN] = {"verde", "verde", "verdes", "verdes"},
    [FZ_YELLOW] = {"amarillo", "amarilla", "amarillos", "amarillas"},
    [FZ_BLACK] = {"negro", "negra", "negros", "negras"},
    [FZ_WHITE] = {"blanco", "blanca", "blancos", "blancas"},
    [FZ_ORANGE] = {"naranja", "naranja", "naranja", "naranja"},
    [FZ_PURPLE] = {"morado", "morada", "morados", "moradas"},
    [FZ_BROWN] = {"marrón", "marrón", "marrones", "marrones"},
    [FZ_GREY] = {"gris", "gris", "grises", "grises"},
    [FZ_PINK] = {"rosa", "rosa", "rosa", "rosa"},
};
static const char *const SIZE[FZ_N_OBJECT_SIZES][4] = {
    [FZ_SMALL] = {" pequeño", " pequeña", " pequeños", " pequeñas"},
    [FZ_BIG] = {" grande", " grande", " grandes", " grandes"},
};
static const char *const NUMBER[] = {"", "", "dos ", "tres ", "cuatro "};
static const char *const ARTICLE_A[] = {"un ", "una ", "", ""};
static const char *const ARTICLE_THE[] = {"el ", "la ", "los ", "las "};

static const fz_rewrite REWRITES[] = {{"de el ", "del "}, {NULL, NULL}};

static int column(fz_form form)
{
    return (form.gender == FZ_FEMININE ? 1 : 0) + (form.plural ? 2 : 0);
}

static void colour(fz_text *text, int which, fz_form form)
{
    fz_text_add(text, COLOUR[which][column(form)]);
}

static void noun_phrase(fz_text *text, const fz_entity *entity, bool with_size, fz_form form)
{
    fz_text_add(text, (form.article == FZ_DEFINITE ? ARTICLE_THE : ARTICLE_A)[column(form)]);
    fz_text_add(text, NUMBER[entity->count]);
    fz_text_add(text, NOUN[entity->shape][form.plural ? 1 : 0]);
    fz_text_add(text, " ");
    colour(text, entity->colour, form);
    if (with_size) fz_text_add(text, SIZE[entity->size][column(form)]);
}

const fz_language fz_language_es = {
    .code = "es",
    .name = "Spanish",
    .pattern =
        {
            [FZ_SCENE_ONE] = {"la imagen muestra {a} {bg}.", "hay {a} {pos}.",
                              "{bg} se {ve|ven:a} {a}.", "{a} {está|están:a} {pos} {bg}.",
                              "una imagen de {a} {bg}."},
            [FZ_SCENE_PAIR] = {"la imagen muestra {a} y {b} {bg}.", "aquí se ven {a} y {b}.",
                               "{a} y {b} aparecen {bg}."},
            [FZ_SCENE_RELATED] =
                {"{a} {está|están:a} {rel} {b}.", "la imagen muestra {a} {rel} {b} {bg}.",
                 "{rel} {b} hay {a}.",
                 "{a.def} {está situado|está situada|están situados|están situadas:a} {rel} "
                 "{b.def}."},
            [FZ_SCENE_BETWEEN] = {"{a} {está|están:a} entre {b} y {c}.",
                                  "la imagen muestra {a} entre {b} y {c} {bg}.",
                                  "entre {b.def} y {c.def} hay {a}."},
            [FZ_SCENE_TRIPLE] = {"la imagen muestra {a}, {b} y {c}.", "{bg} se ven {a}, {b} y {c}.",
                                 "{a}, {b} y {c} aparecen {bg}."},
        },
    .relation = {[FZ_LEFT_OF] = "a la izquierda de",
                 [FZ_RIGHT_OF] = "a la derecha de",
                 [FZ_ABOVE] = "encima de",
                 [FZ_BELOW] = "debajo de",
                 [FZ_NEXT_TO] = "al lado de"},
    .position = {[FZ_TOP_LEFT] = "en la esquina superior izquierda",
                 [FZ_TOP] = "en el borde superior",
                 [FZ_TOP_RIGHT] = "en la esquina superior derecha",
                 [FZ_LEFT] = "en el borde izquierdo",
                 [FZ_CENTRE] = "en el centro",
                 [FZ_RIGHT] = "en el borde derecho",
                 [FZ_BOTTOM_LEFT] = "en la esquina inferior izquierda",
                 [FZ_BOTTOM] = "en el borde inferior",
                 [FZ_BOTTOM_RIGHT] = "en la esquina inferior derecha",
                 [FZ_ROW] = "en fila",
                 [FZ_COLUMN] = "en columna"},
    .background = {[FZ_PLAIN] = "sobre un fondo {k.m}",
                   [FZ_GRADIENT] = "sobre un fondo con degradado {k.m}",
                   [FZ_STRIPES] = "sobre un fondo de rayas {k.f.pl}",
                   [FZ_CHECKS] = "sobre un fondo de cuadros {k.m.pl}",
                   [FZ_NOISE] = "sobre un fondo {k.m} con ruido"},
    .rewrites = REWRITES,
    .gender = {[FZ_CIRCLE] = FZ_MASCULINE,
               [FZ_SQUARE] = FZ_MASCULINE,
               [FZ_TRIANGLE] = FZ_MASCULINE,
               [FZ_STAR] = FZ_FEMININE,
               [FZ_CROSS] = FZ_FEMININE,
               [FZ_HEART] = FZ_MASCULINE,
               [FZ_RING] = FZ_MASCULINE,
               [FZ_DIAMOND] = FZ_MASCULINE,
               [FZ_ARROW] = FZ_FEMININE,
               [FZ_CRESCENT] = FZ_FEMININE},
    .noun_phrase = noun_phrase,
    .colour = colour,
};
