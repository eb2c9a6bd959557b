/* Sentences about scenes in six languages: a small engine over tables, one file of tables per
 * language (synth_en.c, synth_de.c, ...). Local.
 *
 * A message is a scene seen one way (a sentence pattern, with or without sizes). Pattern p of one
 * language says what pattern p of every other says, so a translation is a function of its source.
 *
 * Patterns are text with slots in braces. The first letter of a sentence becomes a capital, and a
 * language's rewrites (contractions, elisions: "de le " -> "du ") run over the whole at the end.
 *
 *   {a} {b} {c}        entity 0, 1, 2 as a noun phrase; then, each after a dot: its case nom, gen,
 *                      dat, acc, ins, loc or rel (what the relation governs), and def for definite
 *   {rel} {pos} {bg}   the relation, the position, the background: patterns of their own
 *   {k}                the background's colour as an adjective, with .m .f .n .pl, case, and
 *                      .def or .bare for the declension, .base for the uninflected word
 *   {x|y:a}            x when entity a is one thing, y when it is several
 *   {w|x|y|z:a}        by the language's own order of four (fr, es: m f m-pl f-pl; ru: m f n pl)
 */
#ifndef FZ_DATA_SYNTH_GRAMMAR_H
#define FZ_DATA_SYNTH_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"
#include "data/synth_scene.h"

typedef enum fz_language_id {
    FZ_EN,
    FZ_DE,
    FZ_FR,
    FZ_ES,
    FZ_RU,
    FZ_ZH,
    FZ_N_LANGUAGES
} fz_language_id;

enum { FZ_MAX_PATTERNS = 5, FZ_SENTENCE_BYTES = 512 };

typedef enum fz_gender { FZ_MASCULINE, FZ_FEMININE, FZ_NEUTER, FZ_N_GENDERS } fz_gender;
typedef enum fz_case { FZ_NOM, FZ_GEN, FZ_DAT, FZ_ACC, FZ_INS, FZ_LOC, FZ_N_CASES } fz_case;
typedef enum fz_article { FZ_INDEFINITE, FZ_DEFINITE, FZ_BARE } fz_article;

/* What an adjective or a noun phrase agrees with. */
typedef struct fz_form {
    fz_case grammatical_case;
    fz_gender gender;
    bool plural;
    fz_article article;
    bool base; /* uninflected */
} fz_form;

/* Text that grows inside the caller's buffer and remembers when it did not fit. */
typedef struct fz_text {
    char *out;
    size_t bytes, n;
    bool is_full;
} fz_text;
void fz_text_add(fz_text *text, const char *more);

typedef struct fz_rewrite {
    const char *from, *to; /* from starts at a word's beginning */
} fz_rewrite;

typedef struct fz_language {
    const char *code;                                       /* "de" */
    const char *name;                                       /* as a prompt names it: "German" */
    const char *pattern[FZ_N_SCENE_KINDS][FZ_MAX_PATTERNS]; /* NULL after the last of a kind */
    const char *relation[FZ_N_RELATIONS];
    fz_case relation_case[FZ_N_RELATIONS];
    const char *position[FZ_N_POSITIONS];
    const char *background[FZ_N_BACKGROUNDS];
    const fz_rewrite *rewrites; /* applied in order; from NULL ends the list */
    fz_gender gender[FZ_N_SHAPES];
    bool neuter_before_plural; /* four-way choices: m f n pl, else m f m-pl f-pl */
    void (*noun_phrase)(fz_text *text, const fz_entity *entity, bool with_size, fz_form form);
    void (*colour)(fz_text *text, int colour, fz_form form);
} fz_language;

extern const fz_language fz_language_en, fz_language_de, fz_language_fr, fz_language_es,
    fz_language_ru, fz_language_zh;
const fz_language *fz_language_get(fz_language_id id);

typedef struct fz_message {
    fz_scene_kind kind; /* the scene's, or PAIR for RELATED, TRIPLE for BETWEEN: saying less */
    int pattern;
    bool with_size;
} fz_message;

/* Number of patterns for scenes of this kind: the same in every language. */
int fz_grammar_patterns(fz_scene_kind kind);
/* One sentence, UTF-8. FZ_ERR_ARG: it does not fit into bytes. */
fz_status fz_grammar_say(fz_language_id language, const fz_scene *scene, fz_message message,
                         char *out, size_t bytes);

#endif
