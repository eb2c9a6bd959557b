/* Soft-capped cross-entropy by vocabulary shards. */
#include "model/ops/cross_entropy.h"
#include "op_table.h"

/* Columns of the shard: the width; the last quarter is padding; first column of the vocabulary 2.
 * Labels are the ids of op_for_shapes (-1 .. 9): none, in the shard, outside, in the padding. */
enum { FIRST = 2 };
#define CAP 3.0f

static int64_t n_valid(const op_shape *s)
{
    return s->C - s->C / 4;
}

static void max_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("z", OP_INPLACE, s->N * s->C, s->C);
    list[1] = op_make("max", OP_OUT, s->N, 1);
    list[2] = op_make("target", OP_OUT, s->N, 1);
    list[0].spread = 4.0;
}
static void max_capped(const op_shape *s, float **a)
{
    assert_ok(s->ops->ce_max(a[0], a[1], a[2], s->ids, s->N, s->C, FIRST, n_valid(s), CAP, NULL));
}
static void max_capped_ref(const op_shape *s, double **a)
{
    fz_ce_max_ref(a[0], a[1], a[2], s->ids, s->N, s->C, FIRST, n_valid(s), (double)CAP);
}
static void max_plain(const op_shape *s, float **a)
{
    assert_ok(s->ops->ce_max(a[0], a[1], a[2], s->ids, s->N, s->C, FIRST, n_valid(s), 0.0f, NULL));
}
static void max_plain_ref(const op_shape *s, double **a)
{
    fz_ce_max_ref(a[0], a[1], a[2], s->ids, s->N, s->C, FIRST, n_valid(s), 0.0);
}

static void sum_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("sum", OP_OUT, s->N, 1);
    list[1] = op_make("z", OP_IN, s->N * s->C, s->C);
    list[2] = op_make("max", OP_IN, s->N, 1);
}
static void sum(const op_shape *s, float **a)
{
    assert_ok(s->ops->ce_sum(a[0], a[1], a[2], s->N, s->C, n_valid(s), NULL));
}
static void sum_ref(const op_shape *s, double **a)
{
    fz_ce_sum_ref(a[0], a[1], a[2], s->N, s->C, n_valid(s));
}

/* |max| + 1 as a sum, which must be positive */
static void loss_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("loss", OP_OUT, s->N, 1);
    list[1] = op_make("sum", OP_INPLACE, s->N, 1);
    list[2] = op_make("max", OP_IN, s->N, 1);
    list[3] = op_make("target", OP_IN, s->N, 1);
}
static void loss(const op_shape *s, float **a)
{
    for (int64_t r = 0; r < s->N; r++)
        a[1][r] = 1.0f + fabsf(a[1][r]);
    assert_ok(s->ops->ce_loss(a[0], a[1], a[2], a[3], s->ids, s->N, NULL));
}
static void loss_ref(const op_shape *s, double **a)
{
    for (int64_t r = 0; r < s->N; r++)
        a[1][r] = 1.0 + fabs(a[1][r]);
    fz_ce_loss_ref(a[0], a[1], a[2], a[3], s->ids, s->N);
}

static void backward_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("z", OP_INPLACE, s->N * s->C, s->C);
    list[1] = op_make("max", OP_IN, s->N, 1);
    list[2] = op_make("sum", OP_INPLACE, s->N, 1);
}
static void backward(const op_shape *s, float **a)
{
    for (int64_t r = 0; r < s->N; r++)
        a[2][r] = 1.0f + fabsf(a[2][r]);
    assert_ok(s->ops->ce_backward(a[0], a[1], a[2], s->ids, s->N, s->C, FIRST, n_valid(s), CAP,
                                  0.125f, NULL));
}
static void backward_ref(const op_shape *s, double **a)
{
    for (int64_t r = 0; r < s->N; r++)
        a[2][r] = 1.0 + fabs(a[2][r]);
    fz_ce_backward_ref(a[0], a[1], a[2], s->ids, s->N, s->C, FIRST, n_valid(s), (double)CAP, 0.125);
}
static void backward_plain(const op_shape *s, float **a)
{
    for (int64_t r = 0; r < s->N; r++)
        a[2][r] = 1.0f + fabsf(a[2][r]);
    assert_ok(s->ops->ce_backward(a[0], a[1], a[2], s->ids, s->N, s->C, FIRST, n_valid(s), -1.0f,
                                  0.125f, NULL));
}
static void backward_plain_ref(const op_shape *s, double **a)
{
    for (int64_t r = 0; r < s->N; r++)
        a[2][r] = 1.0 + fabs(a[2][r]);
    fz_ce_backward_ref(a[0], a[1], a[2], s->ids, s->N, s->C, FIRST, n_valid(s), -1.0, 0.125);
}

/* The three forward calls as one op from logits to losses, and its gradient; labels are taken
 * into the valid columns, since a label elsewhere belongs to another shard's sum. */
static void labels_of(const op_shape *s, int32_t labels[32])
{
    for (int64_t r = 0; r < s->N; r++)
        labels[r] = s->ids[r] < 0 ? -1 : FIRST + (int32_t)(s->ids[r] % n_valid(s));
}
static void chain_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("loss", OP_OUT, s->N, 1);
    list[1] = op_make("logits", OP_INPLACE, s->N * s->C, s->C);
    list[2] = op_make("max", OP_OUT, s->N, 1);
    list[3] = op_make("sum", OP_OUT, s->N, 1);
    list[4] = op_make("target", OP_OUT, s->N, 1);
}
static void chain_ref(const op_shape *s, double **a)
{
    int32_t labels[32];
    labels_of(s, labels);
    fz_ce_max_ref(a[1], a[2], a[4], labels, s->N, s->C, FIRST, n_valid(s), (double)CAP);
    fz_ce_sum_ref(a[3], a[1], a[2], s->N, s->C, n_valid(s));
    fz_ce_loss_ref(a[0], a[3], a[2], a[4], labels, s->N);
}
static void chain_backward_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("dlogits", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("dloss", OP_IN, s->N, 1);
    list[2] = op_make("logits", OP_IN, s->N * s->C, s->C);
    list[3] = op_make("max", OP_IN, s->N, 1);
    list[4] = op_make("sum", OP_IN, s->N, 1);
}
static void chain_backward_ref(const op_shape *s, double **a)
{
    int32_t labels[32];
    labels_of(s, labels);
    memcpy(a[0], a[2], (size_t)(s->N * s->C) * sizeof(double));
    for (int64_t r = 0; r < s->N; r++) /* one row at a time: dloss is the factor */
        fz_ce_backward_ref(a[0] + r * s->C, a[3] + r, a[4] + r, labels + r, 1, s->C, FIRST,
                           n_valid(s), (double)CAP, a[1][r]);
}

static const op_row TABLE[] = {
    {"ce_max", max_arrays, max_capped, max_capped_ref, 1e-6, true, {{0}}, 0.0},
    {"ce_max without a cap", max_arrays, max_plain, max_plain_ref, 0.0, true, {{0}}, 0.0},
    {"ce_sum", sum_arrays, sum, sum_ref, 2e-6, true, {{0}}, 0.0},
    {"ce_loss", loss_arrays, loss, loss_ref, 5e-7, true, {{0}}, 0.0},
    {"ce_backward", backward_arrays, backward, backward_ref, 2e-6, true, {{0}}, 0.0},
    {"ce_backward without a cap",
     backward_arrays,
     backward_plain,
     backward_plain_ref,
     2e-6,
     true,
     {{0}},
     0.0},
};
static const op_row CHAIN = {"loss", chain_arrays, NULL, chain_ref, 0.0, false, {{0}}, 0.0};
static const op_row CHAIN_BACKWARD = {
    "loss backward", chain_backward_arrays, NULL, chain_backward_ref, 0.0, false, {{0}}, 0.0};

static void backend_agrees_with_the_reference(void **state)
{
    (void)state;
    op_check_table(TABLE, sizeof TABLE / sizeof *TABLE);
}

static void gradient_is_the_derivative(void **state)
{
    (void)state;
    op_check_gradient(&CHAIN, &CHAIN_BACKWARD);
}

static void references_agree_with_values_by_hand(void **state)
{
    (void)state;
    double z[] = {0.0, 0.6931471805599453, 5.0}, max, target, total, value; /* 0, log 2, padding */
    const int32_t label[] = {1};
    fz_ce_max_ref(z, &max, &target, label, 1, 3, 0, 2, 0.0);
    fz_ce_sum_ref(&total, z, &max, 1, 3, 2);
    fz_ce_loss_ref(&value, &total, &max, &target, label, 1); /* probability 2/3 */
    op_assert_close(&value, (const double[]){0.4054651081081644}, 1, 1e-14);
    fz_ce_backward_ref(z, &max, &total, label, 1, 3, 0, 2, 0.0, 3.0);
    op_assert_close(z, (const double[]){1.0, -1.0, 0.0}, 3, 1e-14);
    double capped[] = {2.0};
    fz_ce_max_ref(capped, &max, &target, label, 1, 1, 1, 1, 2.0);
    op_assert_close(&max, (const double[]){1.5231883119115297}, 1, 1e-14); /* 2 tanh 1 */
    op_assert_close(&target, &max, 1, 0.0);
}

static void shard_of_padding_alone_adds_nothing(void **state)
{
    (void)state;
    float z[3] = {1, 2, 3}, max, target, total;
    const float global_max = 4.0f, global_sum = 2.0f;
    const int32_t label[] = {0};
    assert_ok(fz_ops_cpu.ce_max(z, &max, &target, label, 1, 3, 6, 0, 30.0f, NULL));
    assert_true(isinf(max) && max < 0.0f && target == 0.0f);
    assert_ok(fz_ops_cpu.ce_sum(&total, z, &global_max, 1, 3, 0, NULL));
    assert_true(total == 0.0f);
    assert_ok(
        fz_ops_cpu.ce_backward(z, &global_max, &global_sum, label, 1, 3, 6, 0, 30.0f, 1.0f, NULL));
    assert_true(z[0] == 0.0f && z[1] == 0.0f && z[2] == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_agree_with_values_by_hand),
        cmocka_unit_test(backend_agrees_with_the_reference),
        cmocka_unit_test(gradient_is_the_derivative),
        cmocka_unit_test(shard_of_padding_alone_adds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
