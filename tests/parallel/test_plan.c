/* The plan: tiles everything once, says no in the words of the config, and is fast. */
#include "tests/support/unit.h"

#include "core/clock.h"
#include "core/memory.h"
#include "parallel/plan.h"

static const fz_train_config train = {.seed = 1,
                                      .steps = 10,
                                      .global_batch = 24,
                                      .loss_batch = 8,
                                      .micro_batch = 4,
                                      .clip = 1,
                                      .lr = 1e-3,
                                      .beta1 = 0.9,
                                      .beta2 = 0.999,
                                      .eps = 1e-8};

static fz_program *make_program(const char *variant, bool freeze)
{
    fz_model_config config;
    fz_program *program = NULL;
    assert_int_equal(fz_model_variant(variant, &config), FZ_OK);
    config.freeze_recipe = freeze;
    assert_int_equal(fz_program_create(&config, fz_model_auto_shards(&config), &program), FZ_OK);
    return program;
}

static fz_layout_config layout_of(const fz_program *program, int pp, int dp, int tp)
{
    return (fz_layout_config){.shape = {.pp = pp, .dp = dp, .tp = tp},
                              .schedule = FZ_SCHEDULE_1F1B,
                              .n_shards = program->n_shards,
                              .n_lanes = 8};
}

/* All ranks' snapshots together: weights and two moments of every trained parameter, once. */
static void every_trained_piece_has_room_in_one_snapshot(void **state)
{
    static const fz_mesh_shape shapes[] = {{1, 1, 1}, {3, 3, 2}, {2, 5, 4}};
    (void)state;

    fz_program *program = make_program("tiny-gemma", true);
    const int64_t most_pieces = program->n_params * program->n_shards;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        fz_layout_config layout = layout_of(program, shapes[i].pp, shapes[i].dp, shapes[i].tp);
        fz_plan *plan = NULL;
        int64_t bytes = 0;
        layout.has_snapshot = true;
        assert_int_equal(fz_plan_create(program, &train, &layout, &plan), FZ_OK);
        for (int r = 0; r < fz_mesh_size(shapes[i]); r++) {
            fz_rank_plan rp;
            assert_int_equal(fz_plan_rank(plan, r, &rp), FZ_OK);
            bytes += (int64_t)rp.bytes.snapshot;
            const fz_plan_bytes *b = &rp.bytes;
            assert_int_equal(b->total, b->weights + b->grads + b->moments + b->save + b->dstream +
                                           b->keep + b->work + b->comm + b->other + b->snapshot);
        }
        assert_true(bytes >= 12 * program->n_trainable);
        assert_true(bytes <= 12 * program->n_trainable + 3 * 64 * most_pieces);
        fz_plan_destroy(&plan);
    }
    fz_program_destroy(&program);
}

static void blocks_shards_and_micro_batches_are_run_once(void **state)
{
    static const fz_mesh_shape shapes[] = {{1, 1, 1}, {3, 3, 2}, {4, 1, 4}, {5, 8, 1}, {2, 5, 2}};
    (void)state;

    fz_program *program = make_program("tiny-gemma", false);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const fz_layout_config layout =
            layout_of(program, shapes[i].pp, shapes[i].dp, shapes[i].tp);
        fz_plan *plan = NULL;
        int64_t work = 0;
        assert_int_equal(fz_plan_create(program, &train, &layout, &plan), FZ_OK);
        for (int r = 0; r < fz_mesh_size(shapes[i]); r++) {
            fz_rank_plan rp;
            assert_int_equal(fz_plan_rank(plan, r, &rp), FZ_OK);
            assert_true(rp.last_block > rp.first_block);
            work += (rp.last_block - rp.first_block) * rp.shards.count * rp.n_micro;
            const fz_plan_bytes *b = &rp.bytes;
            assert_int_equal(b->total, b->weights + b->grads + b->moments + b->save + b->dstream +
                                           b->keep + b->work + b->comm + b->other + b->snapshot);
            assert_int_equal(b->snapshot, 0);
            assert_true(b->moments == 0 || rp.n_trainable > 0);
        }
        assert_int_equal(work, program->n_blocks * program->n_shards * plan->n_micro);
        fz_plan_destroy(&plan);
    }
    fz_program_destroy(&program);
}

static void every_piece_has_one_owner(void **state)
{
    static const fz_mesh_shape shapes[] = {{1, 1, 1}, {3, 3, 2}, {4, 2, 4}, {2, 8, 1}};
    (void)state;

    for (int variant = 0; variant < 2; variant++) {
        fz_program *program = make_program(variant ? "tiny-gemma" : "tiny-bart", false);
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            const fz_layout_config layout =
                layout_of(program, shapes[i].pp, shapes[i].dp, shapes[i].tp);
            fz_plan *plan = NULL;
            assert_int_equal(fz_plan_create(program, &train, &layout, &plan), FZ_OK);
            for (int p = 0; p < program->n_params; p++) {
                int64_t owners = 0;
                const int64_t n = fz_param_pieces(&program->params[p], program->n_shards);
                for (int64_t s = 0; s < n; s++)
                    for (int r = 0; r < fz_mesh_size(shapes[i]); r++)
                        owners += fz_plan_owns(plan, fz_mesh_coord_of(shapes[i], r), p, s);
                assert_int_equal(owners, fz_plan_logical_pieces(plan, p));
            }
            fz_plan_destroy(&plan);
        }
        fz_program_destroy(&program);
    }
}

static void one_rank_holds_every_element_once(void **state)
{
    (void)state;
    fz_program *program = make_program("tiny-bart", true);
    const fz_layout_config layout = layout_of(program, 1, 1, 1);
    fz_plan *plan = NULL;
    fz_rank_plan rp;
    assert_int_equal(fz_plan_create(program, &train, &layout, &plan), FZ_OK);
    assert_int_equal(fz_plan_rank(plan, 0, &rp), FZ_OK);
    /* 509 rows are padded to 4 x 128, in the encoder's and the decoder's table. */
    const int64_t padding = 3 * (program->config.enc_width + program->config.dec_width);
    assert_int_equal(rp.n_weights, program->n_elements + padding);
    assert_int_equal(rp.n_trainable, program->n_trainable + padding);
    fz_plan_destroy(&plan);
    fz_program_destroy(&program);
}

/* Where nothing flows back, all-forward-all-backward needs no slot per micro-batch. */
static void a_frozen_stage_saves_two_micro_batches(void **state)
{
    (void)state;
    fz_program *program = make_program("tiny-bart", true);
    fz_layout_config layout = layout_of(program, program->n_blocks, 1, 1);
    layout.schedule = FZ_SCHEDULE_AFAB;
    fz_plan *plan = NULL;
    assert_int_equal(fz_plan_create(program, &train, &layout, &plan), FZ_OK);
    for (int r = 0; r < plan->n_stages; r++) {
        fz_rank_plan rp;
        assert_int_equal(fz_plan_rank(plan, r, &rp), FZ_OK);
        const bool backward = fz_plan_has_backward(plan, r);
        assert_int_equal(backward, fz_block_keeps(&program->blocks[r]));
        assert_int_equal(rp.in_flight, backward ? plan->n_micro : 2);
        assert_int_equal(rp.bytes.dstream > 0, backward);
    }
    fz_plan_destroy(&plan);
    fz_program_destroy(&program);
}

typedef struct refusal {
    int pp, dp, tp;
    int64_t global_batch, loss_batch, micro_batch, lanes;
    const char *text;
} refusal;

static void impossible_layouts_are_refused_by_name(void **state)
{
    static const refusal refusals[] = {
        {1, 1, 3, 24, 8, 4, 8, "layout.tp: 3 does not divide 4 shards; use 1, 2 or 4"},
        {1, 1, 8, 24, 8, 4, 8, "layout.tp: 8 does not divide 4 shards; use 1, 2 or 4"},
        {1, 1, 0, 24, 8, 4, 8, "layout.tp: 0 does not divide 4 shards; use 1, 2 or 4"},
        {99, 1, 1, 24, 8, 4, 8, "layout.pp: 99 "},
        {1, 9, 1, 24, 8, 4, 8, "layout.dp: 9 "},
        {1, 1, 1, 25, 8, 4, 8, "train.loss_batch: 8 does not divide train.global_batch 25"},
        {1, 1, 1, 24, 8, 3, 8, "train.micro_batch: 3 does not divide train.loss_batch 8"},
        {1, 1, 1, 24, 8, 0, 8, "train.micro_batch: "},
        {1, 1, 1, 24, 8, 4, 6, "numerics.lanes: 6 is not a power of two"},
    };
    (void)state;
    fz_program *program = make_program("tiny-bart", false);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const refusal *r = &refusals[i];
        fz_layout_config layout = layout_of(program, r->pp, r->dp, r->tp);
        fz_train_config batches = train;
        fz_plan *plan = NULL;
        layout.n_lanes = r->lanes;
        batches.global_batch = r->global_batch;
        batches.loss_batch = r->loss_batch;
        batches.micro_batch = r->micro_batch;
        assert_int_equal(fz_plan_create(program, &batches, &layout, &plan), FZ_ERR_USAGE);
        assert_null(plan);
        assert_memory_equal(fz_last_error()->text, r->text, strlen(r->text));
    }
    fz_program_destroy(&program);
}

static void a_model_with_nothing_to_train_is_refused(void **state)
{
    fz_model_config config;
    fz_program *program = NULL;
    fz_plan *plan = NULL;
    (void)state;
    assert_int_equal(fz_model_variant("tiny-bart", &config), FZ_OK);
    config.n_freeze = 1;
    strcpy(config.freeze[0], "*");
    assert_int_equal(fz_program_create(&config, 4, &program), FZ_OK);
    const fz_layout_config layout = layout_of(program, 1, 1, 1);
    assert_int_equal(fz_plan_create(program, &train, &layout, &plan), FZ_ERR_USAGE);
    assert_memory_equal(fz_last_error()->text, "model.freeze: ", 14);
    fz_program_destroy(&program);
}

static void four_thousand_ranks_are_planned_in_a_moment(void **state)
{
    (void)state;
    fz_program *program = make_program("11.2b", true);
    fz_layout_config layout = layout_of(program, 16, 32, 8);
    fz_train_config batches = train;
    fz_plan *plan = NULL;
    fz_rank_plan rp;
    layout.n_lanes = 32;
    batches.global_batch = 1024;
    batches.loss_batch = batches.micro_batch = 32;
    const double start = fz_clock_s();
    assert_int_equal(fz_plan_create(program, &batches, &layout, &plan), FZ_OK);
    for (int r = 0; r < fz_mesh_size(layout.shape); r++)
        assert_int_equal(fz_plan_rank(plan, r, &rp), FZ_OK);
    const double seconds = fz_clock_s() - start;
    print_message("4096 ranks of 11.2b: %.3f s\n", seconds);
    assert_true(seconds < 5.0);
    fz_plan_destroy(&plan);
    fz_program_destroy(&program);
    assert_int_equal(fz_memory_get().n_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_shards_and_micro_batches_are_run_once),
        cmocka_unit_test(every_trained_piece_has_room_in_one_snapshot),
        cmocka_unit_test(every_piece_has_one_owner),
        cmocka_unit_test(one_rank_holds_every_element_once),
        cmocka_unit_test(a_frozen_stage_saves_two_micro_batches),
        cmocka_unit_test(impossible_layouts_are_refused_by_name),
        cmocka_unit_test(a_model_with_nothing_to_train_is_refused),
        cmocka_unit_test(four_thousand_ranks_are_planned_in_a_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
