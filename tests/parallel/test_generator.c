/* Generation with a cache: against the recomputation of whole texts on one rank, and every layout
 * against one rank, bit for bit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/ranks.h"

#include "parallel/generator.h"
#include "tests/parallel/rig.h"

enum {
    SAMPLES = 3,
    BEAMS = 3,
    N_ROWS = SAMPLES * BEAMS,
    TOKENS = 11, /* more than tiny-gemma's window of 8 */
    VOCAB = 509,
    BEST = 4,
    MICRO = 4,
    START = 1,
};

/* Both families; fewer key/value heads than shards, layers without cross-attention, a window. */
static const row families[] = {
    {.variant = "tiny-bart", .micro_batch = SAMPLES, .n_micro = MICRO, .loss_micro = 1},
    {.variant = "tiny-gemma", .micro_batch = SAMPLES, .n_micro = MICRO, .loss_micro = 1},
    {.variant = "tiny-gemma",
     .micro_batch = SAMPLES,
     .n_micro = MICRO,
     .loss_micro = 1,
     .freeze = true,
     .cross_every = 2},
};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

static const fz_mesh_shape layouts[] = {
    /* pp dp tp */
    {1, 1, 1}, {1, 1, 2}, {2, 1, 1}, {1, 2, 1}, {1, 1, 4}, {4, 1, 1}, {2, 1, 2},
    {1, 2, 2}, {2, 2, 1}, {1, 4, 1}, {2, 2, 2}, {8, 1, 1}, {2, 1, 4}, {4, 2, 1},
};
enum { N_LAYOUTS = sizeof layouts / sizeof layouts[0] };

static void require(fz_status status)
{
    if (status != FZ_OK) fprintf(stderr, "rank %d: %s\n", world.rank, fz_last_error()->text);
    assert_all_ranks(status == FZ_OK);
}

/* Weights that leave no path idle: open gates, biases, words that differ. The same on all layouts.
 */
static void enrich(rig *g)
{
    const fz_state *views = fz_trainer_state(g->trainer);

    for (int v = 0; v < views->n_views; v++) {
        const fz_state_view *view = &views->views[v];
        if (view->kind != FZ_STATE_MASTER && view->kind != FZ_STATE_WEIGHT) continue;
        fz_param param = g->program->params[view->tensor];
        const bool is_one = param.init == FZ_INIT_ONE;
        const int64_t n = fz_param_piece_elements(&param, g->program->n_shards);
        param.init = FZ_INIT_NORMAL;
        param.std = param.ndim > 1 ? 0.15f : (param.shape[0] == 1 ? 1.0f : 0.3f);
        fz_param_init_piece(&param, g->program->n_shards, view->piece, 5, view->data);
        for (int64_t i = 0; i < n && is_one; i++)
            view->data[i] += 1.0f;
    }
}

static fz_status start_rich(rig *g, const fz_world *where, fz_mesh_shape shape, const row *r)
{
    FZ_TRY(rig_start(g, where, shape, r));
    enrich(g);
    return FZ_OK;
}

static fz_generator_sizes sizes_for(int64_t beams, int64_t n_candidates)
{
    return (fz_generator_sizes){
        .n_samples = SAMPLES, .beams = beams, .max_tokens = TOKENS, .n_candidates = n_candidates};
}

static int32_t any_id(int64_t r, int64_t position)
{
    return position == 0 ? START : (int32_t)((r * 71 + position * 193 + 17) % VOCAB);
}

/* ---- one rank: against whole texts ---- */

/* The first micro-batch's samples with the texts that any_id makes of `length` tokens. */
typedef struct texts {
    fz_step_batch batch;
    int32_t dec_start[SAMPLES + 1], dec_ids[SAMPLES * TOKENS], labels[SAMPLES * TOKENS];
} texts;

static void make_texts(rig *g, int64_t length, texts *t)
{
    fz_synthetic_step(g->synthetic, 3, &t->batch);
    for (int64_t m = 1; m < t->batch.n_micro; m++)
        t->batch.micro[m].sizes = (fz_sizes){0};
    for (int64_t s = 0; s < SAMPLES; s++)
        for (int64_t i = 0; i < length; i++) {
            t->dec_ids[s * length + i] = any_id(s, i);
            t->labels[s * length + i] = i + 1 == length ? any_id(s, i + 40) : FZ_NO_LABEL;
        }
    for (int32_t s = 0; s <= SAMPLES; s++)
        t->dec_start[s] = s * (int32_t)length;
    fz_microbatch *micro = &t->batch.micro[0];
    micro->sizes.n_dec = SAMPLES * length;
    micro->sizes.max_dec_len = length;
    micro->dec_start = t->dec_start;
    micro->dec_ids = t->dec_ids;
    micro->labels = t->labels;
}

static float log_prob_of(const fz_candidate *all, int32_t id)
{
    for (int i = 0; i < VOCAB; i++)
        if (all[i].id == id) return all[i].log_prob;
    return NAN;
}

/* All words of a row are there once, in order, and their probabilities are a distribution. */
static void check_distribution(const fz_candidate *all)
{
    bool seen[VOCAB] = {false};
    double sum = 0;

    for (int i = 0; i < VOCAB; i++) {
        assert_true(all[i].id >= 0 && all[i].id < VOCAB && !seen[all[i].id]);
        seen[all[i].id] = true;
        sum += exp((double)all[i].log_prob);
        if (i > 0) assert_true(all[i].log_prob <= all[i - 1].log_prob);
    }
    assert_true(fabs(sum - 1.0) < 1e-5);
}

static void a_cached_step_is_the_whole_text_again(void **state)
{
    static fz_candidate all[SAMPLES * VOCAB];
    static double loss[SAMPLES * MICRO], labels[SAMPLES * MICRO];
    const fz_generator_sizes sizes = sizes_for(1, VOCAB);
    (void)state;
    if (world.size > 1) return;
    for (int f = 0; f < N_FAMILIES; f++) {
        rig g;
        texts t;
        fz_generator *generator = NULL;
        double worst = 0;
        require(start_rich(&g, &world, layouts[0], &families[f]));
        require(fz_generator_create(g.trainer, &sizes, &generator));
        make_texts(&g, 1, &t);
        require(fz_generator_start(generator, &t.batch.micro[0], 1));
        for (int64_t p = 0; p < TOKENS; p++) {
            int32_t ids[SAMPLES], next[SAMPLES];
            for (int64_t s = 0; s < SAMPLES; s++)
                ids[s] = any_id(s, p);
            require(fz_generator_next(generator, &(fz_generator_step){.ids = ids}, all));
            make_texts(&g, p + 1, &t);
            require(fz_trainer_eval(g.trainer, &t.batch, loss, labels));
            require(fz_trainer_next_tokens(g.trainer, &t.batch.micro[0], next));
            for (int64_t s = 0; s < SAMPLES; s++) {
                const fz_candidate *of_sample = all + s * VOCAB;
                const double got = (double)log_prob_of(of_sample, any_id(s, p + 40));
                check_distribution(of_sample);
                worst = fmax(worst, fabs(got + loss[s]) / (1.0 + loss[s]));
                assert_int_equal(of_sample[0].id, next[s]);
            }
        }
        print_message("%s: cache against whole text, worst relative difference %.2g\n",
                      families[f].variant, worst);
        assert_true(worst < 3e-6);
        fz_generator_destroy(&generator);
        rig_stop(&g);
    }
}

/* ---- every layout ---- */

/* All that a run of generation tells. */
typedef struct outcome {
    fz_candidate wide[TOKENS][N_ROWS * BEST];   /* with beams */
    fz_candidate narrow[TOKENS][N_ROWS * BEST]; /* another batch on the same generator */
    bool memory_ok;
} outcome;

/* Beams change places in some steps and words are banned in others. */
static void make_step(int64_t position, const fz_candidate *before, int32_t ids[N_ROWS],
                      int32_t parent[N_ROWS], int32_t banned[2 * N_ROWS],
                      int32_t banned_start[N_ROWS + 1], fz_generator_step *step)
{
    *step = (fz_generator_step){.ids = ids};
    for (int32_t r = 0; r < N_ROWS; r++) {
        const int32_t first = r / BEAMS * BEAMS, b = r % BEAMS;
        parent[r] = r;
        if (position % 4 == 2) parent[r] = first + BEAMS - 1 - b;       /* two change places */
        if (position % 4 == 3) parent[r] = first + (b + 1) % BEAMS / 2; /* one is given up */
        ids[r] = position == 0 ? START : before[parent[r] * BEST + b].id;
        banned_start[r] = 2 * r;
        banned[2 * r] = position == 0 ? START : before[r * BEST].id;
        banned[2 * r + 1] = (r * 50 + (int32_t)position) % VOCAB;
    }
    banned_start[N_ROWS] = 2 * N_ROWS;
    if (position % 4 >= 2) step->parent = parent;
    if (position % 3 == 1) {
        step->banned = banned;
        step->banned_start = banned_start;
    }
}

/* The first samples of micro, with grey pictures: those of fewer samples may be other ranks'. */
static fz_microbatch first_samples(const rig *g, const fz_microbatch *micro, int64_t n)
{
    static float grey[SAMPLES * 36 * 36 * 3];
    const fz_shards *shards = &g->rank_plan.shards;
    fz_microbatch fewer = *micro;

    fewer.sizes.n_samples = n;
    fewer.sizes.n_local_images = fz_image_first(n, SHARDS, shards->first + shards->count) -
                                 fz_image_first(n, SHARDS, shards->first);
    fewer.sizes.n_enc = fewer.enc_start[n];
    fewer.pixels = grey;
    return fewer;
}

static fz_status generate(const rig *g, fz_generator *generator, const fz_microbatch *micro,
                          outcome *out)
{
    int32_t ids[N_ROWS], parent[N_ROWS], banned[2 * N_ROWS], banned_start[N_ROWS + 1];
    fz_generator_step step;
    const fz_microbatch fewer = first_samples(g, micro, SAMPLES - 1);

    FZ_TRY(fz_generator_start(generator, micro, BEAMS));
    for (int64_t p = 0; p < TOKENS; p++) {
        make_step(p, p ? out->wide[p - 1] : NULL, ids, parent, banned, banned_start, &step);
        FZ_TRY(fz_generator_next(generator, &step, out->wide[p]));
    }
    /* Fewer samples, and one row each: other sizes in the same memory. */
    FZ_TRY(fz_generator_start(generator, &fewer, 1));
    for (int64_t p = 0; p < 4; p++) {
        for (int64_t s = 0; s < SAMPLES; s++)
            ids[s] = any_id(s, p);
        FZ_TRY(fz_generator_next(generator, &(fz_generator_step){.ids = ids}, out->narrow[p]));
    }
    return FZ_OK;
}

/* Makes outcomes of the micro-batches that are this data rank's: [first, first + n). */
static fz_status run(rig *g, outcome *out, int64_t *first, int64_t *n)
{
    const fz_generator_sizes sizes = sizes_for(BEAMS, BEST);
    const int64_t sealed = fz_memory_get().n_sealed;
    fz_generator *generator = NULL;
    fz_step_batch batch;

    FZ_TRY(fz_generator_create(g->trainer, &sizes, &generator));
    fz_synthetic_step(g->synthetic, 3, &batch);
    *first = batch.first_micro;
    *n = batch.n_micro;
    fz_memory_seal(true);
    for (int64_t m = 0; m < batch.n_micro; m++) {
        FZ_TRY(generate(g, generator, &batch.micro[m], &out[m]));
        out[m].memory_ok = fz_memory_get().n_sealed == sealed;
    }
    fz_memory_seal(false);
    fz_generator_destroy(&generator);
    return FZ_OK;
}

static fz_status run_alone(const row *r, outcome out[MICRO])
{
    rig g;
    fz_group *group = NULL;
    fz_status status = FZ_OK;

    FZ_TRY(fz_group_split(world.group, world.rank, 0, &group));
    const fz_world self = {.rank = 0, .size = 1, .group = group, .places = world.places};
    if (world.rank == 0) {
        int64_t first, n;
        status = start_rich(&g, &self, (fz_mesh_shape){1, 1, 1}, r);
        if (status == FZ_OK) status = run(&g, out, &first, &n);
        rig_stop(&g);
    }
    fz_group_destroy(&group);
    status = fz_agree(world.group, status);
    return status == FZ_OK ? fz_broadcast(world.group, out, MICRO * sizeof *out, 0) : status;
}

static void every_layout_has_the_bits_of_one_rank(void **state)
{
    static outcome alone[MICRO], all[MICRO];
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        memset(alone, 0, sizeof alone);
        require(run_alone(&families[f], alone));
        for (int l = 0; l < N_LAYOUTS; l++) {
            rig g;
            int64_t first = 0, n = 0;
            if (fz_mesh_size(layouts[l]) != world.size) continue;
            memset(all, 0, sizeof all);
            require(start_rich(&g, &world, layouts[l], &families[f]));
            require(run(&g, all, &first, &n));
            bool same = true, memory_ok = true;
            for (int64_t m = 0; m < n; m++) {
                same = same && memcmp(all[m].wide, alone[first + m].wide, sizeof all->wide) == 0;
                same =
                    same && memcmp(all[m].narrow, alone[first + m].narrow, sizeof all->narrow) == 0;
                memory_ok = memory_ok && all[m].memory_ok;
            }
            assert_all_ranks(same);
            assert_all_ranks(memory_ok);
            rig_stop(&g);
        }
        /* The steps were not all alike. */
        assert_all_ranks(alone[0].wide[1][0].id != alone[1].wide[1][0].id ||
                         alone[0].wide[1][0].log_prob < alone[1].wide[1][0].log_prob ||
                         alone[0].wide[1][0].log_prob > alone[1].wide[1][0].log_prob);
    }
}

/* Without gradients: the same candidates and losses in less memory. */
static void a_trainer_for_forward_passes_alone_gives_the_same(void **state)
{
    static outcome trained[MICRO], forward[MICRO];
    static double loss[2][SAMPLES * MICRO], labels[2][SAMPLES * MICRO];
    (void)state;
    if (world.size > 2) return;
    for (int f = 0; f < N_FAMILIES; f++) {
        fz_plan_bytes bytes[2];
        for (int k = 0; k < 2; k++) {
            rig g;
            fz_step_batch batch;
            int64_t first, n;
            row r = families[f];
            r.forward_only = k == 1;
            require(start_rich(&g, &world, (fz_mesh_shape){world.size, 1, 1}, &r));
            bytes[k] = g.rank_plan.bytes;
            assert_all_ranks(fz_trainer_bytes(g.trainer) == bytes[k].total);
            require(run(&g, k ? forward : trained, &first, &n));
            fz_synthetic_step(g.synthetic, 3, &batch);
            require(fz_trainer_eval(g.trainer, &batch, loss[k], labels[k]));
            rig_stop(&g);
        }
        assert_all_ranks(memcmp(trained, forward, sizeof trained) == 0);
        assert_all_ranks(memcmp(loss[0], loss[1], sizeof loss[0]) == 0);
        assert_all_ranks(bytes[1].grads == 0 && bytes[1].moments == 0 && bytes[1].keep == 0 &&
                         bytes[1].dstream == 0);
        /* Stages are cut elsewhere: of all ranks together. */
        int64_t total[2] = {(int64_t)bytes[0].total, (int64_t)bytes[1].total};
        require(fz_allreduce_sum_int(world.group, total, 2));
        assert_all_ranks(total[1] < total[0]);
    }
}

/* A step of training between two batches: neither disturbs the other. */
static void training_goes_on_between_batches(void **state)
{
    static outcome before[MICRO], after[MICRO], alone[MICRO];
    uint64_t digest[2] = {0, 0};
    (void)state;
    if (world.size > 2) return;
    for (int k = 0; k < 2; k++) {
        rig g;
        fz_step_batch batch;
        fz_step_result result;
        int64_t first, n;
        require(start_rich(&g, &world, (fz_mesh_shape){world.size, 1, 1}, &families[1]));
        if (k == 0) require(run(&g, before, &first, &n));
        fz_synthetic_step(g.synthetic, 0, &batch);
        require(fz_trainer_step(g.trainer, &batch, &result));
        require(fz_trainer_digest(g.trainer, &digest[k]));
        require(run(&g, k == 0 ? after : alone, &first, &n));
        rig_stop(&g);
    }
    assert_all_ranks(digest[0] == digest[1]);
    assert_all_ranks(memcmp(after, alone, sizeof after) == 0);
    assert_all_ranks(memcmp(after, before, sizeof after) != 0);
}

/* At the end of the data a data rank may have nothing to do. */
static void a_batch_without_samples_is_legal(void **state)
{
    const fz_generator_sizes sizes = sizes_for(BEAMS, BEST);
    fz_generator *generator = NULL;
    fz_candidate none;
    rig g;
    (void)state;
    for (int l = 0; l < N_LAYOUTS; l++) {
        fz_step_batch batch;
        const int32_t ids[1] = {START};
        if (fz_mesh_size(layouts[l]) != world.size) continue;
        require(start_rich(&g, &world, layouts[l], &families[1]));
        require(fz_generator_create(g.trainer, &sizes, &generator));
        fz_synthetic_step(g.synthetic, 3, &batch);
        const fz_microbatch micro = first_samples(&g, &batch.micro[0], 0);
        require(fz_generator_start(generator, &micro, 1));
        require(fz_generator_next(generator, &(fz_generator_step){.ids = ids}, &none));
        fz_generator_destroy(&generator);
        rig_stop(&g);
    }
}

/* ---- beams, banned words, errors ---- */

/* One family's trainer on one rank, a generator on it, and the first micro-batch. */
typedef struct bench {
    rig g;
    fz_generator *generator;
    fz_microbatch micro;
} bench;

static void bench_start(bench *b, int family, int64_t beams, int64_t n_candidates)
{
    const fz_generator_sizes sizes = sizes_for(beams, n_candidates);
    fz_step_batch batch;
    require(start_rich(&b->g, &world, layouts[0], &families[family]));
    require(fz_generator_create(b->g.trainer, &sizes, &b->generator));
    fz_synthetic_step(b->g.synthetic, 3, &batch);
    b->micro = batch.micro[0];
}

static void bench_stop(bench *b)
{
    fz_generator_destroy(&b->generator);
    rig_stop(&b->g);
}

/* Texts that went on with each other's are the same texts written from the start. */
static void beams_that_changed_places_are_texts_of_their_own(void **state)
{
    static fz_candidate moved[N_ROWS * BEST], fresh[N_ROWS * BEST];
    (void)state;
    if (world.size > 1) return;
    for (int f = 0; f < N_FAMILIES; f++) {
        int32_t text[N_ROWS][TOKENS], other[N_ROWS][TOKENS], ids[N_ROWS], parent[N_ROWS];
        int32_t banned[2 * N_ROWS], banned_start[N_ROWS + 1];
        fz_candidate before[N_ROWS * BEST] = {{0}};
        fz_generator_step step;
        bench b;
        bench_start(&b, f, BEAMS, BEST);
        require(fz_generator_start(b.generator, &b.micro, BEAMS));
        for (int64_t p = 0; p < TOKENS; p++) {
            make_step(p, before, ids, parent, banned, banned_start, &step);
            memcpy(other, text, sizeof text);
            for (int r = 0; r < N_ROWS; r++) {
                ids[r] = any_id(r, p);
                if (p > 0 && step.parent) memcpy(text[r], other[parent[r]], sizeof text[r]);
                text[r][p] = ids[r];
            }
            step.banned = NULL;
            require(fz_generator_next(b.generator, &step, moved));
        }
        require(fz_generator_start(b.generator, &b.micro, BEAMS));
        for (int64_t p = 0; p < TOKENS; p++) {
            for (int r = 0; r < N_ROWS; r++)
                ids[r] = text[r][p];
            require(fz_generator_next(b.generator, &(fz_generator_step){.ids = ids}, fresh));
        }
        /* A product's last bits depend on the row's place. */
        for (int i = 0; i < N_ROWS * BEST; i++) {
            assert_int_equal(moved[i].id, fresh[i].id);
            assert_true(fabsf(moved[i].log_prob - fresh[i].log_prob) <
                        2e-6f * (1.0f - fresh[i].log_prob));
        }
        bench_stop(&b);
    }
}

/* More rows than the head takes at once; a ban of one row is not the others'. */
static void banned_words_are_passed_over(void **state)
{
    enum { MANY = 100, ALL = SAMPLES * MANY };
    static fz_candidate plain[ALL * BEST], without[ALL * BEST];
    static int32_t ids[ALL], banned_start[ALL + 1], banned[4];
    bench b;
    (void)state;
    if (world.size > 1) return;
    bench_start(&b, 1, MANY, BEST);
    for (int r = 0; r < ALL; r++)
        ids[r] = START;
    require(fz_generator_start(b.generator, &b.micro, MANY));
    require(fz_generator_next(b.generator, &(fz_generator_step){.ids = ids}, plain));
    /* Rows 1 and 299: its best, its third and words that there are not. */
    const int rows[] = {1, ALL - 1};
    for (int k = 0; k < 2; k++) {
        const fz_candidate *of_row = plain + rows[k] * BEST;
        for (int r = 0; r <= ALL; r++)
            banned_start[r] = r <= rows[k] ? 0 : 4;
        banned[0] = of_row[2].id;
        banned[1] = -1;
        banned[2] = VOCAB;
        banned[3] = of_row[0].id;
        const fz_generator_step step = {.ids = ids, .banned = banned, .banned_start = banned_start};
        require(fz_generator_start(b.generator, &b.micro, MANY));
        require(fz_generator_next(b.generator, &step, without));
        for (int r = 0; r < ALL; r++)
            if (r != rows[k])
                assert_memory_equal(plain + r * BEST, without + r * BEST, BEST * sizeof *plain);
        const fz_candidate *left = without + rows[k] * BEST;
        assert_memory_equal(left, of_row + 1, sizeof *left);
        assert_memory_equal(left + 1, of_row + 3, sizeof *left);
        assert_true(left[2].id != of_row[0].id && left[2].id != of_row[2].id);
    }
    /* Beams of a sample have the same text, samples have not. */
    assert_true(fabsf(plain[0].log_prob - plain[(MANY - 1) * BEST].log_prob) < 1e-5f);
    assert_true(fabsf(plain[0].log_prob - plain[MANY * BEST].log_prob) > 1e-4f);
    bench_stop(&b);
}

static void require_error(fz_status got, fz_status want, const char *part)
{
    assert_int_equal(got, want);
    if (!strstr(fz_last_error()->text, part))
        fail_msg("\"%s\" lacks \"%s\"", fz_last_error()->text, part);
}

static void mistakes_are_named(void **state)
{
    int32_t ids[N_ROWS] = {0}, parent[N_ROWS] = {0, 1, 2, 3, 4, 5, 6, 7, 2};
    fz_candidate candidates[N_ROWS * BEST];
    fz_generator_step step = {.ids = ids, .parent = parent};
    fz_generator *none = NULL;
    bench b;
    (void)state;
    if (world.size > 1) return;
    bench_start(&b, 0, BEAMS, BEST);
    fz_generator_sizes sizes = sizes_for(BEAMS, BEST);
    sizes.max_tokens = 129; /* the table has 130 rows, two of which are not positions */
    require_error(fz_generator_create(b.g.trainer, &sizes, &none), FZ_ERR_USAGE,
                  "generation of 129 tokens: the decoder of tiny-bart has 128 positions");
    sizes.max_tokens = 128;
    require(fz_generator_create(b.g.trainer, &sizes, &none));
    assert_true(fz_generator_bytes(none) > fz_generator_bytes(b.generator));
    fz_generator_destroy(&none);
    sizes.n_samples = SAMPLES + 1;
    require_error(fz_generator_create(b.g.trainer, &sizes, &none), FZ_ERR_ARG, "micro_batch, 3");
    require_error(fz_generator_next(b.generator, &step, candidates), FZ_ERR_ARG, "is started");
    require_error(fz_generator_start(b.generator, &b.micro, BEAMS + 1), FZ_ERR_ARG, "4 beams");
    require(fz_generator_start(b.generator, &b.micro, BEAMS));
    require_error(fz_generator_next(b.generator, &step, candidates), FZ_ERR_ARG,
                  "row 8 goes on with row 2");
    parent[8] = 8;
    ids[4] = VOCAB;
    require_error(fz_generator_next(b.generator, &step, candidates), FZ_ERR_ARG,
                  "row 4 gets id 509; ids of the decoder are 0 to 508");
    ids[4] = 0;
    for (int p = 0; p < TOKENS; p++)
        require(fz_generator_next(b.generator, &step, candidates));
    require_error(fz_generator_next(b.generator, &step, candidates), FZ_ERR_ARG,
                  "beyond the 11 tokens");
    /* A damaged weight. */
    const fz_state *views = fz_trainer_state(b.g.trainer);
    for (int v = 0; v < views->n_views; v++)
        if (strstr(views->tensors[views->views[v].tensor].name, "decoder.embed_tokens"))
            views->views[v].data[0] = NAN;
    require(fz_generator_start(b.generator, &b.micro, BEAMS));
    require_error(fz_generator_next(b.generator, &step, candidates), FZ_ERR_FORMAT,
                  "logits of row 0 are not finite");
    bench_stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cached_step_is_the_whole_text_again),
        cmocka_unit_test(beams_that_changed_places_are_texts_of_their_own),
        cmocka_unit_test(banned_words_are_passed_over),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(every_layout_has_the_bits_of_one_rank),
        cmocka_unit_test(training_goes_on_between_batches),
        cmocka_unit_test(a_batch_without_samples_is_legal),
        cmocka_unit_test(a_trainer_for_forward_passes_alone_gives_the_same),
    };
    fz_ops_cpu_start();
    run_on_all_ranks(tests);
}
