/* A thread that does one job at a time, for saves that go on behind the training. Local. */
#ifndef FZ_CHECKPOINT_WORKER_H
#define FZ_CHECKPOINT_WORKER_H

#include "core/status.h"

typedef fz_status fz_job(void *context);
typedef struct fz_worker fz_worker;

/* The thread takes no signals: they are the main thread's. FZ_ERR_MEMORY where there is none. */
fz_status fz_worker_create(fz_worker **worker_p);
/* Waits for the job. */
void fz_worker_destroy(fz_worker **worker);

/* The worker must be idle. What the caller wrote before, the job sees. */
void fz_worker_start(fz_worker *worker, fz_job *job, void *context);
/* No job, or one that is done: its writes are seen. */
bool fz_worker_is_idle(fz_worker *worker);
/* Waits; the job's status, its error in the caller's record. FZ_OK where there was none. */
fz_status fz_worker_wait(fz_worker *worker);

#endif
