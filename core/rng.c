#include "core/rng.h"

#include <math.h>

/* Salmon et al. 2011, section 4.3 and the reference's constants. */
static const uint32_t M0 = 0xD2511F53u, M1 = 0xCD9E8D57u;
static const uint32_t W0 = 0x9E3779B9u, W1 = 0xBB67AE85u;

fz_philox fz_philox4x32(fz_philox counter, uint32_t key0, uint32_t key1)
{
    uint32_t a = counter.v[0], b = counter.v[1], c = counter.v[2], d = counter.v[3];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)M0 * a, p1 = (uint64_t)M1 * c;
        a = (uint32_t)(p1 >> 32) ^ b ^ key0;
        b = (uint32_t)p1;
        c = (uint32_t)(p0 >> 32) ^ d ^ key1;
        d = (uint32_t)p0;
        key0 += W0;
        key1 += W1;
    }
    return (fz_philox){{a, b, c, d}};
}

uint64_t fz_hash_text(const char *text)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001B3);
    return fz_mix64(hash);
}

void fz_rng_key(uint32_t key[2], uint64_t seed, uint32_t site)
{
    /* Two rounds of mixing: (seed, site) pairs that differ in any bit get unrelated keys. */
    const uint64_t mixed = fz_mix64(fz_mix64(seed + UINT64_C(0x9E3779B97F4A7C15)) + site);
    key[0] = (uint32_t)mixed;
    key[1] = (uint32_t)(mixed >> 32);
}

float fz_rng_unit(uint32_t bits)
{
    return (float)((bits >> 8) + 1) * 0x1p-24f;
}

uint32_t fz_rng_below(uint32_t bits, uint32_t n)
{
    return (uint32_t)(((uint64_t)bits * n) >> 32);
}

static void normal_block(float out[4], uint64_t key, uint64_t block)
{
    const float TWO_PI = 6.283185307179586f;
    const fz_philox x = fz_philox4x32((fz_philox){{(uint32_t)block, (uint32_t)(block >> 32), 0, 0}},
                                      (uint32_t)key, (uint32_t)(key >> 32));
    for (int pair = 0; pair < 2; pair++) {
        const float radius = sqrtf(-2.0f * logf(fz_rng_unit(x.v[2 * pair])));
        const float angle = TWO_PI * fz_rng_unit(x.v[2 * pair + 1]);
        out[2 * pair] = radius * cosf(angle);
        out[2 * pair + 1] = radius * sinf(angle);
    }
}

void fz_rng_normal(float *out, uint64_t key, int64_t i0, int64_t n)
{
    float block[4];
    int64_t have = -1;
    for (int64_t i = i0; i < i0 + n; i++) {
        if (i / 4 != have) {
            have = i / 4;
            normal_block(block, key, (uint64_t)have);
        }
        out[i - i0] = block[i % 4];
    }
}
