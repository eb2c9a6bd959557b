/* One HDF5 file in which every tensor is whole, put together from the shards by virtual datasets:
 * /<kind>/<tensor>, float32, NaN where a shard is missing. For people and their programs; a load
 * never uses it. Local.
 */
#ifndef FZ_CHECKPOINT_VIEW_H
#define FZ_CHECKPOINT_VIEW_H

#include <stdint.h>

#include "core/status.h"

/* Writes out for a step and its base; nothing of the payload is read but tensors without axes,
 * which cannot be virtual and are copied. Shards are named relative to out where it lies in the
 * step's directory, absolutely elsewhere. FZ_ERR_FORMAT for a fragment that is not a whole box. */
fz_status fz_view_write(const char *step_path, const char *out, int64_t *n_datasets_p);

#endif
