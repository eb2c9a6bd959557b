/* Text to ids and back. SentencePiece behind a thin C face (data/tokenizer.cc), where built in. */
#ifndef FZ_DATA_TOKENIZER_H
#define FZ_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

typedef struct fz_tokenizer fz_tokenizer;

/* path: a SentencePiece model; a byte-level BPE as tokenizer.json, as vocab.json (merges.txt and
 * added_tokens.json lie beside it) or as a folder with either; or a word list (one word a line;
 * written where SentencePiece is absent). FZ_ERR_FORMAT/IO. */
fz_status fz_tokenizer_load(const char *path, fz_tokenizer **tokenizer_p);
void fz_tokenizer_destroy(fz_tokenizer **tokenizer);
int64_t fz_tokenizer_vocab(const fz_tokenizer *tokenizer);
/* Ids without bos/eos; at most max; *n_p the number. Thread-safe. */
fz_status fz_tokenizer_encode(const fz_tokenizer *tokenizer, const char *text, int32_t *ids,
                              int64_t max, int64_t *n_p);
/* UTF-8 into out, always terminated. */
fz_status fz_tokenizer_decode(const fz_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                              char *out, size_t bytes);
/* What one id stands for, as text: a SentencePiece piece with U+2581 for spaces, a BPE token as its
 * bytes. Special tokens give their names ("<s>"). Always terminated; *n_p bytes without the end.
 * FZ_ERR_ARG: no such id. */
fz_status fz_tokenizer_piece(const fz_tokenizer *tokenizer, int32_t id, char *out, size_t bytes,
                             size_t *n_p);
bool fz_tokenizer_has_sentencepiece(void);
/* Trains a SentencePiece unigram model (or writes a word list) over the lines of a text file.
 * bos/eos/pad/unk ids: 0,2,1,3 for bart_ids, else 2,1,0,3 (Gemma). */
fz_status fz_tokenizer_train(const char *text_path, const char *model_path, int vocab,
                             bool bart_ids);

#endif
