/* Dropout and stochastic depth. */
#include "model/ops/dropout.h"

#include "op_table.h"

static void drop_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("x", OP_IN, s->N * s->C, s->C);
    list[2] = op_make("bias", OP_IN, s->C, 0);
}
static void dropout(const op_shape *s, float **a)
{
    assert_ok(s->ops->dropout(a[0], a[1], a[2], &s->rows, s->C, &s->dropout, NULL));
}
static void dropout_ref(const op_shape *s, double **a)
{
    fz_dropout_ref(a[0], a[1], a[2], &s->rows, s->C, &s->dropout);
}
static void dropout_no_bias(const op_shape *s, float **a)
{
    assert_ok(s->ops->dropout(a[0], a[1], NULL, &s->rows, s->C, &s->dropout, NULL));
}
static void dropout_no_bias_ref(const op_shape *s, double **a)
{
    fz_dropout_ref(a[0], a[1], NULL, &s->rows, s->C, &s->dropout);
}

static void drop_backward_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("dx", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("dy", OP_IN, s->N * s->C, s->C);
}

static void residual_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("x", OP_IN, s->N * s->C, s->C);
    list[2] = op_make("r", OP_IN, s->N * s->C, s->C);
    list[3] = op_make("bias", OP_IN, s->C, 0);
}
static void residual(const op_shape *s, float **a)
{
    assert_ok(s->ops->dropout_residual(a[0], a[1], a[2], a[3], &s->rows, s->C, &s->dropout, NULL));
}
static void residual_ref(const op_shape *s, double **a)
{
    fz_dropout_residual_ref(a[0], a[1], a[2], a[3], &s->rows, s->C, &s->dropout);
}
static void residual_no_bias(const op_shape *s, float **a)
{
    assert_ok(s->ops->dropout_residual(a[0], a[1], a[2], NULL, &s->rows, s->C, &s->dropout, NULL));
}
static void residual_no_bias_ref(const op_shape *s, double **a)
{
    fz_dropout_residual_ref(a[0], a[1], a[2], NULL, &s->rows, s->C, &s->dropout);
}

/* Samples are the sequences, each of 3 rows; row counts of the arrays are 3 per sequence. */
static void path_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    const int64_t n = s->rows.n_seq * 3 * s->C;
    list[0] = op_make("y", OP_OUT, n, 0);
    list[1] = op_make("x", OP_IN, n, 0);
    list[2] = op_make("r", OP_IN, n, 0);
    list[3] = op_make("bias", OP_IN, s->C, 0);
}
static void path(const op_shape *s, float **a)
{
    assert_ok(s->ops->drop_path_residual(a[0], a[1], a[2], a[3], s->rows.n_seq, 3, s->C,
                                         s->rows.sample_n, &s->dropout, NULL));
}
static void path_ref(const op_shape *s, double **a)
{
    fz_drop_path_residual_ref(a[0], a[1], a[2], a[3], s->rows.n_seq, 3, s->C, s->rows.sample_n,
                              &s->dropout);
}
static void path_no_bias(const op_shape *s, float **a)
{
    assert_ok(s->ops->drop_path_residual(a[0], a[1], a[2], NULL, s->rows.n_seq, 3, s->C,
                                         s->rows.sample_n, &s->dropout, NULL));
}
static void path_no_bias_ref(const op_shape *s, double **a)
{
    fz_drop_path_residual_ref(a[0], a[1], a[2], NULL, s->rows.n_seq, 3, s->C, s->rows.sample_n,
                              &s->dropout);
}
static void path_backward_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("dr", OP_OUT, s->rows.n_seq * 3 * s->C, 0);
    list[1] = op_make("dy", OP_IN, s->rows.n_seq * 3 * s->C, 0);
}
static void path_backward(const op_shape *s, float **a)
{
    assert_ok(
        s->ops->drop_path(a[0], a[1], s->rows.n_seq, 3, s->C, s->rows.sample_n, &s->dropout, NULL));
}
static void path_backward_ref(const op_shape *s, double **a)
{
    fz_drop_path_ref(a[0], a[1], s->rows.n_seq, 3, s->C, s->rows.sample_n, &s->dropout);
}

static const op_row TABLE[] = {
    {"dropout", drop_arrays, dropout, dropout_ref, 3e-7, true, {{0, 1}}, 0.0},
    {"dropout without bias",
     drop_arrays,
     dropout_no_bias,
     dropout_no_bias_ref,
     3e-7,
     true,
     {{0, 1}},
     0.0},
    {"dropout backward",
     drop_backward_arrays,
     dropout_no_bias,
     dropout_no_bias_ref,
     3e-7,
     true,
     {{0, 1}},
     0.0},
    {"dropout_residual",
     residual_arrays,
     residual,
     residual_ref,
     3e-7,
     true,
     {{0, 1}, {0, 2}},
     0.0},
    {"dropout_residual without bias",
     residual_arrays,
     residual_no_bias,
     residual_no_bias_ref,
     3e-7,
     true,
     {{0, 1}, {0, 2}},
     0.0},
    {"drop_path_residual", path_arrays, path, path_ref, 3e-7, false, {{0}}, 0.0},
    {"drop_path_residual without bias",
     path_arrays,
     path_no_bias,
     path_no_bias_ref,
     3e-7,
     false,
     {{0}},
     0.0},
    {"drop_path",
     path_backward_arrays,
     path_backward,
     path_backward_ref,
     3e-7,
     false,
     {{0, 1}},
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
    op_check_gradient(&TABLE[5], &TABLE[7]);
}

static void factors_are_the_generator_s_bits(void **state)
{
    (void)state;
    const fz_dropout drop = {.p = 0.25, .seed = 12, .site = 34};
    uint32_t key[2];
    fz_rng_key(key, 12, 34);
    const fz_philox random = fz_philox4x32((fz_philox){{2, 9, 5, 1}}, key[0], key[1]);
    const int64_t n = INT64_C(0x100000005);
    for (int c = 0; c < 8; c++) { /* columns 16 .. 23 are block 2 */
        const uint32_t bits = (random.v[c / 2] >> (c % 2 * 16)) & 0xFFFFu;
        const double want = bits < 16384 ? 0.0 : 65536.0 / 49152.0;
        assert_true(fz_dropout_factor_ref(&drop, n, 9, 16 + c) == want);
    }
}

/* Two shards of a row draw what the whole row draws. */
static void shards_of_a_row_draw_the_same_bits(void **state)
{
    (void)state;
    enum { C = 300 };
    static const int cuts[] = {8, 96, 128, 133, 1, 299};
    const int32_t start[] = {0, 1};
    const int64_t sample_n[] = {3};
    const fz_rows rows = {1, start, sample_n, 0};
    float x[C], whole[C], part[C];
    for (int i = 0; i < C; i++)
        x[i] = (float)i + 1.0f;
    fz_dropout drop = {.p = 0.4, .seed = 5, .site = 6};
    assert_ok(fz_ops_cpu.dropout(whole, x, NULL, &rows, C, &drop, NULL));
    for (size_t k = 0; k < sizeof cuts / sizeof *cuts; k++) {
        const int cut = cuts[k];
        drop.first_column = 0;
        assert_ok(fz_ops_cpu.dropout(part, x, NULL, &rows, cut, &drop, NULL));
        drop.first_column = cut;
        assert_ok(fz_ops_cpu.dropout(part + cut, x + cut, NULL, &rows, C - cut, &drop, NULL));
        assert_memory_equal(whole, part, sizeof whole);
    }
}

static void share_of_dropped_elements_is_p(void **state)
{
    (void)state;
    enum { C = 4096 };
    static float x[C], y[C];
    const int32_t start[] = {0, 1};
    for (int i = 0; i < C; i++)
        x[i] = 1.0f;
    int n_dropped = 0;
    for (int64_t n = 0; n < 64; n++) {
        const fz_rows rows = {1, start, &n, 0};
        const fz_dropout drop = {.p = 0.1, .seed = 1, .site = 2};
        assert_ok(fz_ops_cpu.dropout(y, x, NULL, &rows, C, &drop, NULL));
        for (int i = 0; i < C; i++)
            n_dropped += y[i] == 0.0f;
    }
    const double share = n_dropped / (64.0 * C); /* standard deviation 0.0006 */
    if (fabs(share - 0.1) > 0.003) fail_msg("%g of the elements were dropped, not 0.1", share);
}

static void everything_is_dropped_at_one(void **state)
{
    (void)state;
    const int32_t start[] = {0, 1};
    const int64_t n = 0;
    const fz_rows rows = {1, start, &n, 0};
    const fz_dropout drop = {.p = 1.0, .seed = 1, .site = 2};
    float x[40], y[40];
    for (int i = 0; i < 40; i++)
        x[i] = 1.0f;
    assert_ok(fz_ops_cpu.dropout(y, x, NULL, &rows, 40, &drop, NULL));
    for (int i = 0; i < 40; i++)
        assert_true(y[i] == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors_are_the_generator_s_bits),
        cmocka_unit_test(backend_agrees_with_the_reference),
        cmocka_unit_test(gradients_are_the_derivatives),
        cmocka_unit_test(shards_of_a_row_draw_the_same_bits),
        cmocka_unit_test(share_of_dropped_elements_is_p),
        cmocka_unit_test(everything_is_dropped_at_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
