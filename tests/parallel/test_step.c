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
        {.variant = "tiny-bart",
         .schedule = FZ_SCHEDULE_1F1B,
         .dropout = true,
         .micro_batch = 3,
         .n_micro = 4,
         .loss_micro = 2,
         .adjust = hold_still},
        {.variant = "tiny-gemma",
         .schedule = FZ_SCHEDULE_1F1B,
         .dropout = true,
         .micro_batch = 2,
         .n_micro = 3,
         .loss_micro = 3,
         .adjust = hold_still},
        {.variant = "tiny-gemma",
         .schedule = FZ_SCHEDULE_AFAB,
         .freeze = true,
         .dropout = true,
         .micro_batch = 2,
         .n_micro = 3,
         .loss_micro = 1,
         .adjust = hold_still},
        {.variant = "tiny-bart",
         .schedule = FZ_SCHEDULE_AFAB,
         .freeze = true,
         .micro_batch = 4,
         .n_micro = 1,
         .loss_micro = 1,
         .adjust = hold_still},
        /* the last block that needs no gradient lies inside the vision tower */
        {.variant = "tiny-gemma",
         .schedule = FZ_SCHEDULE_AFAB,
         .micro_batch = 2,
         .n_micro = 3,
         .loss_micro = 3,
         .adjust = hold_still,
         .pattern = "vision_tower.*.[01].*"},
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
    static const row r = {.variant = "tiny-gemma",
                          .schedule = FZ_SCHEDULE_1F1B,
                          .dropout = true,
                          .micro_batch = 2,
                          .n_micro = 2,
                          .loss_micro = 2,
                          .adjust = clip_low};
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
    static const row with = {.variant = "tiny-bart",
                             .schedule = FZ_SCHEDULE_1F1B,
                             .micro_batch = 2,
                             .n_micro = 2,
                             .loss_micro = 2,
                             .adjust = decay_much};
    static const row without = {.variant = "tiny-bart",
                                .schedule = FZ_SCHEDULE_1F1B,
                                .micro_batch = 2,
                                .n_micro = 2,
                                .loss_micro = 2,
                                .adjust = decay_nothing};
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
        if (decays)
            n_decayed++;
        else
            n_not++;
    }
    assert_true(n_decayed > 0 && n_not > 0);
    rig_stop(&a);
    rig_stop(&b);
    rig_stop(&start_of);
}

/* The first update of AdamW without decay is the learning rate by the sign of the gradient. */
static void the_first_update_is_the_learning_rate(void **state)
{
    static const row r = {.variant = "tiny-bart",
                          .micro_batch = 2,
                          .n_micro = 2,
                          .loss_micro = 2,
                          .adjust = decay_nothing};
    rig g, before;
    int64_t n_large = 0;
    (void)state;
    start(&g, &r);
    start(&before, &r);
    step(&g, 0);
    const fz_state *x = fz_trainer_state(g.trainer), *w = fz_trainer_state(before.trainer);
    for (int v = 0; v + 1 < x->n_views; v++) {
        if (x->views[v].kind != FZ_STATE_MASTER) continue;
        const float *moment = x->views[v + 1].data;
        for (int64_t i = 0; i < view_elements(&g, &x->views[v]); i++) {
            if (fabs((double)moment[i]) < 1e-5) continue; /* eps would show */
            const double moved = (double)w->views[v].data[i] - (double)x->views[v].data[i];
            assert_true(fabs(moved - copysign(0.125, (double)moment[i])) < 1e-4);
            n_large++;
        }
    }
    assert_true(n_large > 1000);
    rig_stop(&g);
    rig_stop(&before);
}

/* Freezing changes what is kept and where outputs lie, never what is computed; nor does it matter
 * how many micro-batches are kept at once. */
static void freezing_and_schedules_change_no_bits(void **state)
{
    static const char *const patterns[] = {NULL, "vision_tower.*", "vision_tower.*.[01].*",
                                           "*encoder*", "*embed*"};
    float loss[5][2], norm[5][2];
    (void)state;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 2; k++) {
            const row r = {.variant = "tiny-gemma",
                           .schedule = k ? FZ_SCHEDULE_1F1B : FZ_SCHEDULE_AFAB,
                           .dropout = true,
                           .micro_batch = 3,
                           .n_micro = 3,
                           .loss_micro = 1,
                           .pattern = patterns[i]};
            rig g;
            start(&g, &r);
            const fz_step_result result = step(&g, 0);
            loss[i][k] = result.loss;
            norm[i][k] = result.grad_norm;
            assert_memory_equal(&loss[i][k], &loss[0][0], sizeof loss[0][0]);
            assert_memory_equal(&norm[i][k], &norm[i][0], sizeof norm[0][0]);
            rig_stop(&g);
        }
}

/* The digest speaks of logical elements: pieces and padding are not in it. */
static void the_digest_is_the_same_for_any_number_of_shards(void **state)
{
    static const int64_t shards[3] = {4, 1, 2};
    uint64_t digest[3], scratch = 0;
    (void)state;
    for (int i = 0; i < 3; i++) {
        const row r = {.variant = i == 2 ? "tiny-bart" : "tiny-gemma",
                       .micro_batch = 2,
                       .n_micro = 2,
                       .loss_micro = 2,
                       .shards = shards[i]};
        rig g;
        start(&g, &r);
        assert_int_equal(fz_trainer_digest(g.trainer, &digest[i]), FZ_OK);
        /* Exchanging two elements is a change. */
        float *w = fz_trainer_state(g.trainer)->views[0].data;
        const float first = w[0];
        w[0] = w[1];
        w[1] = first;
        assert_int_equal(fz_trainer_digest(g.trainer, &scratch), FZ_OK);
        assert_true(scratch != digest[i]);
        rig_stop(&g);
    }
    assert_true(digest[0] == digest[1]);
    assert_true(digest[0] != digest[2]);
}

static void frozen_weights_keep_their_bits(void **state)
{
    static const row r = {.variant = "tiny-gemma",
                          .schedule = FZ_SCHEDULE_1F1B,
                          .freeze = true,
                          .dropout = true,
                          .micro_batch = 2,
                          .n_micro = 2,
                          .loss_micro = 2,
                          .adjust = decay_much};
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
    static const row rows[] = {{.variant = "tiny-bart",
                                .schedule = FZ_SCHEDULE_1F1B,
                                .dropout = true,
                                .micro_batch = 2,
                                .n_micro = 2,
                                .loss_micro = 2},
                               {.variant = "tiny-bart",
                                .schedule = FZ_SCHEDULE_1F1B,
                                .micro_batch = 2,
                                .n_micro = 2,
                                .loss_micro = 2}};
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
        cmocka_unit_test(the_first_update_is_the_learning_rate),
        cmocka_unit_test(freezing_and_schedules_change_no_bits),
        cmocka_unit_test(the_digest_is_the_same_for_any_number_of_shards),
        cmocka_unit_test(frozen_weights_keep_their_bits),
        cmocka_unit_test(evaluation_drops_nothing_and_changes_nothing),
    };
    fz_ops_cpu_start();
    run_on_all_ranks(tests);
}
