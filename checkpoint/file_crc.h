/* The checksum of a whole file, as a manifest states it. Local. */
#ifndef FZ_CHECKPOINT_FILE_CRC_H
#define FZ_CHECKPOINT_FILE_CRC_H

#include <stdint.h>

#include "core/status.h"

/* What is to be seen of the bytes on the way: n bytes that begin at offset. */
typedef void fz_file_bytes(void *context, const char *bytes, int64_t offset, int64_t n);

/* Reads path from front to back. */
fz_status fz_file_crc(const char *path, int64_t *size_p, uint32_t *crc_p);
fz_status fz_file_crc_with(const char *path, fz_file_bytes *see, void *context, int64_t *size_p,
                           uint32_t *crc_p);

#endif
