/* A directory of a checkpoint in the making, a step or a base: every rank's file, then index and
 * manifest, then its name. Collective over world unless it says Local.
 */
#ifndef FZ_CHECKPOINT_TARGET_H
#define FZ_CHECKPOINT_TARGET_H

#include "checkpoint/directory.h"
#include "checkpoint/disk.h"
#include "checkpoint/index_file.h"
#include "checkpoint/shard_file.h"

enum {
    FZ_MASK_TRAINED = 1 << FZ_STATE_MASTER | 1 << FZ_STATE_EXP_AVG | 1 << FZ_STATE_EXP_AVG_SQ,
    FZ_MASK_WEIGHTS = 1 << FZ_STATE_MASTER,
    FZ_MASK_FROZEN = 1 << FZ_STATE_WEIGHT
};

typedef struct fz_target {
    const fz_group *world; /* borrowed, like all of the caller's */
    const char *dir;
    const fz_state *state;
    const fz_ckpt_info *info;
    unsigned mask;         /* one of FZ_MASK_*: FROZEN makes a base, the others a step */
    const uint64_t *views; /* digests of the state's views; not used where rows are read */
    fz_row_read *read;     /* see fz_shard; NULL: the views are in memory */
    void *read_context;

    /* ours */
    char tmp[128];            /* its name until it has its own, relative to dir */
    char path[FZ_PATH_BYTES]; /* of tmp */
    bool is_direct; /* found out by fz_target_write; of the parts below the caller's choice */
    fz_shard shard; /* what this rank wrote */
    fz_index index;
    fz_shard_record *records; /* owned: of all ranks */
    int64_t *counts;          /* owned: [size] bytes for gathers */
} fz_target;

/* Makes the temporary directory, writes and syncs this rank's file and brings the tables to rank 0.
 * name: what it will probably be called, beginning with step- or base-. */
fz_status fz_target_write(fz_target *target, const char *name);
/* Gives it its name, durably. base: name of the base, "" none. sums: digests of all tensors
 * ([kind * n_tensors + tensor] = digest, elements). */
fz_status fz_target_commit(fz_target *target, const char *name, const char *base,
                           uint64_t (*sums)[2]);
/* The same in parts, for a save behind the training: what is Local may run in another thread than
 * the one that calls MPI.
 *   begin_here   tmp: its name until then, the same on every rank. Local.
 *   write_here   directories and this rank's file. Local.
 *   gather       the tables, when all ranks have written.
 *   commit_here  rank 0. Local. */
fz_status fz_target_begin_here(fz_target *target, const char *tmp);
fz_status fz_target_write_here(fz_target *target);
fz_status fz_target_gather(fz_target *target);
fz_status fz_target_commit_here(fz_target *target, const char *name, const char *base,
                                uint64_t (*sums)[2]);
/* Frees; with keep false the temporary directory is removed. Local. */
void fz_target_reset(fz_target *target, bool keep);

/* Names the frozen weights by what they are: names, shapes and bits, at any layout. "" where
 * nothing is frozen. Local. */
void fz_base_name(char name[FZ_STEP_NAME_BYTES], const fz_state *state, uint64_t (*sums)[2]);
/* Whether dir has a committed base of that name. */
fz_status fz_base_is_there(const fz_group *world, const char *dir, const char *name,
                           bool *is_there);

/* What all ranks will write, without tables. Local. */
int64_t fz_target_bytes(const fz_state *state, unsigned mask);

bool fz_base_is_there_here(const char *dir, const char *name); /* Local. */

/* FZ_ERR_ARG for an info or a state that cannot be saved. Local. */
fz_status fz_save_check(const fz_state *state, const fz_ckpt_info *info);

#endif
