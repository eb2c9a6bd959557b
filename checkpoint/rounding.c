#include <string.h>

#include "checkpoint/safetensors.h"

/* Without branches, so that the loops become vector code; every case is computed and one is taken.
 * Bits of a float: sign 31, exponent 30..23 (bias 127), fraction 22..0. F16: 15, 14..10 (bias 15),
 * 9..0. BF16 is the upper half of a float. */

static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void fz_widen_f16(float *out, const uint16_t *x, int64_t n)
{
    const float least_normal = float_of(113u << 23); /* 2^-14 */

    for (int64_t i = 0; i < n; i++) {
        const uint32_t sign = (x[i] & 0x8000u) << 16, rest = (x[i] & 0x7fffu) << 13;
        const uint32_t exponent = rest >> 23;
        const uint32_t normal = rest + (112u << 23);
        /* 0 and denormals: read the fraction behind the exponent of 2^-14, take 2^-14 away. */
        const uint32_t small = bits_of(float_of(rest + (113u << 23)) - least_normal);
        const uint32_t huge = rest + (224u << 23); /* infinity and NaN */
        out[i] = float_of(sign | (exponent == 0 ? small : exponent == 31 ? huge : normal));
    }
}

void fz_widen_bf16(float *out, const uint16_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = float_of((uint32_t)x[i] << 16);
}

void fz_narrow_f16(uint16_t *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = bits_of(x[i]), sign = bits >> 16 & 0x8000u, a = bits & 0x7fffffffu;
        /* Adding just under half of the last place kept, or half if that place is odd. */
        const uint32_t normal = (a - (112u << 23) + 0xfffu + (a >> 13 & 1)) >> 13;
        /* Below 2^-14 the last place is 2^-24, which is also that of 0.5 in float: the sum rounds.
         */
        const uint32_t small = bits_of(float_of(a) + 0.5f) - bits_of(0.5f);
        const uint32_t nan = 0x7e00u | (a >> 13 & 0x3ffu);
        uint32_t y = a < 113u << 23 ? small : normal;
        y = a >= 143u << 23 ? 0x7c00u : y; /* 2^16 and more */
        y = a > 255u << 23 ? nan : y;
        out[i] = (uint16_t)(sign | y);
    }
}

void fz_narrow_bf16(uint16_t *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = bits_of(x[i]);
        const bool is_nan = (bits & 0x7fffffffu) > 255u << 23;
        const uint32_t nan = bits >> 16 | 0x40u;
        out[i] = (uint16_t)(is_nan ? nan : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
    }
}
