#include "checkpoint/read_ahead.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "core/memory.h"

enum { N_BUFFERS = 2 };

struct fz_read_ahead {
    fz_tensor_read *read;
    void *context;   /* borrowed */
    const int *list; /* borrowed */
    int n;
    float *buffer[N_BUFFERS]; /* owned; tensor i of the list is in buffer[i % N_BUFFERS] */
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t changed;
    int n_read, n_taken; /* tensors */
    bool is_stopping;
    fz_status status; /* of the one behind n_read */
    char text[sizeof((fz_error *)0)->text];
};

/* A tensor may be read when the one before it in its buffer is done with: the one that was taken
 * last is still in use. */
static bool wait_for_room(fz_read_ahead *a, int i)
{
    pthread_mutex_lock(&a->mutex);
    while (!a->is_stopping && i >= N_BUFFERS && a->n_taken < i - N_BUFFERS + 2)
        pthread_cond_wait(&a->changed, &a->mutex);
    const bool go_on = !a->is_stopping;
    pthread_mutex_unlock(&a->mutex);
    return go_on;
}

static void *read_all(void *argument)
{
    fz_read_ahead *a = argument;
    fz_status status = FZ_OK;
    for (int i = 0; i < a->n && status == FZ_OK && wait_for_room(a, i); i++) {
        status = a->read(a->context, a->list[i], a->buffer[i % N_BUFFERS]);
        pthread_mutex_lock(&a->mutex);
        if (status == FZ_OK) a->n_read++;
        a->status = status;
        if (status != FZ_OK) memcpy(a->text, fz_last_error()->text, sizeof a->text);
        pthread_cond_broadcast(&a->changed);
        pthread_mutex_unlock(&a->mutex);
    }
    return NULL;
}

fz_status fz_read_ahead_start(fz_tensor_read *read, void *context, const int *list, int n,
                              int64_t most, fz_read_ahead **ahead_p)
{
    fz_read_ahead *a = NULL;
    fz_status status = FZ_OK;
    FZ_TRY(FZ_NEW(&a, 1));
    a->read = read;
    a->context = context;
    a->list = list;
    a->n = n;
    pthread_mutex_init(&a->mutex, NULL);
    pthread_cond_init(&a->changed, NULL);
    for (int b = 0; b < N_BUFFERS && status == FZ_OK; b++)
        status = FZ_NEW(&a->buffer[b], most > 0 ? most : 1);
    if (status == FZ_OK) {
        a->has_thread = pthread_create(&a->thread, NULL, read_all, a) == 0;
        if (!a->has_thread) status = FZ_FAIL(FZ_ERR_MEMORY, "start a thread for reading");
    }
    if (status != FZ_OK) fz_read_ahead_stop(&a);
    *ahead_p = a;
    return status;
}

fz_status fz_read_ahead_next(fz_read_ahead *a, float **x_p)
{
    FZ_CHECK(a->n_taken < a->n, FZ_ERR_ARG, "all %d tensors were taken", a->n);
    pthread_mutex_lock(&a->mutex);
    const int i = a->n_taken++;
    pthread_cond_broadcast(&a->changed);
    while (a->n_read <= i && a->status == FZ_OK)
        pthread_cond_wait(&a->changed, &a->mutex);
    const bool is_there = a->n_read > i;
    pthread_mutex_unlock(&a->mutex);
    if (!is_there) return FZ_FAIL(a->status, "%s", a->text);
    *x_p = a->buffer[i % N_BUFFERS];
    return FZ_OK;
}

void fz_read_ahead_stop(fz_read_ahead **ahead)
{
    fz_read_ahead *a = *ahead;
    if (!a) return;
    pthread_mutex_lock(&a->mutex);
    a->is_stopping = true;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->mutex);
    if (a->has_thread) pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->mutex);
    for (int b = 0; b < N_BUFFERS; b++)
        fz_free(&a->buffer[b]);
    fz_free(ahead);
}
