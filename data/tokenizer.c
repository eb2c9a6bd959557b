#include "data/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "data/tokenizer_sp.h"
#include "data/wordlist.h"

struct fz_tokenizer {
    fz_wordlist *words; /* owned; or */
    void *processor;    /* owned by SentencePiece */
};

bool fz_tokenizer_has_sentencepiece(void)
{
    return FZ_HAVE_SENTENCEPIECE != 0;
}

#if FZ_HAVE_SENTENCEPIECE

static fz_status load_model(const char *path, void **processor_p)
{
    char error[256] = "";

    *processor_p = fz_sp_load(path, error, sizeof error);
    FZ_CHECK(*processor_p != NULL, FZ_ERR_FORMAT, "tokenizer %s: not a sentencepiece model: %s",
             path, error);
    return FZ_OK;
}

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

/* A model begins with a protobuf tag (a line feed, by chance), a word list with "<". */
static fz_status looks_like_words(const char *path, bool *is_words_p)
{
    FILE *file = fopen(path, "rb");

    FZ_CHECK(file != NULL, FZ_ERR_IO, "open tokenizer %s: %s", path, strerror(errno));
    const int first = fgetc(file);
    fclose(file);
    FZ_CHECK(first != EOF, FZ_ERR_FORMAT, "tokenizer %s: the file is empty", path);
    *is_words_p = first == '<';
    return FZ_OK;
}

fz_status fz_tokenizer_load(const char *path, fz_tokenizer **tokenizer_p)
{
    fz_tokenizer *tokenizer = NULL;
    bool is_words = false;

    FZ_TRY(looks_like_words(path, &is_words));
    if (!is_words && !fz_tokenizer_has_sentencepiece())
        return FZ_FAIL(FZ_ERR_FORMAT,
                       "tokenizer %s: not a word list, and this program was built without "
                       "sentencepiece (install libsentencepiece-dev and build again)",
                       path);
    FZ_TRY(FZ_NEW(&tokenizer, 1));
    fz_status status = FZ_OK;
    if (is_words) status = fz_wordlist_load(path, &tokenizer->words);
#if FZ_HAVE_SENTENCEPIECE
    if (!is_words) status = load_model(path, &tokenizer->processor);
#endif
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
    return fz_wordlist_size(tokenizer->words);
}

fz_status fz_tokenizer_encode(const fz_tokenizer *tokenizer, const char *text, int32_t *ids,
                              int64_t max, int64_t *n_p)
{
#if FZ_HAVE_SENTENCEPIECE
    if (tokenizer->processor != NULL) {
        const int64_t n = fz_sp_encode(tokenizer->processor, text, ids, max);
        FZ_CHECK(n >= 0, FZ_ERR_FORMAT, "tokenize \"%.80s\": sentencepiece failed", text);
        *n_p = n;
        return FZ_OK;
    }
#endif
    return fz_wordlist_encode(tokenizer->words, text, ids, max, n_p);
}

fz_status fz_tokenizer_decode(const fz_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                              char *out, size_t bytes)
{
    const int64_t vocab = fz_tokenizer_vocab(tokenizer);

    FZ_CHECK(bytes > 0, FZ_ERR_ARG, "decode: no room");
    for (int64_t i = 0; i < n; i++)
        FZ_CHECK(ids[i] >= 0 && ids[i] < vocab, FZ_ERR_ARG,
                 "decode: id %d, but the vocabulary has %lld", (int)ids[i], (long long)vocab);
#if FZ_HAVE_SENTENCEPIECE
    if (tokenizer->processor != NULL) {
        FZ_CHECK(fz_sp_decode(tokenizer->processor, ids, n, out, bytes) == 0, FZ_ERR_FORMAT,
                 "decode: sentencepiece failed");
        return FZ_OK;
    }
#endif
    return fz_wordlist_decode(tokenizer->words, ids, n, out, bytes);
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
