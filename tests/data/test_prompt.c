#include "tests/support/unit.h"

#include "data/prompt.h"

static char out[512];

static const char *expanded(const char *text)
{
    assert_ok(fz_prompt_expand(text, out, sizeof out));
    return out;
}

static void macros_become_their_sentences(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"<LANG_EN><CAPTION>", "The target language is English. What does the image describe?"},
        {"<LANG_DE><DETAILED_CAPTION>",
         "The target language is German. Describe in detail what is shown in the image."},
        {"<LANG_FR><MORE_DETAILED_CAPTION>",
         "The target language is French. Describe with a paragraph what is shown in the image."},
        {"<LANG_ES><TRANSLATE>A dog.",
         "The target language is Spanish. Translate the following text: A dog."},
        {"<LANG_ZH><CAPTION>",
         "The target language is simplified Chinese. What does the image describe?"},
        {"<LANG_RU><CAPTION>", "The target language is Russian. What does the image describe?"},
        {"<CAPTION>", "What does the image describe?"},
        {"<OD>", "Locate the objects with category name in the image."},
        {"a <LANG_DE>b", "The target language is German. a b"},
        {"<LANG_DE>", "The target language is German. "},
        {"<LANG_DE><LANG_DE><CAPTION>",
         "The target language is German. What does the image describe?"},
        {"<TRANSLATE>", "Translate the following text: "},
        {"<TRANSLATE> A  <dog>. ", "Translate the following text:  A  <dog>. "},
        {"A <TRANSLATE>dog<TRANSLATE>.", "Translate the following text: A dog."},
        {"<TRANSLATE>a <REGION_TO_OCR>b", "What text is in the region <TRANSLATE>a b?"},
        {"<OPEN_VOCABULARY_DETECTION>a cat", "Locate a cat in the image."},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(expanded(cases[i].text), cases[i].want);
}

static void other_texts_stay_themselves(void **state)
{
    static const char *const texts[] = {"",
                                        " ",
                                        "What does the image describe?",
                                        "a < b",
                                        "<loc_17><LANG_XX><caption>",
                                        "<LANG_DE",
                                        "图为 <s>"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_string_equal(expanded(texts[i]), texts[i]);
}

static void what_cannot_be_meant_is_an_error(void **state)
{
    (void)state;
    assert_fails(fz_prompt_expand("<LANG_DE><LANG_FR>a", out, sizeof out), FZ_ERR_FORMAT,
                 "names two languages; the second is <LANG_FR>");
    /* Taking out the one makes the other. */
    assert_fails(fz_prompt_expand("<LANG_<LANG_EN>RU>", out, sizeof out), FZ_ERR_FORMAT,
                 "<LANG_RU>");
    assert_fails(fz_prompt_expand("<LANG_DE><CAPTION> now", out, sizeof out), FZ_ERR_FORMAT,
                 "<CAPTION> stands alone");
    assert_fails(fz_prompt_expand("<TRANSLATE>what <OD> means", out, sizeof out), FZ_ERR_FORMAT,
                 "<OD> stands alone");
    assert_fails(fz_prompt_expand("a", out, FZ_PROMPT_ROOM), FZ_ERR_ARG, "no room");
    assert_ok(fz_prompt_expand("a", out, FZ_PROMPT_ROOM + 1));
}

static void a_prompt_is_built_by_task_and_language(void **state)
{
    (void)state;
    assert_ok(fz_prompt_build("caption", "de", NULL, out, sizeof out));
    assert_string_equal(out, "The target language is German. What does the image describe?");
    assert_ok(fz_prompt_build("more_detailed_caption", NULL, NULL, out, sizeof out));
    assert_string_equal(out, "Describe with a paragraph what is shown in the image.");
    assert_ok(fz_prompt_build("translation", "zh", "Two cats.", out, sizeof out));
    assert_string_equal(
        out, "The target language is simplified Chinese. Translate the following text: Two cats.");
    assert_fails(fz_prompt_build("poem", "de", NULL, out, sizeof out), FZ_ERR_USAGE,
                 "task poem: not one of caption");
    assert_fails(fz_prompt_build("caption", "it", NULL, out, sizeof out), FZ_ERR_USAGE,
                 "language it: not one of en");
    assert_fails(fz_prompt_build("caption", "de", "a", out, sizeof out), FZ_ERR_USAGE,
                 "takes no text");
    assert_fails(fz_prompt_build("translation", "de", NULL, out, sizeof out), FZ_ERR_USAGE,
                 "text to translate is missing");
}

static void every_language_has_its_first_words(void **state)
{
    static const char *const codes[] = {"en", "de", "fr", "es", "ru", "zh"};
    static const char *const words[] = {"The image shows",       "Das Bild zeigt",
                                        "La photo montre",       "La imagen muestra",
                                        "На картинке изображен", "图为"};

    (void)state;
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(fz_prompt_prefix(codes[i]), words[i]);
    assert_null(fz_prompt_prefix("it"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(macros_become_their_sentences),
        cmocka_unit_test(other_texts_stay_themselves),
        cmocka_unit_test(what_cannot_be_meant_is_an_error),
        cmocka_unit_test(a_prompt_is_built_by_task_and_language),
        cmocka_unit_test(every_language_has_its_first_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
