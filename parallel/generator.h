/* Generation with a cache of keys and values, on any layout: the trainer's weights and mesh, one
 * more allocation for the caches.
 *
 * A row is a text in the making: beams of a sample are consecutive rows, row = sample * beams + b.
 * The shapes of all products depend on n_samples * beams and the positions alone, so every layout
 * gives the same bits; rows with equal texts may differ in the last bits, which depend on the row's
 * place. Data ranks may work on different batches at the same time: functions are
 * Collective over the tensor and pipeline ranks of one data rank, unless they say otherwise, and
 * results are the same on all of them.
 */
#ifndef FZ_PARALLEL_GENERATOR_H
#define FZ_PARALLEL_GENERATOR_H

#include "parallel/trainer.h"

typedef struct fz_generator fz_generator;

/* fz_candidate (id, log_prob) is model/program.h's. */

typedef struct fz_generator_sizes {
    int64_t n_samples;    /* of a batch at most; at most micro_batch */
    int64_t beams;        /* rows of a sample at most */
    int64_t max_tokens;   /* decoder positions of a row at most, the start id included */
    int64_t n_candidates; /* that next gives for each row */
} fz_generator_sizes;

/* All memory, one allocation; nothing below takes more. The trainer must outlive it and may train
 * in between. FZ_ERR_USAGE where max_tokens is more than the decoder's positions; FZ_ERR_MEMORY may
 * be one rank's alone: agree before the next collective. Local. */
fz_status fz_generator_create(fz_trainer *trainer, const fz_generator_sizes *sizes,
                              fz_generator **generator_p);
void fz_generator_destroy(fz_generator **generator);
size_t fz_generator_bytes(const fz_generator *generator); /* of the allocation. Local. */

/* A new batch: vision and encoder run once, keys and values of every cross-attention are kept. Of
 * batch the encoder's side is read (sizes.n_dec, dec_*, labels are ignored). beams: rows per sample
 * from here on, at most sizes.beams. */
fz_status fz_generator_start(fz_generator *generator, const fz_microbatch *batch, int64_t beams);

typedef struct fz_generator_step {
    const int32_t *ids;    /* (rows): the token each row gets now; the first one is the start id */
    const int32_t *parent; /* (rows): the row of the same sample whose text this row goes on with;
                              NULL: each its own */
    /* Ids that are no candidates of row r: banned[banned_start[r] .. banned_start[r+1]). NULL: none
     */
    const int32_t *banned, *banned_start;
} fz_generator_step;

/* Candidates of the token behind ids: (rows, n_candidates), best logits first, equals by lower id.
 * log_prob is minus the token loss that the id would have as a label. FZ_ERR_ARG for a step beyond
 * max_tokens, a parent in another sample or an id outside the vocabulary; FZ_ERR_FORMAT where the
 * logits are not numbers: all ranks alike. */
fz_status fz_generator_next(fz_generator *generator, const fz_generator_step *step,
                            fz_candidate *candidates);

#endif
