/* A bump allocator over memory that somebody else owns. Local.
 *
 * The same layout code runs twice: with base NULL it only counts (the plan), with memory it hands
 * out slices (the run), so the plan is right to the byte. Slices are 64-byte aligned and are never
 * freed one by one.
 */
#ifndef FZ_CORE_ARENA_H
#define FZ_CORE_ARENA_H

#include <stddef.h>
#include <stdint.h>

enum { FZ_ALIGN = 64 };

typedef struct fz_arena {
    char *base;  /* borrowed; NULL: count only */
    size_t size; /* ignored when counting      */
    size_t used;
    size_t peak; /* highest used since init    */
} fz_arena;

fz_arena fz_arena_over(void *base, size_t size);
fz_arena fz_arena_counting(void);
/* Next bytes, rounded up to FZ_ALIGN. NULL when counting. Overflow is our bug: asserts. */
void *fz_arena_take(fz_arena *arena, size_t bytes);
float *fz_arena_floats(fz_arena *arena, int64_t n);
int32_t *fz_arena_ints(fz_arena *arena, int64_t n);
size_t fz_arena_mark(const fz_arena *arena);
void fz_arena_release(fz_arena *arena, size_t mark);
size_t fz_align_up(size_t bytes);

#endif
