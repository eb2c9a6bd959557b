/* Texts for a list of pictures and prompts: batches of micro_batch of them, in turn over the data
 * ranks, each made by a search over a generator. A batch is the same on every layout, and so are
 * its texts. The pictures are those of an index or plain files.
 */
#ifndef FZ_LAUNCH_TEXTS_H
#define FZ_LAUNCH_TEXTS_H

#include "data/sample_reader.h"
#include "launch/search.h"
#include "launch/session.h"

/* What every text begins with: ids behind the start id, bos first. */
enum { FZ_PREFIX_IDS = 64 };
typedef struct fz_prefix {
    int32_t ids[FZ_PREFIX_IDS];
    int64_t n;
} fz_prefix;

typedef struct fz_text_request {
    int64_t image;           /* of the index, or of files */
    int32_t annotation;      /* whose prompt it is; -1: the texts' own */
    const fz_prefix *prefix; /* borrowed; NULL: none */
} fz_text_request;

typedef struct fz_texts_config {
    const fz_index *index;    /* borrowed; NULL: files */
    const char *const *files; /* borrowed */
    const int32_t *prompt;    /* borrowed (n_prompt): for annotation -1 */
    int64_t n_prompt;
    bool no_cache;           /* greedy, and the whole text again for every token; layouts of dp 1 */
    fz_search_config search; /* n_samples and max_prefix are set here */
} fz_texts_config;

/* A text that was made; everything borrowed until the next run. */
typedef struct fz_text {
    const fz_prefix *prefix; /* or NULL */
    const int32_t *ids;      /* (n) behind the prefix, eos included */
    int64_t n;
    double log_prob, score;         /* NAN: unknown (no_cache) */
    const int32_t *prompt, *labels; /* (n_prompt), (n_labels); labels: the annotation's, or none */
    int64_t n_prompt, n_labels;
} fz_text;

typedef struct fz_texts fz_texts;

/* requests: (n), borrowed. All memory but that of large pictures. Collective over the world. */
fz_status fz_texts_create(fz_session *session, const fz_texts_config *config,
                          const fz_text_request *requests, int64_t n, fz_texts **texts_p);
void fz_texts_destroy(fz_texts **texts);
/* The next round: a batch on every data rank. Gives requests [*first_p, *end_p), an empty range
 * when there are no more. mine: what this rank had to say since the last round, so that a rank that
 * could not write its results stops all. Collective over the world. */
fz_status fz_texts_run(fz_texts *texts, fz_status mine, int64_t *first_p, int64_t *end_p);
/* Text of one of them. Rank 0 alone, Local: FZ_ERR_FORMAT/IO if its sample cannot be read again. */
fz_status fz_texts_get(fz_texts *texts, int64_t request, fz_text *text);

/* One batch: search and generator until every sample is done. prefix as in fz_search_start;
 * candidates: (rows, candidates of the search), scratch. Collective as fz_generator_next. */
fz_status fz_search_run(fz_search *search, fz_generator *generator, const fz_microbatch *batch,
                        int64_t beams, const int32_t *prefix, const int32_t *prefix_start,
                        fz_candidate *candidates);

#endif
