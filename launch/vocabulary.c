#include "launch/vocabulary.h"

#include <string.h>

#include "core/memory.h"

enum { PIECE_BYTES = 4096, MOST_PARTS = PIECE_BYTES, N_SPECIAL = 4 };

/* Gemma's pad, eos, bos, unk are 0, 1, 2, 3; Florence-2's 1, 2, 0, 3. */
static const int32_t special_ids[N_SPECIAL] = {1, 2, 0, 3};

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
    if (id < N_SPECIAL) {
        parts[0] = special_ids[id];
        *n_p = 1;
        return FZ_OK;
    }
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
    FZ_CHECK(v->largest < n_rows, FZ_ERR_USAGE,
             "the encoder's tokenizer gives id %d, but the folder's table has %lld rows; it is "
             "not that model's tokenizer",
             v->largest, (long long)n_rows);
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
