/* French: two genders, size before and colour after the noun, contractions and elisions. */
#include "data/synth_grammar.h"

static const char *const NOUN[FZ_N_SHAPES][2] = {
    [FZ_CIRCLE] = {"cercle", "cercles"},       [FZ_SQUARE] = {"carré", "carrés"},
    [FZ_TRIANGLE] = {"triangle", "triangles"}, [FZ_STAR] = {"étoile", "étoiles"},
    [FZ_CROSS] = {"croix", "croix"},           [FZ_HEART] = {"cœur", "cœurs"},
    [FZ_RING] = {"anneau", "anneaux"},         [FZ_DIAMOND] = {"losange", "losanges"},
    [FZ_ARROW] = {"flèche", "flèches"},        [FZ_CRESCENT] = {"croissant", "croissants"},
};
/* m f m-pl f-pl. orange and marron are nouns that lend their name: they never change. */
static const char *const COLOUR[FZ_N_COLOURS][4] = {
    [FZ_RED] = {"rouge", "rouge", "rouges", "rouges"},
    [FZ_BLUE] = {"bleu", "bleue", "bleus", "bleues"},
    [FZ_GREEN] = {"vert", "verte", "verts", "vertes"},
    [FZ_YELLOW] = {"jaune", "jaune", "jaunes", "jaunes"},
    [FZ_BLACK] = {"noir", "noire", "noirs", "noires"},
    [FZ_WHITE] = {"blanc", "blanche", "blancs", "blanches"},
    [FZ_ORANGE] = {"orange", "orange", "orange", "orange"},
    [FZ_PURPLE] = {"violet", "violette", "violets", "violettes"},
    [FZ_BROWN] = {"marron", "marron", "marron", "marron"},
    [FZ_GREY] = {"gris", "grise", "gris", "grises"},
    [FZ_PINK] = {"rose", "rose", "roses", "roses"},
};
static const char *const SIZE[FZ_N_OBJECT_SIZES][4] = {
    [FZ_SMALL] = {"petit ", "petite ", "petits ", "petites "},
    [FZ_BIG] = {"grand ", "grande ", "grands ", "grandes "},
};
static const char *const NUMBER[] = {"", "", "deux ", "trois ", "quatre "};
static const char *const ARTICLE_A[] = {"un ", "une ", "", ""};
static const char *const ARTICLE_THE[] = {"le ", "la ", "les ", "les "};

static const fz_rewrite REWRITES[] = {
    {"la é", "l'é"},   {"le a", "l'a"},     {"de un ", "d'un "}, {"de une ", "d'une "},
    {"de le ", "du "}, {"de les ", "des "}, {NULL, NULL},
};

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
    if (with_size) fz_text_add(text, SIZE[entity->size][column(form)]);
    fz_text_add(text, NOUN[entity->shape][form.plural ? 1 : 0]);
    fz_text_add(text, " ");
    colour(text, entity->colour, form);
}

const fz_language fz_language_fr = {
    .code = "fr",
    .name = "French",
    .pattern =
        {
            [FZ_SCENE_ONE] = {"l'image montre {a} {bg}.", "il y a {a} {pos}.", "{bg}, on voit {a}.",
                              "{a} se {trouve|trouvent:a} {pos} {bg}.", "une image de {a} {bg}."},
            [FZ_SCENE_PAIR] = {"l'image montre {a} et {b} {bg}.", "ici, on voit {a} et {b}.",
                               "{a} et {b} sont visibles {bg}."},
            [FZ_SCENE_RELATED] =
                {"{a} se {trouve|trouvent:a} {rel} {b}.", "l'image montre {a} {rel} {b} {bg}.",
                 "{rel} {b} se {trouve|trouvent:a} {a}.",
                 "{a.def} {est situé|est située|sont situés|sont situées:a} {rel} {b.def}."},
            [FZ_SCENE_BETWEEN] = {"{a} se {trouve|trouvent:a} entre {b} et {c}.",
                                  "l'image montre {a} entre {b} et {c} {bg}.",
                                  "entre {b.def} et {c.def} se {trouve|trouvent:a} {a}."},
            [FZ_SCENE_TRIPLE] = {"l'image montre {a}, {b} et {c}.",
                                 "{bg}, on voit {a}, {b} et {c}.",
                                 "{a}, {b} et {c} sont visibles {bg}."},
        },
    .relation = {[FZ_LEFT_OF] = "à gauche de",
                 [FZ_RIGHT_OF] = "à droite de",
                 [FZ_ABOVE] = "au-dessus de",
                 [FZ_BELOW] = "au-dessous de",
                 [FZ_NEXT_TO] = "à côté de"},
    .position = {[FZ_TOP_LEFT] = "dans le coin supérieur gauche",
                 [FZ_TOP] = "au bord supérieur",
                 [FZ_TOP_RIGHT] = "dans le coin supérieur droit",
                 [FZ_LEFT] = "au bord gauche",
                 [FZ_CENTRE] = "au centre",
                 [FZ_RIGHT] = "au bord droit",
                 [FZ_BOTTOM_LEFT] = "dans le coin inférieur gauche",
                 [FZ_BOTTOM] = "au bord inférieur",
                 [FZ_BOTTOM_RIGHT] = "dans le coin inférieur droit",
                 [FZ_ROW] = "en ligne",
                 [FZ_COLUMN] = "en colonne"},
    .background = {[FZ_PLAIN] = "sur un fond {k.m}",
                   [FZ_GRADIENT] = "sur un dégradé {k.m}",
                   [FZ_STRIPES] = "sur un fond à rayures {k.f.pl}",
                   [FZ_CHECKS] = "sur un fond à carreaux {k.m.pl}",
                   [FZ_NOISE] = "sur un fond {k.m} bruité"},
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
               [FZ_CRESCENT] = FZ_MASCULINE},
    .noun_phrase = noun_phrase,
    .colour = colour,
};
