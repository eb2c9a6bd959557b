/* Elementary functions for inner loops, fp32.
 *
 * Plain arithmetic without branches, calls or tables, so that the compiler vectorises the loops
 * around them and a vector lane and a scalar tail give the same bits (design.md 5; no libm, whose
 * results differ between machines). Coefficients are our own minimax fits; bounds in units in the
 * last place (ulp) over the whole range were measured by tests/model/test_ops_math.c.
 */
#ifndef FZ_MODEL_OPS_MATH_H
#define FZ_MODEL_OPS_MATH_H

#include <stdint.h>
#include <string.h>

static inline float fz_bits_to_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t fz_float_to_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* exp(x) = 2^n e^r, |r| <= ln(2)/2. 0 below -87 (no subnormal results); saturates at exp(88). */
static inline float fz_expf(float x)
{
    const float ROUND = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float y = x < -87.0f ? -87.0f : x;
    y = y > 88.0f ? 88.0f : y;
    const float shifted = y * 1.44269504088896341f + ROUND;
    const float n = shifted - ROUND;
    const float r = (y - n * 0.693359375f) - n * -2.12194440e-4f; /* ln 2 in two parts */
    float p = 0.00139262508315f;
    p = p * r + 0.00836323288368f;
    p = p * r + 0.041666554213f;
    p = p * r + 0.166665766661f;
    p = p * r + 0.5f;
    p = (p * (r * r) + r) + 1.0f;
    /* The integer is in the low bits of shifted; what lies above them is shifted out. */
    const float power = fz_bits_to_float((fz_float_to_bits(shifted) + 127u) << 23);
    return x < -87.0f ? 0.0f : p * power;
}

/* log(x) of a positive, normal, finite x: m 2^e with m in [1/sqrt 2, sqrt 2), log m by the series
 * of artanh. */
static inline float fz_logf(float x)
{
    const uint32_t bits = fz_float_to_bits(x) - 0x3F3504F3u; /* 1/sqrt 2 */
    const float e = (float)((int32_t)bits >> 23);
    const float f = fz_bits_to_float((bits & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
    const float t = f / (2.0f + f);
    const float z = t * t;
    float p = 0.111111111f;
    p = p * z + 0.142857143f;
    p = p * z + 0.2f;
    p = p * z + 0.333333333f;
    const float low = e * -2.12194440e-4f + 2.0f * (t * z) * p;
    return (low + 2.0f * t) + e * 0.693359375f;
}

/* tanh(x) = x P(x^2) / Q(x^2); accurate in relative terms down to 0; never beyond +-1. */
static inline float fz_tanhf(float x)
{
    float y = x < -9.1f ? -9.1f : x;
    y = y > 9.1f ? 9.1f : y;
    const float z = y * y;
    float p = 1.31758295521e-8f;
    p = p * z + 2.04798884143e-5f;
    p = p * z + 0.00348772915492f;
    p = p * z + 0.133744053414f;
    p = p * z + 0.99999997714f;
    float q = 7.70333011211e-7f;
    q = q * z + 0.000327278830053f;
    q = q * z + 0.0258470741968f;
    q = q * z + 0.467077190833f;
    q = q * z + 1.0f;
    float t = y * p / q;
    t = t < -1.0f ? -1.0f : t;
    return t > 1.0f ? 1.0f : t;
}

/* erf(x) = x P(x^2) / Q(x^2); accurate in relative terms down to 0; never beyond +-1. */
static inline float fz_erff(float x)
{
    float y = x < -4.0f ? -4.0f : x;
    y = y > 4.0f ? 4.0f : y;
    const float z = y * y;
    float p = 1.98681306865e-6f;
    p = p * z + 0.000284558543146f;
    p = p * z + 0.00388306890344f;
    p = p * z + 0.0531008794672f;
    p = p * z + 0.193538823448f;
    p = p * z + 1.12837913936f;
    float q = 3.74201118984e-5f;
    q = q * z + 0.00118550253658f;
    q = q * z + 0.0152066961461f;
    q = q * z + 0.11534738515f;
    q = q * z + 0.504851873112f;
    q = q * z + 1.0f;
    float t = y * p / q;
    t = t < -1.0f ? -1.0f : t;
    return t > 1.0f ? 1.0f : t;
}

#endif
