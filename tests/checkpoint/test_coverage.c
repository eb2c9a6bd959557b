/* The sweep against counting: fragments of random tensors, whole, cut, with holes and overlaps. */
#include "tests/support/unit.h"

#include "checkpoint/coverage.h"
#include "core/memory.h"
#include "core/rng.h"

enum { MOST_ROWS = 400, MOST_ELEMENTS = 4096 };

typedef struct toy_table { /* one trained tensor, its weights alone */
    fz_source source;
    fz_state_tensor tensor;
    fz_fragment rows[MOST_ROWS];
    int counts[MOST_ELEMENTS];
    uint64_t seed;
} toy_table;

static int64_t draw(toy_table *t, int64_t below)
{
    t->seed = fz_mix64(t->seed + 1);
    return (int64_t)(t->seed % (uint64_t)below);
}

static void start(toy_table *t, uint64_t seed, int ndim, const int64_t *shape)
{
    memset(t, 0, sizeof *t);
    t->seed = seed;
    strcpy(t->source.path, "toy");
    strcpy(t->tensor.name, "t");
    t->tensor.ndim = ndim;
    t->tensor.trainable = true;
    memcpy(t->tensor.shape, shape, (size_t)ndim * sizeof *shape);
    t->source.index.n_tensors = 1;
    t->source.index.tensors = &t->tensor;
    t->source.index.rows = t->rows;
    t->source.index.info.has_weights_alone = true;
}

static void chain(toy_table *t)
{
    fz_free(&t->source.head);
    fz_free(&t->source.next);
    assert_ok(fz_rows_chain(1, t->rows, t->source.index.n_rows, &t->source.head, &t->source.next));
}

static void stop(toy_table *t)
{
    fz_free(&t->source.head);
    fz_free(&t->source.next);
}

static void add(toy_table *t, const fz_box *box, int64_t a, int64_t b)
{
    fz_fragment *row = &t->rows[t->source.index.n_rows++];
    assert_true(t->source.index.n_rows <= MOST_ROWS);
    *row = (fz_fragment){.a = a, .b = b};
    memcpy(row->lo, box->lo, sizeof row->lo);
    memcpy(row->hi, box->hi, sizeof row->hi);
}

/* A box into two at a random place of a random axis, and again; leaves sometimes cut flat. */
static void split(toy_table *t, fz_box box, int depth)
{
    const int axis = (int)draw(t, FZ_MAX_AXES);
    const int64_t n = box.hi[axis] - box.lo[axis], elements = fz_box_elements(&box);

    if (depth == 0 || n < 2) {
        const int64_t at = draw(t, 3) == 0 && elements > 1 ? 1 + draw(t, elements - 1) : elements;
        add(t, &box, 0, at);
        if (at < elements) add(t, &box, at, elements);
        return;
    }
    fz_box left = box, right = box;
    left.hi[axis] = right.lo[axis] = box.lo[axis] + 1 + draw(t, n - 1);
    split(t, left, depth - 1);
    split(t, right, depth - 1);
}

/* The definition: every element of the fragment, one by one. */
static void count(toy_table *t, const fz_box *whole)
{
    memset(t->counts, 0, sizeof t->counts);
    for (int64_t r = 0; r < t->source.index.n_rows; r++) {
        const fz_fragment *row = &t->rows[r];
        for (int64_t i = row->a; i < row->b; i++) {
            int64_t at[FZ_MAX_AXES], rest = i;
            for (int axis = FZ_MAX_AXES - 1; axis >= 0; axis--) {
                at[axis] = row->lo[axis] + rest % (row->hi[axis] - row->lo[axis]);
                rest /= row->hi[axis] - row->lo[axis];
            }
            t->counts[fz_box_offset(whole, at)]++;
        }
    }
}

/* Compares what the sweep says with the counts. */
static bool agrees(toy_table *t)
{
    const fz_box whole = fz_box_of_tensor(&t->tensor);
    const int64_t n = fz_box_elements(&whole);
    fz_coverage coverage;
    bool is_sound = true;

    chain(t);
    count(t, &whole);
    for (int64_t i = 0; i < n; i++)
        is_sound = is_sound && t->counts[i] == 1;
    assert_ok(fz_coverage_find(&t->source, 0, FZ_STATE_MASTER, &coverage));
    assert_int_equal(coverage.is_sound, is_sound);
    if (is_sound) return true;
    assert_true(fz_box_elements(&coverage.box) > 0);
    for (int64_t i = 0; i < n; i++) {
        int64_t at[FZ_MAX_AXES], rest = i;
        bool is_inside = true;
        for (int axis = FZ_MAX_AXES - 1; axis >= 0; axis--) {
            at[axis] = rest % whole.hi[axis];
            rest /= whole.hi[axis];
            is_inside &= at[axis] >= coverage.box.lo[axis] && at[axis] < coverage.box.hi[axis];
        }
        if (is_inside) assert_int_equal(t->counts[i], coverage.n_holders);
    }
    return false;
}

static void a_flat_range_is_few_boxes_with_its_elements(void **state)
{
    static const int64_t shape[] = {3, 4, 2, 5, 3};
    fz_box boxes[FZ_FRAGMENT_BOXES];
    int most = 0;

    (void)state;
    for (int64_t a = 0; a < 360; a++)
        for (int64_t b = a + 1; b <= 360; b += 7) {
            fz_fragment f = {.a = a, .b = b};
            int64_t n_elements = 0;
            for (int axis = 0; axis < FZ_MAX_AXES; axis++) {
                f.lo[axis] = axis;
                f.hi[axis] = axis + shape[axis];
            }
            const fz_box whole = fz_box_of_fragment(&f);
            const int n = fz_fragment_boxes(&f, boxes);
            assert_in_range(n, 1, FZ_FRAGMENT_BOXES);
            int64_t next = a; /* in order, one behind the other */
            for (int i = 0; i < n; i++) {
                assert_int_equal(fz_box_offset(&whole, boxes[i].lo), next);
                next += fz_box_elements(&boxes[i]);
                n_elements += fz_box_elements(&boxes[i]);
            }
            assert_int_equal(n_elements, b - a);
            most = n > most ? n : most;
        }
    assert_int_equal(most, FZ_FRAGMENT_BOXES);
}

static void random_cuts_are_sound_and_every_change_is_found(void **state)
{
    static const int64_t shapes[][FZ_MAX_AXES] = {
        {1, 1, 1, 1, 1}, {331, 1, 1, 1, 1}, {24, 36, 1, 1, 1}, {5, 3, 4, 6, 1}, {4, 3, 1, 4, 5}};
    static const int ndims[] = {0, 1, 2, 4, 5};
    static toy_table t;
    int n_sound = 0, n_faults = 0;

    (void)state;
    for (int i = 0; i < 400; i++) {
        const int s = i % 5;
        start(&t, (uint64_t)i * 7919, ndims[s], shapes[s]);
        split(&t, fz_box_of_tensor(&t.tensor), i % 7);
        n_sound += agrees(&t);
        /* One row longer, shorter, moved, gone or twice: may be harmless only by chance. */
        fz_fragment *row = &t.rows[draw(&t, t.source.index.n_rows)];
        const int64_t n = t.source.index.n_rows;
        switch (draw(&t, 4)) {
        case 0:
            row->b -= row->b - row->a > 1 ? 1 : 0;
            break;
        case 1:
            *row = t.rows[--t.source.index.n_rows];
            break;
        case 2:
            t.rows[t.source.index.n_rows++] = *row;
            break;
        default: {
            const int axis = (int)draw(&t, FZ_MAX_AXES);
            if (row->lo[axis] == 0) break;
            row->lo[axis]--;
            row->hi[axis]--;
        }
        }
        n_faults += !agrees(&t);
        assert_true(n <= MOST_ROWS);
        stop(&t);
    }
    assert_int_equal(n_sound, 400);
    assert_true(n_faults > 250);
}

static void a_fault_is_named(void **state)
{
    static const int64_t shape[] = {6, 4};
    static toy_table t;
    fz_box box;

    (void)state;
    start(&t, 1, 2, shape);
    box = fz_box_of_tensor(&t.tensor);
    box.hi[0] = 4;
    add(&t, &box, 0, 16);
    chain(&t);
    assert_fails(fz_coverage_check(&t.source, false), FZ_ERR_FORMAT,
                 "toy: a hole: elements [4:6, 0:4] of master of tensor t are in no fragment");
    box.lo[0] = 3;
    box.hi[0] = 6;
    add(&t, &box, 0, 12);
    chain(&t);
    assert_fails(fz_coverage_check(&t.source, false), FZ_ERR_FORMAT,
                 "an overlap: elements [3:4, 0:4] of master of tensor t are in 2 fragments");
    t.rows[1].a = 4;
    assert_ok(fz_coverage_check(&t.source, false));
    assert_fails(fz_coverage_check(&t.source, true), FZ_ERR_FORMAT, "has fragments of master");
    t.source.index.info.has_weights_alone = false;
    assert_fails(fz_coverage_check(&t.source, false), FZ_ERR_FORMAT, "exp_avg of tensor t");
    stop(&t);
}

/* So many pieces of one tensor as no table of a model has; the sweep is no product of them. */
static void many_pieces_take_no_time(void **state)
{
    enum { N = 100000 };
    fz_fragment *rows = NULL;
    fz_coverage coverage;
    static toy_table t;

    (void)state;
    for (int axis = 0; axis < 2; axis++) {
        const int64_t shape[] = {N, N};
        start(&t, 1, 2, shape);
        assert_ok(FZ_NEW(&rows, N));
        for (int64_t i = 0; i < N; i++) {
            const fz_box whole = fz_box_of_tensor(&t.tensor);
            rows[i] = (fz_fragment){.b = N};
            memcpy(rows[i].lo, whole.lo, sizeof whole.lo);
            memcpy(rows[i].hi, whole.hi, sizeof whole.hi);
            rows[i].lo[axis] = N - 1 - i;
            rows[i].hi[axis] = N - i;
        }
        t.source.index.rows = rows;
        t.source.index.n_rows = N;
        assert_ok(fz_rows_chain(1, rows, N, &t.source.head, &t.source.next));
        assert_ok(fz_coverage_find(&t.source, 0, FZ_STATE_MASTER, &coverage));
        assert_true(coverage.is_sound);
        stop(&t);
        fz_free(&rows);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flat_range_is_few_boxes_with_its_elements),
        cmocka_unit_test(random_cuts_are_sound_and_every_change_is_found),
        cmocka_unit_test(a_fault_is_named),
        cmocka_unit_test(many_pieces_take_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
