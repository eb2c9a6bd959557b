/* The two decisions of a load plan, over its cuts and blocks. Local; pure. */
#ifndef FZ_CHECKPOINT_LOAD_ROUNDS_H
#define FZ_CHECKPOINT_LOAD_ROUNDS_H

#include "checkpoint/load_plan.h"

/* The cuts of one class in a block. */
typedef struct fz_load_part {
    int64_t first_cut, n_cuts, bytes;
    int class_n;
} fz_load_part;
/* The part that begins at cut *at, if the block has one there; *at goes behind it. */
bool fz_load_next_part(const fz_load_plan *plan, const fz_load_block *block, int64_t *at,
                       fz_load_part *part);

/* Sets reader and is_shared of every block: one that needs at least half of what the neediest rank
 * needs, on a host that needs at least half of what the neediest host needs, with the fewest bytes
 * to read so far; the lowest of equals. */
fz_status fz_load_choose_readers(const fz_load_plan_args *args, fz_load_plan *plan);

/* Lays the messages of shared blocks into rounds and keeps those of args->rank. A part goes to all
 * of its class in one round; a reader holds one block at a time, so that its rounds never go back;
 * nobody exceeds round_bytes in a round, a part counting once for its sender. */
fz_status fz_load_make_rounds(const fz_load_plan_args *args, fz_load_plan *plan);

#endif
