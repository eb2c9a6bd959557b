/* GELU and the gated GELU. */
#include "model/ops/geglu.h"
#include "model/ops/gelu.h"
#include "op_table.h"

static void gelu_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("h", OP_INPLACE, s->N * s->C, s->C);
    list[2] = op_make("bias", OP_IN, s->C, 0);
    list[1].spread = 2.0;
}
static void gelu(const op_shape *s, float **a)
{
    assert_ok(s->ops->gelu_forward(a[0], a[1], a[2], &s->rows, s->C, &s->dropout, NULL));
}
static void gelu_ref(const op_shape *s, double **a)
{
    fz_gelu_forward_ref(a[0], a[1], a[2], &s->rows, s->C, &s->dropout);
}
static void gelu_no_bias(const op_shape *s, float **a)
{
    assert_ok(s->ops->gelu_forward(a[0], a[1], NULL, &s->rows, s->C, &s->dropout, NULL));
}
static void gelu_no_bias_ref(const op_shape *s, double **a)
{
    fz_gelu_forward_ref(a[0], a[1], NULL, &s->rows, s->C, &s->dropout);
}
static void gelu_backward_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("dh", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("dy", OP_IN, s->N * s->C, s->C);
    list[2] = op_make("h", OP_IN, s->N * s->C, s->C);
    list[2].spread = 2.0;
}
static void gelu_backward(const op_shape *s, float **a)
{
    assert_ok(s->ops->gelu_backward(a[0], a[1], a[2], &s->rows, s->C, &s->dropout, NULL));
}
static void gelu_backward_ref(const op_shape *s, double **a)
{
    fz_gelu_backward_ref(a[0], a[1], a[2], &s->rows, s->C, &s->dropout);
}

static void geglu_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("gate", OP_IN, s->N * s->C, s->C);
    list[2] = op_make("up", OP_IN, s->N * s->C, s->C);
}
static void geglu(const op_shape *s, float **a)
{
    assert_ok(s->ops->geglu_forward(a[0], a[1], a[2], s->N * s->C, NULL));
}
static void geglu_ref(const op_shape *s, double **a)
{
    fz_geglu_forward_ref(a[0], a[1], a[2], s->N * s->C);
}
static void geglu_backward_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("dgate", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("dup", OP_OUT, s->N * s->C, s->C);
    list[2] = op_make("dy", OP_IN, s->N * s->C, s->C);
    list[3] = op_make("gate", OP_IN, s->N * s->C, s->C);
    list[4] = op_make("up", OP_IN, s->N * s->C, s->C);
}
static void geglu_backward(const op_shape *s, float **a)
{
    assert_ok(s->ops->geglu_backward(a[0], a[1], a[2], a[3], a[4], s->N * s->C, NULL));
}
static void geglu_backward_ref(const op_shape *s, double **a)
{
    fz_geglu_backward_ref(a[0], a[1], a[2], a[3], a[4], s->N * s->C);
}

static const op_row TABLE[] = {
    {"gelu_forward", gelu_arrays, gelu, gelu_ref, 6e-7, true, {{0}}, 1.0},
    {"gelu_forward without bias",
     gelu_arrays,
     gelu_no_bias,
     gelu_no_bias_ref,
     6e-7,
     true,
     {{0}},
     1.0},
    {"gelu_backward",
     gelu_backward_arrays,
     gelu_backward,
     gelu_backward_ref,
     1e-6,
     true,
     {{0, 1}},
     1.0},
    {"geglu_forward", geglu_arrays, geglu, geglu_ref, 1e-6, true, {{0}}, 0.0},
    {"geglu_backward",
     geglu_backward_arrays,
     geglu_backward,
     geglu_backward_ref,
     1e-6,
     true,
     {{0}},
     0.0},
};

static void backend_agrees_with_the_reference(void **state)
{
    (void)state;
    op_check_table(TABLE, sizeof TABLE / sizeof *TABLE);
}

static void gradients_are_the_derivatives(void **state)
{
    (void)state;
    op_check_gradient(&TABLE[0], &TABLE[2]);
    op_check_gradient(&TABLE[1], &TABLE[2]);
    op_check_gradient(&TABLE[3], &TABLE[4]);
}

static void references_agree_with_values_by_hand(void **state)
{
    (void)state;
    const int32_t start[] = {0, 1};
    const int64_t n = 0;
    const fz_rows rows = {1, start, &n, 0};
    const fz_dropout none = {.p = 0.0};
    double h[] = {0.5, -2.0, 0.0}, y[3];
    const double bias[] = {0.5, 0.0, 0.0};
    /* Phi(1) = 0.8413447460685429, Phi(-2) = 0.02275013194817921 */
    fz_gelu_forward_ref(y, h, bias, &rows, 3, &none);
    op_assert_close(y, (const double[]){0.8413447460685429, -0.04550026389635842, 0.0}, 3, 1e-14);
    op_assert_close(h, (const double[]){1.0, -2.0, 0.0}, 3, 0.0);
    const double gate[] = {1.0, 0.0}, up[] = {2.0, 3.0};
    fz_geglu_forward_ref(y, gate, up, 2); /* tanh(0.797884... * 1.044715) = 0.6823839... */
    op_assert_close(y, (const double[]){2.0 * 0.8411919906082768, 0.0}, 2, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_agree_with_values_by_hand),
        cmocka_unit_test(backend_agrees_with_the_reference),
        cmocka_unit_test(gradients_are_the_derivatives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
