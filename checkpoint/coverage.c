#include "checkpoint/coverage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

/* fragments as boxes */

typedef struct cutter {
    const fz_fragment *fragment;
    int64_t extent[FZ_MAX_AXES], stride[FZ_MAX_AXES];
    fz_box at; /* axes before the current one are fixed */
    fz_box *boxes;
    int n;
} cutter;

static void fix(cutter *c, int axis, int64_t from, int64_t to)
{
    c->at.lo[axis] = c->fragment->lo[axis] + from;
    c->at.hi[axis] = c->fragment->lo[axis] + to;
}

static void emit(cutter *c, int axis, int64_t from, int64_t to)
{
    fix(c, axis, from, to);
    for (int behind = axis + 1; behind < FZ_MAX_AXES; behind++)
        fix(c, behind, 0, c->extent[behind]);
    c->boxes[c->n++] = c->at;
}

/* The range [a, b) of what lies at the fixed axes. Recursion ends at the last axis. */
static void cut(cutter *c, int axis, int64_t a, int64_t b) /* NOLINT(misc-no-recursion) */
{
    const int64_t stride = c->stride[axis];
    int64_t first = a / stride;
    const int64_t last = b / stride, head = a % stride, tail = b % stride;

    if (first == last) {
        fix(c, axis, first, first + 1);
        cut(c, axis + 1, head, tail);
        return;
    }
    if (head > 0) {
        fix(c, axis, first, first + 1);
        cut(c, axis + 1, head, stride);
        first++;
    }
    if (first < last) emit(c, axis, first, last);
    if (tail == 0) return;
    fix(c, axis, last, last + 1);
    cut(c, axis + 1, 0, tail);
}

int fz_fragment_boxes(const fz_fragment *fragment, fz_box boxes[FZ_FRAGMENT_BOXES])
{
    cutter c = {.fragment = fragment, .boxes = boxes};
    int64_t stride = 1;

    for (int axis = FZ_MAX_AXES - 1; axis >= 0; axis--) {
        c.extent[axis] = fragment->hi[axis] - fragment->lo[axis];
        c.stride[axis] = stride;
        stride *= c.extent[axis];
    }
    if (fragment->a < fragment->b) cut(&c, 0, fragment->a, fragment->b);
    return c.n;
}

/* the sweep */

typedef struct sweep {
    const fz_box **lists; /* owned: [FZ_MAX_AXES + 1][n] */
    int64_t n;
    fz_box at; /* axes before the current one are a slab, the others are whole */
    fz_coverage *result;
} sweep;

static int by_axis(const fz_box *a, const fz_box *b, int axis)
{
    return (a->lo[axis] > b->lo[axis]) - (a->lo[axis] < b->lo[axis]);
}

#define BY_AXIS(k)                                                                                 \
    static int by_axis_##k(const void *x, const void *y)                                           \
    {                                                                                              \
        return by_axis(*(const fz_box *const *)x, *(const fz_box *const *)y, k);                   \
    }
BY_AXIS(0)
BY_AXIS(1)
BY_AXIS(2)
BY_AXIS(3)
BY_AXIS(4)
static int (*const BY_AXES[FZ_MAX_AXES])(const void *, const void *) = {
    by_axis_0, by_axis_1, by_axis_2, by_axis_3, by_axis_4};

static bool fills(const fz_box *box, const fz_box *region, int axis)
{
    for (; axis < FZ_MAX_AXES; axis++)
        if (box->lo[axis] > region->lo[axis] || box->hi[axis] < region->hi[axis]) return false;
    return true;
}

/* The first n of lists[axis] meet the slab; do they hold each of its elements once? Cuts the axis
 * wherever a box begins or ends. */
static bool sweep_axis(sweep *s, int axis, int64_t n) /* NOLINT(misc-no-recursion) */
{
    const fz_box **list = s->lists + axis * s->n;
    const fz_box **active = s->lists + (axis + 1) * s->n;
    const fz_box whole = s->at;
    int64_t n_active = 0, next = 0;

    if (n == 1 && fills(list[0], &s->at, axis)) return true;
    if (n == 0 || axis == FZ_MAX_AXES) {
        s->result->box = s->at;
        s->result->n_holders = n;
        return false;
    }
    qsort(list, (size_t)n, sizeof *list, BY_AXES[axis]);
    for (int64_t at = whole.lo[axis], to; at < whole.hi[axis]; at = to) {
        int64_t kept = 0;
        to = whole.hi[axis];
        for (int64_t i = 0; i < n_active; i++)
            if (active[i]->hi[axis] > at) active[kept++] = active[i];
        n_active = kept;
        for (; next < n && list[next]->lo[axis] <= at; next++)
            active[n_active++] = list[next];
        if (next < n && list[next]->lo[axis] < to) to = list[next]->lo[axis];
        for (int64_t i = 0; i < n_active; i++)
            if (active[i]->hi[axis] < to) to = active[i]->hi[axis];
        s->at.lo[axis] = at;
        s->at.hi[axis] = to;
        if (!sweep_axis(s, axis + 1, n_active)) return false;
    }
    s->at = whole;
    return true;
}

static fz_status sweep_boxes(const fz_box *boxes, int64_t n, const fz_box *whole,
                             fz_coverage *coverage)
{
    sweep s = {.n = n > 0 ? n : 1, .at = *whole, .result = coverage};

    FZ_TRY(FZ_NEW(&s.lists, s.n * (FZ_MAX_AXES + 1)));
    for (int64_t i = 0; i < n; i++)
        s.lists[i] = &boxes[i];
    coverage->is_sound = fz_box_elements(whole) == 0 || sweep_axis(&s, 0, n);
    fz_free(&s.lists);
    return FZ_OK;
}

fz_status fz_coverage_find(const fz_source *source, int tensor, int kind, fz_coverage *coverage)
{
    const fz_index *index = &source->index;
    const fz_box whole = fz_box_of_tensor(&index->tensors[tensor]);
    const int64_t head = source->head[(int64_t)kind * index->n_tensors + tensor];
    fz_box *boxes = NULL;
    int64_t n = 0;

    *coverage = (fz_coverage){.is_sound = false};
    for (int64_t row = head; row >= 0; row = source->next[row])
        n += FZ_FRAGMENT_BOXES;
    FZ_TRY(FZ_NEW(&boxes, n));
    n = 0;
    for (int64_t row = head; row >= 0; row = source->next[row])
        n += fz_fragment_boxes(&index->rows[row], boxes + n);
    const fz_status status = sweep_boxes(boxes, n, &whole, coverage);
    fz_free(&boxes);
    return status;
}

/* all of a directory */

bool fz_coverage_expects(const fz_index *index, bool is_base, int tensor, int kind)
{
    const bool is_trained = index->tensors[tensor].trainable;

    if (is_base) return !is_trained && kind == FZ_STATE_WEIGHT;
    if (kind == FZ_STATE_MASTER) return is_trained;
    return is_trained && kind != FZ_STATE_WEIGHT && !index->info.has_weights_alone;
}

char *fz_box_text(const fz_box *box, int ndim, char *text, size_t bytes)
{
    size_t n = (size_t)snprintf(text, bytes, "[");

    for (int axis = 0; axis < ndim && n < bytes; axis++)
        n += (size_t)snprintf(text + n, bytes - n, "%s%lld:%lld", axis ? ", " : "",
                              (long long)box->lo[axis], (long long)box->hi[axis]);
    if (n < bytes) snprintf(text + n, bytes - n, "]");
    return text;
}

static fz_status check_one(const fz_source *source, bool is_base, int tensor, int kind)
{
    const fz_index *index = &source->index;
    const fz_state_tensor *t = &index->tensors[tensor];
    const bool has_rows = source->head[(int64_t)kind * index->n_tensors + tensor] >= 0;
    fz_coverage coverage;
    char box[256];

    if (!fz_coverage_expects(index, is_base, tensor, kind)) {
        FZ_CHECK(!has_rows, FZ_ERR_FORMAT, "%s: it has fragments of %s of tensor %s, which is %s",
                 source->path, FZ_KIND_NAMES[kind], t->name, t->trainable ? "trained" : "frozen");
        return FZ_OK;
    }
    FZ_TRY(fz_coverage_find(source, tensor, kind, &coverage));
    fz_box_text(&coverage.box, t->ndim, box, sizeof box);
    FZ_CHECK(coverage.is_sound || coverage.n_holders > 0, FZ_ERR_FORMAT,
             "%s: a hole: elements %s of %s of tensor %s are in no fragment", source->path, box,
             FZ_KIND_NAMES[kind], t->name);
    FZ_CHECK(coverage.is_sound, FZ_ERR_FORMAT,
             "%s: an overlap: elements %s of %s of tensor %s are in %lld fragments", source->path,
             box, FZ_KIND_NAMES[kind], t->name, (long long)coverage.n_holders);
    return FZ_OK;
}

fz_status fz_coverage_check(const fz_source *source, bool is_base)
{
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
        for (int tensor = 0; tensor < source->index.n_tensors; tensor++)
            FZ_TRY(check_one(source, is_base, tensor, kind));
    return FZ_OK;
}
