/* Statuses and the per-thread error record.
 *
 * A function that can fail returns fz_status. The line that first sees the failure writes the text
 * (FZ_FAIL, FZ_CHECK), the lines above pass it on (FZ_TRY). Nothing here prints or exits.
 */
#ifndef FZ_CORE_STATUS_H
#define FZ_CORE_STATUS_H

#include <stdbool.h>
#include <stddef.h>

/* Ordered by how much is lost, so the worst of several is their maximum. */
typedef enum fz_status {
    FZ_OK = 0,
    FZ_ERR_ARG,    /* the call: contract broken by the caller, nothing changed   */
    FZ_ERR_USAGE,  /* the call: bad command line or config (exit 64)             */
    FZ_ERR_FORMAT, /* the call: a file is not what it should be (exit 65)        */
    FZ_ERR_IO,     /* the operation: file system or HDF5; the next try may pass  */
    FZ_ERR_MEMORY, /* this process: host or device allocation                    */
    FZ_ERR_DEVICE, /* this process: CUDA, cuBLAS or cuDNN                        */
    FZ_ERR_COMM,   /* the job: MPI or NCCL; only abort and restart are left      */
} fz_status;

typedef struct fz_error {
    fz_status status;
    const char *file; /* of ours, where it was first seen; a string literal */
    int line;
    const char *func;
    char text[512]; /* lower case, exact cause, values, path */
} fz_error;

/* Writes this thread's error record and returns status. */
fz_status fz_fail(fz_status status, const char *file, int line, const char *func,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

/* The calling thread's last failure; never NULL; valid until the thread's next FZ_FAIL. */
const fz_error *fz_last_error(void);

/* "usage", "format", ...: one word for logs. */
const char *fz_status_name(fz_status status);

#define FZ_FAIL(code, ...) fz_fail((code), __FILE__, __LINE__, __func__, __VA_ARGS__)

#define FZ_CHECK(cond, code, ...)                                                                  \
    do {                                                                                           \
        if (!(cond)) return FZ_FAIL(code, __VA_ARGS__);                                            \
    } while (0)

#define FZ_TRY(call)                                                                               \
    do {                                                                                           \
        const fz_status try_ = (call);                                                             \
        if (try_ != FZ_OK) return try_;                                                            \
    } while (0)

#endif
