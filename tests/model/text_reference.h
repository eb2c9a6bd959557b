/* The text half of Florenz once more, straight from model.md 4.2, 5.2 and 6.2: dense weights,
 * double precision, one sample at a time, no shards. What the blocks' numbers are held against. */
#ifndef FZ_TESTS_MODEL_TEXT_REFERENCE_H
#define FZ_TESTS_MODEL_TEXT_REFERENCE_H

#include "tests/model/text_runner.h"

/* loss (n_dec): of each label, 0 where none; next (n_samples): arg max at the last token. */
void text_reference(const text_model *model, bool training, double *loss, int32_t *next);

#endif
