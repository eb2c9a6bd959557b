#include "launch/vocabulary.h"

#include <string.h>

#include "core/memory.h"

enum { PIECE_BYTES = 4096, MOST_PARTS = PIECE_BYTES };

/* The encoder's id for a special one of the decoder's; -1: id is none, or has no counterpart. */
static int32_t counterpart(const fz_tokenizer *enc, const fz_tokenizer *dec, int32_t id)
{
    const fz_tokenizer_specials from = fz_tokenizer_get_specials(dec),
                                to = fz_tokenizer_get_specials(enc);
    if (id == from.bos) return to.bos;
    if (id == from.eos) return to.eos;
    if (id == from.pad) return to.pad;
    return id == from.unk ? to.unk : -1;
}

/* The text of an id as the encoder's tokenizer shall see it: a space for a first U+2581, and for
 * that alone, as the authors of Florenz did. */
static fz_status text_of(const fz_tokenizer *dec, int32_t id, char text[PIECE_BYTES])
{
    static const char mark[] = "\xE2\x96\x81";
    size_t n = 0;
    FZ_TRY(fz_tokenizer_piece(dec, id, text, PIECE_BYTES, &n));
    if (strncmp(text, mark, strlen(mark)) != 0) return FZ_OK;
    text[0] = ' ';
    memmove(text + 1, text + strlen(mark), strlen(text + strlen(mark)) + 1);
    return FZ_OK;
}

static fz_status add_parts(const fz_tokenizer *enc, const fz_tokenizer *dec, int32_t id,
                           int32_t parts[MOST_PARTS], int64_t *n_p)
{
    char text[PIECE_BYTES];
    *n_p = 1;
    parts[0] = counterpart(enc, dec, id);
    if (parts[0] >= 0) return FZ_OK;
    FZ_TRY(text_of(dec, id, text));
    return fz_tokenizer_encode(enc, text, parts, MOST_PARTS, n_p);
}

static fz_status fill(const fz_tokenizer *enc, const fz_tokenizer *dec, fz_vocabulary *v)
{
    int32_t parts[MOST_PARTS];
    int64_t room = 0;
    for (int64_t id = 0; id < v->n; id++) {
        int64_t n = 0;
        FZ_TRY(add_parts(enc, dec, (int32_t)id, parts, &n));
        if (v->start[id] + n > room) {
            room = 2 * (room + n) + 1024;
            FZ_TRY(fz_realloc((void **)&v->ids, (size_t)room * sizeof *v->ids, "vocabulary"));
        }
        for (int64_t i = 0; i < n; i++) {
            v->ids[v->start[id] + i] = parts[i];
            if (parts[i] > v->largest) v->largest = parts[i];
        }
        v->start[id + 1] = v->start[id] + n;
        v->n_empty += n == 0;
    }
    return FZ_OK;
}

fz_status fz_vocabulary_create(const fz_tokenizer *enc, const fz_tokenizer *dec,
                               fz_vocabulary *vocabulary)
{
    memset(vocabulary, 0, sizeof *vocabulary);
    vocabulary->n = fz_tokenizer_vocab(dec);
    FZ_TRY(FZ_NEW(&vocabulary->start, vocabulary->n + 1));
    const fz_status status = fill(enc, dec, vocabulary);
    if (status != FZ_OK) fz_vocabulary_reset(vocabulary);
    return status;
}

static fz_status load(const char *key, const char *path, bool is_encoder, int64_t vocab,
                      fz_tokenizer **tokenizer_p)
{
    fz_status status = fz_tokenizer_load(path, tokenizer_p);
    if (status == FZ_OK) status = fz_tokenizer_check(*tokenizer_p, path, is_encoder, vocab);
    if (status != FZ_OK) return FZ_FAIL(status, "%s: %s", key, fz_last_error()->text);
    return FZ_OK;
}

fz_status fz_vocabulary_load(const char *enc_path, int64_t enc_vocab, const char *dec_path,
                             int64_t dec_vocab, fz_vocabulary *vocabulary)
{
    fz_tokenizer *enc = NULL, *dec = NULL;
    fz_status status = load("--enc-tokenizer", enc_path, true, enc_vocab, &enc);
    if (status == FZ_OK) status = load("--dec-tokenizer", dec_path, false, dec_vocab, &dec);
    if (status == FZ_OK) status = fz_vocabulary_create(enc, dec, vocabulary);
    fz_tokenizer_destroy(&enc);
    fz_tokenizer_destroy(&dec);
    return status;
}

void fz_vocabulary_reset(fz_vocabulary *vocabulary)
{
    fz_free(&vocabulary->start);
    fz_free(&vocabulary->ids);
    memset(vocabulary, 0, sizeof *vocabulary);
}

fz_status fz_vocabulary_average(const fz_vocabulary *v, const float *table, int64_t n_rows,
                                int64_t width, float *out)
{
    double *sum = NULL;
    FZ_CHECK(v->largest < n_rows, FZ_ERR_ARG, "id %d of a table of %lld rows", v->largest,
             (long long)n_rows);
    FZ_TRY(FZ_NEW(&sum, width));
    for (int64_t id = 0; id < v->n; id++) {
        const int64_t n = v->start[id + 1] - v->start[id];
        if (n == 0) continue;
        memset(sum, 0, (size_t)width * sizeof *sum);
        for (int64_t i = v->start[id]; i < v->start[id + 1]; i++)
            for (int64_t c = 0; c < width; c++)
                sum[c] += (double)table[v->ids[i] * width + c];
        for (int64_t c = 0; c < width; c++)
            out[id * width + c] = (float)(sum[c] / (double)n);
    }
    fz_free(&sum);
    return FZ_OK;
}
