/* The text blocks against the dense double-precision model of text_reference.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/blocks/head.h"
#include "tests/model/text_reference.h"

/* The second output is longer than tiny-gemma's sliding window. */
static const text_sample SAMPLES[] = {{3, 4}, {6, 12}, {0, 1}};
enum { N_SAMPLES = 3, N_DEC = 17 };

static fz_model_config tiny(const char *variant)
{
    fz_model_config c;
    assert_int_equal(fz_model_variant(variant, &c), FZ_OK);
    c.image_size = 32;
    /* So low that the caps bite. */
    if (c.family == FZ_DECODER_GEMMA) c.attn_softcap = 2.0;
    c.final_softcap = 3.0;
    return c;
}

static fz_shards whole(const text_model *m)
{
    return (fz_shards){.n = m->program->n_shards, .first = 0, .count = m->program->n_shards};
}

static void check_model(text_model *m, bool training)
{
    double loss[N_DEC] = {0}, sum = 0.0;
    int32_t next[N_SAMPLES];
    text_rank rank;

    assert_int_equal(m->batch.sizes.n_dec, N_DEC);
    text_reference(m, training, loss, next);
    text_rank_init(&rank, m, whole(m), &fz_hooks_local);
    text_rank_run(&rank, training, true);
    for (int i = 0; i < N_DEC; i++) {
        sum += loss[i];
        if (fabs((double)rank.token_loss[i] - loss[i]) > 2e-4)
            print_message("token %d: %.7f, reference %.7f\n", i, (double)rank.token_loss[i],
                          loss[i]);
        assert_true(fabs((double)rank.token_loss[i] - loss[i]) <= 2e-4);
    }
    assert_true(fabs(rank.loss_sum - sum) <= 1e-3);
    if (!training) assert_memory_equal(rank.next_token, next, sizeof next);
    text_rank_reset(&rank);
}

static void check_variant(const char *variant)
{
    const fz_model_config config = tiny(variant);
    for (int64_t S = 1; S <= 4; S *= 2) {
        text_model *m = text_model_create(&config, S, SAMPLES, N_SAMPLES, 31);
        check_model(m, false);
        check_model(m, true);
        text_model_destroy(&m);
    }
}

static void the_bart_family_computes_the_model_dropout_included(void **state)
{
    (void)state;
    check_variant("tiny-bart");
}

static void the_gemma_family_computes_the_model_dropout_included(void **state)
{
    (void)state;
    check_variant("tiny-gemma");
}

static void layers_without_cross_attention_and_replicated_heads_compute_the_model(void **state)
{
    (void)state;
    fz_model_config config = tiny("tiny-gemma");
    config.cross_every = 2;
    config.dec_kv_heads = 1;
    text_model *m = text_model_create(&config, 4, SAMPLES, N_SAMPLES, 32);
    check_model(m, false);
    text_model_destroy(&m);
}

static void frozen_parts_drop_only_where_asked_to(void **state)
{
    (void)state;
    double losses[2];
    for (int on = 0; on < 2; on++) {
        fz_model_config config = tiny("tiny-bart");
        config.n_freeze = 1;
        snprintf(config.freeze[0], sizeof config.freeze[0], "*encoder*");
        config.frozen_dropout = on == 1;
        text_model *m = text_model_create(&config, 2, SAMPLES, N_SAMPLES, 33);
        text_rank rank;
        check_model(m, true);
        text_rank_init(&rank, m, whole(m), &fz_hooks_local);
        text_rank_run(&rank, true, true);
        losses[on] = rank.loss_sum;
        text_rank_reset(&rank);
        text_model_destroy(&m);
    }
    assert_true(losses[0] != losses[1]);
}

static void a_wholly_frozen_model_still_tells_its_loss(void **state)
{
    (void)state;
    fz_model_config config = tiny("tiny-bart");
    config.n_freeze = 1;
    snprintf(config.freeze[0], sizeof config.freeze[0], "*");
    config.frozen_dropout = false;
    text_model *m = text_model_create(&config, 2, SAMPLES, N_SAMPLES, 34);
    check_model(m, true);
    text_model_destroy(&m);
}

static void the_loss_scale_multiplies_every_gradient(void **state)
{
    (void)state;
    const fz_model_config config = tiny("tiny-gemma");
    text_model *m = text_model_create(&config, 2, SAMPLES, N_SAMPLES, 35);
    text_rank one, quarter;
    text_rank_init(&one, m, whole(m), &fz_hooks_local);
    text_rank_run(&one, true, false);
    m->batch.loss_scale = 0.25f; /* a power of two: exact */
    text_rank_init(&quarter, m, whole(m), &fz_hooks_local);
    text_rank_run(&quarter, true, false);
    assert_true(one.loss_sum == quarter.loss_sum);
    for (int u = 0; u < m->program->n_uses; u++) {
        const int param = m->program->uses[u].param;
        for (int64_t i = 0; one.grads[u] && i < text_piece(m, param) * text_pieces(m, param); i++)
            assert_true(one.grads[u][i] * 0.25f == quarter.grads[u][i] ||
                        fabsf(one.grads[u][i]) < 1e-30f);
    }
    text_rank_reset(&one);
    text_rank_reset(&quarter);
    text_model_destroy(&m);
}

static void equal_logits_choose_the_lowest_id(void **state)
{
    (void)state;
    const fz_model_config config = tiny("tiny-bart");
    text_model *m = text_model_create(&config, 4, SAMPLES, N_SAMPLES, 36);
    const fz_program *p = m->program;
    const int table = p->uses[p->blocks[p->n_blocks - 1].first_use].param;
    text_rank ranks[4];

    memset(m->weights[table], 0, (size_t)(512 * config.dec_width) * sizeof(float));
    for (int count = 1; count <= 4; count *= 2) {
        const int n = 4 / count;
        for (int r = 0; r < n; r++)
            text_rank_init(&ranks[r], m, (fz_shards){4, r * count, count}, &fz_hooks_local);
        text_ranks_run(ranks, n, false);
        for (int r = 0; r < n; r++)
            for (int b = 0; b < N_SAMPLES; b++)
                assert_int_equal(ranks[r].next_token[b], 0);
        for (int r = 0; r < n; r++)
            text_rank_reset(&ranks[r]);
    }
    text_model_destroy(&m);
}

/* Sums over the text blocks for one sample of 128 + 128 tokens at 224 pixels, in GFLOP. */
typedef struct text_flops {
    double encoder, decoder, head, all_passes;
} text_flops;

static text_flops flops_of(const char *variant, bool recipe, int64_t S, int64_t count)
{
    fz_model_config config;
    fz_program *p = NULL;
    text_flops f = {0};
    assert_int_equal(fz_model_variant(variant, &config), FZ_OK);
    config.freeze_recipe = recipe;
    assert_int_equal(fz_program_create(&config, S, &p), FZ_OK);
    const fz_shards shards = {.n = S, .first = S - count, .count = count};
    const fz_sizes sizes = fz_program_max_sizes(p, 1, shards);
    for (int b = 0; b < p->n_blocks; b++) {
        const fz_block *block = &p->blocks[b];
        fz_flops one;
        if (block->writes == FZ_STREAM_VISION) continue;
        block->kind->flops(block, p, &sizes, shards, &one);
        const double forward = one.forward * 1e-9;
        if (block->kind == &fz_block_head)
            f.head += forward;
        else if (block->writes == FZ_STREAM_ENC)
            f.encoder += forward;
        else
            f.decoder += forward;
        f.all_passes += (one.forward + one.backward_input + one.backward_weight) * 1e-9;
    }
    fz_program_destroy(&p);
    return f;
}

static void assert_near(double a, double b, double bound)
{
    if (fabs(a - b) > bound) print_message("%.4f is not %.4f\n", a, b);
    assert_true(fabs(a - b) <= bound);
}

/* model.md 9, table "per sample": to the printed digit. */
static void flops_are_those_of_the_specification(void **state)
{
    (void)state;
    const struct {
        const char *variant;
        double encoder, decoder, head, step, recipe_step, vision;
    } table[] = {{"0.4b", 15.7, 15.9, 50.5, 372, 288, 41.8},
                 {"1.0b", 55.3, 56.0, 67.4, 1023, 698, 162.1},
                 {"3.5b", 55.3, 608.8, 151.0, 2932, 2089, 162.1},
                 {"11.2b", 55.3, 2536.2, 234.9, 8966, 6511, 162.1}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const text_flops all = flops_of(table[i].variant, false, 1, 1);
        const text_flops recipe = flops_of(table[i].variant, true, 1, 1);
        const text_flops half = flops_of(table[i].variant, true, 4, 2);
        assert_near(all.encoder, table[i].encoder, 0.051);
        assert_near(all.decoder, table[i].decoder, 0.051);
        assert_near(all.head, table[i].head, 0.051);
        /* the table's steps include the vision tower and the projector (0.2) */
        assert_near(all.all_passes + 3.0 * table[i].vision, table[i].step, 1.5);
        assert_near(recipe.all_passes + table[i].vision, table[i].recipe_step, 1.5);
        assert_near(half.all_passes, recipe.all_passes / 2.0, 1e-6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bart_family_computes_the_model_dropout_included),
        cmocka_unit_test(the_gemma_family_computes_the_model_dropout_included),
        cmocka_unit_test(layers_without_cross_attention_and_replicated_heads_compute_the_model),
        cmocka_unit_test(frozen_parts_drop_only_where_asked_to),
        cmocka_unit_test(a_wholly_frozen_model_still_tells_its_loss),
        cmocka_unit_test(the_loss_scale_multiplies_every_gradient),
        cmocka_unit_test(equal_logits_choose_the_lowest_id),
        cmocka_unit_test(flops_are_those_of_the_specification),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
