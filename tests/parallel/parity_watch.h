/* Looks over the trainer's shoulder: compares what every block leaves in the stream it writes, and
 * the logits, with a parity case, while the trainer runs as it always does. No copy is kept: each
 * comparison happens where the numbers lie.
 *
 * The blocks of the program get kinds that call the real passes and then look; the operations are
 * the CPU's with one that looks at the soft-capped logits. One watch at a time (operations have no
 * context). Local, but for the end.
 */
#ifndef FZ_TESTS_PARALLEL_PARITY_WATCH_H
#define FZ_TESTS_PARALLEL_PARITY_WATCH_H

#include "dist/group.h"
#include "model/ops/ops.h"
#include "model/program.h"
#include "tests/support/parity.h"

/* A tensor of the case against what the ranks hold of it. */
typedef struct parity_tally {
    double error2, norm2; /* squared norms of the difference, of the reference */
    double n;             /* elements compared */
} parity_tally;

typedef struct parity_seen {
    bool known;    /* the case has it */
    float *wanted; /* owned: all of it */
    int64_t n;     /* its elements */
    parity_tally tally;
} parity_seen;

typedef struct parity_watch {
    const parity_case *c;       /* borrowed */
    const fz_microbatch *micro; /* borrowed: the batch of this run */
    int64_t micro_batch;
    fz_block *blocks;     /* owned: the program's, with the real kinds */
    fz_block_kind *kinds; /* owned: the kinds that look */
    int n_blocks;
    parity_seen *streams; /* owned: by block */
    parity_seen logits;
    fz_ops ops; /* what the trainer is to be made with */
} parity_watch;

/* Before the plan is made. The program keeps the looking kinds until it is destroyed. */
fz_status parity_watch_start(parity_watch *watch, fz_program *program, const parity_case *c,
                             int64_t micro_batch);
/* The batch of the run that follows. */
void parity_watch_batch(parity_watch *watch, const fz_step_batch *batch);
/* Sums what all ranks saw. Collective over the group. */
fz_status parity_watch_end(parity_watch *watch, const fz_group *group);
/* After the program is destroyed. */
void parity_watch_stop(parity_watch *watch);

#endif
