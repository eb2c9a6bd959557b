/* Russian: no articles; cases by preposition; after 2, 3, 4 in nominative and accusative the noun
 * stands in the genitive singular and the adjective in the genitive plural (feminine: nominative
 * plural), in the other cases both stand in the plural of that case. */
#include "data/synth_grammar.h"

#include "core/assert.h"

enum { COLUMNS = FZ_N_GENDERS + 1, PLURAL = FZ_N_GENDERS };

/* sg nom, gen, acc, ins; pl gen, ins: the forms that our prepositions and numbers ask for. */
static const struct {
    const char *nom, *gen, *acc, *ins, *plural_gen, *plural_ins;
} NOUN[FZ_N_SHAPES] = {
    [FZ_CIRCLE] = {"круг", "круга", "круг", "кругом", "кругов", "кругами"},
    [FZ_SQUARE] = {"квадрат", "квадрата", "квадрат", "квадратом", "квадратов", "квадратами"},
    [FZ_TRIANGLE] = {"треугольник", "треугольника", "треугольник", "треугольником", "треугольников",
                     "треугольниками"},
    [FZ_STAR] = {"звезда", "звезды", "звезду", "звездой", "звёзд", "звёздами"},
    [FZ_CROSS] = {"крест", "креста", "крест", "крестом", "крестов", "крестами"},
    [FZ_HEART] = {"сердце", "сердца", "сердце", "сердцем", "сердец", "сердцами"},
    [FZ_RING] = {"кольцо", "кольца", "кольцо", "кольцом", "колец", "кольцами"},
    [FZ_DIAMOND] = {"ромб", "ромба", "ромб", "ромбом", "ромбов", "ромбами"},
    [FZ_ARROW] = {"стрелка", "стрелки", "стрелку", "стрелкой", "стрелок", "стрелками"},
    [FZ_CRESCENT] = {"полумесяц", "полумесяца", "полумесяц", "полумесяцем", "полумесяцев",
                     "полумесяцами"},
};

typedef enum stem_kind { HARD, SOFT, VELAR, STRESSED, N_STEM_KINDS } stem_kind;
typedef struct adjective {
    const char *stem;
    stem_kind kind;
} adjective;

static const adjective COLOUR[FZ_N_COLOURS] = {
    [FZ_RED] = {"красн", HARD},      [FZ_BLUE] = {"син", SOFT},
    [FZ_GREEN] = {"зелён", HARD},    [FZ_YELLOW] = {"жёлт", HARD},
    [FZ_BLACK] = {"чёрн", HARD},     [FZ_WHITE] = {"бел", HARD},
    [FZ_ORANGE] = {"оранжев", HARD}, [FZ_PURPLE] = {"фиолетов", HARD},
    [FZ_BROWN] = {"коричнев", HARD}, [FZ_GREY] = {"сер", HARD},
    [FZ_PINK] = {"розов", HARD},
};
static const adjective SIZE[FZ_N_OBJECT_SIZES] = {
    [FZ_SMALL] = {"маленьк", VELAR}, [FZ_BIG] = {"больш", STRESSED}};

/* Columns: m f n plural. Inanimate throughout: accusative masculine and plural = nominative. */
static const char *const ENDING[N_STEM_KINDS][FZ_N_CASES][COLUMNS] = {
    [HARD] = {[FZ_NOM] = {"ый", "ая", "ое", "ые"},
              [FZ_GEN] = {"ого", "ой", "ого", "ых"},
              [FZ_DAT] = {"ому", "ой", "ому", "ым"},
              [FZ_ACC] = {"ый", "ую", "ое", "ые"},
              [FZ_INS] = {"ым", "ой", "ым", "ыми"},
              [FZ_LOC] = {"ом", "ой", "ом", "ых"}},
    [SOFT] = {[FZ_NOM] = {"ий", "яя", "ее", "ие"},
              [FZ_GEN] = {"его", "ей", "его", "их"},
              [FZ_DAT] = {"ему", "ей", "ему", "им"},
              [FZ_ACC] = {"ий", "юю", "ее", "ие"},
              [FZ_INS] = {"им", "ей", "им", "ими"},
              [FZ_LOC] = {"ем", "ей", "ем", "их"}},
    [VELAR] = {[FZ_NOM] = {"ий", "ая", "ое", "ие"},
               [FZ_GEN] = {"ого", "ой", "ого", "их"},
               [FZ_DAT] = {"ому", "ой", "ому", "им"},
               [FZ_ACC] = {"ий", "ую", "ое", "ие"},
               [FZ_INS] = {"им", "ой", "им", "ими"},
               [FZ_LOC] = {"ом", "ой", "ом", "их"}},
    [STRESSED] = {[FZ_NOM] = {"ой", "ая", "ое", "ие"},
                  [FZ_GEN] = {"ого", "ой", "ого", "их"},
                  [FZ_DAT] = {"ому", "ой", "ому", "им"},
                  [FZ_ACC] = {"ой", "ую", "ое", "ие"},
                  [FZ_INS] = {"им", "ой", "им", "ими"},
                  [FZ_LOC] = {"ом", "ой", "ом", "их"}},
};

/* Rows: direct (nominative, accusative), genitive, instrumental; 2, 3, 4. */
static const char *const NUMBER[3][3] = {
    {"два ", "три ", "четыре "}, {"двух ", "трёх ", "четырёх "}, {"двумя ", "тремя ", "четырьмя "}};

static void say_adjective(fz_text *text, const adjective *word, fz_form form)
{
    const int column = form.plural ? PLURAL : (int)form.gender;

    fz_text_add(text, word->stem);
    fz_text_add(text, ENDING[word->kind][form.grammatical_case][column]);
}

static void colour(fz_text *text, int which, fz_form form)
{
    say_adjective(text, &COLOUR[which], form);
}

static const char *noun(int shape, fz_case grammatical_case, bool plural)
{
    switch (grammatical_case) {
    case FZ_NOM:
        return plural ? NOUN[shape].gen : NOUN[shape].nom; /* after 2, 3, 4 */
    case FZ_ACC:
        return plural ? NOUN[shape].gen : NOUN[shape].acc;
    case FZ_GEN:
        return plural ? NOUN[shape].plural_gen : NOUN[shape].gen;
    case FZ_INS:
        return plural ? NOUN[shape].plural_ins : NOUN[shape].ins;
    default:
        FZ_ASSERT(!"no pattern asks for this case of a noun");
        return "";
    }
}

static void say_number(fz_text *text, int count, fz_form form)
{
    const bool direct = form.grammatical_case == FZ_NOM || form.grammatical_case == FZ_ACC;
    const int row = direct ? 0 : form.grammatical_case == FZ_GEN ? 1 : 2;

    if (direct && count == 2 && form.gender == FZ_FEMININE)
        fz_text_add(text, "две ");
    else
        fz_text_add(text, NUMBER[row][count - 2]);
}

static void noun_phrase(fz_text *text, const fz_entity *entity, bool with_size, fz_form form)
{
    fz_form attribute = form;

    if (form.plural) {
        say_number(text, entity->count, form);
        const bool direct = form.grammatical_case == FZ_NOM || form.grammatical_case == FZ_ACC;
        if (direct) attribute.grammatical_case = form.gender == FZ_FEMININE ? FZ_NOM : FZ_GEN;
    }
    if (with_size) {
        say_adjective(text, &SIZE[entity->size], attribute);
        fz_text_add(text, " ");
    }
    colour(text, entity->colour, attribute);
    fz_text_add(text, " ");
    fz_text_add(text, noun(entity->shape, form.grammatical_case, form.plural));
}

#define SHOWN "{изображён|изображена|изображено|изображены:a}"
#define PLACED "{расположен|расположена|расположено|расположены:a}"

const fz_language fz_language_ru = {
    .code = "ru",
    .name = "Russian",
    .pattern =
        {
            [FZ_SCENE_ONE] = {"на картинке " SHOWN " {a.nom} {bg}.", "{pos} " PLACED " {a.nom}.",
                              "{bg} {виден|видна|видно|видны:a} {a.nom}.",
                              "{a.nom} " PLACED " {pos} {bg}.", "изображение {a.gen} {bg}."},
            [FZ_SCENE_PAIR] = {"на картинке изображены {a.nom} и {b.nom} {bg}.",
                               "здесь можно увидеть {a.acc} и {b.acc}.",
                               "{a.nom} и {b.nom} видны {bg}."},
            [FZ_SCENE_RELATED] = {"{a.nom} {находится|находятся:a} {rel} {b.rel}.",
                                  "на картинке " SHOWN " {a.nom} {rel} {b.rel} {bg}.",
                                  "{rel} {b.rel} {находится|находятся:a} {a.nom}.",
                                  "{a.nom} " PLACED " {rel} {b.rel}."},
            [FZ_SCENE_BETWEEN] = {"{a.nom} {находится|находятся:a} между {b.ins} и {c.ins}.",
                                  "на картинке " SHOWN " {a.nom} между {b.ins} и {c.ins} {bg}.",
                                  "между {b.ins} и {c.ins} " PLACED " {a.nom}."},
            [FZ_SCENE_TRIPLE] = {"на картинке изображены {a.nom}, {b.nom} и {c.nom}.",
                                 "{bg} можно увидеть {a.acc}, {b.acc} и {c.acc}.",
                                 "{a.nom}, {b.nom} и {c.nom} видны {bg}."},
        },
    .relation = {[FZ_LEFT_OF] = "слева от",
                 [FZ_RIGHT_OF] = "справа от",
                 [FZ_ABOVE] = "над",
                 [FZ_BELOW] = "под",
                 [FZ_NEXT_TO] = "рядом с"},
    .relation_case = {[FZ_LEFT_OF] = FZ_GEN,
                      [FZ_RIGHT_OF] = FZ_GEN,
                      [FZ_ABOVE] = FZ_INS,
                      [FZ_BELOW] = FZ_INS,
                      [FZ_NEXT_TO] = FZ_INS},
    .position = {[FZ_TOP_LEFT] = "в левом верхнем углу",
                 [FZ_TOP] = "у верхнего края",
                 [FZ_TOP_RIGHT] = "в правом верхнем углу",
                 [FZ_LEFT] = "у левого края",
                 [FZ_CENTRE] = "в центре",
                 [FZ_RIGHT] = "у правого края",
                 [FZ_BOTTOM_LEFT] = "в левом нижнем углу",
                 [FZ_BOTTOM] = "у нижнего края",
                 [FZ_BOTTOM_RIGHT] = "в правом нижнем углу",
                 [FZ_ROW] = "в ряд",
                 [FZ_COLUMN] = "в столбик"},
    .background = {[FZ_PLAIN] = "на {k.loc.m} фоне",
                   [FZ_GRADIENT] = "на фоне с {k.ins.m} градиентом",
                   [FZ_STRIPES] = "на фоне в {k.acc.f} полоску",
                   [FZ_CHECKS] = "на фоне в {k.acc.f} клетку",
                   [FZ_NOISE] = "на {k.loc.m} зернистом фоне"},
    .gender = {[FZ_CIRCLE] = FZ_MASCULINE,
               [FZ_SQUARE] = FZ_MASCULINE,
               [FZ_TRIANGLE] = FZ_MASCULINE,
               [FZ_STAR] = FZ_FEMININE,
               [FZ_CROSS] = FZ_MASCULINE,
               [FZ_HEART] = FZ_NEUTER,
               [FZ_RING] = FZ_NEUTER,
               [FZ_DIAMOND] = FZ_MASCULINE,
               [FZ_ARROW] = FZ_FEMININE,
               [FZ_CRESCENT] = FZ_MASCULINE},
    .neuter_before_plural = true,
    .noun_phrase = noun_phrase,
    .colour = colour,
};
