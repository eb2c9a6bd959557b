/* A keyed permutation of 0 .. n-1 that needs no memory: a Feistel network over the next power of
 * four, walked along its cycle until it falls below n (Black & Rogaway 2002, "Ciphers with
 * arbitrary finite domains", section 5). Local.
 */
#ifndef FZ_DATA_PERMUTE_H
#define FZ_DATA_PERMUTE_H

#include <stdint.h>

/* Where i goes; 0 <= i < n. */
int64_t fz_permute(int64_t i, int64_t n, uint64_t key);

#endif
