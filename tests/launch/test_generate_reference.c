/* Generation against that of transformers over an independent model of the same weights
 * (tests/reference/make_generate.py): the same ids and scores, on one rank and on tensor 2 x
 * pipeline 2. All samples of the parity case make one batch, with the prefix of the case. */
#include <math.h>
#include <string.h>

#include "tests/support/ranks.h"

#include <jansson.h>

#include "dist/mesh.h"
#include "launch/search.h"
#include "launch/texts.h"
#include "tests/support/parity.h"

enum { START = 1, EOS = 1, PAD = 0, MAX_PREFIX = 8 };

typedef struct rig {
    parity_case c;
    fz_program *program;
    fz_plan *plan;
    fz_mesh mesh;
    fz_trainer *trainer;
    parity_batch batch;
} rig;

static fz_status rig_start(rig *g, const char *model)
{
    const int side = world.size == 4 ? 2 : 1;
    char path[512];

    memset(g, 0, sizeof *g);
    snprintf(path, sizeof path, FZ_SOURCE_DIR "/tests/reference/fixtures/parity-%s.safetensors",
             model);
    FZ_TRY(parity_open(path, &g->c));
    const int64_t most = fz_model_auto_shards(&g->c.model);
    const fz_layout_config layout = {.shape = {.pp = side, .dp = 1, .tp = side},
                                     .schedule = FZ_SCHEDULE_1F1B,
                                     .n_shards = most < 4 ? most : 4,
                                     .n_lanes = 8};
    FZ_TRY(fz_program_create(&g->c.model, layout.n_shards, &g->program));
    FZ_TRY(fz_plan_create(g->program, &g->c.train, &layout, &g->plan));
    FZ_TRY(fz_mesh_create(&world, layout.shape, &g->mesh));
    FZ_TRY(fz_trainer_create(g->plan, &g->mesh, &fz_ops_cpu, &g->trainer));
    fz_trainer_init(g->trainer);
    FZ_TRY(parity_load_weights(&g->c, fz_trainer_state(g->trainer)));
    const fz_trainer_needs needs = fz_trainer_get_needs(g->trainer);
    return parity_batch_create(&g->c, &needs, g->c.n_samples, &g->batch);
}

static void rig_stop(rig *g)
{
    parity_batch_reset(&g->batch);
    fz_trainer_destroy(&g->trainer);
    fz_mesh_reset(&g->mesh);
    fz_plan_destroy(&g->plan);
    fz_program_destroy(&g->program);
    parity_close(&g->c);
}

static void require(fz_status status)
{
    if (status != FZ_OK) fprintf(stderr, "rank %d: %s\n", world.rank, fz_last_error()->text);
    assert_all_ranks(status == FZ_OK);
}

static int64_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static fz_search_config config_of(const rig *g, const json_t *settings, int64_t n_prefix)
{
    const json_t *early = json_object_get(settings, "early_stopping");
    return (fz_search_config){.n_samples = g->c.n_samples,
                              .beams = integer(settings, "beams"),
                              .max_prefix = n_prefix,
                              .min_tokens = integer(settings, "min_tokens"),
                              .max_tokens = integer(settings, "max_tokens"),
                              .no_repeat_ngram = integer(settings, "no_repeat_ngram"),
                              .length_penalty =
                                  json_number_value(json_object_get(settings, "length_penalty")),
                              .early_stopping = json_is_string(early) ? FZ_STOP_NEVER
                                                : json_is_true(early) ? FZ_STOP_FULL
                                                                      : FZ_STOP_LIKELY,
                              .start = START,
                              .eos = EOS,
                              .pad = PAD};
}

static int64_t list_of(const json_t *array, int32_t *ids, size_t most)
{
    const size_t n = json_array_size(array);
    assert_true(n <= most);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return (int64_t)n;
}

/* Whether the text of the case's sample is the reference's. */
static bool is_text(const fz_search *search, const json_t *one)
{
    int32_t ids[64];
    fz_search_text text;
    const int64_t n = list_of(json_object_get(one, "ids"), ids, 64);
    const double score = json_number_value(json_object_get(one, "score"));
    if (!fz_search_get(search, integer(one, "sample"), 0, &text)) return false;
    if (fabs(text.score - score) > 1e-4 * fmax(1, fabs(score)))
        fprintf(stderr, "score %.7f, not %.7f\n", text.score, score);
    return text.n == n && memcmp(text.ids, ids, (size_t)n * sizeof *ids) == 0 &&
           fabs(text.score - score) <= 1e-4 * fmax(1, fabs(score));
}

static void check_case(const rig *g, const json_t *one)
{
    int32_t prefix[3 * MAX_PREFIX], start[4] = {0};
    fz_search *search = NULL;
    fz_generator *generator = NULL;
    fz_candidate *candidates = NULL;

    const int64_t n = list_of(json_object_get(one, "prefix"), prefix, MAX_PREFIX);
    const fz_search_config c = config_of(g, json_object_get(one, "settings"), n);
    assert_true(g->c.n_samples <= 3);
    for (int64_t i = 0; i < g->c.n_samples; i++) {
        memmove(prefix + i * n, prefix, (size_t)n * sizeof *prefix);
        start[i + 1] = (int32_t)((i + 1) * n);
    }
    fz_status status = fz_search_create(&c, &search);
    if (status == FZ_OK) {
        const fz_generator_sizes sizes = {g->c.n_samples, c.beams, fz_search_positions(&c),
                                          fz_search_candidates(search)};
        status = fz_generator_create(g->trainer, &sizes, &generator);
    }
    if (status == FZ_OK)
        status = FZ_NEW(&candidates, c.n_samples * c.beams * fz_search_candidates(search));
    require(status);
    require(fz_search_run(search, generator, g->batch.micro, c.beams, prefix, start, candidates));
    assert_all_ranks(is_text(search, one));
    fz_free(&candidates);
    fz_generator_destroy(&generator);
    fz_search_destroy(&search);
}

static void check_model(const char *model)
{
    char path[512];
    static rig g;
    snprintf(path, sizeof path, FZ_SOURCE_DIR "/tests/reference/fixtures/generate-%s.json", model);
    json_t *file = json_load_file(path, 0, NULL);
    const json_t *cases = json_object_get(file, "cases");
    assert_all_ranks(json_array_size(cases) == 25);
    require(rig_start(&g, model));
    for (size_t i = 0; i < 25; i++)
        check_case(&g, json_array_get(cases, i));
    rig_stop(&g);
    json_decref(file);
}

static void bart_texts_equal_the_references(void **state)
{
    (void)state;
    check_model("bart-a");
}

static void gemma_texts_equal_the_references(void **state)
{
    (void)state;
    check_model("gemma-a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bart_texts_equal_the_references),
        cmocka_unit_test(gemma_texts_equal_the_references),
    };
    fz_ops_cpu_start();
    run_on_all_ranks(tests);
}
