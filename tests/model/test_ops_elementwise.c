/* Element-wise ops and the bias. */
#include "model/ops/elementwise.h"

#include "op_table.h"

static void one_array(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_INPLACE, s->N * s->C, s->C);
}
static void written_array(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_OUT, s->N * s->C, s->C);
}
static void written_and_read(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("x", OP_IN, s->N * s->C, s->C);
}
static void changed_and_read(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_INPLACE, s->N * s->C, s->C);
    list[1] = op_make("x", OP_IN, s->N * s->C, s->C);
}

static void zero(const op_shape *s, float **a)
{
    assert_ok(s->ops->zero(a[0], s->N * s->C, NULL));
}
static void zero_ref(const op_shape *s, double **a)
{
    fz_zero_ref(a[0], s->N * s->C);
}
static void copy(const op_shape *s, float **a)
{
    assert_ok(s->ops->copy(a[0], a[1], s->N * s->C, NULL));
}
static void copy_ref(const op_shape *s, double **a)
{
    fz_copy_ref(a[0], a[1], s->N * s->C);
}
static void add(const op_shape *s, float **a)
{
    assert_ok(s->ops->add(a[0], a[1], s->N * s->C, NULL));
}
static void add_ref(const op_shape *s, double **a)
{
    fz_add_ref(a[0], a[1], s->N * s->C);
}
static void scale(const op_shape *s, float **a)
{
    assert_ok(s->ops->scale(a[0], -0.75f, s->N * s->C, NULL));
}
static void scale_ref(const op_shape *s, double **a)
{
    fz_scale_ref(a[0], -0.75, s->N * s->C);
}

/* Rows lie 3 floats further apart than they are wide; the gaps must stay. */
static int64_t stride(const op_shape *s)
{
    return s->C + 3;
}
static void bias_add_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_INPLACE, s->N * stride(s), stride(s));
    list[1] = op_make("b", OP_IN, s->C, 0);
}
static void bias_add(const op_shape *s, float **a)
{
    assert_ok(s->ops->bias_add(a[0], a[1], s->N, s->C, stride(s), NULL));
}
static void bias_add_ref(const op_shape *s, double **a)
{
    fz_bias_add_ref(a[0], a[1], s->N, s->C, stride(s));
}
static void bias_backward_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("db", OP_ADD, s->C, 0);
    list[1] = op_make("dy", OP_IN, s->N * stride(s), stride(s));
    list[2] = op_make("work", OP_SCRATCH, s->S * s->C, 0);
}
static void bias_backward(const op_shape *s, float **a)
{
    assert_ok(s->ops->bias_backward(a[0], a[1], s->N, s->C, stride(s), s->S, a[2], NULL));
}
static void bias_backward_ref(const op_shape *s, double **a)
{
    fz_bias_backward_ref(a[0], a[1], s->N, s->C, stride(s));
}

static const op_row TABLE[] = {
    {"zero", written_array, zero, zero_ref, 0.0, true, {{0}}, 0.0},
    {"copy", written_and_read, copy, copy_ref, 0.0, true, {{0}}, 0.0},
    {"add", changed_and_read, add, add_ref, 1e-7, true, {{0}}, 0.0},
    {"scale", one_array, scale, scale_ref, 1e-7, true, {{0}}, 0.0},
    {"bias_add", bias_add_arrays, bias_add, bias_add_ref, 1e-7, true, {{0}}, 0.0},
    {"bias_backward",
     bias_backward_arrays,
     bias_backward,
     bias_backward_ref,
     1e-6,
     false,
     {{0}},
     0.0},
};

static void backend_agrees_with_the_reference(void **state)
{
    (void)state;
    op_check_table(TABLE, sizeof TABLE / sizeof *TABLE);
}

static void bias_gradient_is_the_derivative(void **state)
{
    (void)state;
    op_check_gradient(&TABLE[4], &TABLE[5]);
}

static void references_agree_with_values_by_hand(void **state)
{
    (void)state;
    double y[] = {1, 2, -9, 3, 4, -9}, db[] = {10, 20};
    const double b[] = {0.5, -1};
    fz_bias_add_ref(y, b, 2, 2, 3);
    op_assert_close(y, (const double[]){1.5, 1, -9, 3.5, 3, -9}, 6, 0.0);
    fz_bias_backward_ref(db, y, 2, 2, 3);
    op_assert_close(db, (const double[]){15, 24}, 2, 0.0);
    fz_add_ref(db, b, 2);
    fz_scale_ref(db, 2.0, 2);
    op_assert_close(db, (const double[]){31, 46}, 2, 0.0);
    fz_copy_ref(y, b, 2);
    fz_zero_ref(y + 1, 1);
    op_assert_close(y, (const double[]){0.5, 0, -9}, 3, 0.0);
}

static void token_sums_follow_the_segments_and_the_tree(void **state)
{
    (void)state;
    enum { C = 21 };
    float dy[43 * C], column[43], db[C], work[8 * C];
    for (int i = 0; i < 43 * C; i++)
        dy[i] = op_wide_number("dy", i);
    for (int64_t N = 0; N <= 43; N++)
        for (int64_t S = 1; S <= 8; S *= 2) {
            memset(db, 0, sizeof db);
            assert_ok(fz_ops_cpu.bias_backward(db, dy, N, C, C, S, work, NULL));
            for (int c = 0; c < C; c++) {
                for (int64_t r = 0; r < N; r++)
                    column[r] = dy[r * C + c];
                assert_true(db[c] == op_token_sum(column, N, S));
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_agree_with_values_by_hand),
        cmocka_unit_test(backend_agrees_with_the_reference),
        cmocka_unit_test(bias_gradient_is_the_derivative),
        cmocka_unit_test(token_sums_follow_the_segments_and_the_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
