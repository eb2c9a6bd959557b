/* Token and position embeddings.
 *
 *   token      y[r,:] = scale * (0 + table[ids[r] - first, :])   where this shard has the id, else
 * 0 dtable[ids[r] - first, :] += scale * dy[r,:]      rows in order; not for skip_id position
 * y[r,:] += table[p(r) + offset, :]                 p(r): token of row r dtable[p + offset, :] +=
 * sum over rows r with p(r) = p of dy[r,:]
 *
 * Shapes: y, dy (N,C); table, dtable of tokens (n_rows, C), rows first .. first + n_rows of the
 * vocabulary; of positions (max_len + offset or more, C). 0 + x: shards that do not have the id
 * contribute +0, so that the sum over shards is +0 where the table has -0, on every layout. The
 * sum over rows is a sum over tokens (segments.h).
 */
#ifndef FZ_MODEL_OPS_EMBEDDING_H
#define FZ_MODEL_OPS_EMBEDDING_H

#include "model/ops/ops.h"

void fz_embedding_forward_ref(double *y, const double *table, const int32_t *ids, int64_t N,
                              int64_t C, int64_t first, int64_t n_rows, double scale);
void fz_embedding_backward_ref(double *dtable, const double *dy, const int32_t *ids, int64_t N,
                               int64_t C, int64_t first, int64_t n_rows, double scale,
                               int32_t skip_id);
void fz_position_forward_ref(double *y, const double *table, const fz_rows *rows, int64_t C,
                             int64_t offset);
void fz_position_backward_ref(double *dtable, const double *dy, const fz_rows *rows, int64_t C,
                              int64_t offset);

#endif
