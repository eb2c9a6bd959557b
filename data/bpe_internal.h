/* What data/bpe*.c share: the tokenizer in memory, and the tokens that are found in the text before
 * it is cut. Local. */
#ifndef FZ_DATA_BPE_INTERNAL_H
#define FZ_DATA_BPE_INTERNAL_H

#include <stdbool.h>

#include "data/bpe.h"

#if FZ_HAVE_PCRE2

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* A token that is found in the text as it stands. */
typedef struct fz_added {
    char *content; /* owned */
    size_t n;      /* bytes of it */
    int32_t id;
    bool single_word;    /* only where no word character is beside it */
    bool lstrip, rstrip; /* takes the white space before, behind it */
    bool is_late;        /* "normalized": looked for in what the others left */
    bool is_special;     /* left out when decoding */
} fz_added;

/* Sorted by content, no two alike. */
typedef struct fz_added_set {
    fz_added *list; /* owned */
    int64_t n;
    pcre2_code *word; /* owned; one word character */
} fz_added_set;

/* A walk through n bytes of text. */
typedef struct fz_added_scan {
    const fz_added_set *set;
    bool is_late; /* which of the tokens */
    const char *text;
    size_t n;
    size_t at;               /* not yet looked at */
    size_t from;             /* not yet taken by a token */
    pcre2_match_data *match; /* scratch, borrowed */
} fz_added_scan;

typedef struct fz_added_match {
    const fz_added *token; /* borrowed; NULL: none */
    size_t start, stop; /* bytes that it takes; white space before may belong to another already */
} fz_added_match;

void fz_added_sort(fz_added_set *set);
void fz_added_reset(fz_added_set *set);
/* The next token: the leftmost, then the longest. */
fz_added_match fz_added_next(fz_added_scan *scan);

/* Open addressing; rank < 0: empty. */
typedef struct fz_merge {
    int32_t left, right, rank, id;
} fz_merge;

struct fz_bpe {
    int64_t n_tokens;
    char *bytes;      /* owned; all tokens behind each other */
    int64_t *start;   /* owned (n_tokens + 1) */
    bool *is_special; /* owned (n_tokens) */
    int32_t byte_id[256];
    fz_merge *merges; /* owned (n_slots) */
    uint32_t n_slots; /* a power of two */
    fz_added_set added;
    pcre2_code *pattern; /* owned */
};

fz_status fz_merges_create(fz_bpe *bpe, int64_t n);
/* The pair's place: its entry, or the empty one where it belongs. */
fz_merge *fz_merges_find(const fz_bpe *bpe, int32_t left, int32_t right);
/* Both patterns. */
fz_status fz_bpe_compile(fz_bpe *bpe);

#endif
#endif
