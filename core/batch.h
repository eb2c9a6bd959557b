/* A micro-batch: what data/ hands to parallel/ and model/ reads. Ragged, never padded. Local. */
#ifndef FZ_CORE_BATCH_H
#define FZ_CORE_BATCH_H

#include <stdint.h>

enum { FZ_NO_LABEL = -100 };

/* Sizes of a micro-batch as one process sees it; also the maxima the plan is made for. */
typedef struct fz_sizes {
    int64_t n_samples;                /* B                                                       */
    int64_t n_local_images;           /* of this process's shards: floor(sB/S) .. floor((s+1)B/S) */
    int64_t n_enc, n_dec;             /* tokens that are present, in ENC and DEC                  */
    int64_t max_enc_len, max_dec_len; /* longest sequence of one sample                 */
} fz_sizes;

/* All pointers are borrowed from whoever made it (the loader), until its next batch. */
typedef struct fz_microbatch {
    fz_sizes sizes;
    const int64_t *sample_n;  /* (B) position of each sample in the run: keys the dropout  */
    const int32_t *enc_start; /* (B+1) offsets into the ENC tokens, image tokens included   */
    const int32_t *enc_ids;   /* (n_enc) prompt ids; -1 at image tokens                     */
    const int32_t *dec_start; /* (B+1)                                                      */
    const int32_t *dec_ids;   /* (n_dec) labels shifted right, start id first               */
    const int32_t *labels;    /* (n_dec); FZ_NO_LABEL: no loss                              */
    const float *pixels;      /* (n_local_images, P, P, 3) normalised; NULL where nobody needs it */
    int64_t n_labels;         /* labels that count                                               */
    float loss_scale; /* d(step loss) / d(summed token loss of this micro-batch): set by parallel */
} fz_microbatch;

/* This process's part of one step: micro-batches [first_micro, first_micro + n_micro) of M. */
typedef struct fz_step_batch {
    int64_t step, first_micro, n_micro;
    fz_microbatch *micro;    /* (n_micro) */
    const int32_t *class_of; /* (n_micro * micro_batch) class of each sample, eval and reports */
} fz_step_batch;

#endif
