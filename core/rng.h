/* Philox 4x32-10, the counter-based generator of Salmon et al. 2011 ("Parallel random numbers: as
 * easy as 1, 2, 3", section 5.3): a pure function of (counter, key), so no state is kept, saved or
 * resharded. Local.
 *
 * Keys of the project (never a rank or a micro-batch):
 *   dropout, drop-path   key = (seed, site); counter = (column / 8, token, n lo, n hi)
 *                        8 columns a call, 16 bits each: dropped when bits < round(p * 65536)
 *   initial weights      key = hash(seed, tensor name); counter = (element / 4 lo, hi, 0, 0)
 *   data order           key = (seed, purpose); counter = (n lo, n hi, attempt, draw)
 */
#ifndef FZ_CORE_RNG_H
#define FZ_CORE_RNG_H

#include <stdint.h>

typedef struct fz_philox {
    uint32_t v[4];
} fz_philox;

fz_philox fz_philox4x32(fz_philox counter, uint32_t key0, uint32_t key1);

/* 64-bit FNV-1a then a finaliser (mix64): names to keys. */
uint64_t fz_hash_text(const char *text);
/* splitmix64's finaliser. */
static inline uint64_t fz_mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}
/* A key of two words from a 64-bit seed and a 32-bit site or purpose. */
void fz_rng_key(uint32_t key[2], uint64_t seed, uint32_t site);

/* (0,1], 24 bits; and uniform integer below n (n <= 2^32) by multiply-shift. */
float fz_rng_unit(uint32_t bits);
uint32_t fz_rng_below(uint32_t bits, uint32_t n);

/* Standard normal number of element i of the tensor with this 64-bit key: Box-Muller over the
 * Philox block i / 4. Writes n consecutive elements i0, i0+1, ... */
void fz_rng_normal(float *out, uint64_t key, int64_t i0, int64_t n);

#endif
