/* Counted heap memory: what proves that nothing allocates after the first step and that all is
 * freed at exit. Local, thread-safe. Every heap block of the project comes from here; libraries
 * keep their own.
 */
#ifndef FZ_CORE_MEMORY_H
#define FZ_CORE_MEMORY_H

#include <stdint.h>

#include "core/status.h"

/* Zeroed, 64-byte aligned. bytes may be 0 (*p then is a valid unique pointer). what names it in
 * the error: FZ_ERR_MEMORY "allocate 12345 bytes for what". */
fz_status fz_alloc(void **p, size_t bytes, const char *what);
/* Frees and sets *p = NULL; NULL inside is fine. p is a pointer to a pointer of any type. */
void fz_free(void *p);
/* Grows or shrinks, keeping contents; new bytes are zero. */
fz_status fz_realloc(void **p, size_t bytes, const char *what);
fz_status fz_strdup(char **p, const char *text);

/* An array of n objects of *p's type: FZ_TRY(FZ_NEW(&list, n)). */
#define FZ_NEW(p, n) fz_alloc((void **)(p), (size_t)(n) * sizeof **(p), #p)

typedef struct fz_memory_counters {
    int64_t n_live, n_total; /* blocks alive, blocks ever               */
    int64_t bytes_live, bytes_peak;
    int64_t n_sealed; /* blocks taken while sealed: must stay 0  */
} fz_memory_counters;
fz_memory_counters fz_memory_get(void);
/* From seal(true) on, allocations by this thread are counted in n_sealed. Per thread, so that
 * loader threads (which own ring buffers taken at creation) are judged by their own seal. */
void fz_memory_seal(bool sealed);

#endif
