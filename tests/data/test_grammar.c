/* Sentences checked by hand: every gender, case and number that a pattern can ask for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "data/synth_grammar.h"

typedef struct golden {
    fz_scene scene;
    int pattern;
    bool with_size;
    const char *text[FZ_N_LANGUAGES];
} golden;

#define ONE(pos_, bg_, bgc_, ...)                                                                  \
    {                                                                                              \
        .kind = FZ_SCENE_ONE, .n_entities = 1, .position = (pos_), .background = (bg_),            \
        .background_colour = (bgc_), .entity = {                                                   \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define PAIR(bg_, bgc_, ...)                                                                       \
    {                                                                                              \
        .kind = FZ_SCENE_PAIR, .n_entities = 2, .background = (bg_), .background_colour = (bgc_),  \
        .entity = {                                                                                \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define RELATED(rel_, bg_, bgc_, ...)                                                              \
    {                                                                                              \
        .kind = FZ_SCENE_RELATED, .n_entities = 2, .relation = (rel_), .background = (bg_),        \
        .background_colour = (bgc_), .entity = {                                                   \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define THREE(kind_, bg_, bgc_, ...)                                                               \
    {                                                                                              \
        .kind = (kind_), .n_entities = 3, .background = (bg_), .background_colour = (bgc_),        \
        .entity = {                                                                                \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static const golden GOLDEN[] = {
    {ONE(FZ_CENTRE, FZ_PLAIN, FZ_GREY, {FZ_CIRCLE, FZ_RED, FZ_BIG, 1}),
     0,
     true,
     {"The image shows a big red circle on a grey background.",
      "Das Bild zeigt einen großen roten Kreis vor einem grauen Hintergrund.",
      "L'image montre un grand cercle rouge sur un fond gris.",
      "La imagen muestra un círculo rojo grande sobre un fondo gris.",
      "На картинке изображён большой красный круг на сером фоне.",
      "图片展示了灰色背景上的一个红色的大圆形。"}},
    {ONE(FZ_TOP_LEFT, FZ_PLAIN, FZ_GREY, {FZ_STAR, FZ_ORANGE, FZ_SMALL, 1}),
     1,
     false,
     {"There is an orange star in the upper left corner.",
      "Es gibt einen orangefarbenen Stern in der linken oberen Ecke.",
      "Il y a une étoile orange dans le coin supérieur gauche.",
      "Hay una estrella naranja en la esquina superior izquierda.",
      "В левом верхнем углу расположена оранжевая звезда.", "有一颗橙色的五角星位于左上角。"}},
    {ONE(FZ_BOTTOM, FZ_STRIPES, FZ_WHITE, {FZ_HEART, FZ_BLUE, FZ_SMALL, 1}),
     2,
     true,
     {"On a background with white stripes you can see a small blue heart.",
      "Vor einem Hintergrund mit weißen Streifen sieht man ein kleines blaues Herz.",
      "Sur un fond à rayures blanches, on voit un petit cœur bleu.",
      "Sobre un fondo de rayas blancas se ve un corazón azul pequeño.",
      "На фоне в белую полоску видно маленькое синее сердце.",
      "白色条纹背景上可以看到一颗蓝色的小爱心。"}},
    {ONE(FZ_ROW, FZ_CHECKS, FZ_BLUE, {FZ_ARROW, FZ_GREEN, FZ_BIG, 3}),
     3,
     true,
     {"Three big green arrows are in a row on a blue checked background.",
      "Drei große grüne Pfeile befinden sich in einer Reihe vor einem blau karierten Hintergrund.",
      "Trois grandes flèches vertes se trouvent en ligne sur un fond à carreaux bleus.",
      "Tres flechas verdes grandes están en fila sobre un fondo de cuadros azules.",
      "Три большие зелёные стрелки расположены в ряд на фоне в синюю клетку.",
      "蓝色格子背景上，三支绿色的大箭头排成一行。"}},
    {ONE(FZ_RIGHT, FZ_GRADIENT, FZ_BLACK, {FZ_RING, FZ_YELLOW, FZ_SMALL, 1}),
     4,
     true,
     {"A picture of a small yellow ring on a background with a black gradient.",
      "Ein Bild eines kleinen gelben Rings vor einem Hintergrund mit schwarzem Verlauf.",
      "Une image d'un petit anneau jaune sur un dégradé noir.",
      "Una imagen de un anillo amarillo pequeño sobre un fondo con degradado negro.",
      "Изображение маленького жёлтого кольца на фоне с чёрным градиентом.",
      "一张黑色渐变背景上有一个黄色的小圆环的图片。"}},
    {ONE(FZ_COLUMN, FZ_NOISE, FZ_BROWN, {FZ_CRESCENT, FZ_WHITE, FZ_SMALL, 2}),
     4,
     true,
     {"A picture of two small white crescents on a noisy brown background.",
      "Ein Bild von zwei kleinen weißen Mondsicheln vor einem verrauschten braunen Hintergrund.",
      "Une image de deux petits croissants blancs sur un fond marron bruité.",
      "Una imagen de dos medias lunas blancas pequeñas sobre un fondo marrón con ruido.",
      "Изображение двух маленьких белых полумесяцев на коричневом зернистом фоне.",
      "一张棕色噪点背景上有两弯白色的小月牙的图片。"}},
    {PAIR(FZ_PLAIN, FZ_PINK, {FZ_STAR, FZ_BLUE, FZ_SMALL, 1}, {FZ_CROSS, FZ_BLACK, FZ_BIG, 1}),
     1,
     true,
     {"Here you can see a small blue star and a big black cross.",
      "Hier sieht man einen kleinen blauen Stern und ein großes schwarzes Kreuz.",
      "Ici, on voit une petite étoile bleue et une grande croix noire.",
      "Aquí se ven una estrella azul pequeña y una cruz negra grande.",
      "Здесь можно увидеть маленькую синюю звезду и большой чёрный крест.",
      "这里可以看到一颗蓝色的小五角星和一个黑色的大十字。"}},
    {PAIR(FZ_PLAIN, FZ_ORANGE, {FZ_DIAMOND, FZ_GREEN, FZ_SMALL, 2},
          {FZ_HEART, FZ_WHITE, FZ_BIG, 2}),
     2,
     false,
     {"Two green diamonds and two white hearts can be seen on an orange background.",
      "Zwei grüne Rauten und zwei weiße Herzen sind vor einem orangefarbenen Hintergrund zu sehen.",
      "Deux losanges verts et deux cœurs blancs sont visibles sur un fond orange.",
      "Dos rombos verdes y dos corazones blancos aparecen sobre un fondo naranja.",
      "Два зелёных ромба и два белых сердца видны на оранжевом фоне.",
      "橙色背景上有两个绿色的菱形和两颗白色的爱心。"}},
    {RELATED(FZ_LEFT_OF, FZ_PLAIN, FZ_WHITE, {FZ_CRESCENT, FZ_RED, FZ_BIG, 1},
             {FZ_HEART, FZ_PINK, FZ_SMALL, 1}),
     0,
     true,
     {"A big red crescent is to the left of a small pink heart.",
      "Eine große rote Mondsichel befindet sich links von einem kleinen rosa Herzen.",
      "Un grand croissant rouge se trouve à gauche d'un petit cœur rose.",
      "Una media luna roja grande está a la izquierda de un corazón rosa pequeño.",
      "Большой красный полумесяц находится слева от маленького розового сердца.",
      "一弯红色的大月牙在一颗粉色的小爱心的左边。"}},
    {RELATED(FZ_ABOVE, FZ_NOISE, FZ_GREEN, {FZ_TRIANGLE, FZ_YELLOW, FZ_BIG, 1},
             {FZ_SQUARE, FZ_PURPLE, FZ_SMALL, 2}),
     1,
     true,
     {"The image shows a big yellow triangle above two small purple squares on a noisy green "
      "background.",
      "Das Bild zeigt ein großes gelbes Dreieck über zwei kleinen violetten Quadraten vor einem "
      "verrauschten grünen Hintergrund.",
      "L'image montre un grand triangle jaune au-dessus de deux petits carrés violets sur un fond "
      "vert bruité.",
      "La imagen muestra un triángulo amarillo grande encima de dos cuadrados morados pequeños "
      "sobre un fondo verde con ruido.",
      "На картинке изображён большой жёлтый треугольник над двумя маленькими фиолетовыми "
      "квадратами на зелёном зернистом фоне.",
      "图片中，绿色噪点背景上有一个黄色的大三角形，位于两个紫色的小正方形的上方。"}},
    {RELATED(FZ_BELOW, FZ_PLAIN, FZ_WHITE, {FZ_STAR, FZ_BLUE, FZ_SMALL, 2},
             {FZ_DIAMOND, FZ_BLACK, FZ_BIG, 1}),
     2,
     false,
     {"Below a black diamond there are two blue stars.",
      "Unter einer schwarzen Raute befinden sich zwei blaue Sterne.",
      "Au-dessous d'un losange noir se trouvent deux étoiles bleues.",
      "Debajo de un rombo negro hay dos estrellas azules.",
      "Под чёрным ромбом находятся две синие звезды.", "一个黑色的菱形的下方有两颗蓝色的五角星。"}},
    {RELATED(FZ_RIGHT_OF, FZ_PLAIN, FZ_WHITE, {FZ_CROSS, FZ_GREY, FZ_BIG, 2},
             {FZ_CIRCLE, FZ_GREEN, FZ_BIG, 1}),
     3,
     true,
     {"The two big grey crosses are to the right of the big green circle.",
      "Die zwei großen grauen Kreuze befinden sich rechts vom großen grünen Kreis.",
      "Les deux grandes croix grises sont situées à droite du grand cercle vert.",
      "Las dos cruces grises grandes están situadas a la derecha del círculo verde grande.",
      "Два больших серых креста расположены справа от большого зелёного круга.",
      "两个灰色的大十字位于绿色的大圆形的右边。"}},
    {RELATED(FZ_NEXT_TO, FZ_PLAIN, FZ_WHITE, {FZ_RING, FZ_BROWN, FZ_SMALL, 1},
             {FZ_STAR, FZ_YELLOW, FZ_SMALL, 1}),
     3,
     false,
     {"The brown ring is next to the yellow star.",
      "Der braune Ring befindet sich neben dem gelben Stern.",
      "L'anneau marron est situé à côté de l'étoile jaune.",
      "El anillo marrón está situado al lado de la estrella amarilla.",
      "Коричневое кольцо расположено рядом с жёлтой звездой.",
      "棕色的圆环位于黄色的五角星的旁边。"}},
    {RELATED(FZ_LEFT_OF, FZ_PLAIN, FZ_WHITE, {FZ_ARROW, FZ_WHITE, FZ_SMALL, 1},
             {FZ_CROSS, FZ_BLUE, FZ_SMALL, 3}),
     3,
     false,
     {"The white arrow is to the left of the three blue crosses.",
      "Der weiße Pfeil befindet sich links von den drei blauen Kreuzen.",
      "La flèche blanche est située à gauche des trois croix bleues.",
      "La flecha blanca está situada a la izquierda de las tres cruces azules.",
      "Белая стрелка расположена слева от трёх синих крестов.",
      "白色的箭头位于三个蓝色的十字的左边。"}},
    {THREE(FZ_SCENE_BETWEEN, FZ_PLAIN, FZ_WHITE, {FZ_HEART, FZ_RED, FZ_BIG, 1},
           {FZ_STAR, FZ_GREEN, FZ_SMALL, 1}, {FZ_RING, FZ_BLUE, FZ_BIG, 1}),
     0,
     true,
     {"A big red heart is between a small green star and a big blue ring.",
      "Ein großes rotes Herz befindet sich zwischen einem kleinen grünen Stern und einem großen "
      "blauen Ring.",
      "Un grand cœur rouge se trouve entre une petite étoile verte et un grand anneau bleu.",
      "Un corazón rojo grande está entre una estrella verde pequeña y un anillo azul grande.",
      "Большое красное сердце находится между маленькой зелёной звездой и большим синим кольцом.",
      "一颗红色的大爱心在一颗绿色的小五角星和一个蓝色的大圆环之间。"}},
    {THREE(FZ_SCENE_BETWEEN, FZ_PLAIN, FZ_WHITE, {FZ_ARROW, FZ_PURPLE, FZ_BIG, 1},
           {FZ_CRESCENT, FZ_BLACK, FZ_SMALL, 1}, {FZ_HEART, FZ_ORANGE, FZ_BIG, 1}),
     2,
     false,
     {"Between the black crescent and the orange heart there is a purple arrow.",
      "Zwischen der schwarzen Mondsichel und dem orangefarbenen Herzen liegt ein violetter Pfeil.",
      "Entre le croissant noir et le cœur orange se trouve une flèche violette.",
      "Entre la media luna negra y el corazón naranja hay una flecha morada.",
      "Между чёрным полумесяцем и оранжевым сердцем расположена фиолетовая стрелка.",
      "黑色的月牙和橙色的爱心之间有一支紫色的箭头。"}},
    {THREE(FZ_SCENE_TRIPLE, FZ_CHECKS, FZ_PINK, {FZ_DIAMOND, FZ_GREY, FZ_SMALL, 1},
           {FZ_TRIANGLE, FZ_BROWN, FZ_BIG, 1}, {FZ_ARROW, FZ_RED, FZ_SMALL, 2}),
     1,
     true,
     {"On a pink checked background you can see a small grey diamond, a big brown triangle and two "
      "small red arrows.",
      "Vor einem rosa karierten Hintergrund sieht man eine kleine graue Raute, ein großes braunes "
      "Dreieck und zwei kleine rote Pfeile.",
      "Sur un fond à carreaux roses, on voit un petit losange gris, un grand triangle marron et "
      "deux petites flèches rouges.",
      "Sobre un fondo de cuadros rosa se ven un rombo gris pequeño, un triángulo marrón grande y "
      "dos flechas rojas pequeñas.",
      "На фоне в розовую клетку можно увидеть маленький серый ромб, большой коричневый треугольник "
      "и две маленькие красные стрелки.",
      "粉色格子背景上可以看到一个灰色的小菱形、一个棕色的大三角形和两支红色的小箭头。"}},
};

static void golden_sentences_are_said(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof GOLDEN / sizeof *GOLDEN; i++)
        for (int language = 0; language < FZ_N_LANGUAGES; language++) {
            const fz_message message = {GOLDEN[i].scene.kind, GOLDEN[i].pattern,
                                        GOLDEN[i].with_size};
            char text[FZ_SENTENCE_BYTES];

            assert_int_equal(fz_grammar_say((fz_language_id)language, &GOLDEN[i].scene, message,
                                            text, sizeof text),
                             FZ_OK);
            assert_string_equal(text, GOLDEN[i].text[language]);
        }
}

typedef struct phrase {
    fz_language_id language;
    fz_entity entity;
    fz_case grammatical_case;
    fz_article article;
    const char *text;
} phrase;

#define CIRCLE_SIZED(n)                                                                            \
    {                                                                                              \
        FZ_CIRCLE, FZ_RED, FZ_SMALL, (n)                                                           \
    }
#define DIAMOND_SIZED(n)                                                                           \
    {                                                                                              \
        FZ_DIAMOND, FZ_RED, FZ_SMALL, (n)                                                          \
    }
#define HEART_SIZED(n)                                                                             \
    {                                                                                              \
        FZ_HEART, FZ_RED, FZ_SMALL, (n)                                                            \
    }
#define STAR_BLUE(n)                                                                               \
    {                                                                                              \
        FZ_STAR, FZ_BLUE, FZ_BIG, (n)                                                              \
    }
#define RING_BLUE(n)                                                                               \
    {                                                                                              \
        FZ_RING, FZ_BLUE, FZ_BIG, (n)                                                              \
    }

/* German: gender by case by declension. Russian: gender by case, one and several. */
static const phrase PHRASES[] = {
    {FZ_DE, CIRCLE_SIZED(1), FZ_NOM, FZ_INDEFINITE, "ein kleiner roter Kreis"},
    {FZ_DE, CIRCLE_SIZED(1), FZ_GEN, FZ_INDEFINITE, "eines kleinen roten Kreises"},
    {FZ_DE, CIRCLE_SIZED(1), FZ_DAT, FZ_INDEFINITE, "einem kleinen roten Kreis"},
    {FZ_DE, CIRCLE_SIZED(1), FZ_ACC, FZ_INDEFINITE, "einen kleinen roten Kreis"},
    {FZ_DE, DIAMOND_SIZED(1), FZ_NOM, FZ_INDEFINITE, "eine kleine rote Raute"},
    {FZ_DE, DIAMOND_SIZED(1), FZ_GEN, FZ_INDEFINITE, "einer kleinen roten Raute"},
    {FZ_DE, DIAMOND_SIZED(1), FZ_DAT, FZ_INDEFINITE, "einer kleinen roten Raute"},
    {FZ_DE, DIAMOND_SIZED(1), FZ_ACC, FZ_INDEFINITE, "eine kleine rote Raute"},
    {FZ_DE, HEART_SIZED(1), FZ_NOM, FZ_INDEFINITE, "ein kleines rotes Herz"},
    {FZ_DE, HEART_SIZED(1), FZ_GEN, FZ_INDEFINITE, "eines kleinen roten Herzens"},
    {FZ_DE, HEART_SIZED(1), FZ_DAT, FZ_INDEFINITE, "einem kleinen roten Herzen"},
    {FZ_DE, HEART_SIZED(1), FZ_ACC, FZ_INDEFINITE, "ein kleines rotes Herz"},
    {FZ_DE, CIRCLE_SIZED(1), FZ_NOM, FZ_DEFINITE, "der kleine rote Kreis"},
    {FZ_DE, CIRCLE_SIZED(1), FZ_DAT, FZ_DEFINITE, "dem kleinen roten Kreis"},
    {FZ_DE, CIRCLE_SIZED(1), FZ_ACC, FZ_DEFINITE, "den kleinen roten Kreis"},
    {FZ_DE, DIAMOND_SIZED(1), FZ_NOM, FZ_DEFINITE, "die kleine rote Raute"},
    {FZ_DE, DIAMOND_SIZED(1), FZ_DAT, FZ_DEFINITE, "der kleinen roten Raute"},
    {FZ_DE, HEART_SIZED(1), FZ_NOM, FZ_DEFINITE, "das kleine rote Herz"},
    {FZ_DE, HEART_SIZED(1), FZ_GEN, FZ_DEFINITE, "des kleinen roten Herzens"},
    {FZ_DE, CIRCLE_SIZED(2), FZ_NOM, FZ_INDEFINITE, "zwei kleine rote Kreise"},
    {FZ_DE, CIRCLE_SIZED(2), FZ_GEN, FZ_INDEFINITE, "von zwei kleinen roten Kreisen"},
    {FZ_DE, CIRCLE_SIZED(3), FZ_DAT, FZ_INDEFINITE, "drei kleinen roten Kreisen"},
    {FZ_DE, CIRCLE_SIZED(4), FZ_ACC, FZ_INDEFINITE, "vier kleine rote Kreise"},
    {FZ_DE, CIRCLE_SIZED(2), FZ_NOM, FZ_DEFINITE, "die zwei kleinen roten Kreise"},
    {FZ_DE, CIRCLE_SIZED(2), FZ_GEN, FZ_DEFINITE, "der zwei kleinen roten Kreise"},
    {FZ_DE, CIRCLE_SIZED(2), FZ_DAT, FZ_DEFINITE, "den zwei kleinen roten Kreisen"},
    {FZ_RU, CIRCLE_SIZED(1), FZ_NOM, FZ_INDEFINITE, "маленький красный круг"},
    {FZ_RU, CIRCLE_SIZED(1), FZ_GEN, FZ_INDEFINITE, "маленького красного круга"},
    {FZ_RU, CIRCLE_SIZED(1), FZ_ACC, FZ_INDEFINITE, "маленький красный круг"},
    {FZ_RU, CIRCLE_SIZED(1), FZ_INS, FZ_INDEFINITE, "маленьким красным кругом"},
    {FZ_RU, CIRCLE_SIZED(2), FZ_NOM, FZ_INDEFINITE, "два маленьких красных круга"},
    {FZ_RU, CIRCLE_SIZED(3), FZ_GEN, FZ_INDEFINITE, "трёх маленьких красных кругов"},
    {FZ_RU, CIRCLE_SIZED(4), FZ_ACC, FZ_INDEFINITE, "четыре маленьких красных круга"},
    {FZ_RU, CIRCLE_SIZED(4), FZ_INS, FZ_INDEFINITE, "четырьмя маленькими красными кругами"},
    {FZ_RU, STAR_BLUE(1), FZ_NOM, FZ_INDEFINITE, "большая синяя звезда"},
    {FZ_RU, STAR_BLUE(1), FZ_GEN, FZ_INDEFINITE, "большой синей звезды"},
    {FZ_RU, STAR_BLUE(1), FZ_ACC, FZ_INDEFINITE, "большую синюю звезду"},
    {FZ_RU, STAR_BLUE(1), FZ_INS, FZ_INDEFINITE, "большой синей звездой"},
    {FZ_RU, STAR_BLUE(2), FZ_NOM, FZ_INDEFINITE, "две большие синие звезды"},
    {FZ_RU, STAR_BLUE(2), FZ_ACC, FZ_INDEFINITE, "две большие синие звезды"},
    {FZ_RU, STAR_BLUE(2), FZ_GEN, FZ_INDEFINITE, "двух больших синих звёзд"},
    {FZ_RU, STAR_BLUE(3), FZ_INS, FZ_INDEFINITE, "тремя большими синими звёздами"},
    {FZ_RU, RING_BLUE(1), FZ_NOM, FZ_INDEFINITE, "большое синее кольцо"},
    {FZ_RU, RING_BLUE(1), FZ_GEN, FZ_INDEFINITE, "большого синего кольца"},
    {FZ_RU, RING_BLUE(1), FZ_ACC, FZ_INDEFINITE, "большое синее кольцо"},
    {FZ_RU, RING_BLUE(1), FZ_INS, FZ_INDEFINITE, "большим синим кольцом"},
    {FZ_RU, RING_BLUE(2), FZ_NOM, FZ_INDEFINITE, "два больших синих кольца"},
    {FZ_RU, RING_BLUE(4), FZ_GEN, FZ_INDEFINITE, "четырёх больших синих колец"},
    {FZ_RU, RING_BLUE(2), FZ_INS, FZ_INDEFINITE, "двумя большими синими кольцами"},
};

static void noun_phrases_agree_in_gender_number_and_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof PHRASES / sizeof *PHRASES; i++) {
        const phrase *p = &PHRASES[i];
        const fz_language *language = fz_language_get(p->language);
        char out[FZ_SENTENCE_BYTES] = "";
        fz_text text = {.out = out, .bytes = sizeof out};

        language->noun_phrase(&text, &p->entity, true,
                              (fz_form){.grammatical_case = p->grammatical_case,
                                        .gender = language->gender[p->entity.shape],
                                        .plural = p->entity.count > 1,
                                        .article = p->article});
        assert_string_equal(out, p->text);
    }
}

/* Every noun, every colour in both numbers and two genders: list 0 one of shape i in colour 4i mod
 * 11, list 1 two of each with sizes by turns, lists 2 and 3 one and two stars (German: diamonds) in
 * each colour. */
static const struct {
    fz_language_id language;
    int list;
    const char *text;
} FORMS[] = {
    {FZ_DE, 0,
     "ein roter Kreis, ein schwarzes Quadrat, ein braunes Dreieck, "
     "ein blauer Stern, ein weißes Kreuz, ein graues Herz, ein grüner Ring, "
     "eine orangefarbene Raute, ein rosa Pfeil, eine gelbe Mondsichel, "
     "ein violetter Kreis"},
    {FZ_DE, 1,
     "zwei kleine rote Kreise, zwei große schwarze Quadrate, "
     "zwei kleine braune Dreiecke, zwei große blaue Sterne, "
     "zwei kleine weiße Kreuze, zwei große graue Herzen, zwei kleine grüne Ringe, "
     "zwei große orangefarbene Rauten, zwei kleine rosa Pfeile, "
     "zwei große gelbe Mondsicheln, zwei kleine violette Kreise"},
    {FZ_DE, 2,
     "eine rote Raute, eine blaue Raute, eine grüne Raute, eine gelbe Raute, "
     "eine schwarze Raute, eine weiße Raute, eine orangefarbene Raute, "
     "eine violette Raute, eine braune Raute, eine graue Raute, eine rosa Raute"},
    {FZ_DE, 3,
     "zwei rote Rauten, zwei blaue Rauten, zwei grüne Rauten, zwei gelbe Rauten, "
     "zwei schwarze Rauten, zwei weiße Rauten, zwei orangefarbene Rauten, "
     "zwei violette Rauten, zwei braune Rauten, zwei graue Rauten, zwei rosa Rauten"},
    {FZ_FR, 0,
     "un cercle rouge, un carré noir, un triangle marron, une étoile bleue, "
     "une croix blanche, un cœur gris, un anneau vert, un losange orange, "
     "une flèche rose, un croissant jaune, un cercle violet"},
    {FZ_FR, 1,
     "deux petits cercles rouges, deux grands carrés noirs, "
     "deux petits triangles marron, deux grandes étoiles bleues, "
     "deux petites croix blanches, deux grands cœurs gris, "
     "deux petits anneaux verts, deux grands losanges orange, "
     "deux petites flèches roses, deux grands croissants jaunes, "
     "deux petits cercles violets"},
    {FZ_FR, 2,
     "une étoile rouge, une étoile bleue, une étoile verte, une étoile jaune, "
     "une étoile noire, une étoile blanche, une étoile orange, une étoile violette, "
     "une étoile marron, une étoile grise, une étoile rose"},
    {FZ_FR, 3,
     "deux étoiles rouges, deux étoiles bleues, deux étoiles vertes, "
     "deux étoiles jaunes, deux étoiles noires, deux étoiles blanches, "
     "deux étoiles orange, deux étoiles violettes, deux étoiles marron, "
     "deux étoiles grises, deux étoiles roses"},
    {FZ_ES, 0,
     "un círculo rojo, un cuadrado negro, un triángulo marrón, una estrella azul, "
     "una cruz blanca, un corazón gris, un anillo verde, un rombo naranja, "
     "una flecha rosa, una media luna amarilla, un círculo morado"},
    {FZ_ES, 1,
     "dos círculos rojos pequeños, dos cuadrados negros grandes, "
     "dos triángulos marrones pequeños, dos estrellas azules grandes, "
     "dos cruces blancas pequeñas, dos corazones grises grandes, "
     "dos anillos verdes pequeños, dos rombos naranja grandes, "
     "dos flechas rosa pequeñas, dos medias lunas amarillas grandes, "
     "dos círculos morados pequeños"},
    {FZ_ES, 2,
     "una estrella roja, una estrella azul, una estrella verde, "
     "una estrella amarilla, una estrella negra, una estrella blanca, "
     "una estrella naranja, una estrella morada, una estrella marrón, "
     "una estrella gris, una estrella rosa"},
    {FZ_ES, 3,
     "dos estrellas rojas, dos estrellas azules, dos estrellas verdes, "
     "dos estrellas amarillas, dos estrellas negras, dos estrellas blancas, "
     "dos estrellas naranja, dos estrellas moradas, dos estrellas marrones, "
     "dos estrellas grises, dos estrellas rosa"},
    {FZ_RU, 0,
     "красный круг, чёрный квадрат, коричневый треугольник, синяя звезда, "
     "белый крест, серое сердце, зелёное кольцо, оранжевый ромб, розовая стрелка, "
     "жёлтый полумесяц, фиолетовый круг"},
    {FZ_RU, 1,
     "два маленьких красных круга, два больших чёрных квадрата, "
     "два маленьких коричневых треугольника, две большие синие звезды, "
     "два маленьких белых креста, два больших серых сердца, "
     "два маленьких зелёных кольца, два больших оранжевых ромба, "
     "две маленькие розовые стрелки, два больших жёлтых полумесяца, "
     "два маленьких фиолетовых круга"},
    {FZ_RU, 2,
     "красная звезда, синяя звезда, зелёная звезда, жёлтая звезда, чёрная звезда, "
     "белая звезда, оранжевая звезда, фиолетовая звезда, коричневая звезда, "
     "серая звезда, розовая звезда"},
    {FZ_RU, 3,
     "две красные звезды, две синие звезды, две зелёные звезды, две жёлтые звезды, "
     "две чёрные звезды, две белые звезды, две оранжевые звезды, "
     "две фиолетовые звезды, две коричневые звезды, две серые звезды, "
     "две розовые звезды"},
    {FZ_ZH, 0,
     "一个红色的圆形, 一个黑色的正方形, 一个棕色的三角形, 一颗蓝色的五角星, 一个白色的十字, "
     "一颗灰色的爱心, 一个绿色的圆环, 一个橙色的菱形, "
     "一支粉色的箭头, 一弯黄色的月牙, 一个紫色的圆形"},
    {FZ_ZH, 1,
     "两个红色的小圆形, 两个黑色的大正方形, 两个棕色的小三角形, 两颗蓝色的大五角星, "
     "两个白色的小十字, 两颗灰色的大爱心, 两个绿色的小圆环, "
     "两个橙色的大菱形, 两支粉色的小箭头, 两弯黄色的大月牙, 两个紫色的小圆形"},
    {FZ_ZH, 2,
     "一颗红色的五角星, 一颗蓝色的五角星, 一颗绿色的五角星, 一颗黄色的五角星, 一颗黑色的五角星, "
     "一颗白色的五角星, 一颗橙色的五角星, "
     "一颗紫色的五角星, 一颗棕色的五角星, 一颗灰色的五角星, 一颗粉色的五角星"},
    {FZ_ZH, 3,
     "两颗红色的五角星, 两颗蓝色的五角星, 两颗绿色的五角星, 两颗黄色的五角星, 两颗黑色的五角星, "
     "两颗白色的五角星, 两颗橙色的五角星, "
     "两颗紫色的五角星, 两颗棕色的五角星, 两颗灰色的五角星, 两颗粉色的五角星"},
};

static void every_noun_and_colour_has_its_forms(void **state)
{
    (void)state;
    for (size_t row = 0; row < sizeof FORMS / sizeof *FORMS; row++) {
        const fz_language *language = fz_language_get(FORMS[row].language);
        const int list = FORMS[row].list;
        char out[4 * FZ_SENTENCE_BYTES] = "";
        fz_text text = {.out = out, .bytes = sizeof out};

        for (int i = 0; i < FZ_N_COLOURS; i++) {
            const int feminine = FORMS[row].language == FZ_DE ? FZ_DIAMOND : FZ_STAR;
            const fz_entity entity = {.shape = list < 2 ? i % FZ_N_SHAPES : feminine,
                                      .colour = list < 2 ? 4 * i % FZ_N_COLOURS : i,
                                      .size = i % 2,
                                      .count = 1 + list % 2};

            if (i > 0) fz_text_add(&text, ", ");
            language->noun_phrase(&text, &entity, list == 1,
                                  (fz_form){.grammatical_case = FZ_NOM,
                                            .gender = language->gender[entity.shape],
                                            .plural = entity.count > 1});
        }
        assert_string_equal(out, FORMS[row].text);
    }
}

/* What holds for any sentence of any language. */
static void check_form(const char *code, const char *text)
{
    const size_t n = strlen(text);
    const bool chinese = strcmp(code, "zh") == 0;

    assert_true(n > 3);
    assert_null(strpbrk(text, "{}|"));
    assert_null(strstr(text, "  "));
    assert_false(text[0] >= 'a' && text[0] <= 'z');
    assert_string_equal(text + n - (chinese ? 3 : 1), chinese ? "。" : ".");
    if (strcmp(code, "fr") == 0) {
        assert_null(strstr(text, " de un"));
        assert_null(strstr(text, " de le"));
        assert_null(strstr(text, " de é"));
        assert_null(strstr(text, "la é"));
        assert_null(strstr(text, "le a"));
    }
    if (strcmp(code, "es") == 0) assert_null(strstr(text, " de el "));
    if (strcmp(code, "de") == 0) assert_null(strstr(text, " von dem "));
    if (strcmp(code, "en") == 0) assert_null(strstr(text, " a orange"));
}

static void every_pattern_of_every_language_says_every_scene(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 3000; n++) {
        const fz_scene scene = fz_scene_draw(3, FZ_SPLIT_TRAIN, n);

        for (int p = 0; p < fz_grammar_patterns(scene.kind); p++)
            for (int language = 0; language < FZ_N_LANGUAGES; language++) {
                char text[FZ_SENTENCE_BYTES];

                assert_int_equal(fz_grammar_say((fz_language_id)language, &scene,
                                                (fz_message){scene.kind, p, n % 2 == 0}, text,
                                                sizeof text),
                                 FZ_OK);
                check_form(fz_language_get((fz_language_id)language)->code, text);
            }
    }
}

static void languages_have_the_same_patterns_and_all_their_words(void **state)
{
    (void)state;
    for (int i = 0; i < FZ_N_LANGUAGES; i++) {
        const fz_language *language = fz_language_get((fz_language_id)i);

        for (int kind = 0; kind < FZ_N_SCENE_KINDS; kind++)
            for (int p = 0; p < FZ_MAX_PATTERNS; p++)
                assert_int_equal(language->pattern[kind][p] != NULL,
                                 p < fz_grammar_patterns((fz_scene_kind)kind));
        for (int r = 0; r < FZ_N_RELATIONS; r++)
            assert_non_null(language->relation[r]);
        for (int p = 0; p < FZ_N_POSITIONS; p++)
            assert_non_null(language->position[p]);
        for (int b = 0; b < FZ_N_BACKGROUNDS; b++)
            assert_non_null(language->background[b]);
    }
}

static void a_sentence_that_does_not_fit_is_an_error(void **state)
{
    char text[24];

    (void)state;
    assert_int_equal(fz_grammar_say(FZ_RU, &GOLDEN[0].scene, (fz_message){FZ_SCENE_ONE, 0, true},
                                    text, sizeof text),
                     FZ_ERR_ARG);
    assert_non_null(strstr(fz_last_error()->text, "longer than 24 bytes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_sentences_are_said),
        cmocka_unit_test(noun_phrases_agree_in_gender_number_and_case),
        cmocka_unit_test(every_noun_and_colour_has_its_forms),
        cmocka_unit_test(every_pattern_of_every_language_says_every_scene),
        cmocka_unit_test(languages_have_the_same_patterns_and_all_their_words),
        cmocka_unit_test(a_sentence_that_does_not_fit_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
