#include "data/buffer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"

fz_status fz_buffer_need(fz_buffer *buffer, size_t size, const char *what)
{
    if (size <= buffer->size) return FZ_OK;
    /* By a quarter more than asked, so that slowly rising sizes do not grow it every time. */
    const size_t wanted = buffer->size > 0 ? size + size / 4 : size;
    FZ_TRY(fz_realloc(&buffer->bytes, wanted, what));
    buffer->size = wanted;
    buffer->n_grown++;
    return FZ_OK;
}

void fz_buffer_reset(fz_buffer *buffer)
{
    fz_free(&buffer->bytes);
    buffer->size = 0;
}

fz_status fz_buffer_read_file(const char *path, fz_buffer *buffer, size_t *n_p)
{
    struct stat st;
    FILE *file = fopen(path, "rb");

    if (file == NULL) return FZ_FAIL(FZ_ERR_IO, "%s: %s", path, strerror(errno));
    fz_status status = FZ_OK;
    if (fstat(fileno(file), &st) != 0 || !S_ISREG(st.st_mode))
        status = FZ_FAIL(FZ_ERR_IO, "%s: not a regular file", path);
    if (status == FZ_OK) status = fz_buffer_need(buffer, (size_t)st.st_size + 1, path);
    if (status == FZ_OK && fread(buffer->bytes, 1, (size_t)st.st_size, file) != (size_t)st.st_size)
        status = FZ_FAIL(FZ_ERR_IO, "%s: cannot be read", path);
    if (status == FZ_OK) *n_p = (size_t)st.st_size;
    fclose(file);
    return status;
}
