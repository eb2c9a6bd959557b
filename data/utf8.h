/* Bytes that should be UTF-8. Local. */
#ifndef FZ_DATA_UTF8_H
#define FZ_DATA_UTF8_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FZ_UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
enum { FZ_UTF8_BAD = 0x110000 };

/* The first character of n >= 1 bytes: its length, its code point in *code_p. Where it is none,
 * FZ_UTF8_BAD and the length of the maximal subpart (Unicode 3.9, table 3-7): what one U+FFFD
 * stands for. */
size_t fz_utf8_step(const char *text, size_t n, uint32_t *code_p);

/* Writes the character's 1 to 4 bytes. */
size_t fz_utf8_put(uint32_t code, char out[4]);

/* Length of the longest head of n bytes that is valid. */
size_t fz_utf8_valid(const char *text, size_t n);

/* Copies, with U+FFFD for every maximal subpart that is no character (as Python's
 * decode(errors="replace")) and for a NUL, which would end the text, as many whole characters as
 * fit into bytes - 1, and an end. Returns the bytes of the whole copy without the end: more than
 * bytes - 1 if something was left out. */
size_t fz_utf8_copy(const char *text, size_t n, char *out, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
