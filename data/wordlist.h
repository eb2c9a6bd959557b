/* The tokenizer that needs no library: words of a list, longest match first. Local.
 *
 * The file is one word a line, UTF-8, id = line number from 0; the first four are the specials. A
 * space is written as U+2581 and belongs to the word behind it, as in SentencePiece, so decoding
 * gives the text back. A trained list holds every single character of its text; a character of
 * none is the unknown word.
 */
#ifndef FZ_DATA_WORDLIST_H
#define FZ_DATA_WORDLIST_H

#include <stdint.h>

#include "core/status.h"

#define FZ_WORDLIST_SPACE "\xe2\x96\x81"
enum { FZ_WORDLIST_SPECIALS = 4, FZ_WORDLIST_BYTES = 64 /* of one word, with its end */ };
/* In the order of their ids. */
extern const char *const fz_wordlist_bart_specials[FZ_WORDLIST_SPECIALS],
    *const fz_wordlist_gemma_specials[FZ_WORDLIST_SPECIALS];

typedef struct fz_wordlist fz_wordlist;

/* Bytes of the first character; 1 for what is not UTF-8. */
size_t fz_utf8_bytes(const char *text);

fz_status fz_wordlist_load(const char *path, fz_wordlist **list_p);
void fz_wordlist_destroy(fz_wordlist **list);
int64_t fz_wordlist_size(const fz_wordlist *list);
const char *fz_wordlist_word(const fz_wordlist *list, int32_t id); /* borrowed; id is in range */
fz_status fz_wordlist_encode(const fz_wordlist *list, const char *text, int32_t *ids, int64_t max,
                             int64_t *n_p);
fz_status fz_wordlist_decode(const fz_wordlist *list, const int32_t *ids, int64_t n, char *out,
                             size_t bytes);
/* The most frequent words of a text, at most vocab in all. FZ_ERR_ARG: too small for the text's
 * characters. */
fz_status fz_wordlist_train(const char *text_path, const char *path, int vocab, bool bart_ids);

#endif
