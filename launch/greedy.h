/* Greedy decoding of a handful of samples, one micro-batch at a time. The decoder runs over the
 * whole text for every token: there is no cache of keys and values. */
#ifndef FZ_LAUNCH_GREEDY_H
#define FZ_LAUNCH_GREEDY_H

#include "data/sample_reader.h"
#include "launch/session.h"

typedef struct fz_greedy {
    fz_session *session; /* borrowed */
    fz_sample_reader reader;
    bool has_reader;
    fz_sample_rules rules;
    fz_trainer_needs needs;
    int64_t most; /* samples of a micro-batch */
    int64_t image_tokens;
    /* owned, (most) or (most, longest) */
    int64_t *sample_n;
    int32_t *prompts, *n_prompt, *outputs, *n_output, *labels, *n_labels, *next;
    int32_t *enc_start, *dec_start, *enc_ids, *dec_ids, *no_labels;
    float *pixels;
} fz_greedy;

typedef struct fz_greedy_sample {
    int64_t image;
    int32_t annotation; /* -1: the given prompt */
} fz_greedy_sample;

/* Local. */
fz_status fz_greedy_create(fz_session *session, const fz_index *index, fz_greedy *greedy);
void fz_greedy_reset(fz_greedy *greedy);
/* n <= most samples; afterwards outputs and labels (the reference) of sample i are
 * outputs + i * max_output (n_output[i], eos cut off) and labels + i * max_output. own_prompt: ids
 * used for every sample, or NULL. Collective over the world. */
fz_status fz_greedy_run(fz_greedy *greedy, const fz_greedy_sample *samples, int64_t n,
                        const int32_t *own_prompt, int64_t n_own);

#endif
