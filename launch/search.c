#include "launch/search.h"

#include <math.h>
#include <string.h>

#include "core/assert.h"
#include "core/memory.h"

typedef struct finished {
    int32_t *ids; /* into finished_ids */
    int64_t n;
    double log_prob, score;
} finished;

typedef struct progress {
    int64_t n_prefix;   /* start id included */
    int64_t n_finished; /* of its finished texts, best first */
    bool is_done;
} progress;

struct fz_search {
    fz_search_config c;
    int64_t n_samples, n_open, max_length;
    int64_t length; /* ids of every row so far */
    /* all owned; rows: n_samples * beams of them */
    progress *samples;
    int32_t *ids;       /* (rows, max_length) */
    double *log_probs;  /* (rows) -INFINITY: nobody lives here */
    finished *finished; /* (rows) */
    int32_t *finished_ids;
    /* of the sample whose candidates are looked at: (beams, max_length), (beams), (beams) */
    int32_t *old_ids;
    double *old_log_probs;
    int64_t *cursor;
    /* of the step */
    int32_t *step_ids, *parent, *banned, *banned_start;
    fz_generator_step step;
};

/* ---- create ---- */

static fz_status check(const fz_search_config *c)
{
    FZ_CHECK(c->n_samples > 0 && c->beams > 0 && c->max_prefix >= 0 && c->no_repeat_ngram >= 0,
             FZ_ERR_ARG, "search: %lld samples, %lld beams, prefix %lld, n-gram %lld",
             (long long)c->n_samples, (long long)c->beams, (long long)c->max_prefix,
             (long long)c->no_repeat_ngram);
    FZ_CHECK(c->max_tokens > 0, FZ_ERR_USAGE, "a text of at most %lld tokens is none",
             (long long)c->max_tokens);
    FZ_CHECK(c->min_tokens >= 0 && c->min_tokens <= c->max_tokens, FZ_ERR_USAGE,
             "a text of at least %lld tokens and at most %lld cannot be", (long long)c->min_tokens,
             (long long)c->max_tokens);
    FZ_CHECK(isfinite(c->length_penalty), FZ_ERR_USAGE, "a length penalty has to be finite");
    return FZ_OK;
}

static fz_status allocate(fz_search *s)
{
    const int64_t beams = s->c.beams, rows = s->c.n_samples * beams, length = s->max_length;
    FZ_TRY(FZ_NEW(&s->samples, s->c.n_samples));
    FZ_TRY(FZ_NEW(&s->ids, rows * length));
    FZ_TRY(FZ_NEW(&s->log_probs, rows));
    FZ_TRY(FZ_NEW(&s->finished, rows));
    FZ_TRY(FZ_NEW(&s->finished_ids, rows * s->c.max_tokens));
    FZ_TRY(FZ_NEW(&s->old_ids, beams * length));
    FZ_TRY(FZ_NEW(&s->old_log_probs, beams));
    FZ_TRY(FZ_NEW(&s->cursor, beams));
    FZ_TRY(FZ_NEW(&s->step_ids, rows));
    FZ_TRY(FZ_NEW(&s->parent, rows));
    FZ_TRY(FZ_NEW(&s->banned_start, rows + 1));
    return FZ_NEW(&s->banned, rows * (length + 1));
}

fz_status fz_search_create(const fz_search_config *config, fz_search **search_p)
{
    fz_search *s = NULL;
    FZ_TRY(check(config));
    FZ_TRY(FZ_NEW(&s, 1));
    s->c = *config;
    s->max_length = 1 + config->max_prefix + config->max_tokens;
    const fz_status status = allocate(s);
    if (status != FZ_OK) {
        fz_search_destroy(&s);
        return status;
    }
    for (int64_t r = 0; r < config->n_samples * config->beams; r++)
        s->finished[r].ids = s->finished_ids + r * config->max_tokens;
    s->step = (fz_generator_step){s->step_ids, s->parent, s->banned, s->banned_start};
    *search_p = s;
    return FZ_OK;
}

void fz_search_destroy(fz_search **search)
{
    fz_search *s = *search;
    if (!s) return;
    fz_free(&s->samples);
    fz_free(&s->ids);
    fz_free(&s->log_probs);
    fz_free(&s->finished);
    fz_free(&s->finished_ids);
    fz_free(&s->old_ids);
    fz_free(&s->old_log_probs);
    fz_free(&s->cursor);
    fz_free(&s->step_ids);
    fz_free(&s->parent);
    fz_free(&s->banned_start);
    fz_free(&s->banned);
    fz_free(search);
}

int64_t fz_search_candidates(const fz_search *search)
{
    return 2 * search->c.beams;
}

int64_t fz_search_positions(const fz_search_config *config)
{
    return config->max_prefix + config->max_tokens;
}

/* ---- the step ---- */

/* Appends what the row may not get next; each id once. Returns the new end of the list. */
static int32_t ban(const fz_search *s, const progress *sample, const int32_t *ids, int32_t at)
{
    const int64_t g = s->c.no_repeat_ngram, first = at;
    if (s->length - sample->n_prefix < s->c.min_tokens) s->banned[at++] = s->c.eos;
    if (g == 0 || g > s->length) return at;
    const int32_t *tail = ids + s->length + 1 - g; /* g - 1 ids that are there of the next g */
    for (int64_t j = 0; j + g <= s->length; j++) {
        if (memcmp(ids + j, tail, (size_t)(g - 1) * sizeof *ids) != 0) continue;
        int64_t k = first;
        while (k < at && s->banned[k] != ids[j + g - 1])
            k++;
        if (k == at) s->banned[at++] = ids[j + g - 1];
    }
    return at;
}

/* ids and parent of the step are set: the bans of rows whose candidates will be looked at. */
static void finish_step(fz_search *s)
{
    int32_t at = 0;
    for (int64_t r = 0; r < s->n_samples * s->c.beams; r++) {
        const progress *sample = &s->samples[r / s->c.beams];
        s->banned_start[r] = at;
        if (!sample->is_done && s->length >= sample->n_prefix &&
            s->log_probs[r] > -(double)INFINITY)
            at = ban(s, sample, s->ids + r * s->max_length, at);
    }
    s->banned_start[s->n_samples * s->c.beams] = at;
}

void fz_search_start(fz_search *s, int64_t n_samples, const int32_t *prefix,
                     const int32_t *prefix_start)
{
    FZ_ASSERT(n_samples > 0 && n_samples <= s->c.n_samples);
    s->n_samples = s->n_open = n_samples;
    s->length = 1;
    for (int64_t i = 0; i < n_samples; i++) {
        const int64_t n = prefix ? prefix_start[i + 1] - prefix_start[i] : 0;
        FZ_ASSERT(n >= 0 && n <= s->c.max_prefix);
        s->samples[i] = (progress){.n_prefix = 1 + n};
        for (int64_t r = i * s->c.beams; r < (i + 1) * s->c.beams; r++) {
            int32_t *ids = s->ids + r * s->max_length;
            ids[0] = s->c.start;
            if (n > 0) memcpy(ids + 1, prefix + prefix_start[i], (size_t)n * sizeof *ids);
            /* All rows are the same text: one of them goes on. */
            s->log_probs[r] = r == i * s->c.beams ? 0.0 : -(double)INFINITY;
            s->step_ids[r] = s->c.start;
            s->parent[r] = (int32_t)r;
        }
    }
    finish_step(s);
}

const fz_generator_step *fz_search_step(const fz_search *s)
{
    return s->n_open > 0 ? &s->step : NULL;
}

/* ---- the answer ---- */

/* list: (beams), best first. A text that equals one there comes behind it. */
static void finish(const fz_search *s, progress *sample, finished *list, const int32_t *ids,
                   int64_t n, double log_prob)
{
    const double score = log_prob / pow((double)n, s->c.length_penalty);
    int64_t at = sample->n_finished;
    if (at == s->c.beams && !(score > list[at - 1].score)) return;
    if (at == s->c.beams)
        at--;
    else
        sample->n_finished++;
    finished text = {.ids = list[at].ids, .n = n, .log_prob = log_prob, .score = score};
    memcpy(text.ids, ids, (size_t)n * sizeof *ids);
    for (; at > 0 && list[at - 1].score < score; at--)
        list[at] = list[at - 1];
    list[at] = text;
}

/* The only id that the n-th place of a text may have; 0: any. */
static int32_t forced(const fz_search *s, int64_t n)
{
    if (s->c.forced_last > 0 && n == s->c.max_tokens) return s->c.forced_last;
    return s->length == 1 ? s->c.forced_first : 0;
}

/* The best continuation that is left; the rows' candidates come best first. false: none. */
static bool pick(fz_search *s, const fz_candidate *candidates, int32_t only, int64_t *row,
                 int32_t *id, double *log_prob)
{
    const int64_t k = only > 0 ? 1 : fz_search_candidates(s);
    const fz_candidate free_one = {.id = only};
    int64_t best = -1;
    for (int64_t b = 0; b < s->c.beams; b++) {
        if (s->cursor[b] == k) continue;
        const fz_candidate *c = only > 0 ? &free_one : &candidates[b * k + s->cursor[b]];
        const double sum = s->old_log_probs[b] + (double)c->log_prob;
        if (c->id < 0 || !(sum > -(double)INFINITY) || (best >= 0 && !(sum > *log_prob))) continue;
        best = b;
        *id = c->id;
        *log_prob = sum;
    }
    if (best < 0) return false;
    s->cursor[best]++;
    *row = best;
    return true;
}

/* No continuation is allowed: what lives ends where it is. */
static void end_here(fz_search *s, int64_t i)
{
    progress *sample = &s->samples[i];
    const int64_t n = s->length - sample->n_prefix;
    for (int64_t b = 0; b < s->c.beams && n > 0; b++)
        if (s->old_log_probs[b] > -(double)INFINITY)
            finish(s, sample, s->finished + i * s->c.beams,
                   s->old_ids + b * s->max_length + sample->n_prefix, n, s->old_log_probs[b]);
}

static bool is_done(const fz_search *s, int64_t i, int64_t n, int64_t n_live)
{
    const progress *sample = &s->samples[i];
    if (n_live == 0) return true;
    if (sample->n_finished < s->c.beams) return false;
    if (s->c.beams == 1 || s->c.early_stopping == FZ_STOP_FULL) return true;
    const bool at_longest = s->c.early_stopping == FZ_STOP_NEVER && s->c.length_penalty > 0;
    const double length = (double)(at_longest ? s->c.max_tokens : n);
    const double best = s->log_probs[i * s->c.beams] / pow(length, s->c.length_penalty);
    return !(best > s->finished[(i + 1) * s->c.beams - 1].score);
}

static void choose(fz_search *s, int64_t i, const fz_candidate *candidates)
{
    const int64_t beams = s->c.beams, first = i * beams, length = s->max_length;
    progress *sample = &s->samples[i];
    const int64_t n = s->length + 1 - sample->n_prefix; /* of a text with the new token */
    const int32_t only = forced(s, n);
    int64_t n_live = 0, n_picked = 0, row = 0;
    int32_t id = 0;
    double log_prob = 0;

    memcpy(s->old_ids, s->ids + first * length, (size_t)(beams * length) * sizeof *s->ids);
    memcpy(s->old_log_probs, s->log_probs + first, (size_t)beams * sizeof *s->log_probs);
    memset(s->cursor, 0, (size_t)beams * sizeof *s->cursor);
    for (; n_picked < 2 * beams && pick(s, candidates, only, &row, &id, &log_prob); n_picked++) {
        int32_t *text = s->old_ids + row * length;
        text[s->length] = id;
        if (id == s->c.eos || n == s->c.max_tokens) {
            if (n_picked < beams)
                finish(s, sample, s->finished + first, text + sample->n_prefix, n, log_prob);
            continue;
        }
        if (n_live == beams) continue;
        const int64_t r = first + n_live++;
        memcpy(s->ids + r * length, text, (size_t)(s->length + 1) * sizeof *text);
        s->log_probs[r] = log_prob;
        s->step_ids[r] = id;
        s->parent[r] = (int32_t)(first + row);
    }
    if (n_picked == 0) end_here(s, i);
    sample->is_done = is_done(s, i, n, n_live);
    if (sample->is_done) s->n_open--;
    for (int64_t r = first + (sample->is_done ? 0 : n_live); r < first + beams; r++) {
        s->log_probs[r] = -(double)INFINITY;
        s->step_ids[r] = s->c.pad;
        s->parent[r] = (int32_t)r;
    }
}

void fz_search_take(fz_search *s, const fz_candidate *candidates)
{
    const int64_t beams = s->c.beams;
    for (int64_t i = 0; i < s->n_samples; i++) {
        const progress *sample = &s->samples[i];
        if (!sample->is_done && s->length >= sample->n_prefix) {
            choose(s, i, candidates + i * beams * fz_search_candidates(s));
            continue;
        }
        for (int64_t r = i * beams; r < (i + 1) * beams; r++) {
            if (!sample->is_done) s->step_ids[r] = s->ids[r * s->max_length + s->length];
            s->parent[r] = (int32_t)r;
        }
    }
    s->length++;
    finish_step(s);
}

bool fz_search_get(const fz_search *s, int64_t i, int64_t place, fz_search_text *text)
{
    if (place >= s->samples[i].n_finished) return false;
    const finished *f = &s->finished[i * s->c.beams + place];
    *text = (fz_search_text){f->ids, f->n, f->log_prob, f->score};
    return true;
}
