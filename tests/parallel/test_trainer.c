/* The trainer on several ranks against the trainer on one: rank 0 also runs the whole step alone,
 * on groups of its own, and all compare bits. (test_layouts has the full matrix of options;
 * here are all calls of the trainer on every kind of layout, and what must go wrong well.)
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/ranks.h"

#include "tests/parallel/rig.h"

enum { N_STEPS = 3, N_ROWS = 4, MAX_BATCH = 48 };

static const row rows[N_ROWS] = {
    {.variant = "tiny-bart",
     .schedule = FZ_SCHEDULE_1F1B,
     .dropout = true,
     .micro_batch = 2,
     .n_micro = 5,
     .loss_micro = 1},
    {.variant = "tiny-gemma",
     .schedule = FZ_SCHEDULE_AFAB,
     .freeze = true,
     .dropout = true,
     .micro_batch = 3,
     .n_micro = 6,
     .loss_micro = 3},
    {.variant = "tiny-gemma",
     .schedule = FZ_SCHEDULE_1F1B,
     .micro_batch = 2,
     .n_micro = 3,
     .loss_micro = 3},
    {.variant = "tiny-bart",
     .schedule = FZ_SCHEDULE_AFAB,
     .freeze = true,
     .micro_batch = 3,
     .n_micro = 16,
     .loss_micro = 4},
};

static const fz_mesh_shape layouts[] = {
    /* pp dp tp */
    {1, 1, 1}, {1, 1, 2}, {2, 1, 1}, {1, 2, 1}, {3, 1, 1}, {1, 3, 1},
    {1, 1, 4}, {4, 1, 1}, {1, 4, 1}, {2, 1, 2}, {1, 2, 2}, {2, 2, 1},
};
enum { N_LAYOUTS = sizeof layouts / sizeof layouts[0] };

/* Everything that must not depend on the layout. */
typedef struct outcome {
    fz_step_result steps[N_STEPS];
    uint64_t digest_before, digest_after;
    double sample_loss[MAX_BATCH], sample_labels[MAX_BATCH];
    bool memory_ok;
} outcome;

/* An evaluation whose last micro-batches are short or empty, as at the end of a data set. */
static fz_status evaluate(rig *g, outcome *out)
{
    fz_step_batch batch;
    const int64_t B = g->plan->train.micro_batch, S = SHARDS;
    const fz_shards *shards = &g->rank_plan.shards;

    fz_synthetic_step(g->synthetic, 50, &batch);
    for (int64_t m = 0; m < batch.n_micro; m++) {
        fz_microbatch *micro = &batch.micro[m];
        const int64_t from_end = g->plan->n_micro - 1 - (batch.first_micro + m);
        if (from_end > 1) continue;
        const int64_t n = from_end == 0 ? 0 : B - 1;
        micro->sizes.n_samples = n;
        /* The short micro-batch keeps the first images of this process: enough pixels for shards
         * of fewer samples are not always there, so all pixels come from one place. */
        micro->sizes.n_local_images = fz_image_first(n, S, shards->first + shards->count) -
                                      fz_image_first(n, S, shards->first);
        micro->sizes.n_enc = micro->enc_start[n];
        micro->sizes.n_dec = micro->dec_start[n];
        if (fz_trainer_get_needs(g->trainer).pixels) {
            static float grey[2 * 36 * 36 * 3];
            micro->pixels = grey;
        }
    }
    return fz_trainer_eval(g->trainer, &batch, out->sample_loss, out->sample_labels);
}

static fz_status run(rig *g, outcome *out)
{
    const int64_t sealed = fz_memory_get().n_sealed;

    FZ_TRY(fz_trainer_digest(g->trainer, &out->digest_before));
    for (int64_t s = 0; s < N_STEPS; s++) {
        fz_step_batch batch;
        fz_synthetic_step(g->synthetic, s, &batch);
        FZ_TRY(fz_trainer_step(g->trainer, &batch, &out->steps[s]));
        out->steps[s].seconds = 0;
        fz_memory_seal(true); /* the first step is over */
    }
    FZ_TRY(fz_trainer_digest(g->trainer, &out->digest_after));
    FZ_TRY(evaluate(g, out));
    fz_memory_seal(false);
    out->memory_ok = fz_trainer_bytes(g->trainer) == g->rank_plan.bytes.total &&
                     fz_memory_get().n_sealed == sealed;
    return FZ_OK;
}

/* The same on rank 0 alone, with a group of its own; all get the outcome. */
static fz_status run_alone(const row *r, outcome *out)
{
    rig g;
    fz_group *group = NULL;
    fz_status status = FZ_OK;

    FZ_TRY(fz_group_split(world.group, world.rank, 0, &group));
    const fz_world self = {.rank = 0, .size = 1, .group = group, .places = world.places};
    if (world.rank == 0) {
        status = rig_start(&g, &self, (fz_mesh_shape){1, 1, 1}, r);
        if (status == FZ_OK) status = run(&g, out);
        rig_stop(&g);
    }
    fz_group_destroy(&group);
    status = fz_agree(world.group, status);
    return status == FZ_OK ? fz_broadcast(world.group, out, sizeof *out, 0) : status;
}

static void require(fz_status status)
{
    if (status != FZ_OK) fprintf(stderr, "rank %d: %s\n", world.rank, fz_last_error()->text);
    assert_all_ranks(status == FZ_OK);
}

static bool padding_is_zero(const rig *g)
{
    const fz_state *views = fz_trainer_state(g->trainer);

    for (int v = 0; v < views->n_views; v++) {
        const fz_state_view *view = &views->views[v];
        const fz_param *param = &g->program->params[view->tensor];
        if (param->cut != FZ_CUT_VOCAB) continue;
        const int64_t held = (view->hi[0] - view->lo[0]) * param->shape[1];
        for (int64_t i = held; i < fz_param_piece_elements(param, SHARDS); i++)
            if (view->data[i] < 0.0f || view->data[i] > 0.0f) return false;
    }
    return true;
}

static void compare(const outcome *alone, const outcome *all)
{
    for (int s = 0; s < N_STEPS; s++) {
        assert_all_ranks(memcmp(&alone->steps[s].loss, &all->steps[s].loss, 4) == 0);
        assert_all_ranks(memcmp(&alone->steps[s].grad_norm, &all->steps[s].grad_norm, 4) == 0);
        assert_all_ranks(memcmp(&alone->steps[s].lr, &all->steps[s].lr, 4) == 0);
        assert_all_ranks(alone->steps[s].n_tokens == all->steps[s].n_tokens);
        assert_all_ranks(alone->steps[s].n_labels == all->steps[s].n_labels);
        assert_all_ranks(memcmp(&alone->steps[s].flops, &all->steps[s].flops, 8) == 0);
        assert_all_ranks(all->steps[s].step == s + 1);
    }
    assert_all_ranks(alone->digest_before == all->digest_before);
    assert_all_ranks(alone->digest_after == all->digest_after);
    assert_all_ranks(all->digest_before != all->digest_after);
    assert_all_ranks(memcmp(alone->sample_loss, all->sample_loss, sizeof all->sample_loss) == 0);
    assert_all_ranks(memcmp(alone->sample_labels, all->sample_labels, sizeof all->sample_labels) ==
                     0);
}

static void steps_and_evaluation_have_the_bits_of_one_rank(void **state)
{
    static outcome alone, all;
    (void)state;

    for (int i = 0; i < N_ROWS; i++) {
        memset(&alone, 0, sizeof alone);
        require(run_alone(&rows[i], &alone));
        assert_all_ranks(alone.memory_ok);
        assert_all_ranks(alone.steps[0].loss > 5.0f && alone.steps[0].loss < 8.0f);
        assert_all_ranks(alone.steps[0].grad_norm > 0.0f);
        for (int l = 0; l < N_LAYOUTS; l++) {
            rig g;
            if (fz_mesh_size(layouts[l]) != world.size) continue;
            memset(&all, 0, sizeof all);
            require(rig_start(&g, &world, layouts[l], &rows[i]));
            require(run(&g, &all));
            assert_all_ranks(all.memory_ok);
            assert_all_ranks(padding_is_zero(&g));
            compare(&alone, &all);
            rig_stop(&g);
        }
    }
}

/* One step at a cut before every block, and at some pairs and triples of cuts: inside the vision
 * tower, between encoder and decoder, the tied table on one stage and on two. */
static void any_cut_has_the_bits_of_one_rank(void **state)
{
    (void)state;
    if (world.size == 1) return;
    for (int variant = 0; variant < 2; variant++) {
        row r = rows[variant];
        float loss = 0, norm = 0;
        int cut[4] = {0, 1, 2, 3};
        r.n_micro = 3;
        r.loss_micro = 3;
        for (bool alone = true;; alone = false) {
            rig g;
            fz_group *group = NULL;
            fz_step_batch batch;
            fz_step_result result;
            r.cut = alone ? NULL : cut;
            require(fz_group_split(world.group, alone ? world.rank : 0, world.rank, &group));
            const fz_world where = {.rank = fz_group_rank(group),
                                    .size = fz_group_size(group),
                                    .group = group,
                                    .places = world.places};
            require(rig_start(&g, &where, (fz_mesh_shape){where.size, 1, 1}, &r));
            fz_synthetic_step(g.synthetic, 0, &batch);
            require(fz_trainer_step(g.trainer, &batch, &result));
            if (alone) {
                loss = result.loss;
                norm = result.grad_norm;
            }
            assert_all_ranks(memcmp(&loss, &result.loss, sizeof loss) == 0);
            assert_all_ranks(memcmp(&norm, &result.grad_norm, sizeof norm) == 0);
            const int n_blocks = g.program->n_blocks, last = world.size - 1;
            rig_stop(&g);
            fz_group_destroy(&group);
            if (alone) continue;
            /* The last cut moves up by one block, the others follow at different speeds. */
            if (++cut[last] >= n_blocks) break;
            for (int i = 1; i < last; i++)
                cut[i] = cut[last] * i / last > i ? cut[last] * i / last : i;
        }
    }
}

static void next_tokens_are_those_of_one_rank(void **state)
{
    (void)state;
    for (int l = 0; l < N_LAYOUTS; l++) {
        if (fz_mesh_size(layouts[l]) != world.size || layouts[l].dp > 1) continue;
        for (int i = 1; i < N_ROWS; i += 2) {
            int32_t next[2][4] = {{0}}; /* by one rank, by all */
            fz_group *group = NULL;
            require(fz_group_split(world.group, world.rank, 0, &group));
            const fz_world self = {.size = 1, .group = group, .places = world.places};
            for (int k = 0; k < 2; k++) {
                rig g;
                fz_step_batch batch;
                require(rig_start(&g, k ? &world : &self, k ? layouts[l] : layouts[0], &rows[i]));
                fz_synthetic_step(g.synthetic, 3, &batch);
                require(fz_trainer_next_tokens(g.trainer, &batch.micro[0], next[k]));
                rig_stop(&g);
            }
            fz_group_destroy(&group);
            assert_all_ranks(memcmp(next[0], next[1], sizeof next[0]) == 0);
            assert_all_ranks(next[0][0] >= 0 && next[0][0] < 509 && next[0][0] != next[0][1]);
        }
    }
}

/* Weights that a checkpoint would read: each element of each tensor from exactly one owner. */
static void owned_views_tile_every_tensor(void **state)
{
    (void)state;
    for (int l = 0; l < N_LAYOUTS; l++) {
        rig g;
        if (fz_mesh_size(layouts[l]) != world.size) continue;
        require(rig_start(&g, &world, layouts[l], &rows[1]));
        const fz_state *views = fz_trainer_state(g.trainer);
        int64_t *elements = calloc((size_t)views->n_tensors * FZ_N_STATE_KINDS, sizeof *elements);
        for (int v = 0; v < views->n_views; v++) {
            const fz_state_view *view = &views->views[v];
            int64_t n = 1;
            for (int a = 0; a < views->tensors[view->tensor].ndim; a++)
                n *= view->hi[a] - view->lo[a];
            if (view->is_owner) elements[view->tensor * FZ_N_STATE_KINDS + (int)view->kind] += n;
        }
        require(fz_allreduce_sum_int(world.group, elements,
                                     (int64_t)views->n_tensors * FZ_N_STATE_KINDS));
        for (int t = 0; t < views->n_tensors; t++) {
            const int64_t *n = elements + t * FZ_N_STATE_KINDS;
            const int64_t whole = fz_param_elements(&g.program->params[t]);
            const bool trained = views->tensors[t].trainable;
            assert_all_ranks(n[FZ_STATE_MASTER] == (trained ? whole : 0));
            assert_all_ranks(n[FZ_STATE_EXP_AVG] == (trained ? whole : 0));
            assert_all_ranks(n[FZ_STATE_EXP_AVG_SQ] == (trained ? whole : 0));
            assert_all_ranks(n[FZ_STATE_WEIGHT] == (trained ? 0 : whole));
        }
        free(elements);
        rig_stop(&g);
    }
}

static void a_loss_that_is_not_finite_stops_all_ranks_before_the_update(void **state)
{
    (void)state;
    for (int l = 0; l < N_LAYOUTS; l++) {
        rig g;
        fz_step_batch batch;
        fz_step_result result;
        uint64_t before = 0, after = 0;
        if (fz_mesh_size(layouts[l]) != world.size) continue;
        require(rig_start(&g, &world, layouts[l], &rows[0]));
        /* Every rank poisons its part of one tensor, so the digest knows it too. */
        const fz_state *views = fz_trainer_state(g.trainer);
        for (int v = 0; v < views->n_views; v++)
            if (strstr(views->tensors[views->views[v].tensor].name,
                       "decoder.layers.1.final_layer_norm.weight") &&
                views->views[v].kind == FZ_STATE_MASTER)
                views->views[v].data[0] = NAN;
        require(fz_trainer_digest(g.trainer, &before));
        fz_synthetic_step(g.synthetic, 0, &batch);
        const fz_status status = fz_trainer_step(g.trainer, &batch, &result);
        assert_all_ranks(status == FZ_ERR_FORMAT);
        assert_all_ranks(strstr(fz_last_error()->text, "step 1: loss is not finite") != NULL);
        require(fz_trainer_digest(g.trainer, &after));
        assert_all_ranks(before == after && fz_trainer_step_count(g.trainer) == 0);
        rig_stop(&g);
    }
}

static void keep_rate(fz_train_config *train)
{
    train->warmup = 0;
    train->lr_kind = FZ_LR_CONSTANT;
}

/* Moments that began at zero after step 7 make of step 8 what they made of the first step. */
static void moments_that_begin_later_are_corrected_from_there(void **state)
{
    row r = rows[0];
    uint64_t digests[3] = {0};

    (void)state;
    r.dropout = false;
    r.adjust = keep_rate;
    for (int turn = 0; turn < 3; turn++) { /* from the start; from step 7; as if they were known */
        rig g;
        fz_step_batch batch;
        fz_step_result result;
        require(rig_start(&g, &world, (fz_mesh_shape){1, world.size, 1}, &r));
        if (turn > 0) fz_trainer_set_step_count(g.trainer, 7);
        if (turn == 1) fz_trainer_set_moments_start(g.trainer, 7);
        fz_synthetic_step(g.synthetic, 0, &batch);
        require(fz_trainer_step(g.trainer, &batch, &result));
        require(fz_trainer_digest(g.trainer, &digests[turn]));
        rig_stop(&g);
    }
    assert_all_ranks(digests[0] == digests[1] && digests[0] != digests[2]);
}

static void a_mesh_of_another_shape_is_refused(void **state)
{
    rig g, other;
    fz_trainer *trainer = NULL;
    (void)state;
    if (world.size < 2) return;
    const fz_mesh_shape data = {1, world.size, 1}, chain = {world.size, 1, 1};
    require(rig_start(&g, &world, data, &rows[0]));
    require(rig_start(&other, &world, chain, &rows[0]));
    assert_all_ranks(fz_trainer_create(g.plan, &other.mesh, &fz_ops_cpu, &trainer) == FZ_ERR_ARG);
    rig_stop(&other);
    rig_stop(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_and_evaluation_have_the_bits_of_one_rank),
        cmocka_unit_test(any_cut_has_the_bits_of_one_rank),
        cmocka_unit_test(next_tokens_are_those_of_one_rank),
        cmocka_unit_test(owned_views_tile_every_tensor),
        cmocka_unit_test(a_loss_that_is_not_finite_stops_all_ranks_before_the_update),
        cmocka_unit_test(moments_that_begin_later_are_corrected_from_there),
        cmocka_unit_test(a_mesh_of_another_shape_is_refused),
    };
    fz_ops_cpu_start();
    run_on_all_ranks(tests);
}
