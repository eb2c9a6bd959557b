/* Tokenizers from a CSV: they can say what the CSV says, and a config that is there is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/csv_tokenizers.h"
#include "data/tokenizer.h"

static char folder[] = "/tmp/fz-csv-tokenizers-XXXXXX";
static char csv[64];

static void write_csv(const char *header)
{
    FILE *file = fopen(csv, "wb");
    assert_non_null(file);
    fprintf(file, "%s\n", header);
    for (int i = 0; i < 200; i++)
        fprintf(file, "a.jpg,en,caption,\"What is %d, and why?\",\"Picture %d shows a circle.\"\n",
                i % 13, i % 7);
    assert_int_equal(fclose(file), 0);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return 1;
    snprintf(csv, sizeof csv, "%s/captions.csv", folder);
    return 0;
}

static int remove_folder(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void tokenizers_say_what_the_csv_says(void **state)
{
    const fz_csv_tokenizers_config config = {.csv = csv, .out = folder, .vocab = 400};
    fz_csv_tokenizers_totals totals;
    fz_tokenizer *dec = NULL;
    char model[96], text[256];
    int32_t ids[64];
    int64_t n = 0;
    (void)state;
    write_csv("image,lang,type,prompt,output");
    assert_int_equal(fz_csv_tokenizers(&config, &totals), FZ_OK);
    assert_true(totals.wrote_config);
    assert_true(totals.enc_vocab > 4 && totals.enc_vocab <= 400);
    snprintf(model, sizeof model, "%s/dec.model", folder);
    assert_int_equal(fz_tokenizer_load(model, &dec), FZ_OK);
    assert_int_equal(fz_tokenizer_vocab(dec), totals.dec_vocab);
    assert_int_equal(fz_tokenizer_encode(dec, "Picture 3 shows a circle.", ids, 64, &n), FZ_OK);
    assert_true(n > 0 && n + 2 <= totals.max_output);
    assert_int_equal(fz_tokenizer_decode(dec, ids, n, text, sizeof text), FZ_OK);
    assert_string_equal(text, "Picture 3 shows a circle.");
    fz_tokenizer_destroy(&dec);
    assert_int_equal(fz_csv_tokenizers(&config, &totals), FZ_OK);
    assert_false(totals.wrote_config);
}

static void macros_of_prompts_are_sentences(void **state)
{
    const fz_csv_tokenizers_config config = {.csv = csv, .out = folder, .vocab = 400};
    fz_csv_tokenizers_totals totals[2];
    static const char *const prompts[] = {"<LANG_EN><CAPTION>",
                                          "The target language is English. What does the image "
                                          "describe?",
                                          "<CAPTION> please"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        FILE *file = fopen(csv, "wb");
        assert_non_null(file);
        fprintf(file, "image,lang,type,prompt,output\n");
        for (int row = 0; row < 20; row++)
            fprintf(file, "a.jpg,en,caption,%s,A circle %d.\n", prompts[i], row % 7);
        assert_int_equal(fclose(file), 0);
        if (i < 2) assert_int_equal(fz_csv_tokenizers(&config, &totals[i]), FZ_OK);
    }
    assert_int_equal(totals[0].max_prompt, totals[1].max_prompt);
    assert_int_equal(totals[0].enc_vocab, totals[1].enc_vocab);
    assert_int_equal(fz_csv_tokenizers(&config, &totals[0]), FZ_ERR_FORMAT);
    assert_non_null(strstr(fz_last_error()->text, "captions.csv:2: \"<CAPTION> please\""));
}

static void too_few_ids_for_the_characters_are_refused(void **state)
{
    const fz_csv_tokenizers_config config = {.csv = csv, .out = folder, .vocab = 20};
    fz_csv_tokenizers_totals totals;
    (void)state;
    if (!fz_tokenizer_has_sentencepiece()) skip();
    write_csv("image,lang,type,prompt,output");
    assert_int_equal(fz_csv_tokenizers(&config, &totals), FZ_ERR_USAGE);
    assert_non_null(strstr(fz_last_error()->text, "--vocab 20"));
}

static void a_missing_column_or_file_is_named(void **state)
{
    fz_csv_tokenizers_config config = {.csv = csv, .out = folder, .vocab = 100};
    fz_csv_tokenizers_totals totals;
    (void)state;
    write_csv("image,lang,type,question,output");
    assert_int_equal(fz_csv_tokenizers(&config, &totals), FZ_ERR_FORMAT);
    assert_non_null(strstr(fz_last_error()->text, "column \"prompt\" is missing"));
    config.csv = "/no/such/file.csv";
    assert_int_equal(fz_csv_tokenizers(&config, &totals), FZ_ERR_IO);
    assert_non_null(strstr(fz_last_error()->text, "/no/such/file.csv"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokenizers_say_what_the_csv_says),
        cmocka_unit_test(macros_of_prompts_are_sentences),
        cmocka_unit_test(too_few_ids_for_the_characters_are_refused),
        cmocka_unit_test(a_missing_column_or_file_is_named),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
