/* florenz bench --generate: what the cache of keys and values is worth. */
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/memory.h"
#include "launch/bench.h"
#include "launch/json.h"
#include "launch/texts.h"
#include "parallel/synthetic.h"

enum { START = 1, EOS = 1, PAD = 0, BEAMS = 4 };

/* What is timed against what, in this order. */
enum way { CACHED, WHOLE, CACHED_BEAMS, N_WAYS };
static const char *const way_names[N_WAYS] = {"greedy, cache", "greedy, whole text each token",
                                              "4 beams, cache"};
static const char *const way_keys[N_WAYS] = {"cache", "whole", "beams"};

typedef struct rig {
    const fz_bench_generation *b;
    fz_plan *plan;
    fz_mesh mesh;
    fz_trainer *trainer;
    fz_synthetic *synthetic;
    fz_step_batch batch;
    fz_search *search[2];       /* owned: of 1 beam and of 4 */
    fz_generator *generator[2]; /* owned */
    fz_candidate *candidates;   /* owned, as is the rest */
    int32_t *dec_start, *dec_ids, *labels, *texts, *next;
    double *seconds[N_WAYS]; /* (rounds) */
} rig;

/* Texts that cannot end early: every way makes the same number of tokens. */
static fz_status create_search(rig *g, int at, int64_t beams)
{
    const fz_bench_generation *b = g->b;
    const fz_search_config c = {.n_samples = b->train->micro_batch,
                                .beams = beams,
                                .min_tokens = b->n_tokens,
                                .max_tokens = b->n_tokens,
                                .length_penalty = 1,
                                .start = START,
                                .eos = EOS,
                                .pad = PAD};
    const fz_generator_sizes sizes = {c.n_samples, beams, fz_search_positions(&c), 2 * beams};
    FZ_TRY(fz_search_create(&c, &g->search[at]));
    return fz_generator_create(g->trainer, &sizes, &g->generator[at]);
}

static fz_status rig_start(rig *g)
{
    const fz_bench_generation *b = g->b;
    const fz_layout_config layout = {
        .shape = {1, 1, 1}, .n_shards = b->program->n_shards, .n_lanes = 1};
    const int64_t n = b->train->micro_batch, tokens = b->n_tokens;
    FZ_TRY(fz_plan_create(b->program, b->train, &layout, &g->plan));
    FZ_TRY(fz_mesh_create(b->world, layout.shape, &g->mesh));
    FZ_TRY(fz_trainer_create(g->plan, &g->mesh, &fz_ops_cpu, &g->trainer));
    fz_trainer_init(g->trainer);
    const fz_trainer_needs needs = fz_trainer_get_needs(g->trainer);
    FZ_TRY(fz_synthetic_create(b->program, b->train, &needs, 16, 16, &g->synthetic));
    fz_synthetic_step(g->synthetic, 0, &g->batch);
    FZ_TRY(create_search(g, 0, 1));
    FZ_TRY(create_search(g, 1, BEAMS));
    FZ_TRY(FZ_NEW(&g->candidates, n * BEAMS * 2 * BEAMS));
    FZ_TRY(FZ_NEW(&g->dec_start, n + 1));
    FZ_TRY(FZ_NEW(&g->dec_ids, n * tokens));
    FZ_TRY(FZ_NEW(&g->labels, n * tokens));
    FZ_TRY(FZ_NEW(&g->texts, n * tokens));
    FZ_TRY(FZ_NEW(&g->next, n));
    for (int w = 0; w < N_WAYS; w++)
        FZ_TRY(FZ_NEW(&g->seconds[w], b->rounds));
    for (int64_t i = 0; i < n * tokens; i++)
        g->labels[i] = FZ_NO_LABEL;
    return FZ_OK;
}

static void rig_stop(rig *g)
{
    for (int i = 0; i < 2; i++) {
        fz_generator_destroy(&g->generator[i]);
        fz_search_destroy(&g->search[i]);
    }
    for (int w = 0; w < N_WAYS; w++)
        fz_free(&g->seconds[w]);
    fz_free(&g->candidates);
    fz_free(&g->dec_start);
    fz_free(&g->dec_ids);
    fz_free(&g->labels);
    fz_free(&g->texts);
    fz_free(&g->next);
    fz_synthetic_destroy(&g->synthetic);
    fz_trainer_destroy(&g->trainer);
    fz_mesh_reset(&g->mesh);
    fz_plan_destroy(&g->plan);
}

/* The decoder runs over start id and text anew for every token. */
static fz_status make_whole(rig *g)
{
    const int64_t n = g->b->train->micro_batch, most = g->b->n_tokens;
    fz_microbatch batch = g->batch.micro[0];
    batch.dec_start = g->dec_start;
    batch.dec_ids = g->dec_ids;
    batch.labels = g->labels;
    for (int64_t t = 0; t < most; t++) {
        for (int64_t i = 0; i < n; i++) {
            int32_t *ids = g->dec_ids + i * (t + 1);
            g->dec_start[i] = (int32_t)(i * (t + 1));
            ids[0] = START;
            memcpy(ids + 1, g->texts + i * most, (size_t)t * sizeof *ids);
        }
        g->dec_start[n] = (int32_t)(n * (t + 1));
        batch.sizes.n_dec = n * (t + 1);
        batch.sizes.max_dec_len = t + 1;
        FZ_TRY(fz_trainer_next_tokens(g->trainer, &batch, g->next));
        for (int64_t i = 0; i < n; i++)
            g->texts[i * most + t] = g->next[i];
    }
    return FZ_OK;
}

static fz_status make(rig *g, enum way way)
{
    const int at = way == CACHED_BEAMS;
    if (way == WHOLE) return make_whole(g);
    return fz_search_run(g->search[at], g->generator[at], g->batch.micro, at ? BEAMS : 1, NULL,
                         NULL, g->candidates);
}

static fz_status time_rounds(rig *g)
{
    for (int64_t round = -1; round < g->b->rounds; round++) /* the first is not counted */
        for (int w = 0; w < N_WAYS; w++) {
            const double start = fz_clock_s();
            FZ_TRY(make(g, (enum way)w));
            g->seconds[w][round < 0 ? 0 : round] = fz_clock_s() - start;
        }
    return FZ_OK;
}

static void report(rig *g)
{
    const fz_bench_generation *b = g->b;
    const double tokens = (double)(b->train->micro_batch * b->n_tokens);
    double rate[N_WAYS];
    for (int w = 0; w < N_WAYS; w++)
        rate[w] = tokens / fz_bench_median(g->seconds[w], b->rounds);
    if (b->json) {
        json_t *object =
            json_pack("{s:s,s:I,s:I,s:I,s:I,s:o}", "family", b->family, "width",
                      (json_int_t)b->width, "parameters", (json_int_t)b->program->n_elements,
                      "texts", (json_int_t)b->train->micro_batch, "tokens", (json_int_t)b->n_tokens,
                      "speedup", fz_json_real(rate[CACHED] / rate[WHOLE]));
        for (int w = 0; w < N_WAYS; w++)
            json_object_set_new(object, way_keys[w], fz_json_real(rate[w]));
        fz_json_print(object);
        return;
    }
    printf("## Generation: %s, width %lld, %lld texts of %lld tokens\n\n"
           "| way | tokens/s |\n| --- | ---: |\n",
           b->family, (long long)b->width, (long long)b->train->micro_batch,
           (long long)b->n_tokens);
    for (int w = 0; w < N_WAYS; w++)
        printf("| %s | %.1f |\n", way_names[w], rate[w]);
    printf("\nThe cache makes greedy search %.1f times as fast.\n", rate[CACHED] / rate[WHOLE]);
}

fz_status fz_bench_generate(const fz_bench_generation *bench)
{
    rig g = {.b = bench};
    FZ_CHECK(bench->world->size == 1, FZ_ERR_USAGE, "--generate: on one rank, not on %d",
             bench->world->size);
    fz_status status = rig_start(&g);
    if (status == FZ_OK) status = time_rounds(&g);
    if (status == FZ_OK) report(&g);
    rig_stop(&g);
    return status;
}
