/* Embeddings on the CPU; the mathematics is in embedding.h.
 * Bytes moved: tokens 8 N C forward, 12 N C backward; positions 12 N C forward, 4 N C + 8 S L C
 * backward with L the longest sequence. */
#include "model/ops/embedding.h"

#include <string.h>

#include "core/assert.h"
#include "core/tree.h"
#include "model/ops/cpu.h"
#include "model/ops/segments.h"

fz_status fz_cpu_embedding_forward(float *restrict y, const float *restrict table,
                                   const int32_t *ids, int64_t N, int64_t C, int64_t first,
                                   int64_t n_rows, float scale, fz_queue *queue)
{
    (void)queue;
    for (int64_t r = 0; r < N; r++) {
        const int64_t id = ids[r] - first;
        float *restrict y_r = y + r * C;
        if (id >= 0 && id < n_rows) {
            const float *restrict row = table + id * C;
            for (int64_t c = 0; c < C; c++)
                y_r[c] = scale * (0.0f + row[c]);
        } else {
            for (int64_t c = 0; c < C; c++)
                y_r[c] = 0.0f;
        }
    }
    return FZ_OK;
}

fz_status fz_cpu_embedding_backward(float *restrict dtable, const float *restrict dy,
                                    const int32_t *ids, int64_t N, int64_t C, int64_t first,
                                    int64_t n_rows, float scale, int32_t skip_id, fz_queue *queue)
{
    (void)queue;
    for (int64_t r = 0; r < N; r++) {
        const int64_t id = ids[r] - first;
        if (ids[r] == skip_id || id < 0 || id >= n_rows) continue;
        float *restrict row = dtable + id * C;
        const float *restrict dy_r = dy + r * C;
        for (int64_t c = 0; c < C; c++)
            row[c] += scale * dy_r[c];
    }
    return FZ_OK;
}

fz_status fz_cpu_position_forward(float *restrict y, const float *restrict table,
                                  const fz_rows *rows, int64_t C, int64_t offset, fz_queue *queue)
{
    (void)queue;
    for (int64_t b = 0; b < rows->n_seq; b++) {
        const int64_t first = rows->start[b], n = (rows->start[b + 1] - first) * C;
        float *restrict y_b = y + first * C;
        const float *restrict from = table + (rows->first + offset) * C;
        for (int64_t i = 0; i < n; i++) /* a sequence's rows lie as the table's do */
            y_b[i] += from[i];
    }
    return FZ_OK;
}

/* Rows [first, end) in order, into sums (positions, C). */
static void sum_positions(float *restrict sums, const float *restrict dy, const fz_rows *rows,
                          int64_t C, int64_t first, int64_t end)
{
    for (int64_t b = 0; b < rows->n_seq; b++) {
        int64_t from = rows->start[b], to = rows->start[b + 1];
        if (from < first) from = first;
        if (to > end) to = end;
        if (from >= to) continue;
        float *restrict at = sums + (from - rows->start[b]) * C;
        const float *restrict dy_b = dy + from * C;
        const int64_t n = (to - from) * C;
        for (int64_t i = 0; i < n; i++)
            at[i] += dy_b[i];
    }
}

fz_status fz_cpu_position_backward(float *dtable, const float *dy, const fz_rows *rows, int64_t C,
                                   int64_t offset, int64_t max_len, int64_t S, float *work,
                                   fz_queue *queue)
{
    (void)queue;
    const int64_t N = rows->start[rows->n_seq];
    int64_t longest = 0; /* positions beyond it get nothing */
    for (int64_t b = 0; b < rows->n_seq; b++)
        if (rows->start[b + 1] - rows->start[b] > longest)
            longest = rows->start[b + 1] - rows->start[b];
    FZ_ASSERT(longest <= max_len);
    if (longest == 0 || C == 0) return FZ_OK;

    const int64_t n = longest * C;
    memset(work, 0, (size_t)(S * n) * sizeof *work);
    for (int64_t s = 0; s < S; s++)
        sum_positions(work + s * n, dy, rows, C, fz_segment_first(N, S, s),
                      fz_segment_first(N, S, s + 1));
    fz_tree_sum_rows(work, S, n);
    fz_tree_add(dtable + (rows->first + offset) * C, work, n);
    return FZ_OK;
}
