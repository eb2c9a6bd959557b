/* Ids and texts as the reference libraries give them (tests/reference/make_tokenizers.py). */
#include "tests/support/unit.h"

#include <jansson.h>

#include "core/memory.h"
#include "data/sample.h"
#include "data/tokenizer.h"

#define FIXTURES FZ_SOURCE_DIR "/tests/reference/fixtures/tokenizers/"

enum { BART, GEMMA, N_TOKENIZERS, LINE_BYTES = 1 << 16, MOST_IDS = 1 << 14 };

static fz_tokenizer *tokenizers[N_TOKENIZERS]; /* NULL: not built in */
static const char *const names[] = {"bart", "gemma"};

static int load_both(void **state)
{
    (void)state;
    if (fz_tokenizer_has_bpe() && fz_tokenizer_load(FIXTURES "bart", &tokenizers[BART]) != FZ_OK)
        return -1;
    if (fz_tokenizer_has_sentencepiece() &&
        fz_tokenizer_load(FIXTURES "gemma", &tokenizers[GEMMA]) != FZ_OK)
        return -1;
    return 0;
}

static int free_both(void **state)
{
    (void)state;
    fz_tokenizer_destroy(&tokenizers[BART]);
    fz_tokenizer_destroy(&tokenizers[GEMMA]);
    return 0;
}

/* Calls seen for every line, a JSON list; returns their number. */
static int each_line(const char *path, void (*seen)(int number, const json_t *row))
{
    static char line[LINE_BYTES];
    FILE *file = fopen(path, "rb");
    int n = 0;

    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        json_error_t error;
        json_t *row = json_loads(line, 0, &error);
        if (!row) fail_msg("%s:%d: %s", path, n + 1, error.text);
        seen(++n, row);
        json_decref(row);
    }
    fclose(file);
    return n;
}

/* A text, or {"hex": bytes}. */
static const char *text_of(const json_t *item)
{
    static char bytes[LINE_BYTES];
    const char *hex = json_string_value(json_object_get(item, "hex"));
    size_t n = 0;

    if (json_is_string(item)) return json_string_value(item);
    assert_non_null(hex);
    for (; hex[2 * n]; n++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * n, "%2x", &byte), 1);
        bytes[n] = (char)(unsigned char)byte;
    }
    bytes[n] = '\0';
    return bytes;
}

static void assert_ids(int number, const char *who, const char *text, const int32_t *ids, int64_t n,
                       const json_t *want)
{
    for (int64_t i = 0; i < n || i < (int64_t)json_array_size(want); i++) {
        const json_t *id = json_array_get(want, (size_t)i);
        if (i >= n || !id || ids[i] != json_integer_value(id))
            fail_msg("line %d, %s, \"%.60s\": id %lld is %d of %lld, should be %lld of %zu", number,
                     who, text, (long long)i, i < n ? ids[i] : -1, (long long)n,
                     id ? (long long)json_integer_value(id) : -1, json_array_size(want));
    }
}

static void encode_row(int number, const json_t *row)
{
    static int32_t ids[MOST_IDS];
    const char *text = text_of(json_array_get(row, 0));

    for (int which = 0; which < N_TOKENIZERS; which++) {
        int64_t n = 0;
        if (!tokenizers[which]) continue;
        assert_ok(fz_tokenizer_encode(tokenizers[which], text, ids, MOST_IDS, &n));
        assert_ids(number, names[which], text, ids, n, json_array_get(row, 1 + (size_t)which));
    }
}

static void two_thousand_texts_have_the_libraries_ids(void **state)
{
    (void)state;
    assert_int_equal(each_line(FIXTURES "texts.jsonl", encode_row), 2000);
}

static void decode_row(int number, const json_t *row)
{
    const fz_tokenizer *tokenizer = tokenizers[json_integer_value(json_array_get(row, 0))];
    const json_t *list = json_array_get(row, 1);
    int32_t ids[64];
    char text[1024];

    if (!tokenizer) return;
    for (size_t i = 0; i < json_array_size(list); i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    assert_ok(
        fz_tokenizer_decode(tokenizer, ids, (int64_t)json_array_size(list), text, sizeof text));
    if (strcmp(text, json_string_value(json_array_get(row, 2))) != 0)
        fail_msg("line %d: \"%s\" should be \"%s\"", number, text,
                 json_string_value(json_array_get(row, 2)));
}

static void ids_give_the_libraries_texts(void **state)
{
    (void)state;
    assert_int_equal(each_line(FIXTURES "decoded.jsonl", decode_row), 200);
}

static char *dump(json_t *root)
{
    char *text = json_dumps(root, JSON_COMPACT);

    assert_non_null(text);
    json_decref(root);
    return text;
}

static void cut_row(int number, const json_t *row)
{
    int32_t prompt[128], labels[128];
    const char *text = json_string_value(json_array_get(row, 0));
    const int64_t most = json_integer_value(json_array_get(row, 1));
    fz_sample_ids ids = {.prompt = prompt, .labels = labels};
    const fz_sample_rules rules = {.max_prompt = most,
                                   .max_output = most,
                                   .dec_eos = FZ_DEC_EOS,
                                   .enc_tokenizer = tokenizers[BART],
                                   .dec_tokenizer = tokenizers[GEMMA]};

    char *json = dump(json_pack("[{ssss}]", "prompt", text, "output", text));
    assert_ok(fz_sample_read(json, strlen(json), 0, &rules, &ids));
    free(json);
    assert_ids(number, "prompt", text, ids.prompt, ids.n_prompt, json_array_get(row, 2));
    assert_ids(number, "labels", text, ids.labels, ids.n_labels, json_array_get(row, 3));

    /* With both specials kept, as transformers cuts by itself. */
    int64_t n = 0;
    assert_ok(fz_tokenizer_encode(tokenizers[BART], text, prompt + 1, most - 2, &n));
    prompt[n + 1] = FZ_ENC_EOS;
    assert_ids(number, "kept", text, prompt, n + 2, json_array_get(row, 4));
}

static void texts_are_cut_as_in_training(void **state)
{
    (void)state;
    if (!tokenizers[BART] || !tokenizers[GEMMA]) skip();
    assert_int_equal(each_line(FIXTURES "cut.jsonl", cut_row), 60);
}

static void read_prompt(const char *prompt, fz_status status, fz_sample_ids *ids)
{
    const fz_sample_rules rules = {.max_prompt = MOST_IDS,
                                   .max_output = 8,
                                   .dec_eos = FZ_DEC_EOS,
                                   .enc_tokenizer = tokenizers[BART],
                                   .dec_tokenizer = tokenizers[GEMMA]};

    char *json = dump(json_pack("[{ssss}]", "prompt", prompt, "output", "<CAPTION>"));
    assert_int_equal(fz_sample_read(json, strlen(json), 0, &rules, ids), status);
    free(json);
}

static void macros_of_prompts_are_sentences(void **state)
{
    static const char source[] = "A brown dog sells fresh bread. ";
    static int32_t prompt[MOST_IDS], want[MOST_IDS];
    static char macros[8192], sentences[8192];
    int32_t labels[8];
    fz_sample_ids ids = {.prompt = prompt, .labels = labels};
    int64_t n = 0;

    (void)state;
    if (!tokenizers[BART] || !tokenizers[GEMMA]) skip();
    strcpy(macros, "<LANG_FR><TRANSLATE>");
    strcpy(sentences, "The target language is French. Translate the following text: ");
    for (int i = 0; i < 200; i++) { /* one short, one long */
        strcat(macros, source);
        strcat(sentences, source);
        if (i > 0 && i < 199) continue;
        read_prompt(macros, FZ_OK, &ids);
        assert_ok(fz_tokenizer_encode(tokenizers[BART], sentences, want, MOST_IDS, &n));
        assert_int_equal(ids.n_prompt, n + 2);
        assert_int_equal(prompt[0], FZ_ENC_BOS);
        assert_memory_equal(prompt + 1, want, (size_t)n * sizeof *want);
        assert_int_equal(prompt[n + 1], FZ_ENC_EOS);
    }
    /* Outputs are no prompts. */
    assert_ok(fz_tokenizer_encode(tokenizers[GEMMA], "<CAPTION>", want, MOST_IDS, &n));
    assert_int_equal(labels[1], want[0]);
    read_prompt("<LANG_DE><LANG_FR><CAPTION>", FZ_ERR_FORMAT, &ids);
    assert_non_null(strstr(fz_last_error()->text, "annotation 0: \"<CAPTION>\": names two"));
}

static void specials_are_those_of_the_models(void **state)
{
    (void)state;
    if (!tokenizers[BART] || !tokenizers[GEMMA]) skip();
    assert_ok(fz_tokenizer_check(tokenizers[BART], "bart", true, 51289));
    assert_ok(fz_tokenizer_check(tokenizers[GEMMA], "gemma", false, 256000));
    assert_int_equal(fz_tokenizer_get_specials(tokenizers[BART]).unk, 3);
    assert_int_equal(fz_tokenizer_get_specials(tokenizers[GEMMA]).unk, 3);
    assert_fails(
        fz_tokenizer_check(tokenizers[GEMMA], "gemma", true, 51289), FZ_ERR_USAGE,
        "gemma has bos 2, eos 1 and padding 0 (-1: none); a tokenizer of prompts has 0, 2");
    assert_fails(fz_tokenizer_check(tokenizers[BART], "bart", false, 256000), FZ_ERR_USAGE,
                 "a tokenizer of outputs has 2, 1 and 0");
    assert_fails(fz_tokenizer_check(tokenizers[BART], "bart", true, 3000), FZ_ERR_USAGE,
                 "ids, but the model's vocabulary has 3000");
}

static void pieces_are_what_ids_stand_for(void **state)
{
    static const struct {
        int which;
        const char *text, *piece;
    } cases[] = {{BART, "The", "The"},           {BART, " river", " river"},
                 {BART, "<loc_17>", "<loc_17>"}, {GEMMA, " river", "▁river"},
                 {GEMMA, "\x03", "<0x03>"},      {GEMMA, "\n\n", "\n\n"}};
    char piece[32];
    size_t bytes = 0;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const fz_tokenizer *tokenizer = tokenizers[cases[i].which];
        int32_t id = -1;
        int64_t n = 0;
        if (!tokenizer) continue;
        assert_ok(fz_tokenizer_encode(tokenizer, cases[i].text, &id, 1, &n));
        assert_ok(fz_tokenizer_piece(tokenizer, id, piece, sizeof piece, &bytes));
        assert_string_equal(piece, cases[i].piece);
        assert_int_equal(bytes, strlen(piece));
        assert_int_equal(fz_tokenizer_piece(tokenizer, id, piece, bytes, &bytes), FZ_ERR_ARG);
        assert_int_equal(fz_tokenizer_piece(tokenizer, -1, piece, sizeof piece, &bytes),
                         FZ_ERR_ARG);
    }
}

static void a_text_without_room_is_cut_at_a_character(void **state)
{
    (void)state;
    for (int which = 0; which < N_TOKENIZERS; which++) {
        int32_t ids[16];
        char text[8];
        int64_t n = 0;
        if (!tokenizers[which]) continue;
        assert_ok(fz_tokenizer_encode(tokenizers[which], "a中", ids, 16, &n));
        assert_ok(fz_tokenizer_decode(tokenizers[which], ids, n, text, 4));
        assert_string_equal(text, "a");
        assert_ok(fz_tokenizer_decode(tokenizers[which], ids, n, text, 5));
        assert_string_equal(text, "a中");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_thousand_texts_have_the_libraries_ids),
        cmocka_unit_test(ids_give_the_libraries_texts),
        cmocka_unit_test(texts_are_cut_as_in_training),
        cmocka_unit_test(macros_of_prompts_are_sentences),
        cmocka_unit_test(specials_are_those_of_the_models),
        cmocka_unit_test(a_text_without_room_is_cut_at_a_character),
        cmocka_unit_test(pieces_are_what_ids_stand_for),
    };
    if (!fz_tokenizer_has_bpe() && !fz_tokenizer_has_sentencepiece()) {
        fprintf(stderr, "skipped: built without PCRE2 and SentencePiece\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, load_both, free_both);
}
