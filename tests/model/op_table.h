/* One table for all ops: a row names the arrays of a call and how the backend and the reference
 * make it; the checks below are the same for every row.
 *
 *   op_check_table     backend against reference within the row's bound, on awkward shapes, with
 *                      poisoned outputs, guards around every array, inputs unchanged; and the same
 *                      bits when rows are cut elsewhere and when an output lies on an input
 *   op_check_gradient  reference backward against central differences of the reference forward,
 *                      in double. The two rows are joined by names: input "x" has the gradient
 *                      "dx", output "y" the incoming gradient "dy", equal names are equal values
 */
#ifndef FZ_TESTS_MODEL_OP_TABLE_H
#define FZ_TESTS_MODEL_OP_TABLE_H

#include <math.h>

#include "core/memory.h"
#include "core/rng.h"
#include "model/ops/ops.h"
#include "tests/support/unit.h"

enum { OP_ARRAYS = 12, OP_GUARD = 17, OP_MAX_SEQ = 24 };

typedef enum op_role {
    OP_IN,      /* unchanged by the call                       */
    OP_OUT,     /* written: poisoned before                    */
    OP_ADD,     /* added to: a gradient of a parameter         */
    OP_INPLACE, /* read and replaced                           */
    OP_SCRATCH  /* poisoned before, not looked at afterwards   */
} op_role;

typedef struct op_array {
    const char *name;
    op_role role;
    int64_t n;      /* elements                                                  */
    int64_t row;    /* elements per row; 0: not by rows                          */
    bool by_kv;     /* rows are those of kv_start                                */
    bool is_double; /* the backend writes doubles                                */
    double spread;  /* of the random values; 0: 1                                */
} op_array;

static inline op_array op_make(const char *name, op_role role, int64_t n, int64_t row)
{
    return (op_array){.name = name, .role = role, .n = n, .row = row};
}

typedef struct op_shape {
    const fz_ops *ops;
    int64_t N, C, S;
    fz_rows rows;
    const int32_t *kv_start; /* (n_seq+1): keys of attention */
    const int32_t *ids;      /* (N) */
    fz_dropout dropout;
} op_shape;

typedef struct op_row {
    const char *name;
    void (*arrays)(const op_shape *shape, op_array list[OP_ARRAYS]); /* ends at a NULL name */
    void (*backend)(const op_shape *shape, float **a);
    void (*reference)(const op_shape *shape, double **a);
    double bound;    /* on |difference| / largest |reference| of the array          */
    bool by_rows;    /* rows are independent: may be cut anywhere between sequences */
    int alias[2][2]; /* {output, input} that may be one array; {0, 0}: none */
    double smallest; /* what counts as the largest at least; 0: 1e-3. For results that
                        are differences of larger numbers */
} op_row;

/* ---- arrays with guards ---- */

typedef struct op_buffer {
    float *block, *at; /* at: after the guard, on purpose not aligned */
    int64_t n;         /* floats */
} op_buffer;

static const uint32_t OP_POISON = 0x7FC0DEADu; /* a NaN */

static inline void op_poison(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(&x[i], &OP_POISON, sizeof OP_POISON);
}

static inline op_buffer op_buffer_new(int64_t n)
{
    op_buffer b = {.n = n};
    assert_int_equal(FZ_NEW(&b.block, n + 2 * OP_GUARD + 1), FZ_OK);
    b.at = b.block + OP_GUARD + 1; /* 8-byte aligned, for doubles; not 16 */
    op_poison(b.block, n + 2 * OP_GUARD + 1);
    return b;
}

static inline void op_buffer_check_guards(const op_buffer *b, const char *op, const char *name)
{
    for (int64_t i = 0; i < OP_GUARD; i++)
        if (memcmp(&b->at[-1 - i], &OP_POISON, 4) != 0 ||
            memcmp(&b->at[b->n + i], &OP_POISON, 4) != 0)
            fail_msg("%s: wrote outside of %s", op, name);
}

static inline int op_count(const op_array *list)
{
    int n = 0;
    while (n < OP_ARRAYS && list[n].name)
        n++;
    return n;
}

static inline double op_random(const op_array *array, int64_t i)
{
    float x;
    fz_rng_normal(&x, fz_hash_text(array->name), i, 1);
    return (double)x * (array->spread > 0.0 ? array->spread : 1.0);
}

static inline bool op_is_input(op_role role)
{
    return role == OP_IN || role == OP_ADD || role == OP_INPLACE;
}

/* ---- shapes ---- */

static inline op_shape op_shape_part(const op_shape *s, int64_t first, int64_t end, int32_t *starts,
                                     int32_t *kv_starts)
{
    op_shape part = *s;
    for (int64_t b = first; b <= end; b++) {
        starts[b - first] = s->rows.start[b] - s->rows.start[first];
        kv_starts[b - first] = s->kv_start[b] - s->kv_start[first];
    }
    part.rows = (fz_rows){end - first, starts, s->rows.sample_n + first, s->rows.first};
    part.kv_start = kv_starts;
    part.N = starts[end - first];
    part.ids = s->ids + s->rows.start[first];
    return part;
}

typedef void (*op_shape_fn)(const op_shape *shape, void *context);

static inline void op_for_shapes(op_shape_fn visit, void *context)
{
    static const int32_t starts[][8] = {
        {0}, {0, 1}, {0, 2, 2, 5, 5}, {0, 1, 2, 3, 4, 5}, {0, 3, 19}};
    static const int32_t kv_starts[][8] = {
        {0}, {0, 3}, {0, 5, 9, 9, 10}, {0, 1, 3, 6, 10, 17}, {0, 17, 20}};
    static const int64_t n_seqs[] = {0, 1, 4, 5, 2}, widths[] = {1, 7, 16, 96, 509};
    static const int64_t sample_n[] = {7, 0, INT64_C(5000000000), 3, 12};
    static const double rates[] = {0.0, 0.3};
    int32_t ids[32];

    for (int i = 0; i < 32; i++)
        ids[i] = (i * 7 + 3) % 11 - 1; /* -1 .. 9, with repeats */
    for (int k = 0; k < 5; k++)
        for (int w = 0; w < 5; w++)
            for (int p = 0; p < 2; p++) {
                const op_shape shape = {
                    .ops = &fz_ops_cpu,
                    .N = starts[k][n_seqs[k]],
                    .C = widths[w],
                    .S = INT64_C(1) << (k % 4),
                    .rows = {n_seqs[k], starts[k], sample_n, w % 3 * 2},
                    .kv_start = kv_starts[k],
                    .ids = ids,
                    .dropout = {rates[p], 99, 4, w == 1 ? 5 : 8 * w},
                };
                visit(&shape, context);
            }
}

/* ---- backend against reference ---- */

typedef struct op_call {
    op_array list[OP_ARRAYS];
    int n;
    op_buffer buffer[OP_ARRAYS];
    double *expected[OP_ARRAYS]; /* what the reference made of it */
} op_call;

static inline void op_fill(op_call *call)
{
    for (int i = 0; i < call->n; i++) {
        const op_array *array = &call->list[i];
        op_poison(call->buffer[i].at, call->buffer[i].n);
        for (int64_t j = 0; op_is_input(array->role) && j < array->n; j++)
            call->buffer[i].at[j] = (float)op_random(array, j);
    }
}

static inline op_call op_call_new(const op_row *row, const op_shape *shape)
{
    op_call call = {.n = 0};
    row->arrays(shape, call.list);
    call.n = op_count(call.list);
    for (int i = 0; i < call.n; i++) {
        const op_array *array = &call.list[i];
        call.buffer[i] = op_buffer_new(array->n * (array->is_double ? 2 : 1));
        assert_int_equal(FZ_NEW(&call.expected[i], array->n), FZ_OK);
        for (int64_t j = 0; op_is_input(array->role) && j < array->n; j++)
            call.expected[i][j] = (double)(float)op_random(array, j);
    }
    op_fill(&call);
    return call;
}

static inline void op_call_free(op_call *call)
{
    for (int i = 0; i < call->n; i++) {
        fz_free(&call->buffer[i].block);
        fz_free(&call->expected[i]);
    }
}

static inline double op_value(const op_call *call, int i, int64_t j)
{
    if (!call->list[i].is_double) return (double)call->buffer[i].at[j];
    double x;
    memcpy(&x, call->buffer[i].at + 2 * j, sizeof x);
    return x;
}

static inline void op_compare(const op_row *row, const op_call *call, const op_shape *shape)
{
    for (int i = 0; i < call->n; i++) {
        const op_array *array = &call->list[i];
        if (array->role == OP_SCRATCH) continue;
        double largest = row->smallest > 0.0 ? row->smallest : 1e-3;
        for (int64_t j = 0; j < array->n; j++)
            if (isfinite(call->expected[i][j])) largest = fmax(largest, fabs(call->expected[i][j]));
        for (int64_t j = 0; j < array->n; j++) {
            const double want = call->expected[i][j], got = op_value(call, i, j);
            const double bound = array->role == OP_IN ? 0.0 : row->bound * largest;
            if (want != got && !(fabs(want - got) <= bound))
                fail_msg("%s: %s[%lld] is %.9g, not %.9g (N %lld, C %lld, p %g)", row->name,
                         array->name, (long long)j, got, want, (long long)shape->N,
                         (long long)shape->C, shape->dropout.p);
        }
    }
}

static inline void op_check_guards(const op_row *row, const op_call *call)
{
    for (int i = 0; i < call->n; i++)
        op_buffer_check_guards(&call->buffer[i], row->name, call->list[i].name);
}

static inline void op_run(const op_row *row, const op_shape *shape, op_call *call)
{
    float *a[OP_ARRAYS];
    for (int i = 0; i < call->n; i++)
        a[i] = call->buffer[i].at;
    row->backend(shape, a);
    op_check_guards(row, call);
}

/* Sequences [first, end) of the whole, on the same arrays. */
static inline void op_run_part(const op_row *row, const op_shape *shape, op_call *call,
                               int64_t first, int64_t end)
{
    int32_t starts[OP_MAX_SEQ], kv_starts[OP_MAX_SEQ];
    const op_shape part = op_shape_part(shape, first, end, starts, kv_starts);
    float *a[OP_ARRAYS];
    for (int i = 0; i < call->n; i++) {
        const int64_t skip =
            call->list[i].by_kv ? shape->kv_start[first] : shape->rows.start[first];
        a[i] = call->buffer[i].at + skip * call->list[i].row;
    }
    row->backend(&part, a);
    op_check_guards(row, call);
}

static inline void op_same_bits(const op_row *row, const op_call *whole, const op_call *other,
                                const char *how)
{
    for (int i = 0; i < whole->n; i++)
        if (whole->list[i].role != OP_SCRATCH &&
            memcmp(whole->buffer[i].at, other->buffer[i].at,
                   (size_t)whole->buffer[i].n * sizeof(float)) != 0)
            fail_msg("%s: %s has other bits %s", row->name, whole->list[i].name, how);
}

static inline void op_check_alias(const op_row *row, const op_shape *shape, const op_call *whole,
                                  int out, int in)
{
    op_call call = op_call_new(row, shape);
    float *a[OP_ARRAYS];
    for (int i = 0; i < call.n; i++)
        a[i] = call.buffer[i].at;
    memcpy(a[out], a[in], (size_t)call.buffer[in].n * sizeof(float));
    a[in] = a[out];
    row->backend(shape, a);
    op_same_bits(row, whole, &call, "in place");
    op_call_free(&call);
}

static inline void op_check_shape(const op_shape *shape, void *context)
{
    const op_row *row = context;
    op_call call = op_call_new(row, shape);
    op_run(row, shape, &call);
    row->reference(shape, call.expected);
    op_compare(row, &call, shape);

    for (int64_t cut = 1; row->by_rows && cut < shape->rows.n_seq; cut++) {
        op_call parts = op_call_new(row, shape);
        op_run_part(row, shape, &parts, 0, cut);
        op_run_part(row, shape, &parts, cut, shape->rows.n_seq);
        op_same_bits(row, &call, &parts, "when rows are cut elsewhere");
        op_call_free(&parts);
    }
    for (int k = 0; k < 2; k++)
        if (row->alias[k][0] != row->alias[k][1])
            op_check_alias(row, shape, &call, row->alias[k][0], row->alias[k][1]);
    op_call_free(&call);
}

static inline void op_check_table(const op_row *table, size_t n_rows)
{
    for (size_t i = 0; i < n_rows; i++)
        op_for_shapes(op_check_shape, (void *)(uintptr_t)&table[i]);
}

/* ---- gradients of the reference ---- */

typedef struct op_gradient {
    const op_row *forward, *backward;
    const op_shape *shape;
    op_array fwd[OP_ARRAYS], bwd[OP_ARRAYS];
    int n_fwd, n_bwd;
    double *a[OP_ARRAYS], *g[OP_ARRAYS]; /* of forward, of backward */
    double *dy[OP_ARRAYS];               /* incoming gradient of forward array i, or NULL */
} op_gradient;

static inline int op_find(const op_array *list, int n, const char *prefix, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strncmp(list[i].name, prefix, strlen(prefix)) == 0 &&
            strcmp(list[i].name + strlen(prefix), name) == 0)
            return i;
    return -1;
}

/* sum over outputs of dy * y, with input i's element j moved by step (i < 0: none) */
static inline double op_objective(op_gradient *x, int moved, int64_t at, double step)
{
    double sum = 0.0;
    for (int i = 0; i < x->n_fwd; i++)
        for (int64_t j = 0; j < x->fwd[i].n; j++)
            x->a[i][j] = op_is_input(x->fwd[i].role) ? op_random(&x->fwd[i], j) : 0.0;
    if (moved >= 0) x->a[moved][at] += step;
    x->forward->reference(x->shape, x->a);
    for (int i = 0; i < x->n_fwd; i++)
        for (int64_t j = 0; x->dy[i] && x->fwd[i].role != OP_IN && j < x->fwd[i].n; j++)
            sum += x->dy[i][j] * x->a[i][j];
    return sum;
}

static inline void op_run_backward(op_gradient *x)
{
    for (int i = 0; i < x->n_bwd; i++) {
        const op_array *array = &x->bwd[i];
        const int same = op_find(x->fwd, x->n_fwd, "", array->name);
        for (int64_t j = 0; j < array->n; j++)
            x->g[i][j] = same >= 0                                           ? x->a[same][j]
                         : array->role == OP_IN || array->role == OP_INPLACE ? op_random(array, j)
                                                                             : 0.0;
    }
    for (int i = 0; i < x->n_fwd; i++) {
        const int dy =
            x->fwd[i].role == OP_IN ? -1 : op_find(x->bwd, x->n_bwd, "d", x->fwd[i].name);
        x->dy[i] = NULL;
        if (dy < 0 || !(x->bwd[dy].role == OP_IN || x->bwd[dy].role == OP_INPLACE)) continue;
        assert_int_equal(FZ_NEW(&x->dy[i], x->bwd[dy].n), FZ_OK);
        memcpy(x->dy[i], x->g[dy], (size_t)x->bwd[dy].n * sizeof(double));
    }
    x->backward->reference(x->shape, x->g);
}

static inline void op_compare_gradients(op_gradient *x)
{
    const double step = 1e-5;
    int n_compared = 0;
    for (int i = 0; i < x->n_fwd; i++) {
        const int grad =
            op_is_input(x->fwd[i].role) ? op_find(x->bwd, x->n_bwd, "d", x->fwd[i].name) : -1;
        if (grad < 0 || x->bwd[grad].role == OP_IN) continue;
        const int64_t stride = x->fwd[i].n / 23 + 1; /* a sample of the elements */
        for (int64_t j = 0; j < x->fwd[i].n; j += stride, n_compared++) {
            const double slope =
                (op_objective(x, i, j, step) - op_objective(x, i, j, -step)) / (2.0 * step);
            if (!(fabs(slope - x->g[grad][j]) <= 1e-6 * (1.0 + fabs(slope))))
                fail_msg("%s: %s[%lld] is %.12g, differences say %.12g (N %lld, C %lld)",
                         x->backward->name, x->bwd[grad].name, (long long)j, x->g[grad][j], slope,
                         (long long)x->shape->N, (long long)x->shape->C);
        }
    }
    if (x->shape->N > 0) assert_true(n_compared > 0);
}

static inline void op_check_gradient_shape(const op_shape *shape, void *context)
{
    const op_row **rows = context;
    op_gradient x = {.forward = rows[0], .backward = rows[1], .shape = shape};
    if (shape->C > 100) return; /* differences are quadratic in the size */
    x.forward->arrays(shape, x.fwd);
    x.backward->arrays(shape, x.bwd);
    x.n_fwd = op_count(x.fwd);
    x.n_bwd = op_count(x.bwd);
    for (int i = 0; i < x.n_fwd; i++)
        assert_int_equal(FZ_NEW(&x.a[i], x.fwd[i].n), FZ_OK);
    for (int i = 0; i < x.n_bwd; i++)
        assert_int_equal(FZ_NEW(&x.g[i], x.bwd[i].n), FZ_OK);

    (void)op_objective(&x, -1, 0, 0.0); /* outputs that the backward reads */
    op_run_backward(&x);
    op_compare_gradients(&x);
    for (int i = 0; i < x.n_fwd; i++) {
        fz_free(&x.a[i]);
        fz_free(&x.dy[i]);
    }
    for (int i = 0; i < x.n_bwd; i++)
        fz_free(&x.g[i]);
}

static inline void op_check_gradient(const op_row *forward, const op_row *backward)
{
    const op_row *rows[2] = {forward, backward};
    op_for_shapes(op_check_gradient_shape, rows);
}

/* The sum over tokens of design.md 5, written out for one column: S segments in row order, then
 * neighbours, neighbours of neighbours, ... For tests of the order, on numbers of wide range. */
static inline float op_token_sum(const float *x, int64_t N, int64_t S)
{
    float leaf[16] = {0};
    assert_true(S <= 16);
    for (int64_t s = 0; s < S; s++)
        for (int64_t r = s * N / S; r < (s + 1) * N / S; r++)
            leaf[s] += x[r];
    for (int64_t n = S; n > 1; n /= 2)
        for (int64_t i = 0; i < n / 2; i++)
            leaf[i] = leaf[2 * i] + leaf[2 * i + 1];
    return leaf[0];
}

/* Numbers of 2^-12 .. 2^12 in size: sums of them tell orders apart. */
static inline float op_wide_number(const char *name, int64_t i)
{
    float x[2];
    fz_rng_normal(x, fz_hash_text(name), 2 * i, 2);
    return ldexpf(x[0], (int)(6.0f * x[1]));
}

/* want and got, element by element */
static inline void op_assert_close(const double *got, const double *want, int n, double bound)
{
    for (int i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= bound))
            fail_msg("element %d is %.12g, not %.12g", i, got[i], want[i]);
}

#endif
