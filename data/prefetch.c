#include "data/prefetch.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "core/assert.h"
#include "core/memory.h"

typedef struct slot {
    int64_t priority;
    int32_t *items;          /* owned (max_items) */
    int64_t n, next, n_done; /* items; first not begun; done or dropped */
} slot;

typedef struct worker {
    fz_prefetch *prefetch; /* borrowed */
    int number;
    pthread_t thread;
} worker;

struct fz_prefetch {
    fz_prefetch_work work;
    void *context;          /* borrowed */
    int n_slots, n_threads; /* n_threads: that really run */
    int64_t max_items;
    slot *slots;     /* owned (n_slots); guarded by lock, as is stop */
    worker *workers; /* owned */
    pthread_mutex_t lock;
    pthread_cond_t has_work, is_idle;
    bool stop;
};

/* Under the lock. The slot to work on next; -1: nothing to do. */
static int next_slot(const fz_prefetch *p)
{
    int best = -1;

    for (int s = 0; s < p->n_slots; s++)
        if (p->slots[s].next < p->slots[s].n &&
            (best < 0 || p->slots[s].priority < p->slots[best].priority))
            best = s;
    return best;
}

/* Under the lock, which is given up while the item is worked on. */
static void do_one(fz_prefetch *p, int number, int s)
{
    slot *sl = &p->slots[s];
    const int64_t item = sl->items[sl->next++];

    pthread_mutex_unlock(&p->lock);
    p->work(p->context, number, s, item);
    pthread_mutex_lock(&p->lock);
    if (++sl->n_done == sl->n) pthread_cond_broadcast(&p->is_idle);
}

static void *run_worker(void *argument)
{
    const worker *w = argument;
    fz_prefetch *p = w->prefetch;

    fz_memory_seal(true);
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        const int s = next_slot(p);
        if (s >= 0)
            do_one(p, w->number, s);
        else
            pthread_cond_wait(&p->has_work, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static fz_status start_threads(fz_prefetch *p, int n_threads)
{
    sigset_t all, before;
    int code = 0;

    /* Signals are for the thread that runs the steps. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int t = 0; t < n_threads && code == 0; t++) {
        p->workers[t] = (worker){.prefetch = p, .number = t};
        code = pthread_create(&p->workers[t].thread, NULL, run_worker, &p->workers[t]);
        if (code == 0) p->n_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    FZ_CHECK(code == 0, FZ_ERR_MEMORY, "start loader thread %d of %d: %s", p->n_threads + 1,
             n_threads, strerror(code));
    return FZ_OK;
}

static fz_status take_memory(fz_prefetch *p, int n_threads)
{
    FZ_TRY(FZ_NEW(&p->slots, p->n_slots));
    for (int s = 0; s < p->n_slots; s++)
        FZ_TRY(FZ_NEW(&p->slots[s].items, p->max_items));
    return FZ_NEW(&p->workers, n_threads);
}

fz_status fz_prefetch_create(int n_threads, int n_slots, int64_t max_items, fz_prefetch_work work,
                             void *context, fz_prefetch **prefetch_p)
{
    fz_prefetch *p = NULL;

    FZ_TRY(FZ_NEW(&p, 1));
    p->work = work;
    p->context = context;
    p->n_slots = n_slots;
    p->max_items = max_items;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->has_work, NULL);
    pthread_cond_init(&p->is_idle, NULL);
    fz_status status = take_memory(p, n_threads);
    if (status == FZ_OK) status = start_threads(p, n_threads);
    if (status == FZ_OK)
        *prefetch_p = p;
    else
        fz_prefetch_destroy(&p);
    return status;
}

void fz_prefetch_destroy(fz_prefetch **prefetch)
{
    fz_prefetch *p = *prefetch;

    if (p == NULL) return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->has_work);
    pthread_mutex_unlock(&p->lock);
    for (int t = 0; t < p->n_threads; t++)
        pthread_join(p->workers[t].thread, NULL);
    pthread_cond_destroy(&p->is_idle);
    pthread_cond_destroy(&p->has_work);
    pthread_mutex_destroy(&p->lock);
    for (int s = 0; p->slots != NULL && s < p->n_slots; s++)
        fz_free(&p->slots[s].items);
    fz_free(&p->slots);
    fz_free(&p->workers);
    fz_free(prefetch);
}

void fz_prefetch_put(fz_prefetch *prefetch, int s, int64_t priority, const int32_t *items,
                     int64_t n)
{
    fz_prefetch *p = prefetch;
    slot *sl = &p->slots[s];

    FZ_ASSERT(n >= 0 && n <= p->max_items);
    pthread_mutex_lock(&p->lock);
    FZ_ASSERT(sl->n_done == sl->n);
    if (n > 0) memcpy(sl->items, items, (size_t)n * sizeof *items);
    sl->priority = priority;
    sl->n = n;
    sl->next = sl->n_done = 0;
    pthread_cond_broadcast(&p->has_work);
    pthread_mutex_unlock(&p->lock);
}

void fz_prefetch_wait(fz_prefetch *prefetch, int s)
{
    fz_prefetch *p = prefetch;
    slot *sl = &p->slots[s];

    pthread_mutex_lock(&p->lock);
    while (sl->n_done < sl->n) {
        if (p->n_threads == 0)
            do_one(p, 0, s);
        else
            pthread_cond_wait(&p->is_idle, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

void fz_prefetch_cancel(fz_prefetch *prefetch, int s)
{
    fz_prefetch *p = prefetch;
    slot *sl = &p->slots[s];

    pthread_mutex_lock(&p->lock);
    sl->n_done += sl->n - sl->next;
    sl->next = sl->n;
    while (sl->n_done < sl->n)
        pthread_cond_wait(&p->is_idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
}
