/* The two sub-blocks of DaViT, spatial and channel: one frame, two kinds of attention. Internal to
 * davit_sub*.c.
 *
 *   x1 = x + DW1(x)      x2 = x1 + DP(Attn(LN1(x1)))      x3 = x2 + DW2(x2)
 *   y  = x3 + DP(W2 gelu(W1 LN2(x3) + b1) + b2)
 *
 * Saved: x (borrowed), x2, the norms' statistics, qkv, the attention's output and statistics, and
 * the FFN before its gelu. What a convolution, a norm or gelu gives again cheaply is formed again.
 */
#ifndef FZ_MODEL_BLOCKS_DAVIT_SUB_H
#define FZ_MODEL_BLOCKS_DAVIT_SUB_H

#include "model/blocks/davit.h"
#include "model/blocks/davit_part.h"

enum { FZ_SUB_WINDOW = 12, FZ_SUB_HEAD = 32 };

#define FZ_SUB_NORM_EPS 1e-5f

typedef struct fz_sub_shape {
    bool is_channel;
    int64_t C, side;
    int64_t T;               /* tokens per image: side^2                                      */
    int64_t windows;         /* per image; spatial only                                       */
    int64_t rows;            /* of attention per image: windows * 144, or T                   */
    int64_t stats;           /* floats per image: log-sums (rows, C/32), or A (C/32, 32, 32)  */
    int64_t n_images, piece; /* local images; images of the largest piece             */
} fz_sub_shape;

fz_sub_shape fz_sub_shape_of(const fz_block *block, const fz_program *program,
                             const fz_sizes *sizes, fz_shards shards);
static inline fz_sub_shape fz_sub_shape_now(const fz_block *block, const fz_exec *x)
{
    return fz_sub_shape_of(block, x->program, &x->batch->sizes, x->shards);
}

/* Image after image. */
typedef struct fz_sub_saved {
    const float *in;                      /* (T, C), borrowed           */
    float *mean1, *rstd1, *mean2, *rstd2; /* (T)                        */
    float *x2;                            /* (T, C)                     */
    float *qkv;                           /* (rows, 3C)                 */
    float *o;                             /* (rows, C)                  */
    float *stats;                         /* (stats)                    */
    float *h;                             /* (T, 4C): W1 LN2(x3) + b1   */
} fz_sub_saved;
/* The part of image `first`; in is moved by in_first (they differ where only one piece is held). */
fz_sub_saved fz_sub_saved_at(const fz_sub_saved *saved, const fz_sub_shape *p, int64_t first,
                             int64_t in_first);

/* Gradients at the products and norms, image after image. */
typedef struct fz_sub_kept {
    float *d1, *d3;   /* of x1, x3 (T, C)                              */
    float *dy1, *dy2; /* of the norms' outputs (T, C)                  */
    float *dqkv;      /* (rows, 3C)                                    */
    float *dp;        /* of the projection's output (T, C)             */
    float *dh;        /* of h (T, 4C)                                  */
    float *df;        /* of the FFN's output (T, C)                    */
} fz_sub_kept;
fz_sub_kept fz_sub_kept_at(const fz_sub_kept *kept, const fz_sub_shape *p, int64_t first);

/* Scratch of attention: windows' row offsets and the op's own work. */
typedef struct fz_sub_attention {
    int32_t *start;
    void *work;
} fz_sub_attention;
fz_sub_attention fz_sub_attention_take(const fz_sub_shape *p, fz_arena *work);
/* Forward fills saved->o and stats from qkv; backward writes dqkv from dout. n images. */
fz_status fz_sub_attention_forward(const fz_exec *x, const fz_sub_shape *p,
                                   const fz_sub_attention *attention, const fz_sub_saved *saved,
                                   int64_t n);
fz_status fz_sub_attention_backward(const fz_exec *x, const fz_sub_shape *p,
                                    const fz_sub_attention *attention, const fz_sub_saved *saved,
                                    const float *dout, float *dqkv, int64_t n);

/* Stochastic depth of branch 0 (attention) or 1 (FFN); rate 0 where it is off. */
fz_dropout fz_sub_drop_path(const fz_exec *x, const fz_block *block, int branch);
/* y = x + DW(x); w, b by use. */
fz_status fz_sub_depthwise(const fz_exec *x, const fz_block *block, const fz_sub_shape *p, float *y,
                           const float *in, int use_w, int64_t n);
/* y = LN(in) over n images. */
fz_status fz_sub_norm(const fz_exec *x, const fz_block *block, const fz_sub_shape *p, float *y,
                      float *mean, float *rstd, const float *in, int use_w, int64_t n);
/* Tokens of n images to rows of attention, zeros where a window is padded. Nothing is done where
 * rows are tokens: the caller has put them there. */
fz_status fz_sub_split(const fz_exec *x, const fz_sub_shape *p, float *rows, const float *tokens,
                       int64_t width, int64_t n);
/* Rows of attention to tokens; *rows_p then points to tokens. Where they are the same, it stays. */
fz_status fz_sub_merge(const fz_exec *x, const fz_sub_shape *p, float *tokens, const float **rows_p,
                       int64_t width, int64_t n);

/* Backward passes and their memory, for davit_sub.c's table and count of bytes. */
void fz_sub_count_backward_input(const fz_block *block, const fz_sub_shape *p, fz_arena *keep,
                                 fz_arena *work);
void fz_sub_count_backward_weight(const fz_block *block, const fz_program *program,
                                  const fz_sub_shape *p, int64_t n_local_shards, fz_arena *work);
fz_status fz_sub_backward_input(const fz_block *block, fz_exec *x);
fz_status fz_sub_backward_weight(const fz_block *block, fz_exec *x);

#endif
