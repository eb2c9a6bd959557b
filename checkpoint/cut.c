#include "checkpoint/cut.h"

#include <string.h>

/* A walk over a cut, as stretches that are contiguous in the file and in the wanted box. */
typedef struct walk {
    fz_runs runs;
    int64_t lo, hi; /* elements of the fragment's box that the range holds */
} walk;

typedef struct stretch {
    int64_t in_range; /* its first byte, from the range's */
    int64_t in_data, n;
} stretch;

/* Elements of the fragment's box that lie in the bytes [begin, end) of its file. */
static void clip(const fz_fragment *row, int64_t begin, int64_t end, int64_t *lo, int64_t *hi)
{
    const int64_t row_end = row->offset + (row->b - row->a) * 4;

    if (begin < row->offset) begin = row->offset;
    if (end > row_end) end = row_end;
    if (end < begin) end = begin;
    *lo = row->a + (begin - row->offset) / 4;
    *hi = row->a + (end - row->offset) / 4;
}

static walk start_walk(const fz_fragment *row, const fz_box *wanted, int64_t begin, int64_t end)
{
    const fz_box box = fz_box_of_fragment(row), part = fz_box_intersect(&box, wanted);
    walk w = {.runs = fz_runs_over(&part, &box, wanted)};

    clip(row, begin, end, &w.lo, &w.hi);
    if (w.lo > 0) fz_runs_seek(&w.runs, w.lo);
    return w;
}

static bool next_stretch(walk *w, const fz_fragment *row, int64_t begin, stretch *s)
{
    int64_t at, in_data;

    while (fz_runs_next(&w->runs, &at, &in_data) && at < w->hi) {
        const int64_t from = at > w->lo ? at : w->lo;
        const int64_t to = at + w->runs.length < w->hi ? at + w->runs.length : w->hi;
        if (from >= to) continue;
        *s = (stretch){.in_range = row->offset + (from - row->a) * 4 - begin,
                       .in_data = in_data + (from - at),
                       .n = to - from};
        return true;
    }
    return false;
}

int64_t fz_cut_count(const fz_fragment *row, const fz_box *wanted, int64_t begin, int64_t end)
{
    const fz_box box = fz_box_of_fragment(row), part = fz_box_intersect(&box, wanted);
    int64_t lo, hi;

    clip(row, begin, end, &lo, &hi);
    if (lo >= hi) return 0;
    return fz_box_count_below(&part, &box, hi) - fz_box_count_below(&part, &box, lo);
}

void fz_cut_span(const fz_fragment *row, const fz_box *wanted, int64_t *begin_p, int64_t *end_p)
{
    const fz_box box = fz_box_of_fragment(row), part = fz_box_intersect(&box, wanted);
    int64_t last[FZ_MAX_AXES];

    *begin_p = *end_p = 0;
    if (fz_box_elements(&part) == 0) return;
    for (int axis = 0; axis < FZ_MAX_AXES; axis++)
        last[axis] = part.hi[axis] - 1;
    int64_t from = fz_box_offset(&box, part.lo), to = fz_box_offset(&box, last) + 1;
    if (from < row->a) from = row->a;
    if (to > row->b) to = row->b;
    if (from >= to) return;
    *begin_p = row->offset + (from - row->a) * 4;
    *end_p = row->offset + (to - row->a) * 4;
}

void fz_cut_copy(const fz_fragment *row, const fz_box *wanted, int64_t begin, int64_t end,
                 const char *bytes, float *data)
{
    walk w = start_walk(row, wanted, begin, end);
    stretch s;

    while (next_stretch(&w, row, begin, &s))
        memcpy(data + s.in_data, bytes + s.in_range, (size_t)s.n * sizeof *data);
}

int64_t fz_cut_pack(const fz_fragment *row, const fz_box *wanted, int64_t begin, int64_t end,
                    const char *bytes, float *packed)
{
    walk w = start_walk(row, wanted, begin, end);
    int64_t n = 0;
    stretch s;

    for (; next_stretch(&w, row, begin, &s); n += s.n)
        memcpy(packed + n, bytes + s.in_range, (size_t)s.n * sizeof *packed);
    return n;
}

int64_t fz_cut_unpack(const fz_fragment *row, const fz_box *wanted, int64_t begin, int64_t end,
                      const float *packed, float *data)
{
    walk w = start_walk(row, wanted, begin, end);
    int64_t n = 0;
    stretch s;

    for (; next_stretch(&w, row, begin, &s); n += s.n)
        memcpy(data + s.in_data, packed + n, (size_t)s.n * sizeof *data);
    return n;
}
