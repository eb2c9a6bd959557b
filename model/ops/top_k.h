/* The best columns of each row, cut by vocabulary shards like the cross-entropy.
 *
 *   top[r, 0 .. k): the k largest of z[r, 0 .. n_valid), larger first, equal ones by lower id;
 *                   id = first + column
 *   without: columns of banned ids, -infinity, not-a-number; where fewer are left: id -1, -infinity
 *
 * The order is total, so parts of a row may be taken apart and merged in any order. _ref chooses k
 * times among all; the CPU's runs once over the row.
 */
#ifndef FZ_MODEL_OPS_TOP_K_H
#define FZ_MODEL_OPS_TOP_K_H

#include "model/ops/ops.h"

void fz_top_k_ref(fz_top *top, const float *z, int64_t N, int64_t V, int64_t first, int64_t n_valid,
                  int64_t k, const int32_t *banned, const int32_t *banned_start);

#endif
