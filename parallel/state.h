/* What a checkpoint sees of a rank, and the digest of all parameters. */
#ifndef FZ_PARALLEL_STATE_H
#define FZ_PARALLEL_STATE_H

#include "core/state_view.h"
#include "dist/group.h"
#include "parallel/rank_memory.h"

/* All parameters as a checkpoint lists them. The caller frees. Local. */
fz_status fz_state_tensors_create(const fz_program *program, fz_state_tensor **tensors_p);
/* Views of all pieces held here: master and both moments of what is trained, the weight of what is
 * frozen. Local. */
fz_status fz_state_create(const fz_plan *plan, const fz_rank_plan *rank_plan,
                          const fz_rank_memory *memory, fz_state *state);
void fz_state_destroy(fz_state *state);

/* Digest of all weights from the views (n_tensors of scratch). Collective over the world. */
fz_status fz_state_digest(const fz_state *state, const fz_group *world, uint64_t *scratch,
                          uint64_t *digest);

#endif
