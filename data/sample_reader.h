/* One thread's way from an index entry to ids and pixels, with all its scratch. Local. */
#ifndef FZ_DATA_SAMPLE_READER_H
#define FZ_DATA_SAMPLE_READER_H

#include "data/buffer.h"
#include "data/index.h"
#include "data/sample.h"
#include "data/shard.h"

typedef struct fz_sample_reader {
    const fz_index *index; /* borrowed */
    int side;              /* of the resized image; 0: no images */
    fz_shard_reader shards;
    fz_buffer file, pixels, resize;
    uint8_t *rgb; /* owned (side, side, 3) */
} fz_sample_reader;

/* Scratch for the largest file of the index and images up to FZ_SCRATCH_SIDE squared; a larger
 * image grows it once. */
enum { FZ_SCRATCH_SIDE = 2048 };
fz_status fz_sample_reader_init(fz_sample_reader *reader, const fz_index *index, int side);
void fz_sample_reader_reset(fz_sample_reader *reader);
/* Bytes that init takes; index NULL: without the room for files. */
size_t fz_sample_reader_bytes(const fz_index *index, int side);
int64_t fz_sample_reader_n_grown(const fz_sample_reader *reader);

/* Errors name shard and member: "shards/train-0001.tar: 000123.jpg: JPEG: ...". */
fz_status fz_sample_reader_ids(fz_sample_reader *reader, int64_t image, int32_t annotation,
                               const fz_sample_rules *rules, fz_sample_ids *ids);
/* out (side, side, 3), normalised. */
fz_status fz_sample_reader_pixels(fz_sample_reader *reader, int64_t image, float *out);

#endif
