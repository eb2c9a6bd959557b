#include "data/buffer.h"

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
