/* BART encoder and decoder as blocks (model.md 4); post-norm, dropout, biases everywhere.
 *
 * Gradients of norms, biases, positions and tables are formed in backward_input, which has what
 * they need in hand; backward_weight makes those of the layers' matrices.
 * Dropout sites, from block->site: embedding 0; layer: self-attention weights 0 and output 1, cross
 * 2 and 3, hidden layer 4, feed-forward output 5. */
#ifndef FZ_MODEL_BLOCKS_BART_H
#define FZ_MODEL_BLOCKS_BART_H

#include "model/program.h"

/* encoder.embed: gathers the image tokens of all shards (hook), looks up prompt ids (vocabulary
 * split, summed over shards), adds positions (row = token + 2), LayerNorm, dropout. Writes ENC.
 * decoder.embed of the BART family: the same without images; writes DEC. */
enum { FZ_EMBED_TABLE, FZ_EMBED_POS, FZ_EMBED_NORM_W, FZ_EMBED_NORM_B, FZ_EMBED_USES };

enum { /* q k v o with bias, then the LayerNorm behind: self or cross attention */
       FZ_ATT_Q_W,
       FZ_ATT_Q_B,
       FZ_ATT_K_W,
       FZ_ATT_K_B,
       FZ_ATT_V_W,
       FZ_ATT_V_B,
       FZ_ATT_O_W,
       FZ_ATT_O_B,
       FZ_ATT_NORM_W,
       FZ_ATT_NORM_B,
       FZ_ATT_USES
};
enum {
    FZ_FFN_FC1_W,
    FZ_FFN_FC1_B,
    FZ_FFN_FC2_W,
    FZ_FFN_FC2_B,
    FZ_FFN_NORM_W,
    FZ_FFN_NORM_B,
    FZ_FFN_USES
};

/* encoder.layer: uses = FZ_ATT_USES then FZ_FFN_USES.
 * decoder.layer: FZ_ATT_USES (self), FZ_ATT_USES (cross), FZ_FFN_USES. */
extern const fz_block_kind fz_block_encoder_embed;
extern const fz_block_kind fz_block_encoder_layer;
extern const fz_block_kind fz_block_bart_decoder_embed;
extern const fz_block_kind fz_block_bart_decoder_layer;

#endif
