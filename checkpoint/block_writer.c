#include "checkpoint/block_writer.h"

#include <pthread.h>
#include <string.h>

#include "core/memory.h"

/* One is filled and one is written; the others bridge a caller that waits for a disk itself. */
enum { N_BLOCKS = 4, LEAST_BYTES = 1 << 16 };

typedef struct block {
    const fz_block_file *file; /* borrowed from the caller */
    char *bytes;               /* aligned to FZ_DIRECT_BYTES; for offset `base` of the file */
    int64_t base, begin, end;  /* of the file: where bytes lie, what is filled */
    int64_t limit;             /* its last byte, and one */
} block;

struct fz_block_writer {
    char *memory; /* owned */
    int64_t block_bytes;
    block blocks[N_BLOCKS]; /* number i of the order is in i % N_BLOCKS */
    bool is_filling;        /* blocks[n_given % N_BLOCKS], the caller's */
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t changed;
    int64_t n_given, n_done;
    bool is_stopping;
    fz_status status; /* of the first that failed; those behind it are dropped */
    char text[sizeof((fz_error *)0)->text];
};

/* the thread */

static int64_t up(int64_t offset)
{
    return (offset + FZ_DIRECT_BYTES - 1) / FZ_DIRECT_BYTES * FZ_DIRECT_BYTES;
}

static int64_t down(int64_t offset)
{
    return offset / FZ_DIRECT_BYTES * FZ_DIRECT_BYTES;
}

static fz_status write_range(const block *b, int fd, int64_t from, int64_t to)
{
    if (from >= to) return FZ_OK;
    return fz_disk_write(fd, b->file->path, b->bytes + (from - b->base), (size_t)(to - from), from);
}

static fz_status write_block(const block *b)
{
    const int64_t from = up(b->begin), to = down(b->end);

    if (b->file->direct_fd < 0 || from >= to) {
        FZ_TRY(write_range(b, b->file->fd, b->begin, b->end));
        fz_disk_start_sync(b->file->fd, b->begin, b->end - b->begin);
        return FZ_OK;
    }
    FZ_TRY(write_range(b, b->file->fd, b->begin, from));
    FZ_TRY(write_range(b, b->file->direct_fd, from, to));
    return write_range(b, b->file->fd, to, b->end);
}

static void *write_all(void *argument)
{
    fz_block_writer *w = argument;

    pthread_mutex_lock(&w->mutex);
    for (;;) {
        while (w->n_done == w->n_given && !w->is_stopping)
            pthread_cond_wait(&w->changed, &w->mutex);
        if (w->is_stopping) break;
        const block *b = &w->blocks[w->n_done % N_BLOCKS];
        if (w->status == FZ_OK) {
            pthread_mutex_unlock(&w->mutex);
            const fz_status status = write_block(b);
            pthread_mutex_lock(&w->mutex);
            w->status = status;
            if (status != FZ_OK) memcpy(w->text, fz_last_error()->text, sizeof w->text);
        }
        w->n_done++;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

/* the caller */

fz_status fz_block_writer_create(int64_t bytes, fz_block_writer **writer_p)
{
    fz_block_writer *w = NULL;
    fz_status status = FZ_OK;

    FZ_TRY(FZ_NEW(&w, 1));
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->block_bytes = up(bytes / (2 * N_BLOCKS) + 1);
    if (w->block_bytes < LEAST_BYTES) w->block_bytes = LEAST_BYTES;
    if (w->block_bytes > FZ_WRITE_BLOCK_BYTES) w->block_bytes = FZ_WRITE_BLOCK_BYTES;
    status = fz_alloc((void **)&w->memory, (size_t)(N_BLOCKS * w->block_bytes + FZ_DIRECT_BYTES),
                      "blocks to write");
    if (status == FZ_OK) {
        char *aligned =
            w->memory + (up((int64_t)(uintptr_t)w->memory) - (int64_t)(uintptr_t)w->memory);
        for (int i = 0; i < N_BLOCKS; i++)
            w->blocks[i].bytes = aligned + i * w->block_bytes;
        w->has_thread = pthread_create(&w->thread, NULL, write_all, w) == 0;
        if (!w->has_thread) status = FZ_FAIL(FZ_ERR_MEMORY, "start a thread for writing");
    }
    if (status != FZ_OK)
        fz_block_writer_destroy(&w);
    else
        *writer_p = w;
    return status;
}

/* Under the mutex. */
static fz_status failure(const fz_block_writer *w)
{
    return w->status == FZ_OK ? FZ_OK : FZ_FAIL(w->status, "%s", w->text);
}

/* The block that is being filled goes to the thread. */
static void give(fz_block_writer *w)
{
    if (!w->is_filling) return;
    w->is_filling = false;
    pthread_mutex_lock(&w->mutex);
    w->n_given++;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

fz_status fz_block_writer_room(fz_block_writer *w, const fz_block_file *file, int64_t offset,
                               char **at, size_t *room)
{
    block *b = &w->blocks[w->n_given % N_BLOCKS]; /* n_given is changed by this thread alone */

    if (w->is_filling && (b->file != file || b->end != offset || b->end == b->limit)) give(w);
    if (!w->is_filling) {
        pthread_mutex_lock(&w->mutex);
        while (w->n_given - w->n_done == N_BLOCKS)
            pthread_cond_wait(&w->changed, &w->mutex);
        const fz_status status = failure(w);
        pthread_mutex_unlock(&w->mutex);
        FZ_TRY(status);
        b = &w->blocks[w->n_given % N_BLOCKS];
        b->file = file;
        b->base = down(offset);
        b->begin = b->end = offset;
        /* Whole blocks lie where stripes of a parallel file system begin. */
        b->limit = offset / w->block_bytes * w->block_bytes + w->block_bytes;
        w->is_filling = true;
    }
    *at = b->bytes + (offset - b->base);
    *room = (size_t)(b->limit - offset);
    return FZ_OK;
}

void fz_block_writer_fill(fz_block_writer *w, size_t bytes)
{
    w->blocks[w->n_given % N_BLOCKS].end += (int64_t)bytes;
}

fz_status fz_block_writer_put(fz_block_writer *w, const fz_block_file *file, int64_t offset,
                              const void *data, size_t bytes)
{
    for (const char *from = data; bytes > 0;) {
        size_t now = 0;
        char *at = NULL;
        FZ_TRY(fz_block_writer_room(w, file, offset, &at, &now));
        if (now > bytes) now = bytes;
        memcpy(at, from, now);
        fz_block_writer_fill(w, now);
        from += now;
        offset += (int64_t)now;
        bytes -= now;
    }
    return FZ_OK;
}

fz_status fz_block_writer_wait(fz_block_writer *w)
{
    give(w);
    pthread_mutex_lock(&w->mutex);
    while (w->n_done < w->n_given)
        pthread_cond_wait(&w->changed, &w->mutex);
    const fz_status status = failure(w);
    pthread_mutex_unlock(&w->mutex);
    return status;
}

void fz_block_writer_destroy(fz_block_writer **writer)
{
    fz_block_writer *w = *writer;

    if (!w) return;
    pthread_mutex_lock(&w->mutex);
    w->is_stopping = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mutex);
    if (w->has_thread) pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->mutex);
    fz_free(&w->memory);
    fz_free(writer);
}
