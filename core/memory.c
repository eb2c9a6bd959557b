#include "core/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/assert.h"
#include "core/fault.h"

enum { ALIGN = 64 };
static const uint64_t MAGIC_LIVE = UINT64_C(0x464c4f52454e5a21);
static const uint64_t MAGIC_FREE = UINT64_C(0x6465616462656566);

/* Lies in the 64 bytes before the block that the caller sees. */
typedef struct header {
    void *raw; /* what calloc returned */
    size_t bytes;
    uint64_t magic;
} header;

_Static_assert(sizeof(header) <= ALIGN, "the header fits in front of an aligned block");

static atomic_int_least64_t n_live, n_total, bytes_live, bytes_peak, n_sealed;
static _Thread_local bool is_sealed;

static header *header_of(void *block)
{
    return (header *)(void *)((char *)block - ALIGN);
}

static void count_taken(size_t bytes)
{
    atomic_fetch_add(&n_live, 1);
    atomic_fetch_add(&n_total, 1);
    const int_least64_t now =
        atomic_fetch_add(&bytes_live, (int_least64_t)bytes) + (int_least64_t)bytes;
    int_least64_t peak = atomic_load(&bytes_peak);
    while (now > peak && !atomic_compare_exchange_weak(&bytes_peak, &peak, now)) {
    }
    if (is_sealed) atomic_fetch_add(&n_sealed, 1);
}

fz_status fz_alloc(void **p, size_t bytes, const char *what)
{
    FZ_CHECK(bytes <= (size_t)PTRDIFF_MAX - 2 * ALIGN && !fz_fault_now(FZ_FAULT_ALLOC),
             FZ_ERR_MEMORY, "allocate %zu bytes for %s: out of memory", bytes, what);

    /* calloc leaves big blocks to be zeroed page by page when they are first touched. */
    char *raw = calloc(1, bytes + 2 * ALIGN);
    FZ_CHECK(raw, FZ_ERR_MEMORY, "allocate %zu bytes for %s: out of memory", bytes, what);
    char *block = raw + ALIGN + (ALIGN - (uintptr_t)raw % ALIGN) % ALIGN;
    *header_of(block) = (header){.raw = raw, .bytes = bytes, .magic = MAGIC_LIVE};
    count_taken(bytes);
    *p = block;
    return FZ_OK;
}

void fz_free(void *p)
{
    void *block;
    memcpy(&block, p, sizeof block);
    if (!block) return;

    header *head = header_of(block);
    FZ_ASSERT(head->magic == MAGIC_LIVE);
    head->magic = MAGIC_FREE;
    atomic_fetch_sub(&n_live, 1);
    atomic_fetch_sub(&bytes_live, (int_least64_t)head->bytes);
    free(head->raw);
    block = NULL;
    memcpy(p, &block, sizeof block);
}

fz_status fz_realloc(void **p, size_t bytes, const char *what)
{
    void *grown = NULL;
    FZ_TRY(fz_alloc(&grown, bytes, what));
    if (*p) {
        const header *head = header_of(*p);
        FZ_ASSERT(head->magic == MAGIC_LIVE);
        memcpy(grown, *p, head->bytes < bytes ? head->bytes : bytes);
        fz_free(p);
    }
    *p = grown;
    return FZ_OK;
}

fz_status fz_strdup(char **p, const char *text)
{
    const size_t bytes = strlen(text) + 1;
    void *copy = NULL;
    FZ_TRY(fz_alloc(&copy, bytes, "a copy of a text"));
    memcpy(copy, text, bytes);
    *p = copy;
    return FZ_OK;
}

fz_memory_counters fz_memory_get(void)
{
    return (fz_memory_counters){
        .n_live = atomic_load(&n_live),
        .n_total = atomic_load(&n_total),
        .bytes_live = atomic_load(&bytes_live),
        .bytes_peak = atomic_load(&bytes_peak),
        .n_sealed = atomic_load(&n_sealed),
    };
}

void fz_memory_seal(bool sealed)
{
    is_sealed = sealed;
}
