/* What a step does, as numbers, on one rank: the gradient is the derivative of the loss that is
 * reported; clipping, decay and freezing do what they say; evaluation drops nothing.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/ranks.h"

#include "tests/parallel/rig.h"

static const fz_mesh_shape alone = {1, 1, 1};

static void start(rig *g, const row *r)
{
    const fz_status status = rig_start(g, &world, alone, r);
    if (status != FZ_OK) fail_msg("%s", fz_last_error()->text);
}

static fz_step_result step(rig *g, int64_t which)
{
    fz_step_batch batch;
    fz_step_result result = {0};
    fz_synthetic_step(g->synthetic, which, &batch);
    const fz_status status = fz_trainer_step(g->trainer, &batch, &result);
    if (status != FZ_OK) fail_msg("%s", fz_last_error()->text);
    return result;
}

/* Elements in memory of a view, padding included. */
static int64_t view_elements(const rig *g, const fz_state_view *view)
{
    return fz_param_piece_elements(&g->program->params[view->tensor], SHARDS);
}

static void hold_still(fz_train_config *train)
{
    train->lr = 0;
    train->clip = 0;
}

/* With lr 0 and beta1 0.9 the first moment after one step is a tenth of the gradient. */
static double move_along_gradient(rig *g, double distance)
{
    const fz_state *state = fz_trainer_state(g->trainer);
    double norm = 0;

    for (int v = 0; v < state->n_views; v++)
        if (state->views[v].kind == FZ_STATE_EXP_AVG && state->views[v].is_owner)
            for (int64_t i = 0; i < view_elements(g, &state->views[v]); i++)
                norm += 100.0 * (double)state->views[v].data[i] * (double)state->views[v].data[i];
    norm = sqrt(norm);
    for (int v = 0; v + 1 < state->n_views; v++) {
        if (state->views[v].kind != FZ_STATE_MASTER) continue;
        const float *moment = state->views[v + 1].data; /* master, then its moments */
        assert_int_equal(state->views[v + 1].kind, FZ_STATE_EXP_AVG);
        for (int64_t i = 0; i < view_elements(g, &state->views[v]); i++)
            state->views[v].data[i] += (float)(distance * 10.0 * (double)moment[i] / norm);
    }
    return norm;
}

static double loss_at(const row *r, double distance, double *norm, double *reported)
{
    rig g;
    start(&g, r);
    const fz_step_result first = step(&g, 0);
    *reported = (double)first.grad_norm;
    *norm = move_along_gradient(&g, distance);
    const double loss = (double)step(&g, 0).loss;
    rig_stop(&g);
    return loss;
}

static void the_gradient_is_the_derivative_of_the_loss(void **state)
{
    static const row rows[] = {
        {"tiny-bart", FZ_SCHEDULE_1F1B, false, true, 3, 4, 2, hold_still},
        {"tiny-gemma", FZ_SCHEDULE_1F1B, false, true, 2, 3, 3, hold_still},
        {"tiny-gemma", FZ_SCHEDULE_AFAB, true, true, 2, 3, 1, hold_still},
        {"tiny-bart", FZ_SCHEDULE_AFAB, true, false, 4, 1, 1, hold_still},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const double h = 0.002; /* the error of the slope falls with its square */
        double norm, reported;
        const double up = loss_at(&rows[i], h, &norm, &reported);
        const double down = loss_at(&rows[i], -h, &norm, &reported);
        const double slope = (up - down) / (2 * h);
        if (fabs(slope / norm - 1) > 5e-3) fail_msg("row %zu: slope %g, norm %g", i, slope, norm);
        if (fabs(reported / norm - 1) > 1e-4)
            fail_msg("row %zu: norm %g is reported as %g", i, norm, reported);
    }
}

static void clip_low(fz_train_config *train)
{
    train->clip = 0.125;
}

static void clipped_gradients_have_the_norm_of_the_limit(void **state)
{
    static const row r = {"tiny-gemma", FZ_SCHEDULE_1F1B, false, true, 2, 2, 2, clip_low};
    rig g;
    (void)state;
    start(&g, &r);
    assert_true(step(&g, 0).grad_norm > 0.2f); /* reported before clipping */
    const double norm = move_along_gradient(&g, 0);
    if (fabs(norm / 0.125 - 1) > 1e-4) fail_msg("norm %g", norm);
    rig_stop(&g);
}

static void decay_much(fz_train_config *train)
{
    train->weight_decay = 0.5;
    train->lr = 0.125;
    train->warmup = 0;
}

static void decay_nothing(fz_train_config *train)
{
    decay_much(train);
    train->weight_decay = 0;
}

/* w - lr * decay * w - lr * update: the first two terms are all that differs. */
static void decay_touches_what_it_should(void **state)
{
    static const row with = {"tiny-bart", FZ_SCHEDULE_1F1B, false, false, 2, 2, 2, decay_much};
    static const row without = {"tiny-bart", FZ_SCHEDULE_1F1B, false, false, 2, 2, 2,
                                decay_nothing};
    rig a, b, start_of;
    int n_decayed = 0, n_not = 0;
    (void)state;
    start(&a, &with);
    start(&b, &without);
    start(&start_of, &with);
    step(&a, 0);
    step(&b, 0);
    const fz_state *x = fz_trainer_state(a.trainer), *y = fz_trainer_state(b.trainer);
    const fz_state *w = fz_trainer_state(start_of.trainer);
    for (int v = 0; v < x->n_views; v++) {
        if (x->views[v].kind != FZ_STATE_MASTER) continue;
        const bool decays = a.program->params[x->views[v].tensor].decay;
        for (int64_t i = 0; i < view_elements(&a, &x->views[v]); i++) {
            const double was = (double)w->views[v].data[i];
            const double expected = (double)y->views[v].data[i] - (decays ? 0.0625 * was : 0.0);
            assert_true(fabs((double)x->views[v].data[i] - expected) < 1e-6);
        }
        if (decays) n_decayed++;
        else n_not++;
    }
    assert_true(n_decayed > 0 && n_not > 0);
    rig_stop(&a);
    rig_stop(&b);
    rig_stop(&start_of);
}

static void frozen_weights_keep_their_bits(void **state)
{
    static const row r = {"tiny-gemma", FZ_SCHEDULE_1F1B, true, true, 2, 2, 2, decay_much};
    rig g, before;
    int n_frozen = 0;
    (void)state;
    start(&g, &r);
    start(&before, &r);
    step(&g, 0);
    step(&g, 1);
    const fz_state *x = fz_trainer_state(g.trainer), *w = fz_trainer_state(before.trainer);
    for (int v = 0; v < x->n_views; v++) {
        const size_t bytes = (size_t)view_elements(&g, &x->views[v]) * sizeof(float);
        const bool same = memcmp(x->views[v].data, w->views[v].data, bytes) == 0;
        if (x->views[v].kind == FZ_STATE_WEIGHT) {
            assert_true(same);
            n_frozen++;
        } else {
            assert_false(same);
        }
    }
    assert_true(n_frozen > 0);
    rig_stop(&g);
    rig_stop(&before);
}

static void evaluation_drops_nothing_and_changes_nothing(void **state)
{
    static const row rows[] = {{"tiny-bart", FZ_SCHEDULE_1F1B, false, true, 2, 2, 2, NULL},
                               {"tiny-bart", FZ_SCHEDULE_1F1B, false, false, 2, 2, 2, NULL}};
    double loss[2][4], labels[2][4], sum = 0, n = 0;
    float step_loss = 0;
    (void)state;
    for (int i = 0; i < 2; i++) {
        rig g;
        fz_step_batch batch;
        uint64_t before = 0, after = 1;
        start(&g, &rows[i]);
        fz_synthetic_step(g.synthetic, 0, &batch);
        assert_int_equal(fz_trainer_digest(g.trainer, &before), FZ_OK);
        assert_int_equal(fz_trainer_eval(g.trainer, &batch, loss[i], labels[i]), FZ_OK);
        assert_int_equal(fz_trainer_digest(g.trainer, &after), FZ_OK);
        assert_true(before == after);
        step_loss = step(&g, 0).loss;
        rig_stop(&g);
    }
    assert_memory_equal(loss[0], loss[1], sizeof loss[0]);
    for (int i = 0; i < 4; i++) {
        sum += loss[1][i];
        n += labels[1][i];
    }
    /* Without dropout the step sees the same loss. */
    assert_true(fabs(sum / n - (double)step_loss) < 1e-5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gradient_is_the_derivative_of_the_loss),
        cmocka_unit_test(clipped_gradients_have_the_norm_of_the_limit),
        cmocka_unit_test(decay_touches_what_it_should),
        cmocka_unit_test(frozen_weights_keep_their_bits),
        cmocka_unit_test(evaluation_drops_nothing_and_changes_nothing),
    };
    fz_ops_cpu_start();
    run_on_all_ranks(tests);
}
