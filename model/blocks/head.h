/* The head: [final RMSNorm of Gemma,] tied soft-capped logits, cross-entropy, in chunks of tokens.
 *
 * In training, forward only keeps its input; backward_input forms logits, loss, d(logits), the
 * input gradient and the weight gradient of the table chunk by chunk, so logits are formed once
 * (three products, not four) and never exist for all tokens at once. backward_weight does the rest
 * (the final norm). In eval (x->training false) forward computes token_loss, loss_sum and, where
 * asked, next_token.
 */
#ifndef FZ_MODEL_BLOCKS_HEAD_H
#define FZ_MODEL_BLOCKS_HEAD_H

#include "model/program.h"

enum { FZ_HEAD_TABLE, FZ_HEAD_NORM, FZ_HEAD_USES }; /* BART: table only (n_uses 1) */

/* Tokens per chunk: a product's shape depends on it, so it is a constant of the exact numerics. */
enum { FZ_HEAD_CHUNK = 256 };

extern const fz_block_kind fz_block_head;

#endif
