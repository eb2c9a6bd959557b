/* Files of byte-level BPEs, good and bad, and the ids of a hand-made one. Against the libraries:
 * test_tokenizers_reference. */
#include "tests/support/unit.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "core/fault.h"
#include "core/memory.h"
#include "data/tokenizer.h"
#include "data/utf8.h"

enum { FIRST_BYTE = 4, AB = 260, BC, ABC, SPACE_A, AA, AAAA, N_TOKENS };

static char folder[64];

static const char *path_of(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "wb");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void write_json(const char *name, json_t *root)
{
    assert_non_null(root);
    assert_int_equal(json_dump_file(root, path_of(name), JSON_COMPACT), 0);
    json_decref(root);
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/fz-bpe-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int clear_folder(void **state)
{
    static const char *const names[] = {"tokenizer.json", "vocab.json", "merges.txt",
                                        "added_tokens.json"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(path_of(names[i]));
    return 0;
}

static int remove_folder(void **state)
{
    clear_folder(state);
    return rmdir(folder);
}

/* ---- a small tokenizer: specials, bytes in their order, six merged tokens ---- */

static json_t *make_vocab(void)
{
    static const char *const specials[] = {"<s>", "<pad>", "</s>", "<unk>"};
    static const char *const merged[] = {"ab", "bc", "abc", "Ġa", "aa", "aaaa"};
    json_t *vocab = json_object();
    uint32_t next = 256;

    for (int i = 0; i < 4; i++)
        json_object_set_new(vocab, specials[i], json_integer(i));
    for (uint32_t byte = 0; byte < 256; byte++) {
        char letter[5] = "";
        const bool is_visible =
            (byte > 32 && byte < 127) || (byte > 160 && byte < 173) || byte > 173;
        fz_utf8_put(is_visible ? byte : next++, letter);
        json_object_set_new(vocab, letter, json_integer(FIRST_BYTE + byte));
    }
    for (int i = 0; i < 6; i++)
        json_object_set_new(vocab, merged[i], json_integer(AB + i));
    return vocab;
}

static json_t *make_tokenizer(void)
{
    return json_pack(
        "{s:[{s:i,s:s,s:b},{s:i,s:s,s:b},{s:i,s:s,s:b,s:b},{s:i,s:s,s:b}],s:n,s:{s:s,s:b},"
        "s:{s:s},s:{s:s,s:o,s:[[ss],[ss],[ss],[ss],[ss],[ss],[ss]]}}",
        "added_tokens", "id", 0, "content", "<s>", "special", 1, "id", 2, "content", "</s>",
        "special", 1, "id", N_TOKENS, "content", "<mask>", "special", 1, "lstrip", 1, "id",
        N_TOKENS + 1, "content", "<plain>", "special", 0, "normalizer", "pre_tokenizer", "type",
        "ByteLevel", "add_prefix_space", 0, "decoder", "type", "ByteLevel", "model", "type", "BPE",
        "vocab", make_vocab(), "merges", "b", "c", "a", "b", "ab", "c", "a", "bc", "Ġ", "a", "a",
        "a", "aa", "aa");
}

static fz_tokenizer *load(const char *path)
{
    fz_tokenizer *tokenizer = NULL;

    assert_ok(fz_tokenizer_load(path, &tokenizer));
    return tokenizer;
}

static void assert_ids(const fz_tokenizer *tokenizer, const char *text, const int32_t *want,
                       int64_t n_want)
{
    int32_t ids[64];
    int64_t n = 0;

    assert_ok(fz_tokenizer_encode(tokenizer, text, ids, 64, &n));
    assert_int_equal(n, n_want);
    assert_memory_equal(ids, want, (size_t)n * sizeof *ids);
}
#define ASSERT_IDS(tokenizer, text, ...)                                                           \
    assert_ids(tokenizer, text, (const int32_t[]){__VA_ARGS__},                                    \
               sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* ---- ids ---- */

static void the_least_rank_merges_first(void **state)
{
    (void)state;
    write_json("tokenizer.json", make_tokenizer());
    fz_tokenizer *tokenizer = load(folder);
    assert_int_equal(fz_tokenizer_vocab(tokenizer), N_TOKENS + 2);
    ASSERT_IDS(tokenizer, "ab", AB);
    ASSERT_IDS(tokenizer, "abc", ABC); /* b c, then a bc */
    ASSERT_IDS(tokenizer, "abbc", AB, BC);
    ASSERT_IDS(tokenizer, "a a", FIRST_BYTE + 'a', SPACE_A);
    ASSERT_IDS(tokenizer, "aaaaa", AAAA, FIRST_BYTE + 'a'); /* leftmost first */
    ASSERT_IDS(tokenizer, "\n", FIRST_BYTE + '\n');
    ASSERT_IDS(tokenizer, "\xc3\xa9", FIRST_BYTE + 0xc3, FIRST_BYTE + 0xa9);
    /* Added tokens are cut out of the text; <mask> takes the space before it. */
    ASSERT_IDS(tokenizer, "a <mask> a</s>", FIRST_BYTE + 'a', N_TOKENS, SPACE_A, 2);
    ASSERT_IDS(tokenizer, "<plain><pad>", N_TOKENS + 1, FIRST_BYTE + '<', FIRST_BYTE + 'p',
               FIRST_BYTE + 'a', FIRST_BYTE + 'd', FIRST_BYTE + '>');
    fz_tokenizer_destroy(&tokenizer);
}

static void a_pair_that_is_there_twice_has_the_later_rank(void **state)
{
    json_t *root = make_tokenizer();

    (void)state;
    json_array_append_new(json_object_get(json_object_get(root, "model"), "merges"),
                          json_pack("[ss]", "b", "c"));
    write_json("tokenizer.json", root);
    fz_tokenizer *tokenizer = load(folder);
    ASSERT_IDS(tokenizer, "abbc", AB, BC);
    ASSERT_IDS(tokenizer, "abc", ABC); /* now a b, then ab c */
    ASSERT_IDS(tokenizer, "aabc", FIRST_BYTE + 'a', ABC);
    fz_tokenizer_destroy(&tokenizer);
}

static void all_kinds_of_files_give_the_same(void **state)
{
    static const char text[] = "abc <mask> abcab aaaa</s> <od>";
    int32_t want[64], ids[64];
    int64_t n_want = 0, n = 0;
    json_t *root = make_tokenizer();

    (void)state;
    json_array_append_new(
        json_object_get(root, "added_tokens"),
        json_pack("{s:i,s:s,s:b}", "id", N_TOKENS + 2, "content", "<od>", "special", 1));
    json_array_remove(json_object_get(root, "added_tokens"), 3);
    json_object_set_new(json_array_get(json_object_get(root, "added_tokens"), 3), "id",
                        json_integer(N_TOKENS + 1));
    write_json("tokenizer.json", json_deep_copy(root));
    fz_tokenizer *tokenizer = load(path_of("tokenizer.json"));
    assert_ok(fz_tokenizer_encode(tokenizer, text, want, 64, &n_want));
    fz_tokenizer_destroy(&tokenizer);

    json_object_set_new(
        json_object_get(root, "model"), "merges",
        json_pack("[sssssss]", "b c", "a b", "ab c", "a bc", "Ġ a", "a a", "aa aa"));
    write_json("tokenizer.json", root);
    tokenizer = load(folder);
    assert_ok(fz_tokenizer_encode(tokenizer, text, ids, 64, &n));
    assert_int_equal(n, n_want);
    assert_memory_equal(ids, want, (size_t)n * sizeof *ids);
    fz_tokenizer_destroy(&tokenizer);
    unlink(path_of("tokenizer.json"));

    /* Beside vocab.json: <mask> is in the vocabulary as BART has it. */
    json_t *vocab = make_vocab();
    json_object_set_new(vocab, "<mask>", json_integer(N_TOKENS));
    write_json("vocab.json", vocab);
    write_text("merges.txt", "#version: 0.2\nb c\r\na b\nab c\na bc\nĠ a\n\na a\naa aa");
    write_json("added_tokens.json", json_pack("{s:i}", "<od>", N_TOKENS + 1));
    tokenizer = load(folder);
    assert_int_equal(fz_tokenizer_vocab(tokenizer), N_TOKENS + 2);
    assert_ok(fz_tokenizer_encode(tokenizer, text, ids, 64, &n));
    assert_int_equal(n, n_want);
    assert_memory_equal(ids, want, (size_t)n * sizeof *ids);
    fz_tokenizer_destroy(&tokenizer);
}

static void decoding_leaves_specials_out_and_cuts_at_characters(void **state)
{
    const int32_t ids[] = {
        0,        ABC,          FIRST_BYTE + 0xe4, FIRST_BYTE + 0xb8, FIRST_BYTE + 0xad,
        N_TOKENS, N_TOKENS + 1, FIRST_BYTE + 0xc3, SPACE_A,           2};
    char text[32];
    int32_t few[2] = {-7, -7};
    int64_t n = 0;

    (void)state;
    write_json("tokenizer.json", make_tokenizer());
    fz_tokenizer *tokenizer = load(folder);
    assert_ok(fz_tokenizer_decode(tokenizer, ids, 10, text, sizeof text));
    assert_string_equal(text, "abc中<plain>\xef\xbf\xbd a");
    assert_ok(fz_tokenizer_decode(tokenizer, ids, 10, text, 6));
    assert_string_equal(text, "abc");
    assert_fails(fz_tokenizer_decode(tokenizer, (const int32_t[]){N_TOKENS + 2}, 1, text, 32),
                 FZ_ERR_ARG, "id 268, but the vocabulary has 268");
    assert_ok(fz_tokenizer_encode(tokenizer, "abc abc", few, 1, &n));
    assert_int_equal(n, 1);
    assert_int_equal(few[0], ABC);
    assert_int_equal(few[1], -7);
    fz_tokenizer_destroy(&tokenizer);
}

/* A square-time merge, or a pattern that goes back byte by byte, would take minutes. */
static void a_very_long_word_is_no_trouble(void **state)
{
    enum { LENGTH = 1 << 18 };
    char *text = NULL;
    int32_t *ids = NULL;
    int64_t n = 0;

    (void)state;
    write_json("tokenizer.json", make_tokenizer());
    fz_tokenizer *tokenizer = load(folder);
    assert_ok(FZ_NEW(&text, LENGTH + 1));
    assert_ok(FZ_NEW(&ids, LENGTH));
    memset(text, 'a', LENGTH);
    assert_ok(fz_tokenizer_encode(tokenizer, text, ids, LENGTH, &n));
    assert_int_equal(n, LENGTH / 4);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(ids[i], AAAA);
    memset(text, ' ', LENGTH);
    assert_ok(fz_tokenizer_encode(tokenizer, text, ids, LENGTH, &n));
    assert_int_equal(n, LENGTH);
    memset(text, '<', LENGTH);
    assert_ok(fz_tokenizer_encode(tokenizer, text, ids, 3, &n));
    assert_int_equal(n, 3);
    fz_free(&text);
    fz_free(&ids);
    fz_tokenizer_destroy(&tokenizer);
}

static void *encode_often(void *context)
{
    const fz_tokenizer *tokenizer = context;
    int32_t first[64], ids[64];
    int64_t n_first = 0, n = 0;

    fz_tokenizer_encode(tokenizer, "abc <mask> aaaaa bcab 1a2", first, 64, &n_first);
    for (int i = 0; i < 200; i++)
        if (fz_tokenizer_encode(tokenizer, "abc <mask> aaaaa bcab 1a2", ids, 64, &n) != FZ_OK ||
            n != n_first || memcmp(ids, first, (size_t)n * sizeof *ids) != 0)
            return context;
    return NULL;
}

static void threads_may_share_one(void **state)
{
    pthread_t threads[4];
    void *failed;

    (void)state;
    write_json("tokenizer.json", make_tokenizer());
    fz_tokenizer *tokenizer = load(folder);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, tokenizer), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    fz_tokenizer_destroy(&tokenizer);
}

/* ---- specials ---- */

static void specials_that_are_missing_are_named(void **state)
{
    json_t *root = make_tokenizer(), *added = json_object_get(root, "added_tokens");

    (void)state;
    write_json("tokenizer.json", json_deep_copy(root));
    fz_tokenizer *tokenizer = load(folder);
    assert_fails(fz_tokenizer_check(tokenizer, "x", true, 1000), FZ_ERR_USAGE,
                 "x has bos 0, eos 2 and padding -1 (-1: none)");
    fz_tokenizer_destroy(&tokenizer);
    json_array_set_new(added, 0, json_pack("{s:i,s:s}", "id", 1, "content", "<pad>"));
    write_json("tokenizer.json", root);
    tokenizer = load(folder);
    assert_fails(fz_tokenizer_check(tokenizer, "x", true, 1000), FZ_ERR_USAGE,
                 "x has bos -1, eos 2 and padding 1");
    fz_tokenizer_destroy(&tokenizer);
}

/* ---- Florence-2's tokens ---- */

static void barts_vocabulary_gets_florences_tokens(void **state)
{
    static const struct {
        const char *text;
        int32_t id;
    } cases[] = {{"<mask>", 50264},    {"<od>", 50265},  {"</ocr>", 50268}, {"<loc_0>", 50269},
                 {"<loc_999>", 51268}, {"<cap>", 51269}, {"<and>", 51288}};
    json_t *vocab = make_vocab();

    (void)state;
    for (int id = (int)json_object_size(vocab); id < 50264; id++) {
        char name[16];
        snprintf(name, sizeof name, "word%d", id);
        json_object_set_new(vocab, name, json_integer(id));
    }
    json_object_set_new(vocab, "<mask>", json_integer(50264));
    write_json("vocab.json", vocab);
    write_text("merges.txt", "a b\n");
    fz_tokenizer *tokenizer = load(folder);
    assert_int_equal(fz_tokenizer_vocab(tokenizer), 51289);
    assert_ok(fz_tokenizer_check(tokenizer, folder, true, 51289));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ASSERT_IDS(tokenizer, cases[i].text, cases[i].id);
    fz_tokenizer_destroy(&tokenizer);
}

/* ---- what is no tokenizer of ours ---- */

/* The tokenizer with one value changed: path "model.type", value as JSON. */
static void write_changed(const char *path, const char *value)
{
    json_t *root = make_tokenizer(), *at = root;
    char key[32];

    for (; strchr(path, '.'); path = strchr(path, '.') + 1) {
        snprintf(key, sizeof key, "%.*s", (int)(strchr(path, '.') - path), path);
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key)) : json_object_get(at, key);
    }
    json_t *item = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(item);
    if (json_is_array(at))
        json_array_set_new(at, (size_t)atoi(path), item);
    else
        json_object_set_new(at, path, item);
    write_json("tokenizer.json", root);
}

static void other_kinds_of_tokenizers_are_refused(void **state)
{
    static const struct {
        const char *path, *value, *message;
    } cases[] = {
        {"model.type", "\"Unigram\"", "model Unigram: only byte-level BPE is supported"},
        {"model.dropout", "0.1", "dropout is not supported"},
        {"model.continuing_subword_prefix", "\"##\"", "continuing_subword_prefix is not supported"},
        {"model.end_of_word_suffix", "\"</w>\"", "end_of_word_suffix is not supported"},
        {"model.ignore_merges", "true", "ignore_merges is not supported"},
        {"normalizer", "{\"type\": \"NFC\"}", "normalizer NFC: only"},
        {"pre_tokenizer", "{\"type\": \"Whitespace\"}", "pre_tokenizer Whitespace: only ByteLevel"},
        {"pre_tokenizer", "null", "pre_tokenizer without a type"},
        {"pre_tokenizer.add_prefix_space", "true", "only add_prefix_space false"},
        {"pre_tokenizer.use_regex", "false", "only use_regex true"},
        {"decoder.type", "\"WordPiece\"", "decoder WordPiece: only ByteLevel"},
        {"model.vocab", "[]", "the vocabulary is no object with tokens"},
        {"model.vocab.ab", "\"x\"", "token \"ab\" has no id"},
        {"model.vocab.ab", "-1", "token \"ab\" has no id"},
        {"model.vocab.ab", "266", "token \"ab\" has id 266, but there are 266 tokens"},
        {"model.vocab.ab", "261", "both have id 261"},
        {"model.vocab", "{\"a\": 0, \"b\": 1}", "for byte 0x21: not a byte-level BPE"},
        {"model.merges", "null", "the merges are no list"},
        {"model.merges.1", "[\"a\", \"xyz\"]",
         "merge 1, \"a xyz\": the vocabulary has no token \"xyz\""},
        {"model.merges.1", "[\"b\", \"b\"]", "merge 1 makes \"bb\", which the vocabulary does not"},
        {"model.merges.1", "\"a b c\"", "merge 1, \"a b c\": not two tokens"},
        {"model.merges.1", "\" a\"", "merge 1, \" a\": not two tokens"},
        {"model.merges.1", "[\"a\"]", "merge 1 is neither"},
        {"added_tokens", "{}", "added_tokens is no list"},
        {"added_tokens.1", "{\"id\": 1}", "added_tokens[1] has no content and id"},
        {"added_tokens.1.id", "0", "added token \"</s>\" has id 0, but the vocabulary gives it 2"},
        {"added_tokens.3.id", "300",
         "added token \"<plain>\" has id 300; the next free one is 267"},
        {"added_tokens.3.id", "266",
         "added token \"<plain>\" has id 266; the next free one is 267"},
        {"added_tokens.3", "{\"id\": 0, \"content\": \"<s>\"}",
         "added token \"<s>\" is there twice"},
    };
    fz_tokenizer *tokenizer = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_changed(cases[i].path, cases[i].value);
        assert_fails(fz_tokenizer_load(folder, &tokenizer), FZ_ERR_FORMAT, cases[i].message);
        assert_non_null(strstr(fz_last_error()->text, "/tokenizer.json: "));
        assert_null(tokenizer);
    }
}

static void damaged_files_are_named(void **state)
{
    static const struct {
        const char *merges, *added, *message;
    } cases[] = {
        {"a b\nab\n", NULL, "merge 1, \"ab\": not two tokens"},
        {"a b\nx yz\n", NULL, "the vocabulary has no token \"yz\""},
        {"a \xff\n", NULL, "merges.txt: line 1 is not UTF-8"},
        {"a b\n", "{\"<od>\": 300}", "added_tokens.json: token \"<od>\" has id 300"},
        {"a b\n", "{\"<od>\": 266, \"<x>\": 266}", "added_tokens.json: token \"<x>\" has id 266"},
        {"a b\n", "{\"<od>\": 2}", "added_tokens.json: token \"<od>\" has id 2"},
        {"a b\n", "[]", "added_tokens.json is no object"},
        {"a b\n", "{\"<od>\": ", "added_tokens.json: not JSON: line 1"},
    };
    fz_tokenizer *tokenizer = NULL;

    (void)state;
    assert_fails(fz_tokenizer_load(folder, &tokenizer), FZ_ERR_FORMAT,
                 "has no tokenizer.model, tokenizer.json or vocab.json");
    write_json("vocab.json", make_vocab());
    assert_fails(fz_tokenizer_load(folder, &tokenizer), FZ_ERR_IO, "merges.txt: No such file");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text("merges.txt", cases[i].merges);
        if (cases[i].added) write_text("added_tokens.json", cases[i].added);
        assert_fails(fz_tokenizer_load(folder, &tokenizer), FZ_ERR_FORMAT, cases[i].message);
        assert_null(tokenizer);
    }
    write_text("tokenizer.json", "{\"model\": {\"vocab\": {\"a\": 0, \"a\": 1}}}");
    assert_fails(fz_tokenizer_load(folder, &tokenizer), FZ_ERR_FORMAT, "duplicate object key");
    write_text("tokenizer.json", "[1]");
    assert_fails(fz_tokenizer_load(folder, &tokenizer), FZ_ERR_FORMAT, "no object with a vocab");
}

/* Allocations 1, 2, 3 ... fail, until none is left. */
static void memory_that_is_missing_is_an_error(void **state)
{
    const int64_t live = fz_memory_get().n_live;
    fz_status status = FZ_ERR_MEMORY;
    int n = 0;

    (void)state;
    write_json("tokenizer.json", make_tokenizer());
    while (status != FZ_OK) {
        fz_tokenizer *tokenizer = NULL;
        int32_t ids[200];
        char fault[32], text[200];
        int64_t n_ids = 0;
        snprintf(fault, sizeof fault, "alloc:%d", ++n);
        assert_ok(fz_fault_set(fault));
        memset(text, 'a', sizeof text); /* longer than what a piece has room for by itself */
        text[199] = '\0';
        status = fz_tokenizer_load(folder, &tokenizer);
        if (status == FZ_OK) status = fz_tokenizer_encode(tokenizer, text, ids, 200, &n_ids);
        text[7] = '\xff';
        if (status == FZ_OK) status = fz_tokenizer_encode(tokenizer, text, ids, 200, &n_ids);
        if (status == FZ_OK) status = fz_tokenizer_decode(tokenizer, ids, n_ids, text, 200);
        assert_ok(fz_fault_set(NULL));
        assert_true(status == FZ_OK || status == FZ_ERR_MEMORY);
        fz_tokenizer_destroy(&tokenizer);
        assert_int_equal(fz_memory_get().n_live, live);
    }
    assert_true(n > 15);
}

static void a_file_cut_anywhere_is_an_error(void **state)
{
    fz_tokenizer *tokenizer = NULL;
    json_t *root = make_tokenizer();
    char *text = json_dumps(root, JSON_COMPACT);
    const size_t n = strlen(text);

    (void)state;
    json_decref(root);
    write_text("tokenizer.json", text);
    for (size_t bytes = n - 1; bytes > 0; bytes -= bytes < 97 ? bytes : 97) {
        assert_int_equal(truncate(path_of("tokenizer.json"), (off_t)bytes), 0);
        assert_fails(fz_tokenizer_load(folder, &tokenizer), FZ_ERR_FORMAT, "not JSON: line ");
    }
    free(text);
}

int main(void)
{
#define T(test) cmocka_unit_test_teardown(test, clear_folder)
    const struct CMUnitTest tests[] = {
        T(the_least_rank_merges_first),
        T(a_pair_that_is_there_twice_has_the_later_rank),
        T(all_kinds_of_files_give_the_same),
        T(decoding_leaves_specials_out_and_cuts_at_characters),
        T(a_very_long_word_is_no_trouble),
        T(threads_may_share_one),
        T(specials_that_are_missing_are_named),
        T(barts_vocabulary_gets_florences_tokens),
        T(other_kinds_of_tokenizers_are_refused),
        T(damaged_files_are_named),
        T(memory_that_is_missing_is_an_error),
        T(a_file_cut_anywhere_is_an_error),
    };
    if (!fz_tokenizer_has_bpe()) {
        fprintf(stderr, "skipped: built without PCRE2\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
