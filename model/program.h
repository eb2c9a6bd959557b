/* A model is a program: a list of blocks over streams (design.md 4).
 *
 *   vision.patch[s]  vision.spatial[s.b]  vision.channel[s.b]   projector   encoder.embed
 *   encoder.layer[l]   decoder.embed   decoder.layer[l] (reads enc and dec)   head.loss
 *
 * A pipeline stage is a contiguous slice of it; what crosses a cut are the streams that are live
 * there. Nothing here knows that other ranks exist.
 *
 * Streams (floats, row-major):
 *   VISION  (local images x side^2, C) of this process's image shards; after the projector
 *           (local images x (1 + side^2), enc_width)
 *   ENC     (n_enc, enc_width): image tokens then prompt tokens, sample after sample, ragged
 *   DEC     (n_dec, dec_width), ragged
 * Pixels are input, not a stream that crosses cuts; vision.patch[0] reads them.
 */
#ifndef FZ_MODEL_PROGRAM_H
#define FZ_MODEL_PROGRAM_H

#include "core/arena.h"
#include "core/batch.h"
#include "core/rng.h"
#include "model/config.h"
#include "model/hooks.h"
#include "model/params.h"

typedef enum fz_stream { FZ_STREAM_VISION, FZ_STREAM_ENC, FZ_STREAM_DEC, FZ_N_STREAMS } fz_stream;

/* Which shards a process holds: consecutive, count a power of two, first a multiple of count. */
typedef struct fz_shards {
    int64_t n, first, count;
} fz_shards;

typedef struct fz_block fz_block;
typedef struct fz_program fz_program;
typedef struct fz_ops fz_ops;
typedef struct fz_queue fz_queue; /* a device stream; NULL on the CPU */

/* ---- generation: one token per row, keys and values in a cache (docs/design/0006) ---- */

/* Of a batch; also the maxima that memory is taken for. Rows: n_samples * beams. */
typedef struct fz_decode_sizes {
    int64_t n_samples, beams;
    int64_t max_tokens;         /* places of a row in the cache */
    int64_t n_candidates;       /* per row */
    int64_t n_enc, max_enc_len; /* encoder tokens, as in fz_sizes */
} fz_decode_sizes;

typedef struct fz_candidate {
    int32_t id;     /* -1: there are fewer */
    float log_prob; /* of the soft-capped logits, over the whole vocabulary, banned ids included */
} fz_candidate;

/* A step: row r = sample * beams + b gets the token at `position` (the same for all rows). */
typedef struct fz_decode {
    fz_decode_sizes sizes;
    int64_t position;
    const int32_t *parent;       /* (rows): the row of the same sample whose keys and values this
                                    row goes on with; NULL: each its own */
    const int32_t *sample_start; /* (n_samples+1): s * beams */
    const int32_t *cache_start;  /* (rows+1): r * max_tokens */
    const int32_t *banned, *banned_start; /* as ops->top_k; of all rows */
    fz_candidate *candidates;             /* (rows, n_candidates), by head.loss */
} fz_decode;

/* Everything a block's pass may touch. Filled by parallel/ (or a test) before every call. */
typedef struct fz_exec {
    const fz_program *program;
    const fz_ops *ops;
    fz_queue *queue;
    const fz_hooks *hooks;
    fz_shards shards;
    const fz_microbatch *batch;
    uint64_t seed;
    bool training; /* dropout and drop-path on; saves needed */
    /* By parameter index: first local piece (pieces follow each other); NULL where not held. */
    float *const *weights;
    /* By use index (fz_use): accumulators of the lane in work, same layout; NULL where frozen. */
    float *const *grads;
    /* Streams: forward replaces stream[] by memory taken from save; backward_input turns the
     * gradient of what the block wrote into the gradient of what it read. dstream[] buffers are
     * the player's, large enough for the stream's largest shape, changed in place. For a stream
     * that the block only reads (enc in a decoder layer) the gradient is added to. */
    float *stream[FZ_N_STREAMS];
    float *dstream[FZ_N_STREAMS];
    fz_arena *save; /* forward -> backward, per micro-batch in flight                          */
    fz_arena *keep; /* backward_input -> backward_weight                                       */
    fz_arena *work; /* inside one pass; the caller resets it                                   */
    void *saved;    /* what the block's forward saved: set by forward (first thing taken from
                       save), given back to the backward passes                               */
    void *kept;     /* likewise from backward_input to backward_weight                         */
    /* Results of head.loss; may be NULL except token_loss in eval. */
    float *token_loss;   /* (n_dec): loss of each label, 0 where none                          */
    double *loss_sum;    /* sum of token_loss in token order                                   */
    int32_t *next_token; /* (n_samples): arg max of the logits at each sample's last token     */
    /* Not NULL: a step of generation (forward and cache_fill of decoder blocks and head alone).
     * Each row is a sequence of one token of batch: sizes.n_samples and n_dec are rows; enc_start,
     * n_enc and max_enc_len are the samples'. No labels. Outputs are taken from save, all else from
     * work. */
    const fz_decode *decode;
    fz_arena *cache; /* the block's own memory between steps; the caller resets it */
} fz_exec;

typedef struct fz_flops { /* multiply-adds count 2; of one pass over the given sizes */
    double forward, backward_input, backward_weight; /* matrix products only                   */
} fz_flops;

typedef struct fz_block_bytes { /* what the passes take from each arena; to the byte */
    size_t save, keep, work;
} fz_block_bytes;

typedef struct fz_decode_bytes { /* of a step of generation; to the byte */
    size_t cache, save, work;
} fz_decode_bytes;

typedef struct fz_block_kind {
    const char *name; /* "encoder.layer" */
    /* training forward saves into x->save; in eval (x->training false) it may take the same. */
    fz_status (*forward)(const fz_block *block, fz_exec *x);
    fz_status (*backward_input)(const fz_block *block, fz_exec *x);
    fz_status (*backward_weight)(const fz_block *block, fz_exec *x);
    /* bytes for these sizes and shards: runs the same layout code over counting arenas. */
    void (*bytes)(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_block_bytes *bytes);
    void (*flops)(const fz_block *block, const fz_program *program, const fz_sizes *sizes,
                  fz_shards shards, fz_flops *flops);
    /* Generation; NULL in blocks before the decoder. */
    void (*decode_bytes)(const fz_block *block, const fz_program *program,
                         const fz_decode_sizes *sizes, fz_shards shards, fz_decode_bytes *bytes);
    /* Once for a batch, before the first step: what the block keeps of ENC. NULL: nothing. */
    fz_status (*cache_fill)(const fz_block *block, fz_exec *x);
} fz_block_kind;

/* A use of a parameter by a block. A tied parameter has two; each has its own gradient. */
typedef struct fz_use {
    int param; /* index into program->params */
    int block;
} fz_use;

enum { FZ_BLOCK_USES = 48 };

struct fz_block {
    const fz_block_kind *kind;
    char name[64];  /* "decoder.layer[3]" */
    int index;      /* in the program */
    int layer;      /* l, or vision stage s */
    int sub;        /* vision: block inside the stage; else 0 */
    int sub_global; /* vision: sub-block number k of 24 for the drop-path rate */
    fz_stream writes;
    bool reads_enc; /* besides the stream it writes */
    /* rows of the stream it writes: per local image, or per token (rows_per_image 0) */
    int64_t out_rows_per_image, out_width;
    int n_uses;
    int first_use; /* uses [first_use, first_use + n_uses) are this block's, in the order its
                      source names them (enum in blocks/<family>.h) */
    bool trains;   /* any of its uses is trainable */
    bool wants_input_grad; /* a gradient of the stream it transforms is needed below */
    bool wants_enc_grad;   /* reads_enc and somebody below trains                     */
    uint32_t site;         /* first dropout site number; a block has 64               */
    bool dropout_active;   /* false: frozen and frozen_dropout off                    */
};

/* Whether a backward pass of this block will ever run. Where not, forward takes only the stream it
 * writes from save and everything else from work. */
static inline bool fz_block_keeps(const fz_block *block)
{
    return block->trains || block->wants_input_grad || block->wants_enc_grad;
}

struct fz_program {
    fz_model_config config;
    int64_t n_shards;
    int n_blocks;
    fz_block *blocks; /* owned */
    int n_params;
    fz_param *params; /* owned; unique: tied copies once; order = first use */
    int n_uses;
    fz_use *uses;                    /* owned */
    int64_t n_elements, n_trainable; /* all parameters, and those trained */
};

/* Builds the list. FZ_ERR_USAGE for sizes that do not divide by n_shards. */
fz_status fz_program_create(const fz_model_config *config, int64_t n_shards,
                            fz_program **program_p);
void fz_program_destroy(fz_program **program);

/* A stream that crosses the cut before block `cut` (0 < cut < n_blocks). */
typedef struct fz_live {
    fz_stream stream;
    int64_t rows_per_image, width; /* rows_per_image 0: rows are the stream's tokens */
    bool needs_grad;               /* a gradient comes back across the cut */
} fz_live;
int fz_program_live(const fz_program *program, int cut, fz_live live[FZ_N_STREAMS]);
/* Floats of a stream with this shape in a micro-batch. */
int64_t fz_stream_floats(const fz_live *live, const fz_sizes *sizes);
/* Largest floats of stream s anywhere in blocks [first, last) as input or output: its dstream. */
int64_t fz_program_stream_max(const fz_program *program, int first, int last, fz_stream stream,
                              const fz_sizes *sizes);
/* The sizes the plan must be ready for: micro_batch samples, longest texts, on these shards. */
fz_sizes fz_program_max_sizes(const fz_program *program, int64_t micro_batch, fz_shards shards);
/* First image of shard s: floor(s B / S). */
static inline int64_t fz_image_first(int64_t n_samples, int64_t n_shards, int64_t shard)
{
    return shard * n_samples / n_shards;
}

/* For blocks: weight and gradient of the block's i-th use, piece of the j-th local shard. */
static inline float *fz_weight(const fz_block *block, const fz_exec *x, int i)
{
    return x->weights[x->program->uses[block->first_use + i].param];
}
static inline float *fz_grad(const fz_block *block, const fz_exec *x, int i)
{
    return x->grads[block->first_use + i];
}

#endif
