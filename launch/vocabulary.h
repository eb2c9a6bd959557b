/* The decoder's vocabulary in terms of the encoder's: how a Florence-2 decoder is made to speak
 * another tokenizer's ids (model.md 7.7 item 8). Local.
 *
 * Every id of the decoder's tokenizer is a text; the encoder's tokenizer cuts it into ids of its
 * own, whose rows are averaged. Bos, eos, unk and pad go one to one.
 */
#ifndef FZ_LAUNCH_VOCABULARY_H
#define FZ_LAUNCH_VOCABULARY_H

#include "data/tokenizer.h"

typedef struct fz_vocabulary {
    int64_t n;       /* ids of the decoder's tokenizer */
    int64_t *start;  /* owned, (n + 1): id's parts are ids[start[id] .. start[id + 1]) */
    int32_t *ids;    /* owned */
    int64_t n_empty; /* ids that have none: their rows stay as they are */
    int32_t largest; /* of ids */
} fz_vocabulary;

fz_status fz_vocabulary_create(const fz_tokenizer *enc, const fz_tokenizer *dec,
                               fz_vocabulary *vocabulary);
/* The same from files. enc_vocab: rows of the old table, dec_vocab: of the new one. FZ_ERR_USAGE:
 * tokenizers that do not go with them. */
fz_status fz_vocabulary_load(const char *enc_path, int64_t enc_vocab, const char *dec_path,
                             int64_t dec_vocab, fz_vocabulary *vocabulary);
void fz_vocabulary_reset(fz_vocabulary *vocabulary);

/* Row id of out (n, width) becomes the mean of table's rows, added in double. FZ_ERR_ARG where the
 * table (n_rows, width) lacks one. */
fz_status fz_vocabulary_average(const fz_vocabulary *vocabulary, const float *table, int64_t n_rows,
                                int64_t width, float *out);

#endif
