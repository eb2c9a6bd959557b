/* A parity case of tests/reference/README.md as the program's own objects: config, batch, weights,
 * and the reference's numbers by name. For tests; Local. */
#ifndef FZ_TESTS_SUPPORT_PARITY_H
#define FZ_TESTS_SUPPORT_PARITY_H

#include "checkpoint/safetensors.h"
#include "core/batch.h"
#include "core/state_view.h"
#include "model/config.h"
#include "parallel/config.h"
#include "parallel/trainer.h"

typedef struct parity_case {
    char name[64];         /* the file's, without "parity-" and ".safetensors"              */
    fz_safetensors *st;    /* owned */
    fz_model_config model; /* nothing frozen, no dropout                                    */
    fz_train_config train; /* of the ten AdamW steps; one micro-batch that is the batch     */
    int64_t n_samples;     /* B */
    float *pixels;         /* owned, as are the others: (B, P, P, 3)                        */
    int32_t *prompt_ids;   /* of all samples behind each other, without image tokens        */
    int32_t *prompt_start; /* (B + 1) */
    int32_t *labels;       /* likewise; no padding */
    int32_t *label_start;  /* (B + 1) */
} parity_case;

/* FZ_ERR_FORMAT and FZ_ERR_USAGE name the file and what is wrong with it. */
fz_status parity_open(const char *path, parity_case *c);
void parity_close(parity_case *c);

/* All elements of tensor `kind/name` as floats, to be freed with fz_free; *values_p NULL where the
 * case has none. ndim 0: of any shape. */
fz_status parity_read(const parity_case *c, const char *kind, const char *name, int ndim,
                      const int64_t *shape, float **values_p, int64_t *n_p);
/* Tensors of a kind ("grad") in the case. */
int parity_count(const parity_case *c, const char *kind);

/* The part of a whole tensor that a view holds, in the view's order. Returns its elements. */
int64_t parity_box(const fz_state_tensor *tensor, const fz_state_view *view, const float *whole,
                   float *box);
/* weight/ of every tensor into the views that hold it. */
fz_status parity_load_weights(const parity_case *c, const fz_state *state);

/* One process's part of the batch, cut into micro-batches of micro_batch samples (a divisor of B).
 * Stays valid until reset. */
typedef struct parity_batch {
    fz_step_batch step;
    int64_t *sample_n; /* owned, as is what follows */
    int32_t *enc_start, *enc_ids, *dec_start, *dec_ids;
    fz_microbatch *micro;
} parity_batch;
fz_status parity_batch_create(const parity_case *c, const fz_trainer_needs *needs,
                              int64_t micro_batch, parity_batch *batch);
void parity_batch_reset(parity_batch *batch);

#endif
