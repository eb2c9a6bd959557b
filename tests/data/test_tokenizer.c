#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/memory.h"
#include "data/tokenizer.h"
#include "data/wordlist.h"

static char folder[64];

static const char *path_of(const char *name)
{
    static char path[2][128];
    static int turn;

    turn = 1 - turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "wb");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static char *read_file(const char *name)
{
    FILE *file = fopen(path_of(name), "rb");
    char *text = NULL;

    assert_non_null(file);
    assert_int_equal(fz_alloc((void **)&text, 1 << 20, "file"), FZ_OK);
    const size_t n = fread(text, 1, (1 << 20) - 1, file);
    fclose(file);
    text[n] = '\0';
    return text;
}

static const char *const LINES[] = {
    "The image shows a big red circle.",
    "Das Bild zeigt einen großen roten Kreis, links von zwei Rauten.",
    "L'image montre un grand cercle rouge à gauche d'une étoile.",
    "На картинке изображён большой красный круг.",
    "图片展示了灰色背景上的一个红色的大圆形，位于左边。",
};

static void write_lines(void)
{
    FILE *file = fopen(path_of("text"), "wb");

    assert_non_null(file);
    for (int turn = 0; turn < 20; turn++)
        for (size_t i = 0; i < sizeof LINES / sizeof *LINES; i++)
            fprintf(file, "%s\n", LINES[i]);
    fclose(file);
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/fz-tokenizer-XXXXXX");
    if (mkdtemp(folder) == NULL) return -1;
    write_lines();
    return 0;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"text", "a.model", "b.model", "a.words", "b.words"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(path_of(names[i]));
    return rmdir(folder);
}

static void check_round_trip(const fz_tokenizer *tokenizer, const char *text)
{
    int32_t ids[256];
    char back[512];
    int64_t n = 0;

    assert_int_equal(fz_tokenizer_encode(tokenizer, text, ids, 256, &n), FZ_OK);
    assert_true(n > 0 && n < 256);
    for (int64_t i = 0; i < n; i++)
        assert_true(ids[i] >= 4 && ids[i] < fz_tokenizer_vocab(tokenizer));
    assert_int_equal(fz_tokenizer_decode(tokenizer, ids, n, back, sizeof back), FZ_OK);
    assert_string_equal(back, text);
}

static void check_cut(const fz_tokenizer *tokenizer)
{
    int32_t ids[8] = {-7, -7, -7, -7, -7, -7, -7, -7}, all[256];
    int64_t n = 0, n_all = 0;

    assert_int_equal(fz_tokenizer_encode(tokenizer, LINES[0], all, 256, &n_all), FZ_OK);
    assert_int_equal(fz_tokenizer_encode(tokenizer, LINES[0], ids, 3, &n), FZ_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(ids, all, 3 * sizeof *ids);
    assert_int_equal(ids[3], -7);
    assert_int_equal(fz_tokenizer_encode(tokenizer, "", ids, 8, &n), FZ_OK);
    assert_int_equal(n, 0);
}

static void a_word_list_gives_the_text_back(void **state)
{
    fz_tokenizer *tokenizer = NULL;

    (void)state;
    assert_int_equal(fz_wordlist_train(path_of("text"), path_of("a.words"), 400, false), FZ_OK);
    assert_int_equal(fz_tokenizer_load(path_of("a.words"), &tokenizer), FZ_OK);
    for (size_t i = 0; i < sizeof LINES / sizeof *LINES; i++)
        check_round_trip(tokenizer, LINES[i]);
    check_round_trip(tokenizer, "circle red big a"); /* known words in another order */
    check_round_trip(tokenizer, "ecricl");           /* known letters in another order */
    check_cut(tokenizer);
    fz_tokenizer_destroy(&tokenizer);
}

static void a_word_list_takes_the_longest_word(void **state)
{
    fz_tokenizer *tokenizer = NULL;
    int32_t ids[16];
    int64_t n = 0;

    (void)state;
    write_file("b.words", "<s>\n<pad>\n</s>\n<unk>\n▁\nr\ne\nd\n▁re\n▁red\n.\n");
    assert_int_equal(fz_tokenizer_load(path_of("b.words"), &tokenizer), FZ_OK);
    assert_int_equal(fz_tokenizer_vocab(tokenizer), 11);
    assert_int_equal(fz_tokenizer_encode(tokenizer, "red re dx.", ids, 16, &n), FZ_OK);
    const int32_t want[] = {9, 8, 4, 7, 3, 10}; /* red | re | space d | x unknown | . */
    assert_int_equal(n, 6);
    assert_memory_equal(ids, want, sizeof want);
    fz_tokenizer_destroy(&tokenizer);
}

static void specials_have_the_ids_of_their_family(void **state)
{
    (void)state;
    assert_int_equal(fz_wordlist_train(path_of("text"), path_of("a.words"), 400, true), FZ_OK);
    char *text = read_file("a.words");
    assert_memory_equal(text, "<s>\n<pad>\n</s>\n<unk>\n", 21);
    fz_free(&text);
    assert_int_equal(fz_wordlist_train(path_of("text"), path_of("a.words"), 400, false), FZ_OK);
    text = read_file("a.words");
    assert_memory_equal(text, "<pad>\n</s>\n<s>\n<unk>\n", 21);
    fz_free(&text);
}

static void a_vocabulary_too_small_for_the_characters_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(fz_wordlist_train(path_of("text"), path_of("b.words"), 20, true), FZ_ERR_ARG);
    assert_non_null(strstr(fz_last_error()->text, "too small"));
}

static void bad_files_are_named(void **state)
{
    static const struct {
        const char *contents, *message;
    } cases[] = {
        {"", "empty"},
        {"<s>\n<pad>\n", "the first 4 are specials"},
        {"<s>\n<pad>\n</s>\nred\nblue\n", ":4: \"red\" is not the special"},
        {"<s>\n<pad>\n</s>\n<unk>\n\nblue\n", ":5: a word must have"},
        {"\nthis is no model", "b.words"},
    };
    fz_tokenizer *tokenizer = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file("b.words", cases[i].contents);
        assert_int_equal(fz_tokenizer_load(path_of("b.words"), &tokenizer), FZ_ERR_FORMAT);
        assert_non_null(strstr(fz_last_error()->text, cases[i].message));
        assert_null(tokenizer);
    }
    assert_int_equal(fz_tokenizer_load(path_of("nothing"), &tokenizer), FZ_ERR_IO);
}

static void ids_beyond_the_vocabulary_are_an_error(void **state)
{
    fz_tokenizer *tokenizer = NULL;
    const int32_t ids[] = {5, 400000};
    char out[16];

    (void)state;
    assert_int_equal(fz_wordlist_train(path_of("text"), path_of("a.words"), 400, false), FZ_OK);
    assert_int_equal(fz_tokenizer_load(path_of("a.words"), &tokenizer), FZ_OK);
    assert_int_equal(fz_tokenizer_decode(tokenizer, ids, 2, out, sizeof out), FZ_ERR_ARG);
    assert_non_null(strstr(fz_last_error()->text, "id 400000"));
    fz_tokenizer_destroy(&tokenizer);
}

static void assert_same_file(const char *a, const char *b)
{
    FILE *x = fopen(path_of(a), "rb"), *y = fopen(path_of(b), "rb");
    int c = 0;

    assert_non_null(x);
    assert_non_null(y);
    while (c != EOF) {
        c = fgetc(x);
        assert_int_equal(c, fgetc(y));
    }
    fclose(x);
    fclose(y);
}

static void a_trained_model_gives_any_text_back_and_is_the_same_each_time(void **state)
{
    fz_tokenizer *tokenizer = NULL;

    (void)state;
    if (!fz_tokenizer_has_sentencepiece()) skip();
    assert_int_equal(fz_tokenizer_train(path_of("text"), path_of("a.model"), 600, false), FZ_OK);
    assert_int_equal(fz_tokenizer_train(path_of("text"), path_of("b.model"), 600, false), FZ_OK);
    assert_same_file("a.model", "b.model");
    assert_int_equal(fz_tokenizer_load(path_of("a.model"), &tokenizer), FZ_OK);
    assert_true(fz_tokenizer_vocab(tokenizer) > 260 && fz_tokenizer_vocab(tokenizer) <= 600);
    for (size_t i = 0; i < sizeof LINES / sizeof *LINES; i++)
        check_round_trip(tokenizer, LINES[i]);
    check_round_trip(tokenizer, "Zwölf Boxkämpfer jagen Viktor, 星星"); /* unseen: by bytes */
    check_cut(tokenizer);
    fz_tokenizer_destroy(&tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_list_gives_the_text_back),
        cmocka_unit_test(a_word_list_takes_the_longest_word),
        cmocka_unit_test(specials_have_the_ids_of_their_family),
        cmocka_unit_test(a_vocabulary_too_small_for_the_characters_is_an_error),
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(ids_beyond_the_vocabulary_are_an_error),
        cmocka_unit_test(a_trained_model_gives_any_text_back_and_is_the_same_each_time),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
