/* Checkpoints: sharded HDF5, committed by a manifest and a rename, read at any layout. The format
 * is described in checkpoint/FORMAT.md. checkpoint/ knows names, pieces and bytes, not the trainer.
 *
 *   DIR/step-000012000/{MANIFEST, index.h5, s00/rank-00000.h5 ...}    DIR/base-<digest16>/
 * DIR/latest
 */
#ifndef FZ_CHECKPOINT_CHECKPOINT_H
#define FZ_CHECKPOINT_CHECKPOINT_H

#include "core/state_view.h"
#include "dist/group.h"

typedef struct fz_ckpt_info { /* what is stored besides tensors; the same on every rank */
    int64_t step;             /* optimizer steps done */
    int64_t samples;          /* consumed by the run: the data position */
    uint64_t seed, data_fingerprint, config_hash;
    int tp, pp, dp;
    int64_t shards, lanes, global_batch, micro_batch;
    int64_t moments_start; /* the moments know the gradients of the steps after this one */
    char run_id[64];
    char arithmetic_id[256];
    char base[64];          /* load: name of the base directory the step refers to; "" none */
    bool has_weights_alone; /* load: no moments were stored (checkpoint/stream.h) */
    char *config; /* YAML; save: borrowed; load: owned by the info, freed by fz_ckpt_info_reset */
} fz_ckpt_info;

void fz_ckpt_info_reset(fz_ckpt_info *info);

/* Once before any other call in a process (H5dont_atexit, version check). Local. */
fz_status fz_ckpt_start(void);

typedef struct fz_ckpt_save_stats {
    int64_t bytes; /* of this rank */
    double seconds;
} fz_ckpt_save_stats;

/* Writes step-<info.step> under dir and returns when it is committed (fsync, rename). All ranks or
 * none: on failure nothing is left but a removed temporary and every rank has the same error.
 * Keeps the newest `keep` committed steps (0: all). Collective over world. */
fz_status fz_ckpt_save(const fz_group *world, const char *dir, const fz_state *state,
                       const fz_ckpt_info *info, int keep, fz_ckpt_save_stats *stats);

/* Newest acceptable checkpoint under dir: manifest CRC, file sizes and the index hold. *found false
 * when there is none. Rejected ones are logged with the reason. info filled on every rank.
 * Collective over world. */
fz_status fz_ckpt_find(const fz_group *world, const char *dir, bool *found, fz_ckpt_info *info);
/* The same among steps below `before`: what to fall back to when a load found damage in the payload
 * of a step that looked acceptable. Collective over world. */
fz_status fz_ckpt_find_before(const fz_group *world, const char *dir, int64_t before, bool *found,
                              fz_ckpt_info *info);

typedef enum fz_ckpt_moments {                   /* what a load does with AdamW's moments */
                               FZ_MOMENTS_KEEP,  /* takes them as stored */
                               FZ_MOMENTS_ZERO,  /* makes them zero: the optimizer begins anew */
                               FZ_MOMENTS_LEAVE, /* does not touch them */
} fz_ckpt_moments;

typedef struct fz_ckpt_load_stats { /* of this rank */
    int64_t bytes_read;             /* of stored blocks; over all ranks each block counts once */
    int64_t bytes_sent, bytes_received;
    int64_t bytes_of_job; /* that all ranks read together */
    int64_t extra_bytes;  /* memory beside the state and the index, at its most */
    int n_rounds;         /* of the exchange; 0: everybody read what it needs itself */
    double seconds;
} fz_ckpt_load_stats;

/* Fills every view of state from step-<step> of any layout (the frozen ones from its base): every
 * stored block is read by one rank and handed on (docs/design/0010), block CRCs are checked, and
 * the digest of every tensor and kind is recomputed at the destination and compared. FZ_ERR_FORMAT
 * names tensor, file and byte range for: another model (names, shapes), damage, a hole; all ranks
 * return the same. Tensors that are trainable here and frozen there (or the other way) load weights
 * from where they are; missing moments become zero; said in one line. Collective over world. */
fz_status fz_ckpt_load(const fz_group *world, const char *dir, int64_t step, const fz_state *state);
/* Weights only, moments left alone (init_from): path names a step directory. */
fz_status fz_ckpt_load_weights(const fz_group *world, const char *path, const fz_state *state);
/* Both of them: path names a step directory; stats may be NULL. */
fz_status fz_ckpt_load_path(const fz_group *world, const char *path, fz_ckpt_moments moments,
                            const fz_state *state, fz_ckpt_load_stats *stats);

#endif
