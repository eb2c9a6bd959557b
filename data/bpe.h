/* Byte-level BPE as GPT-2 and BART use it: text is cut at added tokens ("<s>", "<loc_17>"), what
 * lies between them by GPT-2's pattern (PCRE2), and the bytes of every piece are merged by rank.
 * The files are Hugging Face's; ids are the ones of its tokenizers library. Local.
 *
 * Only built in where FZ_HAVE_PCRE2 is 1. Texts are valid UTF-8 (data/utf8.h).
 */
#ifndef FZ_DATA_BPE_H
#define FZ_DATA_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct fz_bpe fz_bpe;

/* path: tokenizer.json, or vocab.json with merges.txt and, if there are any, added_tokens.json
 * beside it. BART's own vocabulary (50,265 entries) gets the 1,024 tokens that Florence-2 adds
 * behind it, if the file lacks them. FZ_ERR_FORMAT: not JSON, or a tokenizer of another kind
 * (Unigram, WordPiece, a normalizer, another pre-tokenizer, dropout): nothing that would give other
 * ids than the library's is accepted. */
fz_status fz_bpe_load(const char *path, fz_bpe **bpe_p);
void fz_bpe_destroy(fz_bpe **bpe);

/* Ids are 0 .. size - 1, added tokens included. */
int64_t fz_bpe_size(const fz_bpe *bpe);
/* -1: no such token. name: of a special or added token. */
int32_t fz_bpe_id(const fz_bpe *bpe, const char *name);
/* At most max ids, without bos and eos; *n_p the number. Thread-safe. */
fz_status fz_bpe_encode(const fz_bpe *bpe, const char *text, int32_t *ids, int64_t max,
                        int64_t *n_p);
/* Special tokens are left out; bytes that make no character become U+FFFD; cut at a whole
 * character. ids are in range. */
fz_status fz_bpe_decode(const fz_bpe *bpe, const int32_t *ids, int64_t n, char *out, size_t bytes);
/* The token's bytes: borrowed, *n_p of them, without an end. */
const char *fz_bpe_piece(const fz_bpe *bpe, int32_t id, size_t *n_p);

#endif
