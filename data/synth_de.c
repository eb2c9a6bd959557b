/* German: three genders, four cases, and adjectives that end by article, gender, number and case.
 */
#include "data/synth_grammar.h"

#include "core/assert.h"

enum { CASES = FZ_ACC + 1, COLUMNS = FZ_N_GENDERS + 1, PLURAL = FZ_N_GENDERS };

/* sg: nom gen dat acc; pl: nom (= gen, acc), dat. Only the heart declines weakly. */
static const struct {
    const char *singular[CASES], *plural, *plural_dative;
} NOUN[FZ_N_SHAPES] = {
    [FZ_CIRCLE] = {{"Kreis", "Kreises", "Kreis", "Kreis"}, "Kreise", "Kreisen"},
    [FZ_SQUARE] = {{"Quadrat", "Quadrats", "Quadrat", "Quadrat"}, "Quadrate", "Quadraten"},
    [FZ_TRIANGLE] = {{"Dreieck", "Dreiecks", "Dreieck", "Dreieck"}, "Dreiecke", "Dreiecken"},
    [FZ_STAR] = {{"Stern", "Sterns", "Stern", "Stern"}, "Sterne", "Sternen"},
    [FZ_CROSS] = {{"Kreuz", "Kreuzes", "Kreuz", "Kreuz"}, "Kreuze", "Kreuzen"},
    [FZ_HEART] = {{"Herz", "Herzens", "Herzen", "Herz"}, "Herzen", "Herzen"},
    [FZ_RING] = {{"Ring", "Rings", "Ring", "Ring"}, "Ringe", "Ringen"},
    [FZ_DIAMOND] = {{"Raute", "Raute", "Raute", "Raute"}, "Rauten", "Rauten"},
    [FZ_ARROW] = {{"Pfeil", "Pfeils", "Pfeil", "Pfeil"}, "Pfeile", "Pfeilen"},
    [FZ_CRESCENT] = {{"Mondsichel", "Mondsichel", "Mondsichel", "Mondsichel"},
                     "Mondsicheln",
                     "Mondsicheln"},
};
static const char *const COLOUR[FZ_N_COLOURS] = {
    [FZ_RED] = "rot",
    [FZ_BLUE] = "blau",
    [FZ_GREEN] = "grün",
    [FZ_YELLOW] = "gelb",
    [FZ_BLACK] = "schwarz",
    [FZ_WHITE] = "weiß",
    [FZ_ORANGE] = "orangefarben",
    [FZ_PURPLE] = "violett",
    [FZ_BROWN] = "braun",
    [FZ_GREY] = "grau",
    [FZ_PINK] = "rosa",
};
static const char *const SIZE[FZ_N_OBJECT_SIZES] = {"klein", "groß"};
static const char *const NUMBER[] = {"", "", "zwei ", "drei ", "vier "};

/* Columns: m f n plural. */
static const char *const ARTICLE_A[CASES][FZ_N_GENDERS] = {
    [FZ_NOM] = {"ein ", "eine ", "ein "},
    [FZ_GEN] = {"eines ", "einer ", "eines "},
    [FZ_DAT] = {"einem ", "einer ", "einem "},
    [FZ_ACC] = {"einen ", "eine ", "ein "},
};
static const char *const ARTICLE_THE[CASES][COLUMNS] = {
    [FZ_NOM] = {"der ", "die ", "das ", "die "},
    [FZ_GEN] = {"des ", "der ", "des ", "der "},
    [FZ_DAT] = {"dem ", "der ", "dem ", "den "},
    [FZ_ACC] = {"den ", "die ", "das ", "die "},
};
/* Strong: no article, or a bare number; weak: after der; mixed: after ein. */
static const char *const STRONG[CASES][COLUMNS] = {
    [FZ_NOM] = {"er", "e", "es", "e"},
    [FZ_GEN] = {"en", "er", "en", "er"},
    [FZ_DAT] = {"em", "er", "em", "en"},
    [FZ_ACC] = {"en", "e", "es", "e"},
};
static const char *const WEAK[CASES][COLUMNS] = {
    [FZ_NOM] = {"e", "e", "e", "en"},
    [FZ_GEN] = {"en", "en", "en", "en"},
    [FZ_DAT] = {"en", "en", "en", "en"},
    [FZ_ACC] = {"en", "e", "e", "en"},
};
static const char *const MIXED[CASES][FZ_N_GENDERS] = {
    [FZ_NOM] = {"er", "e", "es"},
    [FZ_GEN] = {"en", "en", "en"},
    [FZ_DAT] = {"en", "en", "en"},
    [FZ_ACC] = {"en", "e", "es"},
};

static const fz_rewrite REWRITES[] = {{"von dem ", "vom "}, {NULL, NULL}};

static const char *ending(fz_form form)
{
    const int column = form.plural ? PLURAL : (int)form.gender;

    FZ_ASSERT((int)form.grammatical_case < CASES);
    if (form.base) return "";
    if (form.article == FZ_DEFINITE) return WEAK[form.grammatical_case][column];
    if (form.article == FZ_BARE || form.plural) return STRONG[form.grammatical_case][column];
    return MIXED[form.grammatical_case][column];
}

static void colour(fz_text *text, int which, fz_form form)
{
    fz_text_add(text, COLOUR[which]);
    if (which != FZ_PINK) fz_text_add(text, ending(form)); /* rosa never changes */
}

static void noun_phrase(fz_text *text, const fz_entity *entity, bool with_size, fz_form form)
{
    const bool definite = form.article == FZ_DEFINITE;

    /* A number without an article has no genitive of its own: "von zwei roten Kreisen". */
    if (form.plural && form.grammatical_case == FZ_GEN && !definite) {
        fz_text_add(text, "von ");
        form.grammatical_case = FZ_DAT;
    }
    FZ_ASSERT((int)form.grammatical_case < CASES);
    if (definite)
        fz_text_add(text,
                    ARTICLE_THE[form.grammatical_case][form.plural ? PLURAL : (int)form.gender]);
    else if (!form.plural)
        fz_text_add(text, ARTICLE_A[form.grammatical_case][form.gender]);
    fz_text_add(text, NUMBER[entity->count]);
    if (with_size) {
        fz_text_add(text, SIZE[entity->size]);
        fz_text_add(text, ending(form));
        fz_text_add(text, " ");
    }
    colour(text, entity->colour, form);
    fz_text_add(text, " ");
    if (!form.plural)
        fz_text_add(text, NOUN[entity->shape].singular[form.grammatical_case]);
    else
        fz_text_add(text, form.grammatical_case == FZ_DAT ? NOUN[entity->shape].plural_dative
                                                          : NOUN[entity->shape].plural);
}

const fz_language fz_language_de = {
    .code = "de",
    .name = "German",
    .pattern =
        {
            [FZ_SCENE_ONE] = {"das Bild zeigt {a.acc} {bg}.", "es gibt {a.acc} {pos}.",
                              "{bg} sieht man {a.acc}.",
                              "{a.nom} {befindet|befinden:a} sich {pos} {bg}.",
                              "ein Bild {a.gen} {bg}."},
            [FZ_SCENE_PAIR] = {"das Bild zeigt {a.acc} und {b.acc} {bg}.",
                               "hier sieht man {a.acc} und {b.acc}.",
                               "{a.nom} und {b.nom} sind {bg} zu sehen."},
            [FZ_SCENE_RELATED] = {"{a.nom} {befindet|befinden:a} sich {rel} {b.rel}.",
                                  "das Bild zeigt {a.acc} {rel} {b.rel} {bg}.",
                                  "{rel} {b.rel} {befindet|befinden:a} sich {a.nom}.",
                                  "{a.nom.def} {befindet|befinden:a} sich {rel} {b.rel.def}."},
            [FZ_SCENE_BETWEEN] =
                {"{a.nom} {befindet|befinden:a} sich zwischen {b.dat} und {c.dat}.",
                 "das Bild zeigt {a.acc} zwischen {b.dat} und {c.dat} {bg}.",
                 "zwischen {b.dat.def} und {c.dat.def} {liegt|liegen:a} {a.nom}."},
            [FZ_SCENE_TRIPLE] = {"das Bild zeigt {a.acc}, {b.acc} und {c.acc}.",
                                 "{bg} sieht man {a.acc}, {b.acc} und {c.acc}.",
                                 "{a.nom}, {b.nom} und {c.nom} sind {bg} zu sehen."},
        },
    .relation = {[FZ_LEFT_OF] = "links von",
                 [FZ_RIGHT_OF] = "rechts von",
                 [FZ_ABOVE] = "über",
                 [FZ_BELOW] = "unter",
                 [FZ_NEXT_TO] = "neben"},
    .relation_case = {[FZ_LEFT_OF] = FZ_DAT,
                      [FZ_RIGHT_OF] = FZ_DAT,
                      [FZ_ABOVE] = FZ_DAT,
                      [FZ_BELOW] = FZ_DAT,
                      [FZ_NEXT_TO] = FZ_DAT},
    .position = {[FZ_TOP_LEFT] = "in der linken oberen Ecke",
                 [FZ_TOP] = "am oberen Rand",
                 [FZ_TOP_RIGHT] = "in der rechten oberen Ecke",
                 [FZ_LEFT] = "am linken Rand",
                 [FZ_CENTRE] = "in der Mitte",
                 [FZ_RIGHT] = "am rechten Rand",
                 [FZ_BOTTOM_LEFT] = "in der linken unteren Ecke",
                 [FZ_BOTTOM] = "am unteren Rand",
                 [FZ_BOTTOM_RIGHT] = "in der rechten unteren Ecke",
                 [FZ_ROW] = "in einer Reihe",
                 [FZ_COLUMN] = "in einer Spalte"},
    .background = {[FZ_PLAIN] = "vor einem {k.dat.m} Hintergrund",
                   [FZ_GRADIENT] = "vor einem Hintergrund mit {k.dat.m.bare} Verlauf",
                   [FZ_STRIPES] = "vor einem Hintergrund mit {k.dat.pl.bare} Streifen",
                   [FZ_CHECKS] = "vor einem {k.base} karierten Hintergrund",
                   [FZ_NOISE] = "vor einem verrauschten {k.dat.m} Hintergrund"},
    .rewrites = REWRITES,
    .gender = {[FZ_CIRCLE] = FZ_MASCULINE,
               [FZ_SQUARE] = FZ_NEUTER,
               [FZ_TRIANGLE] = FZ_NEUTER,
               [FZ_STAR] = FZ_MASCULINE,
               [FZ_CROSS] = FZ_NEUTER,
               [FZ_HEART] = FZ_NEUTER,
               [FZ_RING] = FZ_MASCULINE,
               [FZ_DIAMOND] = FZ_FEMININE,
               [FZ_ARROW] = FZ_MASCULINE,
               [FZ_CRESCENT] = FZ_FEMININE},
    .noun_phrase = noun_phrase,
    .colour = colour,
};
