#include "data/utf8.h"

#include <stdbool.h>
#include <string.h>

/* By the first byte: how many follow, and the range of the second (table 3-7). */
static size_t followers(unsigned char first, unsigned char *least, unsigned char *most)
{
    *least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    *most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (first >= 0xc2 && first <= 0xdf) return 1;
    if (first >= 0xe0 && first <= 0xef) return 2;
    if (first >= 0xf0 && first <= 0xf4) return 3;
    return 0;
}

size_t fz_utf8_step(const char *text, size_t n, uint32_t *code_p)
{
    const unsigned char *at = (const unsigned char *)text;
    unsigned char least, most;

    *code_p = at[0];
    if (at[0] < 0x80) return 1;
    const size_t more = followers(at[0], &least, &most);
    uint32_t code = at[0] & (0x3fU >> more);

    *code_p = FZ_UTF8_BAD;
    if (more == 0) return 1;
    for (size_t i = 1; i <= more; i++) {
        if (i == n || at[i] < least || at[i] > most) return i;
        code = code << 6 | (at[i] & 0x3fU);
        least = 0x80;
        most = 0xbf;
    }
    *code_p = code;
    return more + 1;
}

size_t fz_utf8_put(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const size_t more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    const unsigned head = more == 1 ? 0xc0 : more == 2 ? 0xe0 : 0xf0;

    out[0] = (char)(unsigned char)(head | code >> 6 * more);
    for (size_t i = 1; i <= more; i++)
        out[i] = (char)(unsigned char)(0x80 | (code >> 6 * (more - i) & 0x3f));
    return more + 1;
}

size_t fz_utf8_valid(const char *text, size_t n)
{
    size_t at = 0;

    while (at < n) {
        uint32_t code;
        const size_t step = fz_utf8_step(text + at, n - at, &code);
        if (code == FZ_UTF8_BAD) break;
        at += step;
    }
    return at;
}

size_t fz_utf8_copy(const char *text, size_t n, char *out, size_t bytes)
{
    size_t whole = 0, used = 0;

    for (size_t at = 0; at < n;) {
        uint32_t code;
        const size_t step = fz_utf8_step(text + at, n - at, &code);
        const bool is_bad = code == FZ_UTF8_BAD || code == 0;
        const char *from = is_bad ? FZ_UTF8_REPLACEMENT : text + at;
        const size_t length = is_bad ? strlen(FZ_UTF8_REPLACEMENT) : step;

        if (used == whole && used + length < bytes) {
            memcpy(out + used, from, length);
            used += length;
        }
        whole += length;
        at += step;
    }
    if (bytes > 0) out[used] = '\0';
    return whole;
}
