/* CRC32C of two byte strings behind each other, from their CRCs: so that a file's checksum comes
 * from its blocks' without reading the file again. Local. */
#ifndef FZ_CHECKPOINT_CRC_COMBINE_H
#define FZ_CHECKPOINT_CRC_COMBINE_H

#include <stdint.h>

uint32_t fz_crc32c_combine(uint32_t crc_left, uint32_t crc_right, int64_t right_bytes);

#endif
