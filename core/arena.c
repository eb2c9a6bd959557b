#include "core/arena.h"

#include "core/assert.h"

fz_arena fz_arena_over(void *base, size_t size)
{
    FZ_ASSERT((uintptr_t)base % FZ_ALIGN == 0);
    return (fz_arena){.base = base, .size = size};
}

fz_arena fz_arena_counting(void)
{
    return (fz_arena){.base = NULL};
}

size_t fz_align_up(size_t bytes)
{
    return (bytes + (FZ_ALIGN - 1)) & ~(size_t)(FZ_ALIGN - 1);
}

void *fz_arena_take(fz_arena *arena, size_t bytes)
{
    const size_t at = arena->used;
    const size_t end = at + fz_align_up(bytes);
    FZ_ASSERT(end >= at);
    FZ_ASSERT(!arena->base || end <= arena->size);
    arena->used = end;
    if (end > arena->peak) arena->peak = end;
    return arena->base ? arena->base + at : NULL;
}

float *fz_arena_floats(fz_arena *arena, int64_t n)
{
    FZ_ASSERT(n >= 0);
    return fz_arena_take(arena, (size_t)n * sizeof(float));
}

int32_t *fz_arena_ints(fz_arena *arena, int64_t n)
{
    FZ_ASSERT(n >= 0);
    return fz_arena_take(arena, (size_t)n * sizeof(int32_t));
}

size_t fz_arena_mark(const fz_arena *arena)
{
    return arena->used;
}

void fz_arena_release(fz_arena *arena, size_t mark)
{
    FZ_ASSERT(mark <= arena->used);
    arena->used = mark;
}
