/* Beam search: which token every row of a batch gets next, and which texts are the best. Knows no
 * model and no ranks. Local.
 *
 *     fz_search_start(search, n, prefix, prefix_start);
 *     while ((step = fz_search_step(search)))
 *         fz_generator_next(generator, step, candidates), fz_search_take(search, candidates);
 *     fz_search_get(search, sample, 0, &text);
 *
 * The rules are those of generate() of the transformers library, so that equal models give equal
 * texts. n counts the ids of a text behind the prefix, eos included.
 *   - The decoder's ids are [start, prefix..., text...]. A step takes the 2 * beams best
 *     continuations of a sample's live rows by summed log-probability. One ends by eos or at
 *     max_tokens; it is finished if it is among the first `beams`, and lost if not. The `beams`
 * best that do not end live on.
 *   - A finished text has the score log_prob / n^length_penalty; the best `beams` are kept.
 *   - A sample is done when `beams` texts are finished and FZ_STOP_FULL is set, or the best live
 * row cannot beat the worst of them: by its score at the length it has (FZ_STOP_LIKELY), or for
 *     FZ_STOP_NEVER and length_penalty > 0 at max_tokens.
 *   - forced_first is the only continuation of [start] alone (no prefix), forced_last of the last
 *     place of a text; what is forced costs nothing and overrides every ban.
 *   - One beam is greedy search: it ends with the first text, whatever early_stopping says.
 *   - eos is banned while n < min_tokens; no_repeat_ngram g > 0 bans the tokens that would make g
 * ids in a row that the row has already, start id and prefix included. Of equal continuations the
 * one of the lower row wins, then the lower id. A sample's texts do not depend on the others of its
 * batch.
 */
#ifndef FZ_LAUNCH_SEARCH_H
#define FZ_LAUNCH_SEARCH_H

#include <stdbool.h>

#include "parallel/generator.h"

typedef enum fz_early_stopping {
    FZ_STOP_LIKELY, /* "false" */
    FZ_STOP_FULL,   /* "true"  */
    FZ_STOP_NEVER,  /* "never" */
} fz_early_stopping;

typedef struct fz_search_config {
    int64_t n_samples;              /* of a batch at most */
    int64_t beams;                  /* rows of a sample */
    int64_t max_prefix;             /* ids of a prefix at most, the start id not counted */
    int64_t min_tokens, max_tokens; /* of a text, behind the prefix, eos included */
    int64_t no_repeat_ngram;        /* 0: off */
    double length_penalty;
    fz_early_stopping early_stopping;
    int32_t forced_first, forced_last; /* ids; 0: none */
    int32_t start, eos, pad;           /* pad: what rows get that nobody needs any more */
} fz_search_config;

typedef struct fz_search fz_search;

typedef struct fz_search_text {
    const int32_t *ids;     /* borrowed until the next start */
    int64_t n;              /* behind the prefix; the last one is eos, or the text was cut */
    double log_prob, score; /* natural logarithm, of these n ids */
} fz_search_text;

/* All memory. FZ_ERR_USAGE: counts that do not go together. */
fz_status fz_search_create(const fz_search_config *config, fz_search **search_p);
void fz_search_destroy(fz_search **search);
/* Candidates a row needs: 2 * beams. */
int64_t fz_search_candidates(const fz_search *search);
/* Decoder positions a row may take: start, prefix and all but the last of its tokens. */
int64_t fz_search_positions(const fz_search_config *config);

/* A new batch. prefix[prefix_start[i] .. prefix_start[i+1]) is what sample i's texts begin with;
 * both NULL: nothing. */
void fz_search_start(fz_search *search, int64_t n_samples, const int32_t *prefix,
                     const int32_t *prefix_start);
/* What the model is to be asked next, borrowed until take; NULL: all samples are done. */
const fz_generator_step *fz_search_step(const fz_search *search);
/* Its answer: (rows, 2 * beams), best first, without the banned; rows are n_samples * beams. */
void fz_search_take(fz_search *search, const fz_candidate *candidates);
/* The place-th best text of a done sample; false: there are fewer. */
bool fz_search_get(const fz_search *search, int64_t sample, int64_t place, fz_search_text *text);

#endif
