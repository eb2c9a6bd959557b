/* The headline: loss, gradient norm and parameters have the same bits on every layout.
 *
 * Eight option rows cover, pairwise, model x schedule x freezing x dropout x micro-batch (smaller
 * than the shard count, and not) x number of micro-batches; every layout runs every row for 20
 * steps and is compared with one rank. Run on 8 ranks; a layout of n ranks runs 8/n rows at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/memory.h"
#include "dist/mesh.h"
#include "model/ops/ops.h"
#include "parallel/synthetic.h"
#include "parallel/trainer.h"

enum { N_STEPS = 20, N_ROWS = 8, N_RANKS = 8 };

typedef struct row {
    const char *variant;
    fz_schedule_kind schedule;
    bool freeze, dropout;
    int64_t micro_batch, n_micro, loss_micro; /* loss batch in micro-batches: may straddle lanes */
} row;

/* A value and its complement per M: every pair of options occurs in all combinations. */
static const row rows[N_ROWS] = {
    {"tiny-bart", FZ_SCHEDULE_AFAB, false, false, 2, 3, 3},
    {"tiny-gemma", FZ_SCHEDULE_1F1B, true, true, 5, 3, 1},
    {"tiny-bart", FZ_SCHEDULE_AFAB, true, true, 5, 5, 5},
    {"tiny-gemma", FZ_SCHEDULE_1F1B, false, false, 2, 5, 1},
    {"tiny-bart", FZ_SCHEDULE_1F1B, false, true, 5, 6, 2},
    {"tiny-gemma", FZ_SCHEDULE_AFAB, true, false, 2, 6, 3},
    {"tiny-bart", FZ_SCHEDULE_1F1B, true, false, 2, 16, 4},
    {"tiny-gemma", FZ_SCHEDULE_AFAB, false, true, 5, 16, 16},
};

static const fz_mesh_shape layouts[] = {
    /* pp dp tp */
    {1, 1, 2}, {1, 1, 4}, {2, 1, 1}, {3, 1, 1}, {4, 1, 1}, {1, 2, 1},
    {1, 3, 1}, {1, 4, 1}, {2, 1, 2}, {1, 2, 2}, {2, 2, 1}, {2, 2, 2},
};

typedef struct series {
    uint32_t loss[N_STEPS], norm[N_STEPS];
    uint64_t digest;
    int32_t status; /* 0: ran to its end */
    int32_t memory; /* 0: arena bytes equal the plan's and nothing allocated after step one */
    char text[200];
} series;

static fz_world world;
static series reference[N_ROWS];

static fz_status configure(const row *r, fz_program **program_p, fz_train_config *train)
{
    fz_model_config c;
    FZ_TRY(fz_model_variant(r->variant, &c));
    c.image_size = 40; /* maps of 10, 5, 3, 2: windows are padded everywhere */
    c.vision_depths[2] = 1;
    c.max_prompt = 12;
    c.max_output = 13;
    if (!r->dropout) c.dropout = c.attn_dropout = c.act_dropout = c.drop_path = 0;
    if (r->freeze) {
        c.freeze_recipe = true;
        strcpy(c.freeze[c.n_freeze++], "*encoder.layers.0.fc1*");
    }
    *train = (fz_train_config){.seed = 44595,
                               .steps = N_STEPS,
                               .global_batch = r->micro_batch * r->n_micro,
                               .loss_batch = r->micro_batch * r->loss_micro,
                               .micro_batch = r->micro_batch,
                               .clip = 1.0,
                               .lr = 3e-3,
                               .weight_decay = 0.01,
                               .beta1 = 0.9,
                               .beta2 = 0.999,
                               .eps = 1e-8,
                               .warmup = 4,
                               .lr_kind = FZ_LR_COSINE};
    return fz_program_create(&c, 4, program_p);
}

static fz_status train_steps(fz_trainer *trainer, const fz_program *program,
                             const fz_train_config *train, const fz_plan *plan, int rank,
                             series *out)
{
    const fz_trainer_needs needs = fz_trainer_get_needs(trainer);
    fz_synthetic *synthetic = NULL;
    fz_rank_plan rank_plan;
    fz_status status = fz_synthetic_create(program, train, &needs, 0, 1, &synthetic);
    fz_trainer_init(trainer);
    const int64_t sealed = fz_memory_get().n_sealed;
    for (int64_t s = 0; s < N_STEPS && status == FZ_OK; s++) {
        fz_step_batch batch;
        fz_step_result result;
        fz_synthetic_step(synthetic, s, &batch);
        status = fz_trainer_step(trainer, &batch, &result);
        memcpy(&out->loss[s], &result.loss, 4);
        memcpy(&out->norm[s], &result.grad_norm, 4);
        fz_memory_seal(true); /* the first step is over */
    }
    fz_memory_seal(false);
    if (status == FZ_OK) status = fz_trainer_digest(trainer, &out->digest);
    if (status == FZ_OK) status = fz_plan_rank(plan, rank, &rank_plan);
    if (status == FZ_OK)
        out->memory = fz_trainer_bytes(trainer) != rank_plan.bytes.total ||
                      fz_memory_get().n_sealed != sealed;
    fz_synthetic_destroy(&synthetic);
    return status;
}

static fz_status run_on(const fz_world *sub, fz_mesh_shape shape, const row *r, series *out)
{
    fz_program *program = NULL;
    fz_plan *plan = NULL;
    fz_trainer *trainer = NULL;
    fz_mesh mesh = {0};
    fz_train_config train;
    fz_layout_config layout = {
        .shape = shape, .schedule = r->schedule, .n_shards = 4, .n_lanes = 8};
    fz_status status = configure(r, &program, &train);
    if (status == FZ_OK) status = fz_plan_create(program, &train, &layout, &plan);
    if (status == FZ_OK) status = fz_mesh_create(sub, shape, &mesh);
    if (status == FZ_OK) status = fz_trainer_create(plan, &mesh, &fz_ops_cpu, &trainer);
    if (status == FZ_OK) status = train_steps(trainer, program, &train, plan, sub->rank, out);
    fz_trainer_destroy(&trainer);
    fz_mesh_reset(&mesh);
    fz_plan_destroy(&plan);
    fz_program_destroy(&program);
    return status;
}

/* Every row on its own group of n consecutive ranks; results from each group's last rank. */
static void run_rows(fz_mesh_shape shape, series results[N_ROWS])
{
    const int n = fz_mesh_size(shape), n_groups = N_RANKS / n, mine = world.rank / n;
    fz_group *group = NULL;
    static series all[N_RANKS];
    assert_int_equal(fz_group_split(world.group, mine, world.rank, &group), FZ_OK);
    for (int first = 0; first < N_ROWS; first += n_groups) {
        series s = {.status = -1};
        if (mine < n_groups && first + mine < N_ROWS) {
            const fz_world sub = {.rank = fz_group_rank(group),
                                  .size = n,
                                  .group = group,
                                  .places = world.places,
                                  .has_mpi = true};
            s.status = (int32_t)run_on(&sub, shape, &rows[first + mine], &s);
            if (s.status != FZ_OK) memcpy(s.text, fz_last_error()->text, sizeof s.text - 1);
        }
        assert_int_equal(fz_allgather(world.group, &s, sizeof s, all), FZ_OK);
        for (int g = 0; g < n_groups && first + g < N_ROWS; g++) {
            results[first + g] = all[g * n + n - 1];
            for (int i = 0; i < n; i++) { /* every rank of the group must have had the same */
                const series *one = &all[g * n + i];
                if (one->memory != 0 || one->digest != all[g * n].digest)
                    results[first + g].memory = 1;
            }
        }
    }
    fz_group_destroy(&group);
}

static int first_difference(const series *a, const series *b)
{
    for (int s = 0; s < N_STEPS; s++)
        if (a->loss[s] != b->loss[s] || a->norm[s] != b->norm[s]) return s;
    return a->digest == b->digest ? -1 : N_STEPS;
}

static void one_rank_trains(void **state)
{
    (void)state;
    run_rows((fz_mesh_shape){1, 1, 1}, reference);
    for (int r = 0; r < N_ROWS; r++) {
        float first, last;
        if (reference[r].status != FZ_OK) fail_msg("row %d: %s", r, reference[r].text);
        assert_int_equal(reference[r].memory, 0);
        memcpy(&first, &reference[r].loss[0], 4);
        memcpy(&last, &reference[r].loss[N_STEPS - 1], 4);
        assert_true(first > 5.5f && first < 7.0f); /* ln 509 = 6.23 */
        assert_true(last < first);
    }
    for (int r = 1; r < N_ROWS; r++)
        assert_true(reference[r].digest != reference[0].digest);
}

static void every_layout_has_the_bits_of_one_rank(void **state)
{
    static series results[N_ROWS];
    int bad = 0;
    (void)state;
    for (size_t l = 0; l < sizeof layouts / sizeof layouts[0]; l++) {
        run_rows(layouts[l], results);
        for (int r = 0; r < N_ROWS; r++) {
            const int at = first_difference(&reference[r], &results[r]);
            if (results[r].status == FZ_OK && at < 0 && results[r].memory == 0) continue;
            bad++;
            if (world.rank == 0)
                fprintf(stderr, "pp%d dp%d tp%d row %d (%s M %lld mb %lld): %s, step %d%s\n",
                        layouts[l].pp, layouts[l].dp, layouts[l].tp, r, rows[r].variant,
                        (long long)rows[r].n_micro, (long long)rows[r].micro_batch,
                        results[r].status == FZ_OK ? "ran" : results[r].text, at,
                        results[r].memory ? ", memory or replicas differ" : "");
        }
    }
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_trains),
        cmocka_unit_test(every_layout_has_the_bits_of_one_rank),
    };
    fz_ops_cpu_start();
    if (fz_world_start(0, NULL, &world) != FZ_OK || world.size != N_RANKS) {
        fprintf(stderr, "run on %d ranks\n", N_RANKS);
        return 1;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fz_world_stop(&world);
    return failed;
}
