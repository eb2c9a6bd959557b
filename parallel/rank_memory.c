#include "parallel/rank_memory.h"

#include <string.h>

#include "core/assert.h"
#include "core/memory.h"
#include "parallel/lanes.h"

/* An ordered sum of few floats gathers everything (dist/ordered_sum); room for that. */
enum { SMALL_SUM_FLOATS = 16384 };

typedef struct layout {
    const fz_plan *plan;
    const fz_program *program;
    const fz_rank_plan *rp;
    fz_arena *arena;
    fz_rank_memory *memory; /* NULL: count only */
    fz_sizes sizes;         /* the largest */
} layout;

bool fz_output_is_transient(const fz_plan *plan, const fz_rank_plan *rank_plan, int block)
{
    if (block + 1 >= rank_plan->last_block) return false;
    const fz_block *b = &plan->program->blocks[block], *next = b + 1;
    return !fz_block_keeps(b) && !fz_block_keeps(next) && b->writes == next->writes;
}

/* ---- parameters ---- */

static bool is_here(const fz_rank_plan *rp, const fz_program *program, int use)
{
    return use >= 0 && program->uses[use].block >= rp->first_block &&
           program->uses[use].block < rp->last_block;
}

/* Describes the parameter of a use; false if an earlier use on this stage already did. */
static bool describe(const fz_plan *plan, const fz_rank_plan *rp, int use, fz_held *held)
{
    const fz_program *program = plan->program;
    const int param = program->uses[use].param;
    const int *uses = plan->param_uses + 2 * param;
    const bool first_here = is_here(rp, program, uses[0]);
    const bool second_here = is_here(rp, program, uses[1]);

    if (first_here && use != uses[0]) return false;
    const bool cut = program->params[param].cut != FZ_CUT_NONE;
    const int other = uses[1] < 0 || first_here == second_here ? -1 : uses[first_here ? 1 : 0];
    *held = (fz_held){
        .param = param,
        .use = {use, first_here && second_here ? uses[1] : -1},
        .other_stage = other < 0 ? -1 : fz_plan_stage_of(plan, program->uses[other].block),
        .first_shard = cut ? rp->shards.first : 0,
        .n_pieces = cut ? rp->shards.count : 1,
        .piece_elements = fz_param_piece_elements(&program->params[param], program->n_shards)};
    return true;
}

static int first_use(const layout *l)
{
    return l->program->blocks[l->rp->first_block].first_use;
}
static int last_use(const layout *l)
{
    const fz_block *last = &l->program->blocks[l->rp->last_block - 1];
    return last->first_use + last->n_uses;
}

void fz_rank_memory_count(const fz_plan *plan, const fz_rank_plan *rank_plan, int64_t *n_weights,
                          int64_t *n_trainable)
{
    const layout l = {.plan = plan, .program = plan->program, .rp = rank_plan};
    fz_held held;

    *n_weights = *n_trainable = 0;
    for (int u = first_use(&l); u < last_use(&l); u++) {
        if (!describe(plan, rank_plan, u, &held)) continue;
        const int64_t n = held.n_pieces * held.piece_elements;
        *n_weights += n;
        if (plan->program->params[held.param].trainable) *n_trainable += n;
    }
}

static void take_weights(const layout *l)
{
    fz_held held;
    int n_held = 0;

    for (int u = first_use(l); u < last_use(l); u++) {
        if (!describe(l->plan, l->rp, u, &held)) continue;
        held.w = fz_arena_floats(l->arena, held.n_pieces * held.piece_elements);
        if (l->memory) {
            l->memory->held[n_held] = held;
            l->memory->weights[held.param] = held.w;
        }
        n_held++;
    }
    if (l->memory) l->memory->n_held = n_held;
}

static void take_moments(const layout *l)
{
    fz_held held;
    int n_held = 0;

    for (int u = first_use(l); u < last_use(l); u++) {
        if (!describe(l->plan, l->rp, u, &held)) continue;
        const int i = n_held++;
        if (!l->program->params[held.param].trainable) continue;
        const int64_t n = held.n_pieces * held.piece_elements;
        float *m = fz_arena_floats(l->arena, n);
        float *v = fz_arena_floats(l->arena, n);
        if (!l->memory) continue;
        l->memory->held[i].m = m;
        l->memory->held[i].v = v;
    }
}

/* Every use has its own accumulator: those of a tied parameter are added in a fixed order later. */
static int64_t place_grads(const layout *l)
{
    fz_arena one = fz_arena_counting();

    for (int u = first_use(l); u < last_use(l); u++) {
        const fz_param *param = &l->program->params[l->program->uses[u].param];
        if (!param->trainable) continue;
        const int64_t pieces = param->cut == FZ_CUT_NONE ? 1 : l->rp->shards.count;
        if (l->memory) l->memory->grad_offset[u] = (int64_t)(one.used / sizeof(float));
        fz_arena_floats(&one, pieces * fz_param_piece_elements(param, l->program->n_shards));
    }
    return (int64_t)(one.used / sizeof(float));
}

static void take_grads(const layout *l, int64_t grad_floats)
{
    if (l->memory) l->memory->grad_floats = grad_floats;
    for (int64_t i = 0; i < l->rp->grad_buffers; i++) {
        float *buffer = fz_arena_floats(l->arena, grad_floats);
        if (l->memory) l->memory->grads[i] = buffer;
    }
}

/* ---- streams and blocks ---- */

static fz_arena take_arena(const layout *l, size_t bytes)
{
    void *base = fz_arena_take(l->arena, bytes);
    return base ? fz_arena_over(base, fz_align_up(bytes)) : fz_arena_counting();
}

static void take_saves(const layout *l, size_t save, const size_t transient[2])
{
    fz_live live[FZ_N_STREAMS];
    const int n_live =
        l->rp->first_block > 0 ? fz_program_live(l->program, l->rp->first_block, live) : 0;

    for (int64_t slot = 0; slot < l->rp->in_flight; slot++) {
        for (int i = 0; i < n_live; i++) {
            float *p = fz_arena_floats(l->arena, fz_stream_floats(&live[i], &l->sizes));
            if (l->memory) l->memory->received[slot * FZ_N_STREAMS + live[i].stream] = p;
        }
        const fz_arena arena = take_arena(l, save);
        if (l->memory) l->memory->save[slot] = arena;
    }
    for (int i = 0; i < 2; i++) {
        const fz_arena arena = take_arena(l, transient[i]);
        if (l->memory) l->memory->transient[i] = arena;
    }
}

/* Streams whose gradient lives on this stage, and the first block that has one. */
static int streams_with_grad(const layout *l, bool needed[FZ_N_STREAMS])
{
    const fz_block *blocks = l->program->blocks;
    int first = l->rp->last_block;
    fz_live live[FZ_N_STREAMS];

    for (int b = l->rp->last_block - 1; b >= l->rp->first_block; b--) {
        if (!fz_block_keeps(&blocks[b])) continue;
        first = b;
        needed[blocks[b].writes] = true;
        if (blocks[b].wants_enc_grad) needed[FZ_STREAM_ENC] = true;
        if (blocks[b].wants_input_grad && b > 0 && blocks[b].writes == FZ_STREAM_ENC)
            needed[blocks[b - 1].writes] = true; /* encoder.embed reads VISION */
    }
    const int n =
        l->rp->first_block > 0 ? fz_program_live(l->program, l->rp->first_block, live) : 0;
    for (int i = 0; i < n; i++) {
        if (!live[i].needs_grad) continue;
        needed[live[i].stream] = true;
        first = l->rp->first_block; /* it may only pass through */
    }
    return first;
}

static void take_dstreams(const layout *l)
{
    bool needed[FZ_N_STREAMS] = {false};
    const int first = streams_with_grad(l, needed);

    for (int s = 0; s < FZ_N_STREAMS; s++) {
        if (!needed[s]) continue;
        const int64_t n =
            fz_program_stream_max(l->program, first, l->rp->last_block, (fz_stream)s, &l->sizes);
        float *p = fz_arena_floats(l->arena, n);
        if (l->memory) l->memory->dstream[s] = p;
    }
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void block_bytes(const layout *l, fz_block_bytes *most, size_t transient[2])
{
    memset(most, 0, sizeof *most);
    for (int b = l->rp->first_block; b < l->rp->last_block; b++) {
        const fz_block *block = &l->program->blocks[b];
        fz_block_bytes bytes = {0};
        block->kind->bytes(block, l->program, &l->sizes, l->rp->shards, &bytes);
        if (fz_output_is_transient(l->plan, l->rp, b))
            transient[b & 1] = larger(transient[b & 1], fz_align_up(bytes.save));
        else
            most->save += fz_align_up(bytes.save);
        most->keep = larger(most->keep, fz_align_up(bytes.keep));
        most->work = larger(most->work, fz_align_up(bytes.work));
    }
}

/* ---- communication and the rest ---- */

static size_t sum_bytes(int64_t n_nodes, int64_t n_ranks)
{
    const int64_t piece = (FZ_COMM_CHUNK + n_ranks - 1) / n_ranks;
    return (size_t)(n_nodes * piece + SMALL_SUM_FLOATS) * sizeof(float);
}

static size_t comm_bytes(const layout *l, int64_t grad_floats)
{
    const fz_mesh_shape shape = l->plan->layout.shape;
    size_t bytes = shape.tp > 1 ? sum_bytes(shape.tp, shape.tp) : 0;

    if (shape.dp > 1 && grad_floats > 0) {
        int64_t n_nodes = 0;
        for (int r = 0; r < shape.dp; r++) {
            fz_lane_stack stack;
            fz_lane_stack_simulate(&stack, l->plan->n_micro, l->plan->layout.n_lanes, shape.dp, r);
            n_nodes += stack.tree.n;
        }
        bytes = larger(bytes, sum_bytes(n_nodes, shape.dp));
    }
    /* The other stage's part of a tied gradient arrives chunk by chunk. */
    return larger(bytes, shape.pp > 1 ? FZ_COMM_CHUNK * sizeof(float) : 0);
}

static void take_other(const layout *l)
{
    const fz_plan *plan = l->plan;
    const bool last = l->rp->last_block == l->program->n_blocks;
    const int64_t n_sums = plan->n_micro + plan->norm_first[l->program->n_params];
    float *token_loss = fz_arena_floats(l->arena, last ? l->sizes.n_dec : 0);
    double *sums = fz_arena_take(l->arena, (size_t)n_sums * sizeof(double));
    int64_t *counts =
        fz_arena_take(l->arena, (size_t)(plan->n_micro + FZ_EXTRA_COUNTS) * sizeof(int64_t));
    double *chunk_sums = fz_arena_take(l->arena, FZ_SUMSQ_SLAB * sizeof(double));
    uint64_t *digests = fz_arena_take(l->arena, (size_t)l->program->n_params * sizeof(uint64_t));

    if (!l->memory) return;
    l->memory->token_loss = token_loss;
    l->memory->sums = sums;
    l->memory->counts = counts;
    l->memory->chunk_sums = chunk_sums;
    l->memory->digests = digests;
}

/* Weights and moments of the pieces that this rank owns, each at its own place, as checkpoint/ lays
 * them out. */
static void take_snapshot(const layout *l)
{
    fz_held held;
    const size_t before = l->arena->used;
    void *first = NULL;

    if (!l->plan->layout.has_snapshot || l->program->config.forward_only) return;
    for (int u = first_use(l); u < last_use(l); u++) {
        if (!describe(l->plan, l->rp, u, &held) || !l->program->params[held.param].trainable)
            continue;
        for (int64_t j = 0; j < 3 * held.n_pieces; j++) {
            if (!fz_plan_owns(l->plan, l->rp->coord, held.param, held.first_shard + j / 3))
                continue;
            void *place = fz_arena_floats(l->arena, held.piece_elements);
            if (!first) first = place;
        }
    }
    if (!l->memory) return;
    l->memory->snapshot = first;
    l->memory->snapshot_bytes = l->arena->used - before;
}

void fz_rank_memory_layout(const fz_plan *plan, const fz_rank_plan *rank_plan, fz_arena *arena,
                           fz_rank_memory *memory, fz_plan_bytes *bytes)
{
    const layout l = {
        .plan = plan,
        .program = plan->program,
        .rp = rank_plan,
        .arena = arena,
        .memory = memory,
        .sizes = fz_program_max_sizes(plan->program, plan->train.micro_batch, rank_plan->shards)};
    fz_block_bytes most;
    size_t transient[2] = {0, 0}, mark = arena->used;
    const int64_t grad_floats = place_grads(&l);

#define SECTION(name, call)                                                                        \
    do {                                                                                           \
        call;                                                                                      \
        bytes->name = arena->used - mark;                                                          \
        mark = arena->used;                                                                        \
    } while (0)

    block_bytes(&l, &most, transient);
    SECTION(weights, take_weights(&l));
    SECTION(grads, take_grads(&l, grad_floats));
    SECTION(moments, take_moments(&l));
    SECTION(save, take_saves(&l, most.save, transient));
    SECTION(dstream, take_dstreams(&l));
    const fz_arena keep = take_arena(&l, most.keep);
    SECTION(keep, (void)0);
    const fz_arena work = take_arena(&l, most.work);
    SECTION(work, (void)0);
    void *comm = fz_arena_take(arena, comm_bytes(&l, grad_floats));
    SECTION(comm, (void)0);
    SECTION(other, take_other(&l));
    SECTION(snapshot, take_snapshot(&l));
#undef SECTION
    bytes->total = arena->used;
    if (!memory) return;
    memory->keep = keep;
    memory->work = work;
    memory->comm = comm;
    memory->used = arena->used;
}

/* ---- create ---- */

fz_status fz_rank_memory_create(const fz_plan *plan, const fz_rank_plan *rank_plan,
                                fz_rank_memory *memory)
{
    const fz_program *program = plan->program;
    const layout l = {.plan = plan, .program = program, .rp = rank_plan};
    fz_plan_bytes bytes = {0};

    memset(memory, 0, sizeof *memory);
    FZ_TRY(FZ_NEW(&memory->held, last_use(&l) - first_use(&l)));
    FZ_TRY(FZ_NEW(&memory->weights, program->n_params));
    FZ_TRY(FZ_NEW(&memory->grad_offset, program->n_uses));
    FZ_TRY(FZ_NEW(&memory->grads, rank_plan->grad_buffers));
    FZ_TRY(FZ_NEW(&memory->save, rank_plan->in_flight));
    FZ_TRY(FZ_NEW(&memory->received, rank_plan->in_flight * FZ_N_STREAMS));
    FZ_TRY(fz_alloc(&memory->base, rank_plan->bytes.total, "the memory of a rank"));
    for (int u = 0; u < program->n_uses; u++)
        memory->grad_offset[u] = -1;

    fz_arena arena = fz_arena_over(memory->base, rank_plan->bytes.total);
    fz_rank_memory_layout(plan, rank_plan, &arena, memory, &bytes);
    FZ_ASSERT(memcmp(&bytes, &rank_plan->bytes, sizeof bytes) == 0);
    return FZ_OK;
}

void fz_rank_memory_destroy(fz_rank_memory *memory)
{
    fz_free(&memory->base);
    fz_free(&memory->held);
    fz_free(&memory->weights);
    fz_free(&memory->grad_offset);
    fz_free(&memory->grads);
    fz_free(&memory->save);
    fz_free(&memory->received);
}
