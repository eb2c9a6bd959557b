/* Runs the text half of a tiny model (encoder.embed .. head.loss) in one process or in several
 * simulated ones, as parallel/ would: for the tests of model/blocks/. */
#ifndef FZ_TESTS_MODEL_TEXT_RUNNER_H
#define FZ_TESTS_MODEL_TEXT_RUNNER_H

#include "model/program.h"

/* The run's seed: what dropout is keyed by. */
enum { TEXT_SEED = 11 };

/* Lengths of one sample, in tokens. */
typedef struct text_sample {
    int n_prompt, n_output;
} text_sample;

typedef struct text_model {
    fz_program *program;
    int first; /* index of encoder.embed */
    fz_microbatch batch;
    float **weights; /* by parameter: all pieces */
    float *vision;   /* all images, (B * tokens, enc_width) */
    uint64_t seed;
} text_model;

/* A model of the configured shape with weights that leave no path idle (gates open, norms and
 * biases random) and a batch of these samples. Asserts on failure. */
text_model *text_model_create(const fz_model_config *config, int64_t n_shards,
                              const text_sample *samples, int64_t n_samples, uint64_t seed);
void text_model_destroy(text_model **model);

/* One process that holds some shards. */
typedef struct text_rank {
    const text_model *model;
    fz_shards shards;
    fz_hooks hooks;
    bool training;
    /* results */
    float **grads; /* by use: local pieces; NULL where frozen */
    float *token_loss;
    int32_t *next_token;
    double loss_sum;
    float *d_vision;       /* of own images */
    float *d_enc;          /* as encoder.embed got it */
    int64_t n_wrong_bytes; /* blocks that took other bytes than they said */
    fz_arena save, keep, work;
    void *memory[3];
    size_t *work_seen; /* by block: most that any pass took */
} text_rank;

void text_rank_init(text_rank *rank, const text_model *model, fz_shards shards,
                    const fz_hooks *hooks);
void text_rank_reset(text_rank *rank);
/* Forward of all blocks; in training all backward passes too, or (loss_only) the head's alone. */
void text_rank_run(text_rank *rank, bool training, bool loss_only);
/* Runs n ranks as threads that add along the tree when they meet. */
void text_ranks_run(text_rank *ranks, int n, bool training);

/* Sizes of the model's batch on these shards. */
fz_sizes text_sizes(const text_model *model, fz_shards shards);
int64_t text_piece(const text_model *model, int param);
int64_t text_pieces(const text_model *model, int param);

/* Uniform numbers in [-1, 1) from a counter. */
float text_random(uint64_t seed, uint64_t i);

#endif
