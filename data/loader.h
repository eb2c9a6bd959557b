/* The loader: micro-batches of this process's lanes, decoded ahead of the step by threads. Local:
 * takes what it needs to know of ranks as plain ints, never calls MPI.
 *
 * Protocol of one step, because only some ranks decode an image and all must agree on failures:
 *     fz_loader_prepare(loader, step)              waits for this process's samples
 *     caller: maximum over all ranks of fz_loader_bad(loader) (global_batch bytes)
 *     any set and policy skip: fz_loader_replace(loader, bad), prepare again; policy stop: error
 *     fz_loader_get(loader, &batch)                borrowed until the next prepare
 */
#ifndef FZ_DATA_LOADER_H
#define FZ_DATA_LOADER_H

#include <stdbool.h>

#include "core/batch.h"
#include "data/sampler.h"

typedef struct fz_tokenizer fz_tokenizer; /* data/tokenizer.h; NULL: only samples with ids */

typedef struct fz_loader_config {
    const fz_index *index; /* borrowed */
    bool eval; /* all (image, annotation) pairs once, in index order, instead of the sampler */
    uint64_t seed;
    int64_t window, global_batch, micro_batch;
    fz_balance balance;
    int64_t first_micro, n_micro; /* this process's micro-batches of every step */
    int64_t n_shards, first_shard, n_local_shards; /* whose images it decodes */
    bool pixels;
    int64_t image_size, image_tokens; /* P; tokens an image becomes in ENC */
    int64_t max_prompt, max_output;   /* longer ones are cut, the cut end keeps no eos (model.md 6.3) */
    int64_t enc_vocab, dec_vocab;     /* ids beyond are FZ_ERR_FORMAT, naming shard, key, id */
    int32_t dec_start_id;             /* decoder start token (eos, 1) */
    int n_threads, n_ahead;           /* decoding threads; steps prepared ahead */
    const fz_tokenizer *enc_tokenizer, *dec_tokenizer; /* borrowed; NULL: ids only */
} fz_loader_config;

typedef struct fz_loader fz_loader;

fz_status fz_loader_create(const fz_loader_config *config, fz_loader **loader_p);
void fz_loader_destroy(fz_loader **loader);

/* Blocks until this process's samples of the step are there. Failures of single samples are not
 * errors here: they are set in bad and described. */
fz_status fz_loader_prepare(fz_loader *loader, int64_t step);
/* (global_batch) 1 where this process could not read or decode position i; changed by the caller
 * to the maximum over ranks before replace. */
uint8_t *fz_loader_bad(fz_loader *loader);
/* Text of this process's first failure of the step ("shards/train-0001.tar: 000123.jpg: ..."), ""
 * if none. */
const char *fz_loader_bad_text(const fz_loader *loader);
/* Marked positions draw their next attempt. FZ_ERR_FORMAT after 16 attempts for one position. */
fz_status fz_loader_replace(fz_loader *loader, const uint8_t *bad);
fz_status fz_loader_get(fz_loader *loader, fz_step_batch *batch);
/* Eval: number of steps that cover all pairs, and number of pairs. */
int64_t fz_loader_eval_steps(const fz_loader *loader);
int64_t fz_loader_eval_samples(const fz_loader *loader);

#endif
