/* The loader: micro-batches of this process's lanes, decoded ahead of the step by threads. Local:
 * takes what it needs to know of ranks as plain ints, never calls MPI.
 *
 * Protocol of one step, because only some ranks decode an image and all must agree on failures:
 *     fz_loader_prepare(loader, step)              waits for this process's samples
 *     caller: maximum over all ranks of fz_loader_bad(loader) (global_batch bytes)
 *     any set and policy skip: fz_loader_replace(loader, bad), prepare again; policy stop: error
 *     fz_loader_get(loader, &batch)                borrowed until the next prepare
 *
 * All memory is taken at creation: a ring of n_ahead + 1 steps at their largest, and scratch per
 * thread. Only an image larger than FZ_SCRATCH_SIDE squared (data/sample_reader.h) grows its
 * thread's scratch later: one allocation more in core/memory.h's counters, counted here too.
 */
#ifndef FZ_DATA_LOADER_H
#define FZ_DATA_LOADER_H

#include <stdbool.h>

#include "core/batch.h"
#include "data/sampler.h"

typedef struct fz_tokenizer fz_tokenizer; /* data/tokenizer.h; NULL: only samples with ids */

typedef struct fz_loader_config {
    const fz_index *index; /* borrowed */
    bool eval; /* all (image, annotation) pairs once, in index order, instead of the sampler; at the
                  end micro-batches have fewer samples or none */
    uint64_t seed;
    int64_t window, global_batch, micro_batch;
    fz_balance balance;
    int64_t first_micro, n_micro;                  /* this process's micro-batches of every step */
    int64_t n_shards, first_shard, n_local_shards; /* whose images it decodes */
    bool pixels;
    int64_t image_size, image_tokens; /* P; tokens an image becomes in ENC */
    int64_t max_prompt,
        max_output;               /* longer ones are cut, the cut end keeps no eos (model.md 6.3) */
    int64_t enc_vocab, dec_vocab; /* an id beyond makes the sample bad; 0: any id */
    int32_t dec_start_id;         /* decoder start token (eos, 1) */
    int n_threads, n_ahead;       /* decoding threads (0: prepare does it); steps prepared ahead */
    const fz_tokenizer *enc_tokenizer, *dec_tokenizer; /* borrowed; NULL: ids only */
} fz_loader_config;

typedef struct fz_loader fz_loader;

fz_status fz_loader_create(const fz_loader_config *config, fz_loader **loader_p);
void fz_loader_destroy(fz_loader **loader);
/* Bytes that create takes for itself; index may be NULL (then without the room for files). */
size_t fz_loader_bytes(const fz_loader_config *config);
/* How often an unusually large image made a thread's scratch grow. */
int64_t fz_loader_n_grown(const fz_loader *loader);

/* Blocks until this process's samples of the step are there. Failures of single samples (unreadable
 * too) are not errors here: they are set in bad and described. Steps in order are found ready; any
 * other step starts the ring anew. FZ_ERR_ARG: a step past the end of eval; FZ_ERR_MEMORY. */
fz_status fz_loader_prepare(fz_loader *loader, int64_t step);
/* (global_batch) 1 where this process could not read or decode position i; changed by the caller
 * to the maximum over ranks before replace. */
uint8_t *fz_loader_bad(fz_loader *loader);
/* Text of this process's first failure of the step ("shards/train-0001.tar: 000123.jpg: ..."), ""
 * if none. */
const char *fz_loader_bad_text(const fz_loader *loader);
/* Marked positions draw their next attempt, on every rank alike; bad may be fz_loader_bad's. In
 * eval such a position keeps its place without a label and with an empty prompt and picture
 * instead. FZ_ERR_FORMAT after 16 attempts for one position. */
fz_status fz_loader_replace(fz_loader *loader, const uint8_t *bad);
/* FZ_ERR_FORMAT with the bad text while a position is marked bad. class_of is -1 where there is no
 * sample or, in eval, a replaced one. */
fz_status fz_loader_get(fz_loader *loader, fz_step_batch *batch);
/* Eval: number of steps that cover all pairs, and number of pairs. */
int64_t fz_loader_eval_steps(const fz_loader *loader);
int64_t fz_loader_eval_samples(const fz_loader *loader);

#endif
