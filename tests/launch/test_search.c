#include "tests/support/unit.h"

#include <math.h>

#include <jansson.h>

#include "core/memory.h"
#include "launch/search.h"

enum { START = 1, EOS = 1, PAD = 0, PLACES = 7 };

/* ---- a language model made of two tables (tests/reference/make_search.py) ---- */

typedef struct table {
    int vocab;
    double pair[16][16], place[PLACES][16];
} table;

static void log_probs(const table *t, const int32_t *ids, int64_t n, double *out)
{
    double sum = 0;
    int64_t place = 0;
    for (int64_t i = 0; i < n; i++)
        place = (3 * place + ids[i]) % PLACES;
    for (int v = 0; v < t->vocab; v++) {
        out[v] = t->pair[ids[n - 1]][v] + t->place[place][v];
        sum += exp(out[v]);
    }
    for (int v = 0; v < t->vocab; v++)
        out[v] -= log(sum);
}

/* What fz_generator_next promises: rows grow along their parents, bans are kept, best first. */
typedef struct mock {
    const table *t;
    int64_t rows, k, n; /* n: ids of every row */
    int32_t ids[256][40], old[256][40];
} mock;

static void mock_next(mock *m, const fz_generator_step *step, fz_candidate *out)
{
    double p[16];
    memcpy(m->old, m->ids, sizeof m->old);
    for (int64_t r = 0; r < m->rows; r++) {
        assert_in_range(step->parent[r], 0, m->rows - 1);
        memcpy(m->ids[r], m->old[step->parent[r]], sizeof m->ids[r]);
        m->ids[r][m->n] = step->ids[r];
        log_probs(m->t, m->ids[r], m->n + 1, p);
        for (int32_t b = step->banned_start[r]; b < step->banned_start[r + 1]; b++) {
            assert_in_range(step->banned[b], 0, m->t->vocab - 1);
            assert_true(p[step->banned[b]] < 1); /* once each */
            p[step->banned[b]] = 2;
        }
        for (int64_t j = 0; j < m->k; j++) {
            int best = -1;
            for (int v = 0; v < m->t->vocab; v++)
                if (p[v] < 1 && (best < 0 || p[v] > p[best])) best = v;
            out[r * m->k + j] = (fz_candidate){best, best < 0 ? 0.0F : (float)p[best]};
            if (best >= 0) p[best] = 2;
        }
    }
    m->n++;
}

static mock the_mock;
static fz_candidate candidates[256 * 128];

/* Runs n samples that share a table; their prefixes lie behind each other. Returns the steps. */
static int64_t run(fz_search *search, const fz_search_config *c, const table *t, int64_t n,
                   const int32_t *prefix, const int32_t *prefix_start)
{
    const fz_generator_step *step;
    the_mock = (mock){.t = t, .rows = n * c->beams, .k = fz_search_candidates(search)};
    assert_true(the_mock.rows <= 256 && the_mock.rows * the_mock.k <= 256 * 128);
    fz_search_start(search, n, prefix, prefix_start);
    while ((step = fz_search_step(search))) {
        assert_true(the_mock.n < fz_search_positions(c));
        mock_next(&the_mock, step, candidates);
        fz_search_take(search, candidates);
    }
    return the_mock.n;
}

static fz_search_config plain(int64_t beams, int64_t max_tokens)
{
    return (fz_search_config){.n_samples = 3,
                              .beams = beams,
                              .max_prefix = 4,
                              .max_tokens = max_tokens,
                              .length_penalty = 1,
                              .start = START,
                              .eos = EOS,
                              .pad = PAD};
}

static fz_search_text text_of(const fz_search *search, int64_t sample, int64_t place)
{
    fz_search_text text;
    assert_true(fz_search_get(search, sample, place, &text));
    return text;
}

static void assert_ids(const fz_search_text *text, const int32_t *ids, int64_t n)
{
    assert_int_equal(text->n, n);
    assert_memory_equal(text->ids, ids, (size_t)n * sizeof *ids);
}

/* ---- against transformers ---- */

static json_t *golden;
static table tables[3];

static int load_golden(void **state)
{
    (void)state;
    golden = json_load_file(FZ_SOURCE_DIR "/tests/reference/fixtures/search.json", 0, NULL);
    json_t *all = json_object_get(golden, "tables");
    if (json_array_size(all) != 3) return -1;
    for (size_t k = 0; k < 3; k++) {
        const json_t *one = json_array_get(all, k);
        const json_t *pair = json_object_get(one, "pair"), *place = json_object_get(one, "place");
        tables[k].vocab = (int)json_integer_value(json_object_get(one, "vocab"));
        for (size_t i = 0; i < 16; i++)
            for (size_t v = 0; v < 16; v++) {
                tables[k].pair[i][v] =
                    (double)json_integer_value(json_array_get(json_array_get(pair, i), v)) / 262144;
                if (i >= PLACES) continue;
                tables[k].place[i][v] =
                    (double)json_integer_value(json_array_get(json_array_get(place, i), v)) /
                    262144;
            }
    }
    return 0;
}

static int drop_golden(void **state)
{
    (void)state;
    json_decref(golden);
    return 0;
}

static int64_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static fz_search_config config_of(const json_t *settings)
{
    const json_t *early = json_object_get(settings, "early_stopping");
    fz_search_config c = plain(integer(settings, "beams"), integer(settings, "max_tokens"));
    c.min_tokens = integer(settings, "min_tokens");
    c.no_repeat_ngram = integer(settings, "no_repeat_ngram");
    c.forced_first = (int32_t)integer(settings, "forced_first"); /* most have none: 0 */
    c.forced_last = (int32_t)integer(settings, "forced_last");
    c.length_penalty = json_number_value(json_object_get(settings, "length_penalty"));
    c.early_stopping = json_is_string(early) ? FZ_STOP_NEVER
                       : json_is_true(early) ? FZ_STOP_FULL
                                             : FZ_STOP_LIKELY;
    return c;
}

static int64_t list_of(const json_t *array, int32_t *ids)
{
    const size_t n = json_array_size(array);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return (int64_t)n;
}

/* The case as sample `at` of n, between others with no prefix: they must not matter. */
static void check_case(size_t number, const json_t *one, int64_t n, int64_t at)
{
    const fz_search_config c = config_of(json_object_get(one, "settings"));
    const json_t *texts = json_object_get(one, "texts");
    int32_t prefix[8], start[4] = {0}, ids[32];
    const int32_t n_prefix = (int32_t)list_of(json_object_get(one, "prefix"), prefix);
    fz_search *search = NULL;
    fz_search_text text;

    for (int64_t i = at; i < n; i++)
        start[i + 1] = n_prefix;
    assert_ok(fz_search_create(&c, &search));
    run(search, &c, &tables[integer(one, "table")], n, prefix, start);
    for (size_t place = 0; place < json_array_size(texts); place++) {
        const json_t *want = json_array_get(texts, place);
        const int64_t n_ids = list_of(json_object_get(want, "ids"), ids);
        if (!fz_search_get(search, at, (int64_t)place, &text) || text.n != n_ids ||
            memcmp(text.ids, ids, (size_t)n_ids * sizeof *ids) != 0)
            fail_msg("case %zu, text %zu: other ids", number, place);
        const double score = json_number_value(json_object_get(want, "score"));
        const double log_prob = json_number_value(json_object_get(want, "log_prob"));
        assert_true(fabs(text.log_prob - log_prob) < 2e-5);
        assert_true(fabs(text.score - score) < 2e-5 * fmax(1, fabs(score)));
    }
    fz_search_destroy(&search);
}

static void texts_equal_those_of_transformers(void **state)
{
    const json_t *cases = json_object_get(golden, "cases");
    (void)state;
    assert_int_equal(json_array_size(cases), 140);
    for (size_t i = 0; i < 140; i++)
        check_case(i, json_array_get(cases, i), 1, 0);
}

static void a_sample_does_not_depend_on_its_batch(void **state)
{
    const json_t *cases = json_object_get(golden, "cases");
    (void)state;
    for (size_t i = 0; i < 140; i++)
        for (int64_t at = 0; at < 3; at++)
            check_case(i, json_array_get(cases, i), 3, at);
}

/* ---- by hand ---- */

/* One row: 2 is the likeliest, then 3, then eos. */
static void greedy_takes_the_best_and_stops_at_eos(void **state)
{
    static table t = {.vocab = 4};
    const fz_search_config c = plain(1, 8);
    const int32_t want[] = {2, 3, EOS};
    fz_search *search = NULL;
    (void)state;
    t.pair[START][2] = t.pair[2][3] = t.pair[3][EOS] = log(9);
    assert_ok(fz_search_create(&c, &search));
    assert_int_equal(run(search, &c, &t, 1, NULL, NULL), 3);
    const fz_search_text text = text_of(search, 0, 0);
    assert_ids(&text, want, 3);
    assert_true(fabs(text.log_prob - 3 * log(0.75)) < 1e-6);
    assert_true(fabs(text.score - log(0.75)) < 1e-6);
    assert_false(fz_search_get(search, 0, 1, &(fz_search_text){0}));
    fz_search_destroy(&search);
}

/* Behind 2 the end is certain, which a longer search would prefer: greedy has ended by then. */
static void greedy_ends_with_its_first_text(void **state)
{
    static table t = {.vocab = 4};
    fz_search_config c = plain(1, 8);
    fz_search *search = NULL;
    (void)state;
    c.length_penalty = 2;
    c.early_stopping = FZ_STOP_NEVER;
    t.pair[START][EOS] = log(50);
    t.pair[START][2] = log(49);
    t.pair[2][EOS] = log(1000);
    assert_ok(fz_search_create(&c, &search));
    assert_int_equal(run(search, &c, &t, 1, NULL, NULL), 1);
    const fz_search_text text = text_of(search, 0, 0);
    assert_ids(&text, (const int32_t[]){EOS}, 1);
    fz_search_destroy(&search);
}

/* eos 0.4, [2 eos] 0.175 and [2 3 4 5 eos] 0.1575: at two tokens the last one is behind, at nine it
 * would not be. */
static void never_waits_for_what_length_may_bring(void **state)
{
    static table t = {.vocab = 6};
    fz_search_config c = plain(2, 9);
    fz_search *search = NULL;
    (void)state;
    t.pair[START][EOS] = log(6.4);
    t.pair[START][2] = log(5.6);
    t.pair[2][EOS] = log(40);
    t.pair[2][3] = log(36);
    t.pair[3][4] = t.pair[4][5] = t.pair[5][EOS] = log(1e6);
    assert_ok(fz_search_create(&c, &search));
    assert_int_equal(run(search, &c, &t, 1, NULL, NULL), 2);
    fz_search_text text = text_of(search, 0, 0);
    assert_ids(&text, (const int32_t[]){2, EOS}, 2);
    fz_search_destroy(&search);

    c.early_stopping = FZ_STOP_NEVER;
    assert_ok(fz_search_create(&c, &search));
    run(search, &c, &t, 1, NULL, NULL);
    text = text_of(search, 0, 0);
    assert_ids(&text, (const int32_t[]){2, 3, 4, 5, EOS}, 5);
    fz_search_destroy(&search);
}

/* [eos] 0.3 and [2 eos] 0.25 are finished, [2 3] is as good as the latter and better than the
 * former. */
static void full_does_not_wait_for_a_better_text(void **state)
{
    static table t = {.vocab = 4};
    fz_search_config c = plain(2, 9);
    fz_search *search = NULL;
    (void)state;
    t.pair[START][2] = log(500);
    t.pair[START][EOS] = log(300);
    t.pair[START][0] = t.pair[START][3] = log(100);
    t.pair[2][EOS] = log(5001);
    t.pair[2][3] = log(5000);
    t.pair[3][EOS] = log(1e6);
    assert_ok(fz_search_create(&c, &search));
    run(search, &c, &t, 1, NULL, NULL);
    fz_search_text text = text_of(search, 0, 0);
    assert_ids(&text, (const int32_t[]){2, 3, EOS}, 3);
    fz_search_destroy(&search);

    c.early_stopping = FZ_STOP_FULL;
    assert_ok(fz_search_create(&c, &search));
    assert_int_equal(run(search, &c, &t, 1, NULL, NULL), 2);
    text = text_of(search, 0, 0);
    assert_ids(&text, (const int32_t[]){2, EOS}, 2);
    fz_search_destroy(&search);
}

/* 2 leads by a little, but what comes behind 3 is certain. */
static void two_beams_find_what_greedy_misses(void **state)
{
    static table t = {.vocab = 4};
    const fz_search_config one = plain(1, 2), two = plain(2, 2);
    const int32_t want[] = {3, EOS};
    fz_search *search = NULL;
    (void)state;
    t.pair[START][2] = log(60);
    t.pair[START][3] = log(50);
    t.pair[3][EOS] = log(1000);
    assert_ok(fz_search_create(&one, &search));
    run(search, &one, &t, 1, NULL, NULL);
    assert_int_equal(text_of(search, 0, 0).ids[0], 2);
    fz_search_destroy(&search);

    assert_ok(fz_search_create(&two, &search));
    run(search, &two, &t, 1, NULL, NULL);
    const fz_search_text best = text_of(search, 0, 0), second = text_of(search, 0, 1);
    assert_ids(&best, want, 2);
    assert_int_equal(second.ids[0], 2);
    assert_true(best.score >= second.score);
    fz_search_destroy(&search);
}

static void a_prefix_is_fed_first_and_not_counted(void **state)
{
    static table t = {.vocab = 6};
    const fz_search_config c = plain(2, 3);
    const int32_t prefix[] = {4, 5, 3}, start[] = {0, 2, 2, 3};
    fz_search *search = NULL;
    (void)state;
    t.pair[5][2] = t.pair[2][EOS] = t.pair[START][EOS] = t.pair[3][2] = log(1000);
    assert_ok(fz_search_create(&c, &search));
    fz_search_start(search, 3, prefix, start);
    const fz_generator_step *step = fz_search_step(search);
    for (int r = 0; r < 6; r++)
        assert_int_equal(step->ids[r], START);
    the_mock = (mock){.t = &t, .rows = 6, .k = 4};
    mock_next(&the_mock, step, candidates);
    fz_search_take(search, candidates);
    step = fz_search_step(search);
    assert_int_equal(step->ids[0], 4);
    assert_int_equal(step->ids[1], 4);
    assert_int_equal(step->ids[4], 3);
    run(search, &c, &t, 3, prefix, start);
    const fz_search_text a = text_of(search, 0, 0), b = text_of(search, 1, 0),
                         d = text_of(search, 2, 0);
    assert_ids(&a, (const int32_t[]){2, EOS}, 2);
    assert_ids(&b, (const int32_t[]){EOS}, 1);
    assert_ids(&d, (const int32_t[]){2, EOS}, 2);
    assert_true(fabs(a.score - d.score) < 1e-9);
    fz_search_destroy(&search);
}

/* The vocabulary is used up: 2, 3, pad, each once (the start id is an eos that is used, too). */
static void a_row_that_may_not_go_on_ends(void **state)
{
    static const table t = {.vocab = 4};
    fz_search_config c = plain(2, 9);
    fz_search *search = NULL;
    (void)state;
    c.no_repeat_ngram = 1;
    assert_ok(fz_search_create(&c, &search));
    assert_int_equal(run(search, &c, &t, 2, NULL, NULL), 4);
    for (int64_t i = 0; i < 2; i++) {
        const fz_search_text text = text_of(search, i, 0);
        assert_ids(&text, (const int32_t[]){0, 2, 3}, 3);
    }
    fz_search_destroy(&search);
}

/* ---- properties ---- */

/* The best sum over all texts of at most 3 tokens: eos ends one, the third ends it too. */
static double brute_force(const table *t, int32_t *ids, int64_t n, double sum)
{
    double p[16], best = -(double)INFINITY;
    log_probs(t, ids, n, p);
    for (int v = 0; v < t->vocab; v++) {
        ids[n] = v;
        const double here =
            v == EOS || n == 3 ? sum + p[v] : brute_force(t, ids, n + 1, sum + p[v]);
        best = fmax(best, here);
    }
    return best;
}

static void enough_beams_find_the_best_of_all(void **state)
{
    (void)state;
    for (int k = 0; k < 3; k++) {
        table t = tables[k];
        int32_t ids[4] = {START};
        t.vocab = 5;
        fz_search_config c = plain(64, 3); /* 4 * 4 live rows at most, 5 * 16 continuations */
        c.early_stopping = FZ_STOP_NEVER;
        c.length_penalty = 0;
        fz_search *search = NULL;
        assert_ok(fz_search_create(&c, &search));
        run(search, &c, &t, 1, NULL, NULL);
        const double best = text_of(search, 0, 0).score;
        assert_true(fabs(best - brute_force(&t, ids, 1, 0)) < 1e-5);
        fz_search_destroy(&search);
        for (int64_t beams = 1; beams < 8; beams++) { /* and fewer find nothing better */
            c.beams = beams;
            assert_ok(fz_search_create(&c, &search));
            run(search, &c, &t, 1, NULL, NULL);
            assert_true(text_of(search, 0, 0).score <= best + 1e-6);
            fz_search_destroy(&search);
        }
    }
}

static bool has_ngram_twice(const int32_t *ids, int64_t n, int64_t g)
{
    for (int64_t i = 0; i + g <= n; i++)
        for (int64_t j = i + 1; j + g <= n; j++)
            if (memcmp(ids + i, ids + j, (size_t)g * sizeof *ids) == 0) return true;
    return false;
}

static void no_ngram_comes_twice_and_texts_are_long_enough(void **state)
{
    (void)state;
    for (int64_t g = 2; g <= 3; g++)
        for (int64_t beams = 1; beams <= 4; beams++) {
            const int32_t prefix[] = {2, 3, 2}, start[] = {0, 3, 3};
            fz_search_config c = plain(beams, 20);
            fz_search *search = NULL;
            c.no_repeat_ngram = g;
            c.min_tokens = 17;
            assert_ok(fz_search_create(&c, &search));
            run(search, &c, &tables[1], 2, prefix, start);
            for (int64_t i = 0; i < 2; i++) {
                const fz_search_text text = text_of(search, i, 0);
                int32_t ids[32] = {START, 2, 3, 2};
                const int64_t n = i == 0 ? 4 : 1;
                assert_in_range(text.n, 17, 20);
                memcpy(ids + n, text.ids, (size_t)text.n * sizeof *ids);
                assert_false(has_ngram_twice(ids, n + text.n, g));
            }
            fz_search_destroy(&search);
        }
}

static void memory_is_taken_at_create(void **state)
{
    const fz_search_config c = plain(4, 14);
    fz_search *search = NULL;
    (void)state;
    const fz_memory_counters before = fz_memory_get();
    assert_ok(fz_search_create(&c, &search));
    const fz_memory_counters created = fz_memory_get();
    run(search, &c, &tables[0], 3, NULL, NULL);
    run(search, &c, &tables[2], 2, NULL, NULL);
    assert_int_equal(fz_memory_get().n_total, created.n_total);
    fz_search_destroy(&search);
    assert_int_equal(fz_memory_get().n_live, before.n_live);
}

static void settings_that_cannot_be_are_refused(void **state)
{
    fz_search_config c = plain(2, 4);
    fz_search *search = NULL;
    (void)state;
    c.min_tokens = 5;
    assert_fails(fz_search_create(&c, &search), FZ_ERR_USAGE, "at least 5 tokens and at most 4");
    c = plain(2, 0);
    assert_fails(fz_search_create(&c, &search), FZ_ERR_USAGE, "at most 0 tokens");
    c = plain(2, 4);
    c.length_penalty = (double)NAN;
    assert_fails(fz_search_create(&c, &search), FZ_ERR_USAGE, "penalty");
    assert_null(search);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_equal_those_of_transformers),
        cmocka_unit_test(a_sample_does_not_depend_on_its_batch),
        cmocka_unit_test(greedy_takes_the_best_and_stops_at_eos),
        cmocka_unit_test(greedy_ends_with_its_first_text),
        cmocka_unit_test(never_waits_for_what_length_may_bring),
        cmocka_unit_test(full_does_not_wait_for_a_better_text),
        cmocka_unit_test(two_beams_find_what_greedy_misses),
        cmocka_unit_test(a_prefix_is_fed_first_and_not_counted),
        cmocka_unit_test(a_row_that_may_not_go_on_ends),
        cmocka_unit_test(enough_beams_find_the_best_of_all),
        cmocka_unit_test(no_ngram_comes_twice_and_texts_are_long_enough),
        cmocka_unit_test(memory_is_taken_at_create),
        cmocka_unit_test(settings_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, load_golden, drop_golden);
}
