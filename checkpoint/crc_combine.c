#include "checkpoint/crc_combine.h"

/* Polynomials over GF(2) modulo the Castagnoli polynomial, bit-reflected: bit 31 is x^0. */
static const uint32_t POLYNOMIAL = 0x82F63B78u, ONE = 1u << 31;

static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (; a; a <<= 1) {
        if (a & ONE) product ^= b;
        b = (b >> 1) ^ (b & 1 ? POLYNOMIAL : 0);
    }
    return product;
}

uint32_t fz_crc32c_combine(uint32_t crc_left, uint32_t crc_right, int64_t right_bytes)
{
    /* The left part counts as if right_bytes zero bytes followed: times x^(8 right_bytes), by
     * repeated squaring from x^8. The inversions of both ends cancel. */
    uint32_t power = ONE, square = ONE >> 8;
    for (; right_bytes > 0; right_bytes >>= 1) {
        if (right_bytes & 1) power = multiply(square, power);
        square = multiply(square, square);
    }
    return multiply(power, crc_left) ^ crc_right;
}
