/* How the list of blocks is made: the part of program.c that knows Florenz's names and shapes. */
#ifndef FZ_MODEL_PROGRAM_BUILD_H
#define FZ_MODEL_PROGRAM_BUILD_H

#include "model/program.h"

/* FZ_ERR_USAGE, "numerics.shards: ...", where a split dimension does not divide. */
fz_status fz_program_check_shards(const fz_model_config *config, int64_t n_shards);
/* Blocks, parameters (names, shapes, cuts, initial values, freezing, decay) and uses. */
fz_status fz_program_build(fz_program *program);
/* trains, wants_input_grad, wants_enc_grad, dropout_active; counts. */
void fz_program_mark_training(fz_program *program);
/* Whether any block of [first, last) trains. */
bool fz_program_trains(const fz_program *program, int first, int last);

#endif
