/* A small model for checkpoint tests: awkward shapes, cut in several ways over any group. */
#ifndef FZ_TESTS_TOY_STATE_H
#define FZ_TESTS_TOY_STATE_H

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/ranks.h"

#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "checkpoint/disk.h"
#include "checkpoint/layout.h"
#include "core/memory.h"
#include "core/rng.h"

enum toy_cut { CUT_NONE, CUT_ROWS, CUT_COLS, CUT_GRID, CUT_PARTS };

typedef struct toy_layout {
    const char *name;
    enum toy_cut cut;
    int n_pieces;
    int shift; /* of owners */
    bool has_replicas;
} toy_layout;

static const toy_layout TOY_LAYOUTS[] = {
    {"whole", CUT_NONE, 1, 0, false},
    {"rows of 4, copies", CUT_ROWS, 4, 1, true},
    {"cols of 3, copies", CUT_COLS, 3, 0, true},
    {"grid", CUT_GRID, 4, 2, false},
    {"rows of 11, some empty", CUT_ROWS, 11, 0, true},
    {"boxes of one piece", CUT_PARTS, 5, 1, false},
};
enum { N_TOY_LAYOUTS = sizeof TOY_LAYOUTS / sizeof *TOY_LAYOUTS };

static const fz_state_tensor TOY_TENSORS[] = {
    {.name = "embed.weight", .ndim = 2, .shape = {331, 24}, .trainable = true},
    {.name = "layer.0.q", .ndim = 2, .shape = {24, 36}, .trainable = true},
    {.name = "layer.0.norm", .ndim = 1, .shape = {7}, .trainable = true},
    {.name = "conv.patch", .ndim = 4, .shape = {5, 3, 4, 6}, .trainable = true},
    {.name = "five", .ndim = 5, .shape = {2, 3, 1, 4, 5}, .trainable = true},
    {.name = "gate", .ndim = 0, .trainable = true},
    {.name = "vision.frozen", .ndim = 2, .shape = {17, 9}, .trainable = false},
    {.name = "vision.bias", .ndim = 1, .shape = {9}, .trainable = false},
};
enum { N_TOY_TENSORS = sizeof TOY_TENSORS / sizeof *TOY_TENSORS };

typedef struct toy {
    fz_state state;
    fz_state_tensor tensors[N_TOY_TENSORS];
    fz_state_view *views; /* owned, and so are their data */
} toy;

static void cut_axis(int64_t n, int part, int parts, int64_t *lo, int64_t *hi)
{
    *lo = n * part / parts;
    *hi = n * (part + 1) / parts;
}

static fz_box toy_box(const fz_state_tensor *tensor, const toy_layout *l, int piece)
{
    fz_box box = fz_box_of_tensor(tensor);
    if (tensor->ndim == 0) return box;
    const int second = tensor->ndim > 1 ? 1 : 0;

    if (l->cut == CUT_ROWS || l->cut == CUT_PARTS)
        cut_axis(box.hi[0], piece, l->n_pieces, &box.lo[0], &box.hi[0]);
    if (l->cut == CUT_COLS)
        cut_axis(box.hi[second], piece, l->n_pieces, &box.lo[second], &box.hi[second]);
    if (l->cut == CUT_GRID) { /* 2 x 2 over the first and the last axis, at a third */
        const int last = tensor->ndim - 1;
        const int64_t a = box.hi[0] / 3, b = box.hi[last] / 3;
        const bool is_low = piece / 2 == 0, is_left = piece % 2 == 0;
        *(is_low ? &box.hi[0] : &box.lo[0]) = a;
        if (last > 0)
            *(is_left ? &box.hi[last] : &box.lo[last]) = b;
        else if (!is_left)
            box.hi[0] = box.lo[0];
    }
    return box;
}

static void toy_add(toy *t, int tensor, const fz_box *box, int piece, fz_state_kind kind,
                    bool owner)
{
    fz_state_view *view = &t->views[t->state.n_views++];
    const int64_t n = fz_box_elements(box);

    *view = (fz_state_view){.tensor = tensor, .piece = piece, .kind = kind, .is_owner = owner};
    memcpy(view->lo, box->lo, sizeof box->lo);
    memcpy(view->hi, box->hi, sizeof box->hi);
    assert_int_equal(FZ_NEW(&view->data, n), FZ_OK);
}

/* Every box has one owner; its copy, if the layout has any, is on the next rank. */
static void toy_add_views(toy *t, const fz_group *group, const toy_layout *l)
{
    const int rank = fz_group_rank(group), size = fz_group_size(group);

    assert_int_equal(FZ_NEW(&t->views, N_TOY_TENSORS * 3 * l->n_pieces), FZ_OK);
    t->state.views = t->views;
    for (int i = 0; i < N_TOY_TENSORS; i++)
        for (int p = 0; p < l->n_pieces; p++) {
            if (t->tensors[i].ndim == 0 && p > 0) continue; /* cannot be cut, not even empty */
            const fz_box box = toy_box(&t->tensors[i], l, p);
            const int owner = (i + 7 * p + l->shift) % size;
            const bool is_copy = l->has_replicas && (owner + 1) % size == rank && size > 1;
            if (rank != owner && !is_copy) continue;
            const int piece = l->cut == CUT_PARTS ? 0 : p;
            for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
                if (t->tensors[i].trainable == (kind != FZ_STATE_WEIGHT))
                    toy_add(t, i, &box, piece, (fz_state_kind)kind, rank == owner);
        }
}

static void toy_reset(toy *t)
{
    for (int i = 0; i < t->state.n_views; i++)
        fz_free(&t->views[i].data);
    fz_free(&t->views);
}

/* Any bits, among them NaNs; trained and frozen weights of one seed agree. */
static uint32_t toy_bits(uint64_t seed, int tensor, int kind, int64_t i)
{
    if (kind == FZ_STATE_WEIGHT) kind = FZ_STATE_MASTER;
    const uint64_t h = fz_mix64(seed * 1000003 + (uint64_t)tensor * 8 + (uint64_t)kind);
    return (uint32_t)fz_mix64(h + (uint64_t)i);
}

/* Calls for every element of a view: sets it, or counts what differs. */
static int64_t toy_each(const toy *t, uint64_t seed, bool sets, bool zero_moments)
{
    int64_t n_wrong = 0;

    for (int v = 0; v < t->state.n_views; v++) {
        const fz_state_view *view = &t->views[v];
        const fz_state_tensor *tensor = &t->tensors[view->tensor];
        const fz_box whole = fz_box_of_tensor(tensor), box = fz_box_of_view(view, tensor->ndim);
        const bool is_moment = view->kind == FZ_STATE_EXP_AVG || view->kind == FZ_STATE_EXP_AVG_SQ;
        fz_runs runs = fz_runs_over(&box, &whole, &box);
        int64_t at, in_view;
        while (fz_runs_next(&runs, &at, &in_view))
            for (int64_t k = 0; k < runs.length; k++) {
                uint32_t bits = toy_bits(seed, view->tensor, (int)view->kind, at + k);
                if (zero_moments && is_moment) bits = 0;
                if (sets)
                    memcpy(&view->data[in_view + k], &bits, sizeof bits);
                else
                    n_wrong += memcmp(&view->data[in_view + k], &bits, sizeof bits) != 0;
            }
    }
    return n_wrong;
}

/* Note: t must stay where it is, its state points into it. */
static void toy_create(toy *t, const fz_group *group, const toy_layout *l, uint64_t seed)
{
    *t = (toy){.state = {.n_tensors = N_TOY_TENSORS}};
    memcpy(t->tensors, TOY_TENSORS, sizeof TOY_TENSORS);
    t->state.tensors = t->tensors;
    toy_add_views(t, group, l);
    toy_each(t, seed, true, false);
}

static fz_ckpt_info toy_info(int64_t step)
{
    static char config[] = "model: {variant: toy}\ntrain: {steps: 7}\n";
    fz_ckpt_info info = {.step = step,
                         .samples = step * 32,
                         .seed = UINT64_MAX - 5,
                         .data_fingerprint = 0x1234567890abcdef,
                         .config_hash = 77,
                         .tp = 2,
                         .pp = 3,
                         .dp = 4,
                         .shards = 8,
                         .lanes = 16,
                         .global_batch = 32,
                         .micro_batch = 4,
                         .config = config};
    strcpy(info.run_id, "run of a test");
    strcpy(info.arithmetic_id, "openblas 1 haswell");
    return info;
}

/* A new directory, the same name on every rank. */
static inline void make_scratch(char path[FZ_PATH_BYTES])
{
    if (world.rank == 0) {
        snprintf(path, FZ_PATH_BYTES, "%s/ckpt-test-XXXXXX", FZ_BINARY_DIR);
        assert_non_null(mkdtemp(path));
    }
    assert_int_equal(fz_broadcast(world.group, path, FZ_PATH_BYTES, 0), FZ_OK);
}

static inline void remove_scratch(const char *path)
{
    assert_int_equal(fz_barrier(world.group), FZ_OK);
    if (world.rank == 0) fz_disk_remove_tree(path);
}

#endif
