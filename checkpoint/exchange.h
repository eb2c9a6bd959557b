/* Carrying out a load plan: reading, sending, scattering. */
#ifndef FZ_CHECKPOINT_EXCHANGE_H
#define FZ_CHECKPOINT_EXCHANGE_H

#include "checkpoint/checkpoint.h"
#include "checkpoint/load_plan.h"

typedef struct fz_exchange_args {
    const fz_group *group;
    const fz_source *sources; /* [FZ_LOAD_SOURCES] */
    const fz_wants *wants;
    const fz_load_plan *plan;
    float *const *data; /* where each want of this rank's list goes: the memory of its box */
} fz_exchange_args;

/* Fills data. Every block's CRC is checked by its reader. A rank that fails goes on sending, so all
 * return the same status. Adds to stats: bytes read, sent, received, extra. Collective over group.
 */
fz_status fz_exchange_run(const fz_exchange_args *args, fz_ckpt_load_stats *stats);

#endif
