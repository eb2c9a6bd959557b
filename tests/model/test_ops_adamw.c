/* AdamW and the sums of squares. */
#include "model/ops/adamw.h"
#include "op_table.h"

static const fz_adamw_args SETTINGS = {.lr = 1e-2f,
                                       .beta1 = 0.9f,
                                       .beta2 = 0.999f,
                                       /* large, so that its place shows */
                                       .eps = 0.125f,
                                       .weight_decay = 0.1f,
                                       .correction1 = 0.19f,
                                       .correction2 = 0.001999f,
                                       .grad_scale = 0.5f};

static void arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("w", OP_INPLACE, s->N * s->C, s->C);
    list[1] = op_make("m", OP_INPLACE, s->N * s->C, s->C);
    list[2] = op_make("v", OP_INPLACE, s->N * s->C, s->C);
    list[3] = op_make("g", OP_IN, s->N * s->C, s->C);
}
static void update(const op_shape *s, float **a)
{
    fz_adamw_args args = SETTINGS;
    args.w = a[0];
    args.m = a[1];
    args.v = a[2];
    args.g = a[3];
    args.n = s->N * s->C;
    for (int64_t i = 0; i < args.n; i++)
        a[2][i] = 0.1f + fabsf(a[2][i]); /* a moment of squares is positive */
    assert_ok(s->ops->adamw(&args, NULL));
}
static void update_ref(const op_shape *s, double **a)
{
    fz_adamw_args args = SETTINGS;
    args.n = s->N * s->C;
    for (int64_t i = 0; i < args.n; i++)
        a[2][i] = (double)0.1f + fabs(a[2][i]);
    fz_adamw_ref(a[0], a[1], a[2], a[3], &args);
}

static void sumsq_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("sums", OP_OUT, (s->N * s->C + 1023) / 1024, 0);
    list[0].is_double = true;
    list[1] = op_make("x", OP_IN, s->N * s->C, s->C);
}
static void sumsq(const op_shape *s, float **a)
{
    assert_ok(s->ops->sumsq_chunks((double *)(void *)a[0], a[1], s->N * s->C, NULL));
}
static void sumsq_ref(const op_shape *s, double **a)
{
    fz_sumsq_chunks_ref(a[0], a[1], s->N * s->C);
}

static const op_row TABLE[] = {
    {"adamw", arrays, update, update_ref, 1e-6, true, {{0}}, 0.0},
    {"sumsq_chunks", sumsq_arrays, sumsq, sumsq_ref, 1e-14, false, {{0}}, 0.0},
};

static void backend_agrees_with_the_reference(void **state)
{
    (void)state;
    op_check_table(TABLE, 2);
}

static void references_agree_with_values_by_hand(void **state)
{
    (void)state;
    double w = 1.0, m = 0.0, v = 0.0;
    const double g = 4.0;
    const fz_adamw_args args = {.n = 1,
                                .lr = 0.5f,
                                .beta1 = 0.5f,
                                .beta2 = 0.75f,
                                .eps = 0.0f,
                                .weight_decay = 0.25f,
                                .correction1 = 0.5f,
                                .correction2 = 0.25f,
                                .grad_scale = 0.5f};
    fz_adamw_ref(&w, &m, &v, &g, &args); /* g' 2: m 1, v 1; the step is lr * 2 / 2 */
    assert_true(m == 1.0 && v == 1.0);
    op_assert_close(&w, (const double[]){1.0 - 0.5 * 0.25 - 0.5}, 1, 1e-15);
    double x[1025], sums[2];
    for (int i = 0; i < 1025; i++)
        x[i] = 2.0;
    fz_sumsq_chunks_ref(sums, x, 1025);
    assert_true(sums[0] == 4096.0 && sums[1] == 4.0);
}

/* A first step moves every weight by the learning rate, whatever the gradient's size. */
static void first_step_has_the_size_of_the_learning_rate(void **state)
{
    (void)state;
    float w[3] = {1, 1, 1}, m[3] = {0}, v[3] = {0};
    const float g[3] = {1e-3f, -5.0f, 1e4f};
    const fz_adamw_args args = {
        w, m, v, g, 3, 0.01f, 0.9f, 0.999f, 1e-12f, 0.0f, 1.0f - 0.9f, 1.0f - 0.999f, 1.0f};
    assert_ok(fz_ops_cpu.adamw(&args, NULL));
    const double moved[3] = {(double)w[0], (double)w[1], (double)w[2]};
    op_assert_close(moved, (const double[]){0.99, 1.01, 0.99}, 3, 1e-6);
}

/* A chunk's sum does not depend on the chunks around it. */
static void sums_of_squares_are_the_same_from_any_chunk_on(void **state)
{
    (void)state;
    static float x[5000];
    double all[5], tail[4];
    for (int i = 0; i < 5000; i++)
        x[i] = 1.0f / (float)(i + 1);
    assert_ok(fz_ops_cpu.sumsq_chunks(all, x, 5000, NULL));
    assert_ok(fz_ops_cpu.sumsq_chunks(tail, x + 1024, 5000 - 1024, NULL));
    assert_memory_equal(all + 1, tail, sizeof tail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_agree_with_values_by_hand),
        cmocka_unit_test(backend_agrees_with_the_reference),
        cmocka_unit_test(first_step_has_the_size_of_the_learning_rate),
        cmocka_unit_test(sums_of_squares_are_the_same_from_any_chunk_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
