#include "data/tokenizer.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"
#include "data/bpe.h"
#include "data/sample.h"
#include "data/tokenizer_sp.h"
#include "data/utf8.h"
#include "data/wordlist.h"

struct fz_tokenizer {
    /* One of: */
    fz_wordlist *words; /* owned */
    fz_bpe *bpe;        /* owned */
    void *processor;    /* owned by SentencePiece */
};

bool fz_tokenizer_has_sentencepiece(void)
{
    return FZ_HAVE_SENTENCEPIECE != 0;
}

bool fz_tokenizer_has_bpe(void)
{
    return FZ_HAVE_PCRE2 != 0;
}

#if FZ_HAVE_SENTENCEPIECE

static fz_status train_model(const char *text_path, const char *model_path, int vocab,
                             bool bart_ids)
{
    char error[256] = "", vocab_size[16];

    snprintf(vocab_size, sizeof vocab_size, "%d", vocab);
    /* identity: full-width punctuation stays itself, so decoding gives the text back. One thread
     * and a fixed seed: the same text gives the same model. A text with fewer pieces than asked
     * for gets a smaller vocabulary. */
    const char *const settings[][2] = {
        {"model_type", "unigram"},
        {"vocab_size", vocab_size},
        {"hard_vocab_limit", "false"},
        {"byte_fallback", "true"},
        {"character_coverage", "1.0"},
        {"normalization_rule_name", "identity"},
        {"num_threads", "1"},
        {"input_sentence_size", "0"},
        {"minloglevel", "2"},
        {"unk_id", "3"},
        {"bos_id", bart_ids ? "0" : "2"},
        {"eos_id", bart_ids ? "2" : "1"},
        {"pad_id", bart_ids ? "1" : "0"},
        {NULL, NULL},
    };
    FZ_CHECK(fz_sp_train(text_path, model_path, settings, error, sizeof error) == 0, FZ_ERR_IO,
             "train tokenizer %s on %s: %s", model_path, text_path, error);
    return FZ_OK;
}

#endif

typedef enum kind { WORDS, JSON, MODEL } kind;

/* A model begins with a protobuf tag (a line feed, by chance), a word list with "<", JSON with "{".
 */
static fz_status kind_of(const char *path, kind *kind_p)
{
    FILE *file = fopen(path, "rb");

    FZ_CHECK(file != NULL, FZ_ERR_IO, "open tokenizer %s: %s", path, strerror(errno));
    const int first = fgetc(file);
    const size_t n = strlen(path);
    fclose(file);
    FZ_CHECK(first != EOF, FZ_ERR_FORMAT, "tokenizer %s: the file is empty", path);
    if (first == '{' || (n > 5 && strcmp(path + n - 5, ".json") == 0))
        *kind_p = JSON;
    else
        *kind_p = first == '<' ? WORDS : MODEL;
    return FZ_OK;
}

/* The file of a folder; a file stays itself. */
static fz_status file_of(const char *path, char file[PATH_MAX])
{
    static const char *const names[] = {"tokenizer.model", "tokenizer.json", "vocab.json"};
    struct stat st;

    FZ_CHECK(snprintf(file, PATH_MAX, "%s", path) < PATH_MAX - 20, FZ_ERR_ARG,
             "tokenizer %s: the path is too long", path);
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) return FZ_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(file, PATH_MAX, "%s/%s", path, names[i]);
        if (stat(file, &st) == 0) return FZ_OK;
    }
    return FZ_FAIL(FZ_ERR_FORMAT,
                   "tokenizer %s: the folder has no tokenizer.model, tokenizer.json or vocab.json",
                   path);
}

static fz_status load_sentencepiece(const char *path, fz_tokenizer *tokenizer)
{
#if FZ_HAVE_SENTENCEPIECE
    char error[256] = "";

    tokenizer->processor = fz_sp_load(path, error, sizeof error);
    FZ_CHECK(tokenizer->processor != NULL, FZ_ERR_FORMAT,
             "tokenizer %s: not a sentencepiece model: %s", path, error);
    return FZ_OK;
#else
    (void)tokenizer;
    return FZ_FAIL(FZ_ERR_FORMAT,
                   "tokenizer %s: not a word list, and this program was built without "
                   "sentencepiece (install libsentencepiece-dev and build again)",
                   path);
#endif
}

static fz_status load_bpe(const char *path, fz_tokenizer *tokenizer)
{
#if FZ_HAVE_PCRE2
    return fz_bpe_load(path, &tokenizer->bpe);
#else
    (void)tokenizer;
    return FZ_FAIL(
        FZ_ERR_FORMAT,
        "tokenizer %s: a byte-level BPE, and this program was built without PCRE2 (install "
        "libpcre2-dev and build again)",
        path);
#endif
}

fz_status fz_tokenizer_load(const char *path, fz_tokenizer **tokenizer_p)
{
    fz_tokenizer *tokenizer = NULL;
    char file[PATH_MAX];
    kind is = WORDS;

    FZ_TRY(file_of(path, file));
    FZ_TRY(kind_of(file, &is));
    FZ_TRY(FZ_NEW(&tokenizer, 1));
    fz_status status = FZ_OK;
    switch (is) {
    case WORDS:
        status = fz_wordlist_load(file, &tokenizer->words);
        break;
    case JSON:
        status = load_bpe(file, tokenizer);
        break;
    case MODEL:
        status = load_sentencepiece(file, tokenizer);
        break;
    }
    if (status != FZ_OK) {
        fz_tokenizer_destroy(&tokenizer);
        return status;
    }
    *tokenizer_p = tokenizer;
    return FZ_OK;
}

void fz_tokenizer_destroy(fz_tokenizer **tokenizer)
{
    if (*tokenizer == NULL) return;
    fz_wordlist_destroy(&(*tokenizer)->words);
#if FZ_HAVE_PCRE2
    fz_bpe_destroy(&(*tokenizer)->bpe);
#endif
#if FZ_HAVE_SENTENCEPIECE
    fz_sp_destroy((*tokenizer)->processor);
#endif
    fz_free(tokenizer);
}

int64_t fz_tokenizer_vocab(const fz_tokenizer *tokenizer)
{
#if FZ_HAVE_SENTENCEPIECE
    if (tokenizer->processor != NULL) return fz_sp_vocab(tokenizer->processor);
#endif
#if FZ_HAVE_PCRE2
    if (tokenizer->bpe != NULL) return fz_bpe_size(tokenizer->bpe);
#endif
    return fz_wordlist_size(tokenizer->words);
}

/* ---- specials ---- */

/* The first four of a list are its specials, by their names (data/wordlist.h). */
static int32_t word_id(const fz_wordlist *words, const char *name)
{
    for (int32_t id = 0; id < FZ_WORDLIST_SPECIALS; id++)
        if (strcmp(fz_wordlist_word(words, id), name) == 0) return id;
    return -1;
}

fz_tokenizer_specials fz_tokenizer_get_specials(const fz_tokenizer *tokenizer)
{
#if FZ_HAVE_SENTENCEPIECE
    if (tokenizer->processor != NULL) {
        int32_t ids[4];
        fz_sp_specials(tokenizer->processor, ids);
        return (fz_tokenizer_specials){ids[0], ids[1], ids[2], ids[3]};
    }
#endif
#if FZ_HAVE_PCRE2
    const fz_bpe *bpe = tokenizer->bpe;
    if (bpe != NULL)
        return (fz_tokenizer_specials){fz_bpe_id(bpe, "<s>"), fz_bpe_id(bpe, "</s>"),
                                       fz_bpe_id(bpe, "<pad>"), fz_bpe_id(bpe, "<unk>")};
#endif
    const fz_wordlist *words = tokenizer->words;
    return (fz_tokenizer_specials){word_id(words, "<s>"), word_id(words, "</s>"),
                                   word_id(words, "<pad>"), word_id(words, "<unk>")};
}

fz_status fz_tokenizer_check(const fz_tokenizer *tokenizer, const char *path, bool is_encoder,
                             int64_t vocab)
{
    const fz_tokenizer_specials has = fz_tokenizer_get_specials(tokenizer);
    const int32_t bos = is_encoder ? FZ_ENC_BOS : FZ_DEC_BOS;
    const int32_t eos = is_encoder ? FZ_ENC_EOS : FZ_DEC_EOS;
    const int32_t pad = is_encoder ? FZ_ENC_PAD : FZ_DEC_PAD;
    const int64_t n = fz_tokenizer_vocab(tokenizer);

    FZ_CHECK(n <= vocab, FZ_ERR_USAGE, "%s has %lld ids, but the model's vocabulary has %lld", path,
             (long long)n, (long long)vocab);
    FZ_CHECK(has.bos == bos && has.eos == eos && has.pad == pad, FZ_ERR_USAGE,
             "%s has bos %d, eos %d and padding %d (-1: none); a tokenizer of %s has %d, %d and %d",
             path, has.bos, has.eos, has.pad, is_encoder ? "prompts" : "outputs", bos, eos, pad);
    return FZ_OK;
}

/* ---- text ---- */

static fz_status encode(const fz_tokenizer *tokenizer, const char *text, int32_t *ids, int64_t max,
                        int64_t *n_p)
{
#if FZ_HAVE_SENTENCEPIECE
    if (tokenizer->processor != NULL) {
        const int64_t n = fz_sp_encode(tokenizer->processor, text, ids, max);
        FZ_CHECK(n >= 0, FZ_ERR_FORMAT, "tokenize \"%.80s\": sentencepiece failed", text);
        *n_p = n;
        return FZ_OK;
    }
#endif
#if FZ_HAVE_PCRE2
    if (tokenizer->bpe != NULL) return fz_bpe_encode(tokenizer->bpe, text, ids, max, n_p);
#endif
    return fz_wordlist_encode(tokenizer->words, text, ids, max, n_p);
}

fz_status fz_tokenizer_encode(const fz_tokenizer *tokenizer, const char *text, int32_t *ids,
                              int64_t max, int64_t *n_p)
{
    const size_t n = strlen(text);
    char *clean = NULL;

    if (fz_utf8_valid(text, n) == n) return encode(tokenizer, text, ids, max, n_p);
    const size_t bytes = fz_utf8_copy(text, n, NULL, 0) + 1;
    FZ_TRY(fz_alloc((void **)&clean, bytes, "a text made UTF-8"));
    fz_utf8_copy(text, n, clean, bytes);
    const fz_status status = encode(tokenizer, clean, ids, max, n_p);
    fz_free(&clean);
    return status;
}

static fz_status check_id(const fz_tokenizer *tokenizer, int32_t id)
{
    const int64_t vocab = fz_tokenizer_vocab(tokenizer);

    FZ_CHECK(id >= 0 && id < vocab, FZ_ERR_ARG, "decode: id %d, but the vocabulary has %lld",
             (int)id, (long long)vocab);
    return FZ_OK;
}

fz_status fz_tokenizer_decode(const fz_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                              char *out, size_t bytes)
{
    FZ_CHECK(bytes > 0, FZ_ERR_ARG, "decode: no room");
    for (int64_t i = 0; i < n; i++)
        FZ_TRY(check_id(tokenizer, ids[i]));
#if FZ_HAVE_SENTENCEPIECE
    if (tokenizer->processor != NULL) {
        FZ_CHECK(fz_sp_decode(tokenizer->processor, ids, n, out, bytes) == 0, FZ_ERR_FORMAT,
                 "decode: sentencepiece failed");
        return FZ_OK;
    }
#endif
#if FZ_HAVE_PCRE2
    if (tokenizer->bpe != NULL) return fz_bpe_decode(tokenizer->bpe, ids, n, out, bytes);
#endif
    return fz_wordlist_decode(tokenizer->words, ids, n, out, bytes);
}

static const char *piece_of(const fz_tokenizer *tokenizer, int32_t id, size_t *n_p)
{
    const char *text = NULL;

#if FZ_HAVE_PCRE2
    if (tokenizer->bpe != NULL) return fz_bpe_piece(tokenizer->bpe, id, n_p);
#endif
#if FZ_HAVE_SENTENCEPIECE
    if (tokenizer->processor != NULL) text = fz_sp_piece(tokenizer->processor, id);
#endif
    if (text == NULL) text = fz_wordlist_word(tokenizer->words, id);
    *n_p = strlen(text);
    return text;
}

fz_status fz_tokenizer_piece(const fz_tokenizer *tokenizer, int32_t id, char *out, size_t bytes,
                             size_t *n_p)
{
    size_t n = 0;

    FZ_TRY(check_id(tokenizer, id));
    const char *text = piece_of(tokenizer, id, &n);
    FZ_CHECK(n < bytes, FZ_ERR_ARG, "piece %d has %zu bytes; no room in %zu", (int)id, n, bytes);
    memcpy(out, text, n);
    out[n] = '\0';
    *n_p = n;
    return FZ_OK;
}

fz_status fz_tokenizer_train(const char *text_path, const char *model_path, int vocab,
                             bool bart_ids)
{
#if FZ_HAVE_SENTENCEPIECE
    return train_model(text_path, model_path, vocab, bart_ids);
#else
    return fz_wordlist_train(text_path, model_path, vocab, bart_ids);
#endif
}
