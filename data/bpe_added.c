#include "data/bpe_internal.h"

#if FZ_HAVE_PCRE2

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "data/utf8.h"

static int by_content(const void *a, const void *b)
{
    return strcmp(((const fz_added *)a)->content, ((const fz_added *)b)->content);
}

void fz_added_sort(fz_added_set *set)
{
    if (set->n > 0) qsort(set->list, (size_t)set->n, sizeof *set->list, by_content);
}

void fz_added_reset(fz_added_set *set)
{
    for (int64_t i = 0; i < set->n; i++)
        fz_free(&set->list[i].content);
    fz_free(&set->list);
    pcre2_code_free(set->word);
    *set = (fz_added_set){0};
}

/* The first of [low, high) whose byte at depth is at least c; all share the bytes before, and the
 * ones that end there come first. */
static int64_t lower(const fz_added_set *set, int64_t low, int64_t high, size_t depth, int c)
{
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if ((unsigned char)set->list[middle].content[depth] < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token that the text begins with: byte by byte through the sorted list. */
static const fz_added *longest(const fz_added_set *set, bool is_late, const char *text, size_t n)
{
    const fz_added *best = NULL;
    int64_t low = 0, high = set->n;

    for (size_t depth = 0; depth < n && low < high; depth++) {
        const int c = (unsigned char)text[depth];
        low = lower(set, low, high, depth, c);
        high = lower(set, low, high, depth, c + 1);
        /* Contents are unequal, so only the first can end here. */
        if (low < high && set->list[low].n == depth + 1 && set->list[low].is_late == is_late)
            best = &set->list[low];
    }
    return best;
}

/* Unicode's White_Space. */
static bool is_space(uint32_t code)
{
    return (code >= 0x9 && code <= 0xd) || code == 0x20 || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

/* Where the character before at begins. */
static size_t back(const char *text, size_t at)
{
    do
        at--;
    while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

static size_t spaces_before(const char *text, size_t at)
{
    while (at > 0) {
        uint32_t code;
        const size_t before = back(text, at);
        fz_utf8_step(text + before, at - before, &code);
        if (!is_space(code)) break;
        at = before;
    }
    return at;
}

static size_t spaces_behind(const char *text, size_t n, size_t at)
{
    while (at < n) {
        uint32_t code;
        const size_t step = fz_utf8_step(text + at, n - at, &code);
        if (!is_space(code)) break;
        at += step;
    }
    return at;
}

static bool is_word(const fz_added_scan *scan, size_t start, size_t stop)
{
    return pcre2_match(scan->set->word, (PCRE2_SPTR)scan->text + start, stop - start, 0,
                       PCRE2_NO_UTF_CHECK, scan->match, NULL) > 0;
}

static bool stands_alone(const fz_added_scan *scan, size_t start, size_t stop)
{
    if (stop < scan->n && is_word(scan, stop, scan->n)) return false;
    return start == 0 || !is_word(scan, back(scan->text, start), start);
}

fz_added_match fz_added_next(fz_added_scan *scan)
{
    const fz_added_set *set = scan->set;

    while (scan->at < scan->n && set->n > 0) {
        const size_t start = scan->at;
        const fz_added *token = longest(set, scan->is_late, scan->text + start, scan->n - start);
        const size_t stop = token ? start + token->n : start + 1;

        scan->at = stop;
        if (token == NULL || (token->single_word && !stands_alone(scan, start, stop))) continue;
        fz_added_match match = {token, start, stop};
        if (token->lstrip) match.start = spaces_before(scan->text, start);
        if (token->rstrip) match.stop = spaces_behind(scan->text, scan->n, stop);
        scan->from = match.stop;
        return match;
    }
    return (fz_added_match){.token = NULL, .start = scan->n, .stop = scan->n};
}

#endif
