/* LayerNorm and RMSNorm. */
#include "model/ops/layernorm.h"
#include "model/ops/rmsnorm.h"
#include "op_table.h"

#define EPS 1e-5f

static void ln_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("mean", OP_OUT, s->N, 1);
    list[2] = op_make("rstd", OP_OUT, s->N, 1);
    list[3] = op_make("x", OP_IN, s->N * s->C, s->C);
    list[4] = op_make("w", OP_IN, s->C, 0);
    list[5] = op_make("b", OP_IN, s->C, 0);
}
static void ln(const op_shape *s, float **a)
{
    assert_ok(s->ops->layernorm_forward(a[0], a[1], a[2], a[3], a[4], a[5], s->N, s->C, EPS, NULL));
}
static void ln_ref(const op_shape *s, double **a)
{
    fz_layernorm_forward_ref(a[0], a[1], a[2], a[3], a[4], a[5], s->N, s->C, (double)EPS);
}
static void ln_input_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("dx", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("dy", OP_IN, s->N * s->C, s->C);
    list[2] = op_make("x", OP_IN, s->N * s->C, s->C);
    list[3] = op_make("mean", OP_IN, s->N, 1);
    list[4] = op_make("rstd", OP_IN, s->N, 1);
    list[5] = op_make("w", OP_IN, s->C, 0);
}
static void ln_input(const op_shape *s, float **a)
{
    assert_ok(
        s->ops->layernorm_backward_input(a[0], a[1], a[2], a[3], a[4], a[5], s->N, s->C, NULL));
}
static void ln_input_ref(const op_shape *s, double **a)
{
    fz_layernorm_backward_input_ref(a[0], a[1], a[2], a[3], a[4], a[5], s->N, s->C);
}
static void ln_weight_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("dw", OP_ADD, s->C, 0);
    list[1] = op_make("db", OP_ADD, s->C, 0);
    list[2] = op_make("dy", OP_IN, s->N * s->C, s->C);
    list[3] = op_make("x", OP_IN, s->N * s->C, s->C);
    list[4] = op_make("mean", OP_IN, s->N, 1);
    list[5] = op_make("rstd", OP_IN, s->N, 1);
    list[6] = op_make("work", OP_SCRATCH, 2 * s->S * s->C, 0);
}
static void ln_weight(const op_shape *s, float **a)
{
    assert_ok(s->ops->layernorm_backward_weight(a[0], a[1], a[2], a[3], a[4], a[5], s->N, s->C,
                                                s->S, a[6], NULL));
}
static void ln_weight_ref(const op_shape *s, double **a)
{
    fz_layernorm_backward_weight_ref(a[0], a[1], a[2], a[3], a[4], a[5], s->N, s->C);
}

static void rms_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("r", OP_OUT, s->N, 1);
    list[2] = op_make("x", OP_IN, s->N * s->C, s->C);
    list[3] = op_make("w", OP_IN, s->C, 0);
}
static void rms(const op_shape *s, float **a)
{
    assert_ok(s->ops->rmsnorm_forward(a[0], a[1], a[2], a[3], s->N, s->C, EPS, NULL));
}
static void rms_ref(const op_shape *s, double **a)
{
    fz_rmsnorm_forward_ref(a[0], a[1], a[2], a[3], s->N, s->C, (double)EPS);
}
static void rms_residual_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("r", OP_OUT, s->N, 1);
    list[2] = op_make("skip", OP_IN, s->N * s->C, s->C);
    list[3] = op_make("x", OP_IN, s->N * s->C, s->C); /* "a" in ops.h: what is normed */
    list[4] = op_make("w", OP_IN, s->C, 0);
    list[5] = op_make("gate", OP_IN, 1, 0);
}
static void rms_residual(const op_shape *s, float **a)
{
    assert_ok(s->ops->rmsnorm_residual_forward(a[0], a[1], a[2], a[3], a[4], a[5], s->N, s->C, EPS,
                                               NULL));
}
static void rms_residual_ref(const op_shape *s, double **a)
{
    fz_rmsnorm_residual_forward_ref(a[0], a[1], a[2], a[3], a[4], a[5], s->N, s->C, (double)EPS);
}
static void rms_residual_plain(const op_shape *s, float **a)
{
    assert_ok(s->ops->rmsnorm_residual_forward(a[0], a[1], a[2], a[3], a[4], NULL, s->N, s->C, EPS,
                                               NULL));
}
static void rms_residual_plain_ref(const op_shape *s, double **a)
{
    fz_rmsnorm_residual_forward_ref(a[0], a[1], a[2], a[3], a[4], NULL, s->N, s->C, (double)EPS);
}

static void rms_input_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("dx", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("dy", OP_IN, s->N * s->C, s->C);
    list[2] = op_make("x", OP_IN, s->N * s->C, s->C);
    list[3] = op_make("r", OP_IN, s->N, 1);
    list[4] = op_make("w", OP_IN, s->C, 0);
    list[5] = op_make("gate", OP_IN, 1, 0);
}
static void rms_input_added_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    rms_input_arrays(s, list);
    list[0].role = OP_ADD;
}
static void rms_input(const op_shape *s, float **a)
{
    assert_ok(s->ops->rmsnorm_backward_input(a[0], a[1], a[2], a[3], a[4], a[5], false, s->N, s->C,
                                             NULL));
}
static void rms_input_ref(const op_shape *s, double **a)
{
    fz_rmsnorm_backward_input_ref(a[0], a[1], a[2], a[3], a[4], a[5], false, s->N, s->C);
}
static void rms_input_added(const op_shape *s, float **a)
{
    assert_ok(
        s->ops->rmsnorm_backward_input(a[0], a[1], a[2], a[3], a[4], NULL, true, s->N, s->C, NULL));
}
static void rms_input_added_ref(const op_shape *s, double **a)
{
    fz_rmsnorm_backward_input_ref(a[0], a[1], a[2], a[3], a[4], NULL, true, s->N, s->C);
}

static void rms_weight_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("dw", OP_ADD, s->C, 0);
    list[1] = op_make("dgate", OP_ADD, 1, 0);
    list[2] = op_make("dy", OP_IN, s->N * s->C, s->C);
    list[3] = op_make("x", OP_IN, s->N * s->C, s->C);
    list[4] = op_make("r", OP_IN, s->N, 1);
    list[5] = op_make("w", OP_IN, s->C, 0);
    list[6] = op_make("gate", OP_IN, 1, 0);
    list[7] = op_make("work", OP_SCRATCH, s->S * s->C + s->S, 0);
}
static void rms_weight(const op_shape *s, float **a)
{
    assert_ok(s->ops->rmsnorm_backward_weight(a[0], a[1], a[2], a[3], a[4], a[5], a[6], s->N, s->C,
                                              s->S, a[7], NULL));
}
static void rms_weight_ref(const op_shape *s, double **a)
{
    fz_rmsnorm_backward_weight_ref(a[0], a[1], a[2], a[3], a[4], a[5], a[6], s->N, s->C);
}
/* Without a gate; and the gate's gradient alone. */
static void rms_weight_plain(const op_shape *s, float **a)
{
    assert_ok(s->ops->rmsnorm_backward_weight(a[0], NULL, a[2], a[3], a[4], a[5], NULL, s->N, s->C,
                                              s->S, a[7], NULL));
}
static void rms_weight_plain_ref(const op_shape *s, double **a)
{
    fz_rmsnorm_backward_weight_ref(a[0], NULL, a[2], a[3], a[4], a[5], NULL, s->N, s->C);
}
static void rms_gate_only(const op_shape *s, float **a)
{
    assert_ok(s->ops->rmsnorm_backward_weight(NULL, a[1], a[2], a[3], a[4], a[5], a[6], s->N, s->C,
                                              s->S, a[7], NULL));
}
static void rms_gate_only_ref(const op_shape *s, double **a)
{
    fz_rmsnorm_backward_weight_ref(NULL, a[1], a[2], a[3], a[4], a[5], a[6], s->N, s->C);
}

enum {
    LN,
    LN_INPUT,
    LN_WEIGHT,
    RMS,
    RMS_RESIDUAL,
    RMS_PLAIN,
    RMS_INPUT,
    RMS_INPUT_ADDED,
    RMS_WEIGHT,
    RMS_WEIGHT_PLAIN,
    RMS_GATE_ONLY,
    N_ROWS
};

static const op_row TABLE[N_ROWS] = {
    [LN] = {"layernorm_forward", ln_arrays, ln, ln_ref, 2e-6, true, {{0}}, 0.0},
    [LN_INPUT] = {"layernorm_backward_input",
                  ln_input_arrays,
                  ln_input,
                  ln_input_ref,
                  2e-6,
                  true,
                  {{0, 1}},
                  0.0},
    [LN_WEIGHT] = {"layernorm_backward_weight",
                   ln_weight_arrays,
                   ln_weight,
                   ln_weight_ref,
                   2e-6,
                   false,
                   {{0}},
                   0.0},
    [RMS] = {"rmsnorm_forward", rms_arrays, rms, rms_ref, 1e-6, true, {{0}}, 0.0},
    [RMS_RESIDUAL] = {"rmsnorm_residual_forward",
                      rms_residual_arrays,
                      rms_residual,
                      rms_residual_ref,
                      1e-6,
                      true,
                      {{0, 2}},
                      0.0},
    [RMS_PLAIN] = {"rmsnorm_residual_forward without gate",
                   rms_residual_arrays,
                   rms_residual_plain,
                   rms_residual_plain_ref,
                   1e-6,
                   true,
                   {{0, 2}},
                   0.0},
    [RMS_INPUT] = {"rmsnorm_backward_input",
                   rms_input_arrays,
                   rms_input,
                   rms_input_ref,
                   2e-6,
                   true,
                   {{0, 1}},
                   0.0},
    [RMS_INPUT_ADDED] = {"rmsnorm_backward_input added",
                         rms_input_added_arrays,
                         rms_input_added,
                         rms_input_added_ref,
                         2e-6,
                         true,
                         {{0}},
                         0.0},
    [RMS_WEIGHT] = {"rmsnorm_backward_weight",
                    rms_weight_arrays,
                    rms_weight,
                    rms_weight_ref,
                    5e-6,
                    false,
                    {{0}},
                    0.0},
    [RMS_WEIGHT_PLAIN] = {"rmsnorm_backward_weight without gate",
                          rms_weight_arrays,
                          rms_weight_plain,
                          rms_weight_plain_ref,
                          2e-6,
                          false,
                          {{0}},
                          0.0},
    [RMS_GATE_ONLY] = {"rmsnorm_backward_weight of the gate",
                       rms_weight_arrays,
                       rms_gate_only,
                       rms_gate_only_ref,
                       5e-6,
                       false,
                       {{0}},
                       0.0},
};

static void backend_agrees_with_the_reference(void **state)
{
    (void)state;
    op_check_table(TABLE, N_ROWS);
}

static void gradients_are_the_derivatives(void **state)
{
    (void)state;
    op_check_gradient(&TABLE[LN], &TABLE[LN_INPUT]);
    op_check_gradient(&TABLE[LN], &TABLE[LN_WEIGHT]);
    op_check_gradient(&TABLE[RMS_RESIDUAL], &TABLE[RMS_INPUT]);
    op_check_gradient(&TABLE[RMS_RESIDUAL], &TABLE[RMS_WEIGHT]);
    op_check_gradient(&TABLE[RMS_PLAIN], &TABLE[RMS_INPUT_ADDED]);
    op_check_gradient(&TABLE[RMS], &TABLE[RMS_INPUT_ADDED]);
}

static void references_agree_with_values_by_hand(void **state)
{
    (void)state;
    const double x[] = {1, 3}, w[] = {2, 1}, b[] = {0.5, 0};
    double y[2], mean, rstd, r;
    fz_layernorm_forward_ref(y, &mean, &rstd, x, w, b, 1, 2, 0.0); /* mean 2, variance 1 */
    op_assert_close(y, (const double[]){-1.5, 1}, 2, 1e-15);
    assert_true(mean == 2.0 && rstd == 1.0);
    fz_layernorm_forward_ref(y, &mean, &rstd, x, w, b, 1, 2, 3.0);
    assert_true(rstd == 0.5);
    const double z[] = {1, 7}; /* mean square 25 */
    fz_rmsnorm_forward_ref(y, &r, z, w, 1, 2, 0.0);
    op_assert_close(y, (const double[]){0.6, 2.8}, 2, 1e-15);
    const double gate[] = {0.0}, skip[] = {4, 5};
    fz_rmsnorm_residual_forward_ref(y, &r, skip, z, w, gate, 1, 2, 0.0);
    op_assert_close(y, skip, 2, 0.0); /* a gate of 0 lets nothing through */
}

static void constant_rows_stay_finite(void **state)
{
    (void)state;
    const float x[4] = {5, 5, 5, 5}, zeros[4] = {0}, w[4] = {1, 1, 1, 1};
    float y[4], mean, rstd, r;
    assert_ok(fz_ops_cpu.layernorm_forward(y, &mean, &rstd, x, w, w, 1, 4, 1e-5f, NULL));
    assert_true(y[0] == 1.0f && isfinite(rstd));
    assert_ok(fz_ops_cpu.rmsnorm_forward(y, &r, zeros, w, 1, 4, 1e-6f, NULL));
    assert_true(y[0] == 0.0f && isfinite(r));
}

/* Columns of dy * xhat, dy, and dy * x * r, added by hand. */
static void token_sums_follow_the_segments_and_the_tree(void **state)
{
    (void)state;
    enum { N = 43, C = 21, S = 8 };
    float dy[N * C], x[N * C], w[C] = {0}, mean[N], rstd[N], dw[C], db[C], work[2 * S * C];
    float a[N], b[N];
    for (int i = 0; i < N * C; i++) {
        dy[i] = op_wide_number("dy", i);
        x[i] = op_wide_number("x", i);
    }
    for (int r = 0; r < N; r++) {
        mean[r] = 0.25f * (float)r;
        rstd[r] = 1.0f / (float)(r + 1);
    }
    for (int n = 0; n <= N; n++) {
        memset(dw, 0, sizeof dw);
        memset(db, 0, sizeof db);
        assert_ok(
            fz_ops_cpu.layernorm_backward_weight(dw, db, dy, x, mean, rstd, n, C, S, work, NULL));
        for (int c = 0; c < C; c++) {
            for (int r = 0; r < n; r++) {
                a[r] = dy[r * C + c] * ((x[r * C + c] - mean[r]) * rstd[r]);
                b[r] = dy[r * C + c];
            }
            assert_true(dw[c] == op_token_sum(a, n, S) && db[c] == op_token_sum(b, n, S));
        }
        memset(db, 0, sizeof db);
        assert_ok(fz_ops_cpu.rmsnorm_backward_weight(db, NULL, dy, x, rstd, w, NULL, n, C, S, work,
                                                     NULL));
        for (int c = 0; c < C; c++) {
            for (int r = 0; r < n; r++)
                a[r] = dy[r * C + c] * (x[r * C + c] * rstd[r]);
            assert_true(db[c] == op_token_sum(a, n, S));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_agree_with_values_by_hand),
        cmocka_unit_test(constant_rows_stay_finite),
        cmocka_unit_test(backend_agrees_with_the_reference),
        cmocka_unit_test(gradients_are_the_derivatives),
        cmocka_unit_test(token_sums_follow_the_segments_and_the_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
