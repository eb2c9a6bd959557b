#include "data/wordlist.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

#define SPACE FZ_WORDLIST_SPACE

enum { N_SPECIALS = FZ_WORDLIST_SPECIALS, WORD_BYTES = FZ_WORDLIST_BYTES, UNKNOWN_ID = 3 };

const char *const fz_wordlist_bart_specials[N_SPECIALS] = {"<s>", "<pad>", "</s>", "<unk>"};
const char *const fz_wordlist_gemma_specials[N_SPECIALS] = {"<pad>", "</s>", "<s>", "<unk>"};

typedef struct word {
    char text[WORD_BYTES];
    int32_t id;
} word;

struct fz_wordlist {
    int64_t n;
    word *by_text;             /* owned (n - N_SPECIALS), sorted; what encode finds */
    char (*by_id)[WORD_BYTES]; /* owned (n) */
};

static int compare_text(const void *a, const void *b)
{
    return strcmp(((const word *)a)->text, ((const word *)b)->text);
}

size_t fz_utf8_bytes(const char *text)
{
    const unsigned char c = (unsigned char)*text;
    const size_t want = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    size_t n = 1;

    while (n < want && ((unsigned char)text[n] & 0xc0) == 0x80)
        n++;
    return n;
}

static fz_status read_words(FILE *file, const char *path, fz_wordlist *list)
{
    char line[WORD_BYTES + 2];
    int64_t capacity = 0;

    while (fgets(line, sizeof line, file) != NULL) {
        const size_t n = strcspn(line, "\n");

        FZ_CHECK(n > 0 && n < WORD_BYTES && line[n] == '\n', FZ_ERR_FORMAT,
                 "%s:%lld: a word must have 1 to %d bytes and a line of its own", path,
                 (long long)list->n + 1, WORD_BYTES - 1);
        line[n] = '\0';
        if (list->n == capacity) {
            capacity = capacity == 0 ? 256 : 2 * capacity;
            FZ_TRY(fz_realloc((void **)&list->by_id, (size_t)capacity * WORD_BYTES, "word list"));
        }
        memcpy(list->by_id[list->n++], line, n + 1);
    }
    FZ_CHECK(list->n > N_SPECIALS, FZ_ERR_FORMAT, "%s: %lld words, the first %d are specials", path,
             (long long)list->n, N_SPECIALS);
    for (int i = 0; i < N_SPECIALS; i++)
        FZ_CHECK(strcmp(list->by_id[i], fz_wordlist_bart_specials[i]) == 0 ||
                     strcmp(list->by_id[i], fz_wordlist_gemma_specials[i]) == 0,
                 FZ_ERR_FORMAT, "%s:%d: \"%s\" is not the special %s (encoder) or %s (decoder)",
                 path, i + 1, list->by_id[i], fz_wordlist_bart_specials[i],
                 fz_wordlist_gemma_specials[i]);
    return FZ_OK;
}

static fz_status sort_words(fz_wordlist *list)
{
    const int64_t n = list->n - N_SPECIALS;

    FZ_TRY(FZ_NEW(&list->by_text, n));
    for (int64_t i = 0; i < n; i++) {
        memcpy(list->by_text[i].text, list->by_id[N_SPECIALS + i], WORD_BYTES);
        list->by_text[i].id = (int32_t)(N_SPECIALS + i);
    }
    qsort(list->by_text, (size_t)n, sizeof *list->by_text, compare_text);
    return FZ_OK;
}

fz_status fz_wordlist_load(const char *path, fz_wordlist **list_p)
{
    fz_wordlist *list = NULL;
    FILE *file = fopen(path, "rb");

    FZ_CHECK(file != NULL, FZ_ERR_IO, "open word list %s: %s", path, strerror(errno));
    fz_status status = FZ_NEW(&list, 1);
    if (status == FZ_OK) status = read_words(file, path, list);
    if (status == FZ_OK) status = sort_words(list);
    fclose(file);
    if (status != FZ_OK) {
        fz_wordlist_destroy(&list);
        return status;
    }
    *list_p = list;
    return FZ_OK;
}

void fz_wordlist_destroy(fz_wordlist **list)
{
    if (*list == NULL) return;
    fz_free(&(*list)->by_text);
    fz_free(&(*list)->by_id);
    fz_free(list);
}

int64_t fz_wordlist_size(const fz_wordlist *list)
{
    return list->n;
}

const char *fz_wordlist_word(const fz_wordlist *list, int32_t id)
{
    return list->by_id[id];
}

/* The text's beginning as words are written: every space as U+2581, and one before the first word.
 * source[i]: bytes of text that are spent when out[i] has been read. */
static void mark_spaces(const char *text, bool at_start, char out[WORD_BYTES],
                        uint8_t source[WORD_BYTES])
{
    size_t n = 0, i = 0;

    if (at_start) {
        memcpy(out, SPACE, 3);
        memset(source, 0, 3);
        n = 3;
    }
    while (text[i] != '\0') {
        const bool space = text[i] == ' ';
        const size_t take = space ? 1 : fz_utf8_bytes(text + i), put = space ? 3 : take;

        if (n + put >= WORD_BYTES) break;
        memcpy(out + n, space ? SPACE : text + i, put);
        i += take;
        memset(source + n, (int)i, put);
        n += put;
    }
    out[n] = '\0';
}

fz_status fz_wordlist_encode(const fz_wordlist *list, const char *text, int32_t *ids, int64_t max,
                             int64_t *n_p)
{
    int64_t n = 0;

    /* The text's first word is written as if a space stood before it. */
    for (bool at_start = *text != '\0'; (at_start || *text != '\0') && n < max;) {
        char ahead[WORD_BYTES];
        uint8_t source[WORD_BYTES];
        word key = {.id = UNKNOWN_ID};
        const word *found = NULL;

        mark_spaces(text, at_start, ahead, source);
        size_t length = strlen(ahead);
        while (length > 0 && found == NULL) {
            memcpy(key.text, ahead, length);
            key.text[length] = '\0';
            found = bsearch(&key, list->by_text, (size_t)(list->n - N_SPECIALS),
                            sizeof *list->by_text, compare_text);
            if (found == NULL) length--;
        }
        if (found == NULL) length = fz_utf8_bytes(ahead);
        ids[n++] = found != NULL ? found->id : UNKNOWN_ID;
        text += source[length - 1];
        at_start = false;
    }
    *n_p = n;
    return FZ_OK;
}

fz_status fz_wordlist_decode(const fz_wordlist *list, const int32_t *ids, int64_t n, char *out,
                             size_t bytes)
{
    size_t at = 0;

    for (int64_t i = 0; i < n; i++) {
        const char *text = list->by_id[ids[i]];

        if (ids[i] < N_SPECIALS && ids[i] != UNKNOWN_ID) continue;
        while (*text != '\0') {
            const bool space = strncmp(text, SPACE, 3) == 0;
            const size_t take = fz_utf8_bytes(text), put = space ? 1 : take;

            if (at + put >= bytes) break;
            if (!(space && at == 0)) {
                memcpy(out + at, space ? " " : text, put);
                at += put;
            }
            text += take;
        }
    }
    out[at] = '\0';
    return FZ_OK;
}
