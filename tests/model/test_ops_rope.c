/* Rotary positions. */
#include "model/ops/rope.h"
#include "op_table.h"

enum { HEADS = 3 };

/* Head dimension: even, from the width; rows 5 floats further apart than they are wide. */
static int64_t head_dim(const op_shape *s)
{
    return (s->C + 1) / 2 * 2;
}
static int64_t stride(const op_shape *s)
{
    return HEADS * head_dim(s) + 5;
}
static void arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("x", OP_INPLACE, s->N * stride(s), stride(s));
}
static void gradient_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("dx", OP_INPLACE, s->N * stride(s), stride(s));
}
static void forward(const op_shape *s, float **a)
{
    assert_ok(s->ops->rope(a[0], &s->rows, HEADS, head_dim(s), stride(s), 10000.0, false, NULL));
}
static void forward_ref(const op_shape *s, double **a)
{
    fz_rope_ref(a[0], &s->rows, HEADS, head_dim(s), stride(s), 10000.0, false);
}
static void inverse(const op_shape *s, float **a)
{
    assert_ok(s->ops->rope(a[0], &s->rows, HEADS, head_dim(s), stride(s), 10000.0, true, NULL));
}
static void inverse_ref(const op_shape *s, double **a)
{
    fz_rope_ref(a[0], &s->rows, HEADS, head_dim(s), stride(s), 10000.0, true);
}

static const op_row TABLE[] = {
    {"rope", arrays, forward, forward_ref, 3e-7, true, {{0}}, 0.0},
    {"rope inverse", gradient_arrays, inverse, inverse_ref, 3e-7, true, {{0}}, 0.0},
};

static void backend_agrees_with_the_reference(void **state)
{
    (void)state;
    op_check_table(TABLE, 2);
}

static void inverse_is_the_gradient(void **state)
{
    (void)state;
    op_check_gradient(&TABLE[0], &TABLE[1]);
}

static void reference_agrees_with_values_by_hand(void **state)
{
    (void)state;
    const int32_t start[] = {0, 2};
    const int64_t n = 0;
    const fz_rows rows = {1, start, &n, 0};
    double x[] = {1, 2, 3, 4, 1, 2, 0, 0};
    /* position 1, head_dim 4, theta 100: angles 1 and 0.1; pairs (0,2) and (1,3) */
    fz_rope_ref(x, &rows, 1, 4, 4, 100.0, false);
    const double want[] = {1, 2, 3, 4, cos(1), 2 * cos(0.1), sin(1), 2 * sin(0.1)};
    op_assert_close(x, want, 8, 1e-15);
}

static void far_positions_keep_their_accuracy(void **state)
{
    (void)state;
    enum { LONG = 8192 };
    static float x[LONG * 8];
    static double expected[LONG * 8];
    const int32_t start[] = {0, LONG};
    const int64_t n = 0;
    const fz_rows rows = {1, start, &n, 0};
    for (int i = 0; i < LONG * 8; i++)
        expected[i] = (double)(x[i] = (float)(i % 8) - 3.0f);
    assert_ok(fz_ops_cpu.rope(x, &rows, 1, 8, 8, 10000.0, false, NULL));
    fz_rope_ref(expected, &rows, 1, 8, 8, 10000.0, false);
    for (int i = 0; i < LONG * 8; i++)
        assert_true(fabs((double)x[i] - expected[i]) < 1e-6);
}

static void odd_head_dimensions_are_refused(void **state)
{
    (void)state;
    const int32_t start[] = {0, 1};
    const int64_t n = 0;
    const fz_rows rows = {1, start, &n, 0};
    float x[8] = {0};
    assert_fails(fz_ops_cpu.rope(x, &rows, 1, 7, 8, 1e4, false, NULL), FZ_ERR_ARG, "head_dim 7");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_agrees_with_values_by_hand),
        cmocka_unit_test(backend_agrees_with_the_reference),
        cmocka_unit_test(inverse_is_the_gradient),
        cmocka_unit_test(far_positions_keep_their_accuracy),
        cmocka_unit_test(odd_head_dimensions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
