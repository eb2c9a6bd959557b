#include "data/permute.h"

#include "core/assert.h"
#include "core/rng.h"

enum { N_ROUNDS = 6 };

static uint64_t encrypt(uint64_t x, int half_bits, uint64_t key)
{
    const uint64_t mask = (UINT64_C(1) << half_bits) - 1;
    uint64_t left = x >> half_bits, right = x & mask;

    for (uint64_t round = 0; round < N_ROUNDS; round++) {
        const uint64_t next = left ^ (fz_mix64(key + fz_mix64(right + (round << 56))) & mask);
        left = right;
        right = next;
    }
    return left << half_bits | right;
}

int64_t fz_permute(int64_t i, int64_t n, uint64_t key)
{
    int half_bits = 1;
    uint64_t x = (uint64_t)i;

    FZ_ASSERT(i >= 0 && i < n && n <= INT64_C(1) << 48);
    while ((INT64_C(1) << 2 * half_bits) < n)
        half_bits++;
    do
        x = encrypt(x, half_bits, key);
    while (x >= (uint64_t)n);
    return (int64_t)x;
}
