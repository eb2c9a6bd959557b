/* Learning rate, clipping and the loss of a step, as numbers. */
#include "tests/support/unit.h"

#include <math.h>

#include "parallel/loss.h"
#include "parallel/optimizer.h"

static fz_train_config config(fz_lr_kind kind)
{
    return (fz_train_config){.steps = 110, .lr = 0.5, .warmup = 10, .lr_kind = kind, .clip = 2.0};
}

static void assert_near(double a, double b)
{
    if (!(fabs(a - b) < 1e-12)) fail_msg("%.17g is not %.17g", a, b);
}

static void the_rate_warms_up_in_a_line_and_falls_by_its_kind(void **state)
{
    const fz_train_config cosine = config(FZ_LR_COSINE), linear = config(FZ_LR_LINEAR);
    const fz_train_config constant = config(FZ_LR_CONSTANT);
    (void)state;
    assert_near(fz_learning_rate(&cosine, 0), 0.05);
    assert_near(fz_learning_rate(&cosine, 8), 0.45);
    assert_near(fz_learning_rate(&cosine, 9), 0.5);
    assert_near(fz_learning_rate(&cosine, 10), 0.5);
    assert_near(fz_learning_rate(&cosine, 60), 0.25);
    assert_near(fz_learning_rate(&cosine, 35), 0.5 * (0.5 + 0.25 * sqrt(2.0)));
    assert_near(fz_learning_rate(&cosine, 110), 0.0);
    assert_near(fz_learning_rate(&cosine, 1000), 0.0);
    assert_near(fz_learning_rate(&linear, 4), 0.25);
    assert_near(fz_learning_rate(&linear, 85), 0.125);
    assert_near(fz_learning_rate(&linear, 110), 0.0);
    assert_near(fz_learning_rate(&constant, 109), 0.5);
    assert_near(fz_learning_rate(&constant, 500), 0.5);
}

static void clipping_scales_to_the_limit_and_never_up(void **state)
{
    fz_train_config train = config(FZ_LR_CONSTANT);
    (void)state;
    assert_near((double)fz_clip_factor(&train, 1.0), 1.0);
    assert_near((double)fz_clip_factor(&train, 4.0), (double)(float)(2.0 / (4.0 + 1e-6)));
    assert_near((double)fz_clip_factor(&train, 0.0), 1.0);
    train.clip = 0;
    assert_near((double)fz_clip_factor(&train, 1e9), 1.0);
}

static void the_loss_is_the_mean_over_loss_batches_of_token_means(void **state)
{
    /* two loss batches of three micro-batches; then one of them has no label */
    fz_plan plan = {.train = {.global_batch = 12, .loss_batch = 6, .micro_batch = 2}, .n_micro = 6};
    int64_t counts[6] = {2, 0, 2, 5, 1, 4};
    const double sums[6] = {6, 0, 10, 1, 2, 7};
    fz_microbatch micro[3] = {{.n_labels = 2}};
    fz_step_batch batch = {.first_micro = 2, .n_micro = 3, .micro = micro};
    (void)state;
    assert_near((double)fz_loss_mean(&plan, counts, sums), (16.0 / 4 + 10.0 / 10) / 2);
    fz_loss_set_scales(&plan, counts, &batch);
    assert_near((double)micro[0].loss_scale, 1.0 / 8);
    assert_near((double)micro[1].loss_scale, (double)(1.0f / 20));
    assert_near((double)micro[2].loss_scale, (double)(1.0f / 20));
    counts[0] = counts[2] = 0;
    assert_near((double)fz_loss_mean(&plan, counts, sums), 0.5);
    fz_loss_set_scales(&plan, counts, &batch);
    assert_near((double)micro[0].loss_scale, 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rate_warms_up_in_a_line_and_falls_by_its_kind),
        cmocka_unit_test(clipping_scales_to_the_limit_and_never_up),
        cmocka_unit_test(the_loss_is_the_mean_over_loss_batches_of_token_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
