/* Checksums. Local.
 *
 *   crc32c   Castagnoli polynomial (iSCSI); ISA-L where it was found, else a table
 *   digest   sum over i of mix64((rotl(i, 32) ^ bits_i) + 0x9E3779B97F4A7C15) mod 2^64: does not
 *            depend on order or split, so it is the same at every layout; i is the element's
 *            index in the whole logical tensor, bits_i its 32 bits
 */
#ifndef FZ_CORE_CHECKSUM_H
#define FZ_CORE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* crc of the bytes so far; start with 0. crc32c("123456789") = 0xe3069283. */
uint32_t fz_crc32c(uint32_t crc, const void *data, size_t bytes);
/* Part of the digest for n consecutive elements whose first index is i0. Parts are added. */
uint64_t fz_digest32(const void *data, int64_t i0, int64_t n);

#endif
