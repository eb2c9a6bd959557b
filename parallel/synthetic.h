/* Random batches without data: what benchmarks and tests of the trainer run on. A sample's content
 * is a pure function of (seed, n), so every layout sees the same batch. Local.
 */
#ifndef FZ_PARALLEL_SYNTHETIC_H
#define FZ_PARALLEL_SYNTHETIC_H

#include "core/batch.h"
#include "model/program.h"
#include "parallel/config.h"
#include "parallel/trainer.h"

typedef struct fz_synthetic fz_synthetic;

/* Lengths are drawn uniformly from [min, model's maximum]; min_prompt, min_output >= 0. All memory
 * is taken here. */
fz_status fz_synthetic_create(const fz_program *program, const fz_train_config *train,
                              const fz_trainer_needs *needs, int64_t min_prompt, int64_t min_output,
                              fz_synthetic **synthetic_p);
void fz_synthetic_destroy(fz_synthetic **synthetic);
/* This process's micro-batches of the step; borrowed until the next call. */
void fz_synthetic_step(fz_synthetic *synthetic, int64_t step, fz_step_batch *batch);

#endif
