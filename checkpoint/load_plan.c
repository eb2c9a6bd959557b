#include "checkpoint/load_plan.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/cut.h"
#include "checkpoint/load_rounds.h"
#include "core/memory.h"

void fz_load_plan_reset(fz_load_plan *plan)
{
    fz_free(&plan->blocks);
    fz_free(&plan->cuts);
    fz_free(&plan->sends);
    fz_free(&plan->receives);
    *plan = (fz_load_plan){.n_blocks = 0};
}

size_t fz_load_plan_bytes(const fz_load_plan *plan)
{
    return (size_t)(plan->n_blocks + 1) * sizeof *plan->blocks +
           (size_t)plan->n_cuts * sizeof *plan->cuts +
           (size_t)(plan->send_room + plan->receive_room) * sizeof *plan->sends;
}

/* cuts */

typedef struct making {
    const fz_load_plan_args *args;
    fz_load_plan *plan;
    int64_t room;                          /* of plan->cuts */
    int64_t *first_block[FZ_LOAD_SOURCES]; /* owned: number of the first block of (file, kind) */
    int64_t n_blocks;                      /* of all sources */
} making;

static int64_t *first_block_of(const making *m, int64_t source, int64_t file, int64_t kind)
{
    return &m->first_block[source][file * FZ_N_STATE_KINDS + kind];
}

/* Blocks get numbers in order of source, file, kind and place. */
static fz_status number_blocks(making *m)
{
    for (int source = 0; source < FZ_LOAD_SOURCES; source++) {
        const fz_index *index = &m->args->sources[source].index;
        FZ_TRY(FZ_NEW(&m->first_block[source], index->n_files * FZ_N_STATE_KINDS));
        for (int64_t file = 0; file < index->n_files; file++)
            for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
                *first_block_of(m, source, file, kind) = m->n_blocks;
                m->n_blocks += fz_blocks_of(index->files[file].arena[kind].bytes);
            }
    }
    return FZ_OK;
}

static fz_status add_cut(making *m, const fz_load_cut *cut)
{
    fz_load_plan *plan = m->plan;

    if (plan->n_cuts == m->room) {
        m->room = 2 * m->room + 256;
        FZ_TRY(fz_realloc((void **)&plan->cuts, (size_t)m->room * sizeof *plan->cuts,
                          "plan of a load"));
    }
    plan->cuts[plan->n_cuts++] = *cut;
    return FZ_OK;
}

/* One cut for every block in which the want meets the row; adds their elements to n_found. */
static fz_status cut_row(making *m, const fz_want *want, fz_load_cut cut, int64_t *n_found)
{
    const fz_index *index = &m->args->sources[want->source].index;
    const fz_fragment *row = &index->rows[cut.row];
    const fz_arena_place arena = index->files[row->file].arena[row->kind];
    const int64_t first = *first_block_of(m, want->source, row->file, row->kind);
    const fz_box wanted = fz_box_of_want(want);
    int64_t begin, end;

    fz_cut_span(row, &wanted, &begin, &end);
    while (begin < end) {
        const int64_t n = (begin - arena.offset) / FZ_BLOCK_BYTES;
        const int64_t border = arena.offset + (n + 1) * FZ_BLOCK_BYTES;
        const int64_t to = border < end ? border : end;
        cut.block = first + n;
        cut.n = (int32_t)fz_cut_count(row, &wanted, begin, to);
        if (cut.n > 0) FZ_TRY(add_cut(m, &cut));
        *n_found += cut.n;
        begin = to;
    }
    return FZ_OK;
}

/* Most rows of a tensor and most wants do not meet: this is found without a copy of their boxes. */
static bool is_apart(const fz_fragment *row, const fz_want *want)
{
    for (int axis = 0; axis < FZ_MAX_AXES; axis++)
        if (row->hi[axis] <= want->lo[axis] || want->hi[axis] <= row->lo[axis]) return true;
    return false;
}

static fz_status cut_want(making *m, int class_n, int64_t want_n)
{
    const fz_want *want = &m->args->wants->list[want_n];
    const fz_source *source = &m->args->sources[want->source];
    const fz_box wanted = fz_box_of_want(want);
    const int64_t n = fz_box_elements(&wanted);
    int64_t n_found = 0;

    int64_t row = source->head[want->kind * source->index.n_tensors + want->tensor];
    for (; row >= 0; row = source->next[row]) {
        const fz_load_cut cut = {.row = row, .want = want_n, .class_n = class_n};
        if (is_apart(&source->index.rows[row], want)) continue;
        FZ_TRY(cut_row(m, want, cut, &n_found));
    }
    FZ_CHECK(n_found == n, FZ_ERR_FORMAT,
             "%s: its fragments hold %lld of %lld elements of %s of tensor %s", source->path,
             (long long)n_found, (long long)n, FZ_KIND_NAMES[want->kind],
             source->index.tensors[want->tensor].name);
    const fz_wants *wants = m->args->wants;
    m->plan->bytes_wanted +=
        4 * n * (wants->first_member[class_n + 1] - wants->first_member[class_n]);
    return FZ_OK;
}

static int compare_cuts(const void *x, const void *y)
{
    const fz_load_cut *a = x, *b = y;

    if (a->block != b->block) return a->block < b->block ? -1 : 1;
    if (a->class_n != b->class_n) return a->class_n < b->class_n ? -1 : 1;
    if (a->row != b->row) return a->row < b->row ? -1 : 1;
    return (a->want > b->want) - (a->want < b->want);
}

static fz_status cut_wants(making *m)
{
    const fz_wants *wants = m->args->wants;

    for (int class_n = 0; class_n < wants->n_classes; class_n++)
        for (int64_t i = wants->first[class_n]; i < wants->first[class_n + 1]; i++)
            FZ_TRY(cut_want(m, class_n, i));
    fz_load_plan *plan = m->plan;
    if (plan->n_cuts > 0) qsort(plan->cuts, (size_t)plan->n_cuts, sizeof *plan->cuts, compare_cuts);
    return FZ_OK;
}

/* blocks */

static fz_load_block block_of(const making *m, int64_t first_cut)
{
    const fz_load_cut *cut = &m->plan->cuts[first_cut];
    const int64_t source = m->args->wants->list[cut->want].source;
    const fz_index *index = &m->args->sources[source].index;
    const fz_fragment *row = &index->rows[cut->row];
    const fz_arena_place arena = index->files[row->file].arena[row->kind];
    const int64_t n = cut->block - *first_block_of(m, source, row->file, row->kind);
    const int64_t begin = arena.offset + n * FZ_BLOCK_BYTES, last = arena.offset + arena.bytes;

    return (fz_load_block){.source = (int32_t)source,
                           .kind = (int32_t)row->kind,
                           .file = row->file,
                           .begin = begin,
                           .end = last - begin < FZ_BLOCK_BYTES ? last : begin + FZ_BLOCK_BYTES,
                           .first_cut = first_cut,
                           .reader = -1};
}

/* Lists the blocks; cuts then number them by their place in that list. */
static fz_status list_blocks(making *m)
{
    fz_load_plan *plan = m->plan;
    int64_t n = 0, last = -1;

    for (int64_t i = 0; i < plan->n_cuts; i++)
        n += i == 0 || plan->cuts[i].block != plan->cuts[i - 1].block;
    FZ_TRY(FZ_NEW(&plan->blocks, n + 1));
    for (int64_t i = 0; i < plan->n_cuts; i++) {
        fz_load_cut *cut = &plan->cuts[i];
        if (cut->block != last) {
            plan->blocks[plan->n_blocks] = block_of(m, i);
            plan->bytes_of_job +=
                plan->blocks[plan->n_blocks].end - plan->blocks[plan->n_blocks].begin;
            plan->n_blocks++;
            last = cut->block;
        }
        cut->block = plan->n_blocks - 1;
    }
    plan->blocks[plan->n_blocks].first_cut = plan->n_cuts;
    return FZ_OK;
}

static fz_status make(making *m)
{
    FZ_TRY(number_blocks(m));
    FZ_TRY(cut_wants(m));
    FZ_TRY(list_blocks(m));
    FZ_TRY(fz_load_choose_readers(m->args, m->plan));
    return fz_load_make_rounds(m->args, m->plan);
}

fz_status fz_load_plan_make(const fz_load_plan_args *args, fz_load_plan *plan)
{
    making m = {.args = args, .plan = plan};

    *plan = (fz_load_plan){.n_blocks = 0};
    const fz_status status = make(&m);
    for (int source = 0; source < FZ_LOAD_SOURCES; source++)
        fz_free(&m.first_block[source]);
    if (status != FZ_OK) fz_load_plan_reset(plan);
    return status;
}
