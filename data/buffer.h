/* A block of scratch that grows and is kept: what a thread decodes, resizes and parses in. Local.
 *
 * Growing is an allocation like any other (core/memory.h counts it, in a sealed thread too), so
 * whoever must not allocate makes the buffer large enough before.
 */
#ifndef FZ_DATA_BUFFER_H
#define FZ_DATA_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct fz_buffer {
    void *bytes; /* owned; NULL while size is 0 */
    size_t size;
    int64_t n_grown;
} fz_buffer;

/* At least size bytes from now on; contents are kept. */
fz_status fz_buffer_need(fz_buffer *buffer, size_t size, const char *what);
/* A whole regular file, with room for one byte more; *n_p is its size. FZ_ERR_IO names the path. */
fz_status fz_buffer_read_file(const char *path, fz_buffer *buffer, size_t *n_p);
void fz_buffer_reset(fz_buffer *buffer);

#endif
