/* What a rank of any layout holds of a small model, without a trainer: its pieces and their copies,
 * or its part of a sharded optimizer's state, cut at any element. Every element's bits follow from
 * tensor, kind and index. */
#ifndef FZ_TESTS_PARALLEL_HELD_STATE_H
#define FZ_TESTS_PARALLEL_HELD_STATE_H

#include <string.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/layout.h"
#include "core/memory.h"
#include "core/rng.h"
#include "parallel/plan.h"
#include "parallel/rank_memory.h"
#include "parallel/state.h"

typedef struct layout {
    fz_mesh_shape shape; /* pp dp tp */
    int64_t shards;
    bool is_sharded; /* the optimizer's state, over the data axis */
} layout;

typedef struct held_state {
    fz_program *program;
    fz_plan *plan;
    fz_rank_plan rank_plan;
    fz_rank_memory memory;
    fz_state whole, state; /* state.views is owned where it is not whole's */
    fz_state_view *parts;  /* owned */
    int n_parts, room;
} held_state;

/* Small, and all that is awkward: an odd vocabulary, a tied table, convolutions, for Gemma query
 * heads that share keys. Every other family has frozen parts. */
static fz_status small_model(int family, int64_t shards, fz_program **program_p)
{
    fz_model_config c;

    FZ_TRY(fz_model_variant(family == 0 ? "tiny-bart" : "tiny-gemma", &c));
    c.image_size = 40;
    c.vision_depths[2] = 1;
    for (int s = 0; s < FZ_VISION_STAGES; s++)
        c.vision_dims[s] = s < 2 ? 32 : 64;
    c.enc_width = 32;
    c.enc_ffn = 76;
    c.dec_width = 32;
    c.dec_ffn = 52;
    c.enc_vocab = c.dec_vocab = 101;
    c.enc_positions = 66;
    if (family == 0) c.dec_head_dim = 8;
    if (family == 0) c.dec_positions = 50;
    c.max_prompt = 12;
    c.max_output = 13;
    if (family == 0) strcpy(c.freeze[c.n_freeze++], "*encoder.layers.0.fc1*");
    if (family == 0) strcpy(c.freeze[c.n_freeze++], "*vision*convs*");
    return fz_program_create(&c, shards, program_p);
}

static fz_status add_part(held_state *h, const fz_state_view *view, const fz_box *box, int64_t at)
{
    if (h->n_parts == h->room) {
        h->room = 2 * h->room + 64;
        FZ_TRY(fz_realloc((void **)&h->parts, (size_t)h->room * sizeof *h->parts, "views"));
    }
    fz_state_view *part = &h->parts[h->n_parts++];
    *part = *view;
    memcpy(part->lo, box->lo, sizeof box->lo);
    memcpy(part->hi, box->hi, sizeof box->hi);
    part->data = view->data + at;
    return FZ_OK;
}

/* Elements [a, b) of a box, whose first element lies at `at` of the view, as boxes: on every axis a
 * part of one row, whole rows, and a part of another. */
static fz_status add_range(held_state *h, const fz_state_view *view, const fz_box *box, int64_t at,
                           int64_t a, int64_t b)
{
    const int64_t n = fz_box_elements(box);
    int axis = 0;

    if (a >= b) return FZ_OK;
    if (a == 0 && b == n) return add_part(h, view, box, at);
    while (box->hi[axis] - box->lo[axis] == 1)
        axis++;
    const int64_t row = n / (box->hi[axis] - box->lo[axis]);
    for (int64_t i = a / row; i * row < b;) {
        const int64_t end = i * row >= a && b / row > i ? b / row : i + 1; /* rows [i, end) */
        const int64_t from = a > i * row ? a : i * row, to = b < end * row ? b : end * row;
        fz_box part = *box;
        part.lo[axis] = box->lo[axis] + i;
        part.hi[axis] = box->lo[axis] + end;
        FZ_TRY(add_range(h, view, &part, at + i * row, from - i * row, to - i * row));
        i = end;
    }
    return FZ_OK;
}

/* Whether the pieces of this pipeline and tensor rank belong to some data rank here. */
static bool is_owned_in_data_group(const held_state *h, const fz_state_view *view)
{
    fz_mesh_coord coord = h->rank_plan.coord;

    for (coord.dp = 0; coord.dp < h->plan->layout.shape.dp; coord.dp++)
        if (fz_plan_owns(h->plan, coord, view->tensor, view->piece)) return true;
    return false;
}

/* Every data rank keeps its range of each piece that is trained; frozen ones stay as they are. */
static fz_status cut_state(held_state *h)
{
    const int64_t r = h->rank_plan.coord.dp, d = h->plan->layout.shape.dp;

    for (int v = 0; v < h->whole.n_views; v++) {
        fz_state_view view = h->whole.views[v];
        const fz_box box = fz_box_of_view(&view, h->whole.tensors[view.tensor].ndim);
        const int64_t n = fz_box_elements(&box);
        if (view.kind == FZ_STATE_WEIGHT) {
            FZ_TRY(add_part(h, &view, &box, 0));
            continue;
        }
        view.is_owner = is_owned_in_data_group(h, &view);
        FZ_TRY(add_range(h, &view, &box, 0, n * r / d, n * (r + 1) / d));
    }
    h->state.views = h->parts;
    h->state.n_views = h->n_parts;
    return FZ_OK;
}

static fz_status held_create(held_state *h, int family, const layout *l, int rank)
{
    const fz_train_config train = {.seed = 1,
                                   .steps = 10,
                                   .global_batch = 8,
                                   .loss_batch = 8,
                                   .micro_batch = 1,
                                   .lr = 1e-3,
                                   .beta1 = 0.9,
                                   .beta2 = 0.999,
                                   .eps = 1e-8};
    const fz_layout_config config = {
        .shape = l->shape, .schedule = FZ_SCHEDULE_1F1B, .n_shards = l->shards, .n_lanes = 8};

    memset(h, 0, sizeof *h);
    FZ_TRY(small_model(family, l->shards, &h->program));
    FZ_TRY(fz_plan_create(h->program, &train, &config, &h->plan));
    FZ_TRY(fz_plan_rank(h->plan, rank, &h->rank_plan));
    FZ_TRY(fz_rank_memory_create(h->plan, &h->rank_plan, &h->memory));
    FZ_TRY(fz_state_create(h->plan, &h->rank_plan, &h->memory, &h->whole));
    h->state = h->whole;
    return l->is_sharded ? cut_state(h) : FZ_OK;
}

static void held_reset(held_state *h)
{
    fz_free(&h->parts);
    fz_state_destroy(&h->whole);
    fz_rank_memory_destroy(&h->memory);
    fz_plan_destroy(&h->plan);
    fz_program_destroy(&h->program);
}

/* Any bits, NaNs among them, follow from the index. A weight has the same whether it is trained or
 * frozen. */
static uint64_t key_of(uint64_t seed, const fz_state_view *view)
{
    const uint64_t kind = view->kind == FZ_STATE_WEIGHT ? FZ_STATE_MASTER : (uint64_t)view->kind;
    return fz_mix64(seed << 32 | (uint64_t)view->tensor << 2 | kind);
}

/* Sets every element, or counts those that differ. */
static int64_t each_element(const fz_state *state, uint64_t seed, bool sets)
{
    int64_t n_wrong = 0, at, in_view;

    for (int v = 0; v < state->n_views; v++) {
        const fz_state_view *view = &state->views[v];
        const fz_state_tensor *tensor = &state->tensors[view->tensor];
        const fz_box whole = fz_box_of_tensor(tensor), box = fz_box_of_view(view, tensor->ndim);
        const uint64_t key = key_of(seed, view);
        fz_runs runs = fz_runs_over(&box, &whole, &box);
        while (fz_runs_next(&runs, &at, &in_view))
            for (int64_t k = 0; k < runs.length; k++) {
                const uint32_t bits = (uint32_t)fz_mix64(key + (uint64_t)(at + k));
                if (sets)
                    memcpy(&view->data[in_view + k], &bits, sizeof bits);
                else
                    n_wrong += memcmp(&view->data[in_view + k], &bits, sizeof bits) != 0;
            }
    }
    return n_wrong;
}

#endif
