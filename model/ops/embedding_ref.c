#include "model/ops/embedding.h"

void fz_embedding_forward_ref(double *y, const double *table, const int32_t *ids, int64_t N,
                              int64_t C, int64_t first, int64_t n_rows, double scale)
{
    for (int64_t r = 0; r < N; r++)
        for (int64_t c = 0; c < C; c++)
            y[r * C + c] = first <= ids[r] && ids[r] < first + n_rows
                               ? scale * table[(ids[r] - first) * C + c]
                               : 0.0;
}

void fz_embedding_backward_ref(double *dtable, const double *dy, const int32_t *ids, int64_t N,
                               int64_t C, int64_t first, int64_t n_rows, double scale,
                               int32_t skip_id)
{
    for (int64_t r = 0; r < N; r++) {
        if (ids[r] == skip_id || ids[r] < first || ids[r] >= first + n_rows) continue;
        for (int64_t c = 0; c < C; c++)
            dtable[(ids[r] - first) * C + c] += scale * dy[r * C + c];
    }
}

void fz_position_forward_ref(double *y, const double *table, const fz_rows *rows, int64_t C,
                             int64_t offset)
{
    for (int64_t b = 0; b < rows->n_seq; b++)
        for (int64_t r = rows->start[b]; r < rows->start[b + 1]; r++)
            for (int64_t c = 0; c < C; c++)
                y[r * C + c] += table[(rows->first + r - rows->start[b] + offset) * C + c];
}

void fz_position_backward_ref(double *dtable, const double *dy, const fz_rows *rows, int64_t C,
                              int64_t offset)
{
    for (int64_t b = 0; b < rows->n_seq; b++)
        for (int64_t r = rows->start[b]; r < rows->start[b + 1]; r++)
            for (int64_t c = 0; c < C; c++)
                dtable[(rows->first + r - rows->start[b] + offset) * C + c] += dy[r * C + c];
}
