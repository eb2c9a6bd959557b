/* A rank of any model and layout whose memory is address space alone: what is never touched
 * (gradients, activations; with PROT_NONE all of it) costs nothing. */
#ifndef FZ_TESTS_PARALLEL_GHOST_RANK_H
#define FZ_TESTS_PARALLEL_GHOST_RANK_H

#include <sys/mman.h>

#include <string.h>

#include "core/memory.h"
#include "parallel/plan.h"
#include "parallel/rank_memory.h"
#include "parallel/state.h"

typedef struct ghost { /* a rank's memory, of which only what is touched is taken */
    fz_rank_plan rank_plan;
    fz_rank_memory memory;
    fz_state state;
} ghost;

static fz_status ghost_start(ghost *g, const fz_plan *plan, int rank, int protection)
{
    fz_rank_memory *memory = &g->memory;
    fz_plan_bytes bytes = {0};

    memset(g, 0, sizeof *g);
    FZ_TRY(fz_plan_rank(plan, rank, &g->rank_plan));
    FZ_TRY(FZ_NEW(&memory->held, plan->program->n_uses));
    FZ_TRY(FZ_NEW(&memory->weights, plan->program->n_params));
    FZ_TRY(FZ_NEW(&memory->grad_offset, plan->program->n_uses));
    FZ_TRY(FZ_NEW(&memory->grads, g->rank_plan.grad_buffers));
    FZ_TRY(FZ_NEW(&memory->save, g->rank_plan.in_flight));
    FZ_TRY(FZ_NEW(&memory->received, g->rank_plan.in_flight * FZ_N_STREAMS));
    memory->base = mmap(NULL, g->rank_plan.bytes.total, protection,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory->base == MAP_FAILED) {
        memory->base = NULL;
        return FZ_FAIL(FZ_ERR_MEMORY, "map %zu bytes for a rank", g->rank_plan.bytes.total);
    }
    fz_arena arena = fz_arena_over(memory->base, g->rank_plan.bytes.total);
    fz_rank_memory_layout(plan, &g->rank_plan, &arena, memory, &bytes);
    return fz_state_create(plan, &g->rank_plan, memory, &g->state);
}

static void ghost_stop(ghost *g)
{
    if (g->memory.base) munmap(g->memory.base, g->rank_plan.bytes.total);
    g->memory.base = NULL;
    fz_rank_memory_destroy(&g->memory);
    fz_state_destroy(&g->state);
}

#endif
