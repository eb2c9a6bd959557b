/* A run that is cut off anywhere and goes on at any other layout has the bits of one that was never
 * cut off: random triples of layout that saves, layout that loads, and step, with the trainer. */
#include "tests/support/ranks.h"

#include "tests/parallel/seats.h"

#include "checkpoint/checkpoint.h"
#include "model/ops/ops.h"
#include "parallel/synthetic.h"
#include "parallel/trainer.h"

enum { N_STEPS = 6, N_AFTER = 2, N_TRIPLES = 60, SHARDS = 4, LANES = 8 };

typedef struct kind_of_run {
    const char *variant;
    bool freeze;
    int64_t micro_batch, n_micro, loss_micro; /* loss batch in micro-batches */
} kind_of_run;

static const kind_of_run RUNS[] = {
    {"tiny-bart", false, 2, 5, 1},
    {"tiny-gemma", true, 1, 8, 4},
    {"tiny-gemma", false, 2, 3, 3},
    {"tiny-bart", true, 1, 9, 3},
};
enum { N_RUNS = sizeof RUNS / sizeof *RUNS };

/* Those that fill the seats stand together. */
static const fz_mesh_shape LAYOUTS[] = {
    /* pp dp tp */
    {2, 2, 2}, {1, 8, 1}, {4, 1, 2}, {1, 2, 4}, {7, 1, 1}, {1, 1, 1}, {1, 3, 2}, {1, 1, 2},
    {2, 3, 1}, {2, 1, 1}, {1, 5, 1}, {1, 3, 1}, {1, 1, 4}, {2, 1, 2}, {1, 2, 1}, {3, 1, 1},
};
enum { N_LAYOUTS = sizeof LAYOUTS / sizeof *LAYOUTS, ALONE = 5 };

/* After `saved` steps a run goes from one layout to another. */
typedef struct triple {
    int run, from, to, saved;
} triple;

typedef struct step_bits {
    uint32_t loss, norm;
    uint64_t digest;
} step_bits;

typedef struct rig {
    fz_program *program;
    fz_plan *plan;
    fz_mesh mesh;
    fz_trainer *trainer;
    fz_synthetic *synthetic;
} rig;

static char scratch[FZ_PATH_BYTES];
static triple triples[N_TRIPLES];
static step_bits reference[N_RUNS][N_STEPS + 1]; /* after each step; 0: before the first */

/* ---- a trainer at a layout ---- */

static fz_status configure(const kind_of_run *r, fz_program **program_p, fz_train_config *train)
{
    fz_model_config c;
    FZ_TRY(fz_model_variant(r->variant, &c));
    c.image_size = 36;
    c.vision_depths[2] = 1;
    c.max_prompt = 9;
    c.max_output = 11;
    if (r->freeze) {
        c.freeze_recipe = true;
        strcpy(c.freeze[c.n_freeze++], "*encoder.layers.0.fc1*");
    }
    *train = (fz_train_config){.seed = 44595,
                               .steps = 2 * N_STEPS,
                               .global_batch = r->micro_batch * r->n_micro,
                               .loss_batch = r->micro_batch * r->loss_micro,
                               .micro_batch = r->micro_batch,
                               .clip = 1.0,
                               .lr = 3e-3,
                               .weight_decay = 0.01,
                               .beta1 = 0.9,
                               .beta2 = 0.999,
                               .eps = 1e-8,
                               .warmup = 2,
                               .lr_kind = FZ_LR_COSINE};
    return fz_program_create(&c, SHARDS, program_p);
}

static void rig_stop(rig *g)
{
    fz_synthetic_destroy(&g->synthetic);
    fz_trainer_destroy(&g->trainer);
    fz_mesh_reset(&g->mesh);
    fz_plan_destroy(&g->plan);
    fz_program_destroy(&g->program);
}

/* The trainer's memory is zero: no weight is there but what a load brings. */
static fz_status rig_start(rig *g, const fz_world *where, fz_mesh_shape shape, const kind_of_run *r)
{
    const fz_layout_config layout = {
        .shape = shape, .schedule = FZ_SCHEDULE_1F1B, .n_shards = SHARDS, .n_lanes = LANES};
    fz_train_config train;

    memset(g, 0, sizeof *g);
    FZ_TRY(configure(r, &g->program, &train));
    FZ_TRY(fz_plan_create(g->program, &train, &layout, &g->plan));
    FZ_TRY(fz_mesh_create(where, shape, &g->mesh));
    FZ_TRY(fz_trainer_create(g->plan, &g->mesh, &fz_ops_cpu, &g->trainer));
    const fz_trainer_needs needs = fz_trainer_get_needs(g->trainer);
    return fz_synthetic_create(g->program, &train, &needs, 0, 1, &g->synthetic);
}

static fz_status one_step(rig *g, step_bits *bits)
{
    fz_step_batch batch;
    fz_step_result result;

    fz_synthetic_step(g->synthetic, fz_trainer_step_count(g->trainer), &batch);
    FZ_TRY(fz_trainer_step(g->trainer, &batch, &result));
    memcpy(&bits->loss, &result.loss, sizeof bits->loss);
    memcpy(&bits->norm, &result.grad_norm, sizeof bits->norm);
    return fz_trainer_digest(g->trainer, &bits->digest);
}

static bool is_same(const step_bits *a, const step_bits *b)
{
    return a->loss == b->loss && a->norm == b->norm && a->digest == b->digest;
}

static void directory_of(char path[FZ_PATH_BYTES], int run, int from)
{
    char name[64];
    snprintf(name, sizeof name, "run-%d-%d", run, from);
    assert_int_equal(fz_disk_join(path, scratch, name), FZ_OK);
}

static fz_status save(const rig *g, const fz_world *sub, const char *dir)
{
    static char config[] = "model: {variant: tiny}\n";
    const int64_t step = fz_trainer_step_count(g->trainer), batch = g->plan->train.global_batch;
    const fz_layout_config *l = &g->plan->layout;
    const fz_ckpt_info info = {.step = step,
                               .samples = step * batch,
                               .seed = g->plan->train.seed,
                               .tp = l->shape.tp,
                               .pp = l->shape.pp,
                               .dp = l->shape.dp,
                               .shards = l->n_shards,
                               .lanes = l->n_lanes,
                               .global_batch = batch,
                               .micro_batch = g->plan->train.micro_batch,
                               .run_id = "continued",
                               .config = config};
    return fz_ckpt_save(sub->group, dir, fz_trainer_state(g->trainer), &info, 0, NULL);
}

/* ---- the parts of the test ---- */

static bool is_wanted(int run, int from, int64_t saved)
{
    for (int i = 0; i < N_TRIPLES; i++)
        if (triples[i].run == run && triples[i].from == from && triples[i].saved == saved)
            return true;
    return false;
}

/* The last step that a triple saves; 0: none. */
static int last_wanted(int run, int from)
{
    int last = 0;
    for (int s = 1; s <= N_STEPS; s++)
        if (is_wanted(run, from, s)) last = s;
    return last;
}

/* A run of so many steps without a break, which saves where a triple leaves it. */
static fz_status run_through(const fz_world *sub, int run, int from, int n_steps, step_bits *bits)
{
    char dir[FZ_PATH_BYTES];
    rig g;

    directory_of(dir, run, from);
    fz_status status = fz_agree(sub->group, rig_start(&g, sub, LAYOUTS[from], &RUNS[run]));
    if (status == FZ_OK) fz_trainer_init(g.trainer);
    for (int s = 1; s <= n_steps && status == FZ_OK; s++) {
        status = one_step(&g, &bits[s]);
        if (status == FZ_OK && is_wanted(run, from, s)) status = save(&g, sub, dir);
    }
    rig_stop(&g);
    return status;
}

static fz_status continue_from(const fz_world *sub, const triple *t, step_bits *bits)
{
    char dir[FZ_PATH_BYTES];
    fz_ckpt_info info = {.step = -1};
    bool found = false;
    rig g;

    directory_of(dir, t->run, t->from);
    fz_status status = fz_agree(sub->group, rig_start(&g, sub, LAYOUTS[t->to], &RUNS[t->run]));
    if (status == FZ_OK) /* no step after this one, whatever else was saved there */
        status = fz_ckpt_find_before(sub->group, dir, t->saved + 1, &found, &info);
    if (status == FZ_OK && (!found || info.step != t->saved))
        status = FZ_FAIL(FZ_ERR_FORMAT, "step %d is not there", t->saved);
    if (status == FZ_OK)
        status = fz_ckpt_load(sub->group, dir, info.step, fz_trainer_state(g.trainer));
    if (status == FZ_OK) fz_trainer_set_step_count(g.trainer, info.step);
    for (int s = 0; s < N_AFTER && status == FZ_OK; s++)
        status = one_step(&g, &bits[s]);
    fz_ckpt_info_reset(&info);
    rig_stop(&g);
    return status;
}

static void one_rank_trains_without_a_break(void **state)
{
    fz_status status = FZ_OK;

    (void)state;
    if (world.rank < N_RUNS) { /* every rank one of them, all by itself */
        fz_world self = {.size = 1, .places = world.places, .has_mpi = true};
        fz_group_split(world.group, world.rank, 0, &self.group);
        status = run_through(&self, world.rank, ALONE, N_STEPS, reference[world.rank]);
        fz_group_destroy(&self.group);
    } else {
        fz_group *nobody;
        fz_group_split(world.group, world.rank, 0, &nobody);
        fz_group_destroy(&nobody);
    }
    if (status != FZ_OK) fprintf(stderr, "%s\n", fz_last_error()->text);
    assert_all_ranks(status == FZ_OK);
    for (int r = 0; r < N_RUNS; r++)
        fz_broadcast(world.group, reference[r], sizeof reference[r], r);
    for (int s = 2; s <= N_STEPS; s++)
        assert_all_ranks(reference[0][s].loss != reference[0][s - 1].loss &&
                         reference[0][s].digest != reference[0][s - 1].digest);
}

static void every_layout_trains_and_saves(void **state)
{
    bool is_done[N_LAYOUTS] = {false}, is_good = true;
    int seats[N_RANKS];

    (void)state;
    while (take_seats(LAYOUTS, N_LAYOUTS, is_done, seats) > 0) {
        fz_world sub = sit_down(seats);
        const int from = seats[world.rank];
        for (int run = 0; run < N_RUNS && sub.group; run++) {
            step_bits bits[N_STEPS + 1];
            const int n_steps = last_wanted(run, from);
            if (n_steps == 0 || from == ALONE) continue; /* has run, and saved */
            const fz_status status = run_through(&sub, run, from, n_steps, bits);
            if (status != FZ_OK) fprintf(stderr, "%s\n", fz_last_error()->text);
            for (int s = 1; s <= n_steps; s++)
                is_good &= status == FZ_OK && is_same(&bits[s], &reference[run][s]);
        }
        if (sub.group) fz_group_destroy(&sub.group);
    }
    assert_all_ranks(is_good);
}

static void any_layout_goes_on_from_any_other_at_any_step(void **state)
{
    bool is_done[N_LAYOUTS] = {false}, is_good = true;
    int64_t n_continued = 0;
    int seats[N_RANKS];

    (void)state;
    while (take_seats(LAYOUTS, N_LAYOUTS, is_done, seats) > 0) {
        fz_world sub = sit_down(seats);
        for (int i = 0; i < N_TRIPLES && sub.group; i++) {
            const triple *t = &triples[i];
            step_bits bits[N_AFTER];
            if (t->to != seats[world.rank]) continue;
            const fz_status status = continue_from(&sub, t, bits);
            if (status != FZ_OK) fprintf(stderr, "%s\n", fz_last_error()->text);
            for (int s = 0; s < N_AFTER; s++) {
                const bool is_equal =
                    status == FZ_OK && is_same(&bits[s], &reference[t->run][t->saved + 1 + s]);
                if (!is_equal)
                    fprintf(stderr, "run %d, layout %d to %d after step %d: step %d differs\n",
                            t->run, t->from, t->to, t->saved, t->saved + 1 + s);
                is_good &= is_equal;
            }
            n_continued += sub.rank == 0;
        }
        if (sub.group) fz_group_destroy(&sub.group);
    }
    assert_all_ranks(is_good);
    assert_int_equal(fz_allreduce_sum_int(world.group, &n_continued, 1), FZ_OK);
    assert_int_equal(n_continued, N_TRIPLES);
}

/* ---- all of it ---- */

static int start(void **state)
{
    uint64_t random = 2026;

    (void)state;
    make_scratch(scratch);
    for (int i = 0; i < N_TRIPLES; i++) {
        triple *t = &triples[i];
        t->from = draw(&random, N_LAYOUTS);
        t->run = t->from % 2 + i % 2 * 2; /* one of each family for every layout that saves */
        do
            t->to = draw(&random, N_LAYOUTS);
        while (t->to == t->from);
        t->saved = 1 + draw(&random, N_STEPS - N_AFTER);
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    remove_scratch(scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_trains_without_a_break),
        cmocka_unit_test(every_layout_trains_and_saves),
        cmocka_unit_test(any_layout_goes_on_from_any_other_at_any_step),
    };

    fz_ops_cpu_start();
    if (fz_ckpt_start() != FZ_OK) return 1;
    run_on_all_ranks_with(tests, start, stop);
}
