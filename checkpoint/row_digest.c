#include "checkpoint/row_digest.h"

#include "core/checksum.h"
#include "core/memory.h"

fz_status fz_row_digest(fz_blocks *blocks, const fz_fragment *row, uint64_t *digest_p)
{
    const fz_box box = fz_box_of_fragment(row);
    const fz_box whole = fz_box_of_tensor(&blocks->source->index.tensors[row->tensor]);
    fz_runs runs = fz_runs_over(&box, &box, &whole);
    uint64_t digest = 0;
    int64_t at, in_tensor;

    while (fz_runs_next(&runs, &at, &in_tensor) && at < row->b) {
        int64_t from = at > row->a ? at : row->a;
        const int64_t to = at + runs.length < row->b ? at + runs.length : row->b;
        while (from < to) {
            const int64_t byte = row->offset + (from - row->a) * 4;
            if (byte < blocks->begin || byte >= blocks->end)
                FZ_TRY(fz_blocks_read(blocks, row, byte));
            const int64_t room = (blocks->end - byte) / 4;
            const int64_t n = to - from < room ? to - from : room;
            digest += fz_digest32(blocks->block + (byte - blocks->begin), in_tensor + from - at, n);
            from += n;
        }
    }
    *digest_p = digest;
    return FZ_OK;
}

fz_status fz_row_digests(const fz_source *source, uint64_t *digests)
{
    fz_blocks blocks = {.fd = 0};
    fz_status status = FZ_OK;

    for (int64_t i = 0; i < source->index.n_rows && status == FZ_OK; i++) {
        const fz_fragment *row = &source->index.rows[i];
        if (blocks.source != source || blocks.file != row->file)
            status = fz_blocks_open(&blocks, source, row->file);
        if (status == FZ_OK) status = fz_row_digest(&blocks, row, &digests[i]);
    }
    fz_blocks_reset(&blocks);
    return status;
}
