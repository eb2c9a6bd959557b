#include "data/synth_grammar.h"

#include <string.h>

#include "core/assert.h"

typedef struct voice {
    const fz_language *language;
    const fz_scene *scene;
    bool with_size;
} voice;

enum { SLOT_BYTES = 160 };

const fz_language *fz_language_get(fz_language_id id)
{
    static const fz_language *const all[FZ_N_LANGUAGES] = {
        [FZ_EN] = &fz_language_en, [FZ_DE] = &fz_language_de, [FZ_FR] = &fz_language_fr,
        [FZ_ES] = &fz_language_es, [FZ_RU] = &fz_language_ru, [FZ_ZH] = &fz_language_zh,
    };
    return all[id];
}

int fz_grammar_patterns(fz_scene_kind kind)
{
    int n = 0;

    while (n < FZ_MAX_PATTERNS && fz_language_en.pattern[kind][n] != NULL)
        n++;
    return n;
}

static void add_bytes(fz_text *text, const char *more, size_t n)
{
    if (text->n + n + 1 > text->bytes) {
        text->is_full = true;
        return;
    }
    memcpy(text->out + text->n, more, n);
    text->n += n;
    text->out[text->n] = '\0';
}

void fz_text_add(fz_text *text, const char *more)
{
    add_bytes(text, more, strlen(more));
}

static void say_pattern(const voice *self, fz_text *text, const char *pattern);

/* The words after the dots of a slot. */
static fz_form read_form(const voice *self, char *words)
{
    static const char *const cases[FZ_N_CASES] = {"nom", "gen", "dat", "acc", "ins", "loc"};
    fz_form form = {.grammatical_case = FZ_NOM, .article = FZ_INDEFINITE};
    char *rest = NULL;

    for (char *word = strtok_r(words, ".", &rest); word != NULL;
         word = strtok_r(NULL, ".", &rest)) {
        bool known = true;

        if (strcmp(word, "rel") == 0)
            form.grammatical_case = self->language->relation_case[self->scene->relation];
        else if (strcmp(word, "def") == 0)
            form.article = FZ_DEFINITE;
        else if (strcmp(word, "bare") == 0)
            form.article = FZ_BARE;
        else if (strcmp(word, "base") == 0)
            form.base = true;
        else if (strcmp(word, "pl") == 0)
            form.plural = true;
        else if (strcmp(word, "m") == 0 || strcmp(word, "f") == 0 || strcmp(word, "n") == 0)
            form.gender = *word == 'm' ? FZ_MASCULINE : *word == 'f' ? FZ_FEMININE : FZ_NEUTER;
        else
            known = false;
        for (int c = 0; c < FZ_N_CASES && !known; c++)
            if (strcmp(word, cases[c]) == 0) {
                form.grammatical_case = (fz_case)c;
                known = true;
            }
        FZ_ASSERT(known);
    }
    return form;
}

static const fz_entity *entity_of(const voice *self, char letter)
{
    const int i = letter - 'a';

    FZ_ASSERT(i >= 0 && i < self->scene->n_entities);
    return &self->scene->entity[i];
}

/* "x|y" or "w|x|y|z" (split in place): the one that agrees with the entity. */
static void say_choice(const voice *self, fz_text *text, char *choices, const fz_entity *entity)
{
    char *choice[4] = {choices, NULL, NULL, NULL};
    int n = 1;

    for (char *bar = strchr(choices, '|'); bar != NULL; bar = strchr(bar + 1, '|')) {
        FZ_ASSERT(n < 4);
        *bar = '\0';
        choice[n++] = bar + 1;
    }
    FZ_ASSERT(n == 2 || n == 4);

    const bool plural = entity->count > 1;
    const int gender = (int)self->language->gender[entity->shape];
    if (n == 2)
        fz_text_add(text, choice[plural ? 1 : 0]);
    else if (self->language->neuter_before_plural)
        fz_text_add(text, choice[plural ? 3 : gender]);
    else
        fz_text_add(text, choice[gender + (plural ? 2 : 0)]);
}

static void say_slot(const voice *self, fz_text *text, char *slot)
{
    const fz_language *language = self->language;
    const fz_scene *scene = self->scene;
    char *colon = strrchr(slot, ':');

    if (colon != NULL) {
        *colon = '\0';
        say_choice(self, text, slot, entity_of(self, colon[1]));
        return;
    }
    if (strcmp(slot, "rel") == 0) {
        say_pattern(self, text, language->relation[scene->relation]);
        return;
    }
    if (strcmp(slot, "pos") == 0) {
        say_pattern(self, text, language->position[scene->position]);
        return;
    }
    if (strcmp(slot, "bg") == 0) {
        say_pattern(self, text, language->background[scene->background]);
        return;
    }

    FZ_ASSERT(slot[1] == '\0' || slot[1] == '.');
    fz_form form = read_form(self, slot + 1);
    if (slot[0] == 'k') {
        language->colour(text, scene->background_colour, form);
        return;
    }
    const fz_entity *entity = entity_of(self, slot[0]);
    form.gender = language->gender[entity->shape];
    form.plural = entity->count > 1;
    language->noun_phrase(text, entity, self->with_size, form);
}

static void say_pattern(const voice *self, fz_text *text, const char *pattern)
{
    FZ_ASSERT(pattern != NULL);
    while (*pattern != '\0') {
        const size_t plain = strcspn(pattern, "{");
        char slot[SLOT_BYTES];

        add_bytes(text, pattern, plain);
        pattern += plain;
        if (*pattern == '\0') return;

        const char *end = strchr(pattern, '}');
        FZ_ASSERT(end != NULL && (size_t)(end - pattern) <= sizeof slot);
        const size_t n = (size_t)(end - pattern) - 1;
        memcpy(slot, pattern + 1, n);
        slot[n] = '\0';
        say_slot(self, text, slot);
        pattern = end + 1;
    }
}

static void rewrite(fz_text *text, const fz_rewrite *rules)
{
    for (const fz_rewrite *rule = rules; rule != NULL && rule->from != NULL; rule++) {
        const size_t n_from = strlen(rule->from), n_to = strlen(rule->to);
        char *at = text->out;

        while ((at = strstr(at, rule->from)) != NULL) {
            if (at != text->out && at[-1] != ' ' && at[-1] != '\'') {
                at++;
                continue;
            }
            const size_t tail = text->n - (size_t)(at - text->out) - n_from;
            if (text->n - n_from + n_to + 1 > text->bytes) {
                text->is_full = true;
                return;
            }
            memmove(at + n_to, at + n_from, tail + 1);
            memcpy(at, rule->to, n_to);
            text->n = text->n - n_from + n_to;
            at += n_to;
        }
    }
}

/* The first letter: ASCII, Latin-1 (a with grave, u umlaut, e acute), or Cyrillic; two bytes stay
 * two bytes in each of these. Chinese has no capitals. */
static void capitalise(char *out)
{
    unsigned char a = (unsigned char)out[0];

    if (a >= 'a' && a <= 'z') {
        out[0] = (char)(a - 'a' + 'A');
        return;
    }
    const unsigned char b = (unsigned char)(a != 0 ? out[1] : 0);
    if (a == 0xc3 && b >= 0xa0) {
        out[1] = (char)(b - 0x20);
    } else if (a == 0xd0 && b >= 0xb0) {
        out[1] = (char)(b - 0x20);
    } else if (a == 0xd1 && b >= 0x80 && b <= 0x8f) {
        out[0] = (char)0xd0;
        out[1] = (char)(b + 0x20);
    }
}

fz_status fz_grammar_say(fz_language_id language, const fz_scene *scene, fz_message message,
                         char *out, size_t bytes)
{
    const voice self = {fz_language_get(language), scene, message.with_size};
    fz_text text = {.out = out, .bytes = bytes};

    FZ_CHECK(bytes > 0, FZ_ERR_ARG, "sentence: no room");
    out[0] = '\0';
    FZ_ASSERT(message.pattern >= 0 && message.pattern < fz_grammar_patterns(message.kind));
    say_pattern(&self, &text, self.language->pattern[message.kind][message.pattern]);
    rewrite(&text, self.language->rewrites);
    FZ_CHECK(!text.is_full, FZ_ERR_ARG, "sentence: longer than %zu bytes: %.60s", bytes, out);
    capitalise(out);
    return FZ_OK;
}
