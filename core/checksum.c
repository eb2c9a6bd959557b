#include "core/checksum.h"

#include <string.h>

#include "core/rng.h"

#if defined(FZ_HAVE_ISAL) && FZ_HAVE_ISAL
#include <isa-l/crc.h>

uint32_t fz_crc32c(uint32_t crc, const void *data, size_t bytes)
{
    /* ISA-L takes and returns the register itself (no inversion), an int length and a pointer
     * that it does not write through. */
    const size_t MOST = (size_t)1 << 30;
    uintptr_t at = (uintptr_t)data;
    uint32_t reg = ~crc;
    while (bytes > 0) {
        const size_t now = bytes < MOST ? bytes : MOST;
        reg = crc32_iscsi((unsigned char *)at, (int)now, reg);
        at += now;
        bytes -= now;
    }
    return ~reg;
}
#else
#include <pthread.h>

/* Slicing by 8: table[k][b] is byte b followed by k zero bytes. */
static uint32_t table[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0);
        table[0][b] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++)
            table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 0xff];
}

uint32_t fz_crc32c(uint32_t crc, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    pthread_once(&once, fill_table);
    crc = ~crc;
    for (; bytes >= 8; bytes -= 8, p += 8) {
        crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = table[7][crc & 0xff] ^ table[6][(crc >> 8) & 0xff] ^ table[5][(crc >> 16) & 0xff] ^
              table[4][crc >> 24] ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^
              table[0][p[7]];
    }
    for (; bytes > 0; bytes--)
        crc = (crc >> 8) ^ table[0][(crc ^ *p++) & 0xff];
    return ~crc;
}
#endif

uint64_t fz_digest32(const void *data, int64_t i0, int64_t n)
{
    /* (i, bits) -> 64 bits is one to one for i < 2^32 and the mixer is a bijection, so a change
     * of one element always shows. The constant keeps element 0 with bits 0 from counting as 0. */
    const char *p = data;
    uint64_t sum = 0;
    for (int64_t k = 0; k < n; k++) {
        uint32_t bits;
        memcpy(&bits, p + 4 * k, sizeof bits);
        const uint64_t i = (uint64_t)(i0 + k);
        sum += fz_mix64(((i << 32 | i >> 32) ^ bits) + UINT64_C(0x9E3779B97F4A7C15));
    }
    return sum;
}
