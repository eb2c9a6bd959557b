/* DaViT and the projector as blocks; mathematics in docs (model.md 2 and 3). Vision is cut by
 * images: a process encodes the images of its shards, one product per shard and image piece
 * [floor(sB/S), floor((s+1)B/S)), so a product's shape never depends on how many shards it holds.
 * Trained weights: per micro-batch a tree leaf per shard, folded, summed over shards by the hook,
 * then added to the lane's gradient.
 *
 * A block does not copy the stream it reads: backward passes read it again, so it must stay where
 * it was (another block's save, a receive buffer of the same life) until backward_weight is done.
 * drop-path draws at sites block->site (attention) and block->site + 1 (FFN), by the image's
 * sample.
 */
#ifndef FZ_MODEL_BLOCKS_DAVIT_H
#define FZ_MODEL_BLOCKS_DAVIT_H

#include "model/program.h"

enum { FZ_PATCH_W, FZ_PATCH_B, FZ_PATCH_NORM_W, FZ_PATCH_NORM_B, FZ_PATCH_USES };

enum { /* spatial and channel sub-blocks alike */
       FZ_SUB_DW1_W,
       FZ_SUB_DW1_B,
       FZ_SUB_NORM1_W,
       FZ_SUB_NORM1_B,
       FZ_SUB_QKV_W,
       FZ_SUB_QKV_B,
       FZ_SUB_PROJ_W,
       FZ_SUB_PROJ_B,
       FZ_SUB_DW2_W,
       FZ_SUB_DW2_B,
       FZ_SUB_NORM2_W,
       FZ_SUB_NORM2_B,
       FZ_SUB_FC1_W,
       FZ_SUB_FC1_B,
       FZ_SUB_FC2_W,
       FZ_SUB_FC2_B,
       FZ_SUB_USES
};

enum { FZ_PROJ_W, FZ_PROJ_NORM_W, FZ_PROJ_NORM_B, FZ_PROJ_ROW, FZ_PROJ_COL, FZ_PROJ_USES };

extern const fz_block_kind fz_block_vision_patch;   /* block->layer = stage s */
extern const fz_block_kind fz_block_vision_spatial; /* layer = s, sub_global = k of 2*sum(depths) */
extern const fz_block_kind fz_block_vision_channel;
extern const fz_block_kind
    fz_block_projector; /* VISION (images x side^2, C3) -> (images x (1+side^2), enc_width) */

#endif
