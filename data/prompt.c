#include "data/prompt.h"

#include <stdio.h>
#include <string.h>

/* Florence-2's and Florenz's own words: a model answers to these and to no others. */
static const struct {
    const char *code, *macro, *sentence, *prefix;
} LANGUAGES[] = {
    {"en", "<LANG_EN>", "The target language is English.", "The image shows"},
    {"de", "<LANG_DE>", "The target language is German.", "Das Bild zeigt"},
    {"fr", "<LANG_FR>", "The target language is French.", "La photo montre"},
    {"es", "<LANG_ES>", "The target language is Spanish.", "La imagen muestra"},
    {"zh", "<LANG_ZH>", "The target language is simplified Chinese.", "图为"},
    {"ru", "<LANG_RU>", "The target language is Russian.", "На картинке изображен"},
};

static const struct {
    const char *macro, *sentence;
} ALONE[] = {
    {"<OCR>", "What is the text in the image?"},
    {"<OCR_WITH_REGION>", "What is the text in the image, with regions?"},
    {"<CAPTION>", "What does the image describe?"},
    {"<DETAILED_CAPTION>", "Describe in detail what is shown in the image."},
    {"<MORE_DETAILED_CAPTION>", "Describe with a paragraph what is shown in the image."},
    {"<OD>", "Locate the objects with category name in the image."},
    {"<DENSE_REGION_CAPTION>", "Locate the objects in the image, with their descriptions."},
    {"<REGION_PROPOSAL>", "Locate the region proposals in the image."},
};

static const struct {
    const char *macro, *before, *after;
} AROUND[] = {
    {"<CAPTION_TO_PHRASE_GROUNDING>", "Locate the phrases in the caption: ", ""},
    {"<REFERRING_EXPRESSION_SEGMENTATION>", "Locate ", " in the image with mask"},
    {"<REGION_TO_SEGMENTATION>", "What is the polygon mask of region ", ""},
    {"<OPEN_VOCABULARY_DETECTION>", "Locate ", " in the image."},
    {"<REGION_TO_CATEGORY>", "What is the region ", "?"},
    {"<REGION_TO_DESCRIPTION>", "What does the region ", " describe?"},
    {"<REGION_TO_OCR>", "What text is in the region ", "?"},
    {"<TRANSLATE>", "Translate the following text: ", ""},
};

static const struct {
    const char *name, *macro;
    bool has_text;
} TASKS[] = {
    {"caption", "<CAPTION>", false},
    {"detailed_caption", "<DETAILED_CAPTION>", false},
    {"more_detailed_caption", "<MORE_DETAILED_CAPTION>", false},
    {"translation", "<TRANSLATE>", true},
};

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Takes every macro out of the text; whether there was one. */
static bool take_out(char *text, const char *macro)
{
    const size_t n = strlen(macro);
    bool found = false;

    for (char *at = text; (at = strstr(at, macro)) != NULL; found = true)
        memmove(at, at + n, strlen(at + n) + 1);
    return found;
}

static void put_in_front(char *text, const char *words)
{
    const size_t n = strlen(words);

    memmove(text + n, text, strlen(text) + 1);
    memcpy(text, words, n);
}

static fz_status expand_task(char *text)
{
    for (size_t i = 0; i < COUNT(ALONE); i++) {
        if (strstr(text, ALONE[i].macro) == NULL) continue;
        FZ_CHECK(strcmp(text, ALONE[i].macro) == 0, FZ_ERR_FORMAT,
                 "\"%.80s\": %s stands alone, or beside a <LANG_..>", text, ALONE[i].macro);
        memcpy(text, ALONE[i].sentence, strlen(ALONE[i].sentence) + 1);
        return FZ_OK;
    }
    for (size_t i = 0; i < COUNT(AROUND); i++) {
        if (!take_out(text, AROUND[i].macro)) continue;
        put_in_front(text, AROUND[i].before);
        memcpy(text + strlen(text), AROUND[i].after, strlen(AROUND[i].after) + 1);
        return FZ_OK;
    }
    return FZ_OK;
}

static fz_status expand_in_place(char *text)
{
    const char *sentence = NULL;

    if (strchr(text, '<') == NULL) return FZ_OK;
    for (size_t i = 0; i < COUNT(LANGUAGES); i++) {
        if (!take_out(text, LANGUAGES[i].macro)) continue;
        FZ_CHECK(sentence == NULL, FZ_ERR_FORMAT,
                 "\"%.80s\": names two languages; the second is %s", text, LANGUAGES[i].macro);
        sentence = LANGUAGES[i].sentence;
    }
    FZ_TRY(expand_task(text));
    if (sentence == NULL) return FZ_OK;
    put_in_front(text, " ");
    put_in_front(text, sentence);
    return FZ_OK;
}

static fz_status check_room(const char *text, size_t bytes)
{
    FZ_CHECK(bytes >= strlen(text) + FZ_PROMPT_ROOM, FZ_ERR_ARG,
             "prompt of %zu bytes: %zu are no room for it", strlen(text), bytes);
    return FZ_OK;
}

fz_status fz_prompt_expand(const char *text, char *out, size_t bytes)
{
    FZ_TRY(check_room(text, bytes));
    memcpy(out, text, strlen(text) + 1);
    return expand_in_place(out);
}

static int language_of(const char *code)
{
    for (size_t i = 0; i < COUNT(LANGUAGES); i++)
        if (strcmp(LANGUAGES[i].code, code) == 0) return (int)i;
    return -1;
}

fz_status fz_prompt_build(const char *task, const char *language, const char *text, char *out,
                          size_t bytes)
{
    const int l = language ? language_of(language) : -1;
    size_t t = 0;

    while (t < COUNT(TASKS) && strcmp(TASKS[t].name, task) != 0)
        t++;
    FZ_CHECK(t < COUNT(TASKS), FZ_ERR_USAGE,
             "task %s: not one of caption, detailed_caption, more_detailed_caption, translation",
             task);
    FZ_CHECK(!language || l >= 0, FZ_ERR_USAGE, "language %s: not one of en, de, fr, es, zh, ru",
             language);
    FZ_CHECK(!TASKS[t].has_text || text, FZ_ERR_USAGE, "task %s: the text to translate is missing",
             task);
    FZ_CHECK(TASKS[t].has_text || !text, FZ_ERR_USAGE, "task %s: takes no text", task);
    FZ_TRY(check_room(text ? text : "", bytes));
    snprintf(out, bytes, "%s%s%s", language ? LANGUAGES[l].macro : "", TASKS[t].macro,
             text ? text : "");
    return expand_in_place(out);
}

const char *fz_prompt_prefix(const char *language)
{
    const int l = language_of(language);

    return l < 0 ? NULL : LANGUAGES[l].prefix;
}
