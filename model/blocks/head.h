/* The head: [final RMSNorm of Gemma,] tied soft-capped logits, cross-entropy, in chunks of tokens.
 *
 * In training, forward only keeps its input; backward_input forms logits, loss, d(logits), the
 * input gradient and the gradients of table and norm chunk by chunk, so logits are formed once
 * (three products, not four) and never exist for all tokens at once; backward_weight has nothing
 * left to do. In eval (x->training false), and where nothing at all is trained, forward computes
 * token_loss, loss_sum and, where asked, next_token (-1 for a sample without tokens; equal logits:
 * the lowest id).
 *
 * Vocabulary pieces of ceil(V/S) rows; what lies beyond V is neither scored nor trained. Per chunk
 * the ranks of a tensor group meet for the maximum, for (sum of exponentials, target logit) in one
 * call and, in training, for the input gradient; they agree on whether next_token is asked for.
 *
 * In a step of generation (x->decode) forward gives the candidates of every row: best logits first,
 * equal ones by lower id, without the banned ones; log_prob is minus the loss that the id would
 * have as a label. The ranks of a tensor group exchange each chunk's best.
 *
 * flops counts the logits' product as forward, where the mathematics has it, though training makes
 * it in backward_input.
 */
#ifndef FZ_MODEL_BLOCKS_HEAD_H
#define FZ_MODEL_BLOCKS_HEAD_H

#include "model/program.h"

enum { FZ_HEAD_TABLE, FZ_HEAD_NORM, FZ_HEAD_USES }; /* BART: table only (n_uses 1) */

/* Tokens per chunk: a product's shape depends on it, so it is a constant of the exact numerics. */
enum { FZ_HEAD_CHUNK = 256 };

extern const fz_block_kind fz_block_head;

#endif
