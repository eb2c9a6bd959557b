/* Gemma-2 decoder with gated cross-attention as blocks (model.md 5 and 6.2). No biases,
 * no dropout. Gradients of norms, gates and the table are formed in backward_input, those of the
 * layers' matrices in backward_weight. Where there are fewer key/value heads than shards, flops
 * counts what the replicas really compute. */
#ifndef FZ_MODEL_BLOCKS_GEMMA_H
#define FZ_MODEL_BLOCKS_GEMMA_H

#include "model/program.h"

enum { FZ_GEMMA_EMBED_TABLE, FZ_GEMMA_EMBED_USES };

enum {
    FZ_GEMMA_NORM_IN,
    FZ_GEMMA_Q,
    FZ_GEMMA_K,
    FZ_GEMMA_V,
    FZ_GEMMA_O,
    FZ_GEMMA_NORM_POST_ATTN,
    FZ_GEMMA_NORM_PRE_FF,
    FZ_GEMMA_GATE,
    FZ_GEMMA_UP,
    FZ_GEMMA_DOWN,
    FZ_GEMMA_NORM_POST_FF,
    FZ_GEMMA_PLAIN_USES, /* a layer without cross-attention ends here */
    FZ_GEMMA_CROSS_Q = FZ_GEMMA_PLAIN_USES,
    FZ_GEMMA_CROSS_K,
    FZ_GEMMA_CROSS_V,
    FZ_GEMMA_CROSS_O,
    FZ_GEMMA_CROSS_GATE,
    FZ_GEMMA_CROSS_NORM,
    FZ_GEMMA_USES
};

extern const fz_block_kind fz_block_gemma_decoder_embed; /* x0 = E[ids] * sqrt(d) in fp32 */
extern const fz_block_kind
    fz_block_gemma_decoder_layer; /* cross iff block->n_uses == FZ_GEMMA_USES */

#endif
