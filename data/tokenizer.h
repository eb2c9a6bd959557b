/* Text to ids and back: SentencePiece behind a thin C face (data/tokenizer.cc), byte-level BPE
 * (data/bpe.h), each where built in, and word lists. Local. */
#ifndef FZ_DATA_TOKENIZER_H
#define FZ_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

typedef struct fz_tokenizer fz_tokenizer;

/* path: a SentencePiece model; a byte-level BPE as tokenizer.json, as vocab.json (merges.txt and
 * added_tokens.json lie beside it); a folder with one of these (tokenizer.model first, then
 * tokenizer.json); or a word list (one word a line; written where SentencePiece is absent).
 * FZ_ERR_FORMAT/IO. */
fz_status fz_tokenizer_load(const char *path, fz_tokenizer **tokenizer_p);
void fz_tokenizer_destroy(fz_tokenizer **tokenizer);
int64_t fz_tokenizer_vocab(const fz_tokenizer *tokenizer);

typedef struct fz_tokenizer_specials {
    int32_t bos, eos, pad, unk; /* -1: there is none */
} fz_tokenizer_specials;
/* By the file; in a BPE they are called <s>, </s>, <pad> and <unk>. */
fz_tokenizer_specials fz_tokenizer_get_specials(const fz_tokenizer *tokenizer);

/* Whether a model whose vocabulary has vocab ids can use it, for prompts (is_encoder) or for
 * outputs: not more ids, and the special ids of data/sample.h. path is for the message.
 * FZ_ERR_USAGE. */
fz_status fz_tokenizer_check(const fz_tokenizer *tokenizer, const char *path, bool is_encoder,
                             int64_t vocab);

/* Ids without bos/eos; at most max; *n_p the number. What is not UTF-8 counts as U+FFFD, one for
 * every maximal subpart (data/utf8.h). Thread-safe. */
fz_status fz_tokenizer_encode(const fz_tokenizer *tokenizer, const char *text, int32_t *ids,
                              int64_t max, int64_t *n_p);
/* UTF-8 into out, always terminated, cut at a whole character if there is no room. Specials are
 * left out. */
fz_status fz_tokenizer_decode(const fz_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                              char *out, size_t bytes);
/* What one id stands for, as text: a SentencePiece piece with U+2581 for spaces, a BPE token as its
 * bytes. Special tokens give their names ("<s>"). Always terminated; *n_p bytes without the end.
 * FZ_ERR_ARG: no such id. */
fz_status fz_tokenizer_piece(const fz_tokenizer *tokenizer, int32_t id, char *out, size_t bytes,
                             size_t *n_p);
bool fz_tokenizer_has_sentencepiece(void);
bool fz_tokenizer_has_bpe(void);
/* Trains a SentencePiece unigram model (or writes a word list) over the lines of a text file.
 * bos/eos/pad/unk ids: 0,2,1,3 for bart_ids, else 2,1,0,3 (Gemma). */
fz_status fz_tokenizer_train(const char *text_path, const char *model_path, int vocab,
                             bool bart_ids);

#endif
