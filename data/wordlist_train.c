/* A word list from a text: every character, then the most frequent words. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "data/wordlist.h"

enum { LINE_BYTES = 4096, N_CODE_POINTS = 0x110000 };

typedef struct counted {
    char text[FZ_WORDLIST_BYTES];
    int64_t count;
} counted;

typedef struct census {
    int64_t n, capacity;
    counted *words; /* owned: one each time it is read, then one each */
    uint8_t *seen;  /* owned (N_CODE_POINTS) */
} census;

static int compare_text(const void *a, const void *b)
{
    return strcmp(((const counted *)a)->text, ((const counted *)b)->text);
}

static int compare_count(const void *a, const void *b)
{
    const counted *x = a, *y = b;

    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return compare_text(a, b);
}

static uint32_t code_point(const char *text, size_t n)
{
    const unsigned char *c = (const unsigned char *)text;

    if (n == 2) return (uint32_t)(c[0] & 0x1f) << 6 | (c[1] & 0x3f);
    if (n == 3) return (uint32_t)(c[0] & 0x0f) << 12 | (uint32_t)(c[1] & 0x3f) << 6 | (c[2] & 0x3f);
    if (n == 4)
        return ((uint32_t)(c[0] & 0x07) << 18 | (uint32_t)(c[1] & 0x3f) << 12 |
                (uint32_t)(c[2] & 0x3f) << 6 | (c[3] & 0x3f)) %
               N_CODE_POINTS;
    return c[0];
}

/* Punctuation and Chinese characters are words of their own. */
static bool stands_alone(uint32_t point)
{
    const bool letter = (point >= '0' && point <= '9') || (point >= 'A' && point <= 'Z') ||
                        (point >= 'a' && point <= 'z');

    return point < 0x80 ? !letter : point >= 0x2e80;
}

static fz_status add_word(census *all, const char *text)
{
    if (all->n == all->capacity) {
        all->capacity = all->capacity == 0 ? 4096 : 2 * all->capacity;
        FZ_TRY(
            fz_realloc((void **)&all->words, (size_t)all->capacity * sizeof *all->words, "words"));
    }
    counted *word = &all->words[all->n++];
    memset(word, 0, sizeof *word);
    snprintf(word->text, sizeof word->text, "%s", text);
    word->count = 1;
    return FZ_OK;
}

static fz_status read_line(census *all, const char *line)
{
    char word[FZ_WORDLIST_BYTES] = FZ_WORDLIST_SPACE;
    size_t n = strlen(word);

    for (const char *at = line; *at != '\0';) {
        const size_t bytes = fz_utf8_bytes(at);
        const uint32_t point = code_point(at, bytes);
        const bool alone = stands_alone(point);

        all->seen[*at == ' ' ? 0x2581U : point] = 1;
        if (n > 0 && (alone || n + bytes >= sizeof word)) {
            FZ_TRY(add_word(all, word));
            n = 0;
        }
        if (*at == ' ') {
            n = strlen(strcpy(word, FZ_WORDLIST_SPACE));
        } else {
            memcpy(word + n, at, bytes);
            word[n += bytes] = '\0';
            if (alone) {
                FZ_TRY(add_word(all, word));
                n = 0;
            }
        }
        at += bytes;
    }
    return n > 0 ? add_word(all, word) : FZ_OK;
}

static fz_status read_text(census *all, const char *path)
{
    char line[LINE_BYTES];
    FILE *file = fopen(path, "rb");
    fz_status status = FZ_OK;

    FZ_CHECK(file != NULL, FZ_ERR_IO, "open %s: %s", path, strerror(errno));
    all->seen[0x2581] = 1;
    while (status == FZ_OK && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        status = read_line(all, line);
    }
    if (status == FZ_OK && ferror(file) != 0)
        status = FZ_FAIL(FZ_ERR_IO, "read %s: %s", path, strerror(errno));
    fclose(file);
    return status;
}

static void count_words(census *all)
{
    int64_t n = 0;

    qsort(all->words, (size_t)all->n, sizeof *all->words, compare_text);
    for (int64_t i = 0; i < all->n; i++) {
        if (n > 0 && strcmp(all->words[n - 1].text, all->words[i].text) == 0)
            all->words[n - 1].count++;
        else
            all->words[n++] = all->words[i];
    }
    all->n = n;
    qsort(all->words, (size_t)n, sizeof *all->words, compare_count);
}

static void put_code_point(FILE *file, uint32_t point)
{
    if (point < 0x80) {
        fprintf(file, "%c\n", (int)point);
    } else if (point < 0x800) {
        fprintf(file, "%c%c\n", (int)(0xc0 | point >> 6), (int)(0x80 | (point & 0x3f)));
    } else if (point < 0x10000) {
        fprintf(file, "%c%c%c\n", (int)(0xe0 | point >> 12), (int)(0x80 | (point >> 6 & 0x3f)),
                (int)(0x80 | (point & 0x3f)));
    } else {
        fprintf(file, "%c%c%c%c\n", (int)(0xf0 | point >> 18), (int)(0x80 | (point >> 12 & 0x3f)),
                (int)(0x80 | (point >> 6 & 0x3f)), (int)(0x80 | (point & 0x3f)));
    }
}

static fz_status write_list(const census *all, const char *path, int vocab, bool bart_ids)
{
    const char *const *specials = bart_ids ? fz_wordlist_bart_specials : fz_wordlist_gemma_specials;
    int n = FZ_WORDLIST_SPECIALS;

    for (int i = 0; i < N_CODE_POINTS; i++)
        n += all->seen[i];
    FZ_CHECK(n <= vocab, FZ_ERR_ARG,
             "word list %s: a vocabulary of %d is too small for this text: %d specials and "
             "characters",
             path, vocab, n);

    FILE *file = fopen(path, "wb");
    FZ_CHECK(file != NULL, FZ_ERR_IO, "create %s: %s", path, strerror(errno));
    for (int i = 0; i < FZ_WORDLIST_SPECIALS; i++)
        fprintf(file, "%s\n", specials[i]);
    for (int i = 0; i < N_CODE_POINTS; i++)
        if (all->seen[i] != 0) put_code_point(file, (uint32_t)i);
    for (int64_t i = 0; i < all->n && n < vocab; i++) {
        if (all->words[i].text[fz_utf8_bytes(all->words[i].text)] == '\0') continue;
        fprintf(file, "%s\n", all->words[i].text);
        n++;
    }
    const bool failed = ferror(file) != 0;
    FZ_CHECK(fclose(file) == 0 && !failed, FZ_ERR_IO, "write %s: %s", path, strerror(errno));
    return FZ_OK;
}

fz_status fz_wordlist_train(const char *text_path, const char *path, int vocab, bool bart_ids)
{
    census all = {0};
    fz_status status = FZ_NEW(&all.seen, N_CODE_POINTS);

    if (status == FZ_OK) status = read_text(&all, text_path);
    if (status == FZ_OK) {
        count_words(&all);
        status = write_list(&all, path, vocab, bart_ids);
    }
    fz_free(&all.words);
    fz_free(&all.seen);
    return status;
}
