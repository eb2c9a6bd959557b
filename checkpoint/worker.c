#include "checkpoint/worker.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "core/assert.h"
#include "core/memory.h"

struct fz_worker {
    pthread_t thread;
    bool has_lock, has_wish, has_rest, has_thread; /* what was made */
    pthread_mutex_t lock;                          /* of all below */
    pthread_cond_t wish, rest;                     /* work to do; nothing left to do */
    fz_job *job;                                   /* NULL: idle */
    void *context;                                 /* borrowed */
    bool ends;
    fz_error error; /* of the last job; status FZ_OK where it went well */
};

static void *run(void *argument)
{
    fz_worker *w = argument;

    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->job && !w->ends)
            pthread_cond_wait(&w->wish, &w->lock);
        if (!w->job) break;
        fz_job *job = w->job;
        void *context = w->context;
        pthread_mutex_unlock(&w->lock);
        const fz_status status = job(context);
        pthread_mutex_lock(&w->lock);
        if (status != FZ_OK) w->error = *fz_last_error();
        w->error.status = status;
        w->job = NULL;
        pthread_cond_broadcast(&w->rest);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static bool start_thread(fz_worker *w)
{
    sigset_t all, before;

    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) return false;
    const bool is_started = pthread_create(&w->thread, NULL, run, w) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_started;
}

fz_status fz_worker_create(fz_worker **worker_p)
{
    fz_worker *w = NULL;

    FZ_TRY(FZ_NEW(&w, 1));
    w->has_lock = pthread_mutex_init(&w->lock, NULL) == 0;
    w->has_wish = w->has_lock && pthread_cond_init(&w->wish, NULL) == 0;
    w->has_rest = w->has_wish && pthread_cond_init(&w->rest, NULL) == 0;
    w->has_thread = w->has_rest && start_thread(w);
    if (!w->has_thread) {
        fz_worker_destroy(&w);
        return FZ_FAIL(FZ_ERR_MEMORY, "the system gives no thread for checkpoints; set "
                                      "checkpoint.async: off");
    }
    *worker_p = w;
    return FZ_OK;
}

void fz_worker_destroy(fz_worker **worker)
{
    fz_worker *w = *worker;

    if (!w) return;
    if (w->has_thread) {
        pthread_mutex_lock(&w->lock);
        w->ends = true;
        pthread_cond_signal(&w->wish);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
    }
    if (w->has_rest) pthread_cond_destroy(&w->rest);
    if (w->has_wish) pthread_cond_destroy(&w->wish);
    if (w->has_lock) pthread_mutex_destroy(&w->lock);
    fz_free(worker);
}

void fz_worker_start(fz_worker *worker, fz_job *job, void *context)
{
    pthread_mutex_lock(&worker->lock);
    FZ_ASSERT(!worker->job);
    worker->job = job;
    worker->context = context;
    worker->error.status = FZ_OK;
    pthread_cond_signal(&worker->wish);
    pthread_mutex_unlock(&worker->lock);
}

bool fz_worker_is_idle(fz_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    const bool is_idle = !worker->job;
    pthread_mutex_unlock(&worker->lock);
    return is_idle;
}

fz_status fz_worker_wait(fz_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    while (worker->job)
        pthread_cond_wait(&worker->rest, &worker->lock);
    const fz_error error = worker->error;
    worker->error.status = FZ_OK;
    pthread_mutex_unlock(&worker->lock);
    if (error.status == FZ_OK) return FZ_OK;
    return fz_fail(error.status, error.file, error.line, error.func, "%s", error.text);
}
