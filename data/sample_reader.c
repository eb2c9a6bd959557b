#include "data/sample_reader.h"

#include <limits.h>
#include <string.h>

#include "core/memory.h"
#include "data/image.h"
#include "data/image_internal.h"
#include "data/index_part.h"

static size_t largest_file(const fz_index *index, bool images)
{
    int64_t most = 1;

    for (int64_t i = 0; index != NULL && i < index->n_images; i++) {
        if (index->images[i].json_bytes > most) most = index->images[i].json_bytes;
        if (images && index->images[i].image_bytes > most) most = index->images[i].image_bytes;
    }
    return (size_t)most;
}

static fz_status take_scratch(fz_sample_reader *reader)
{
    const size_t side = (size_t)reader->side;

    FZ_TRY(fz_buffer_need(&reader->file, largest_file(reader->index, side > 0), "a sample's file"));
    if (side == 0) return FZ_OK;
    FZ_TRY(fz_buffer_need(&reader->pixels, (size_t)FZ_SCRATCH_SIDE * FZ_SCRATCH_SIDE * 3,
                          "image pixels"));
    FZ_TRY(fz_buffer_need(&reader->resize,
                          fz_image_resize_bytes(FZ_SCRATCH_SIDE, FZ_SCRATCH_SIDE, reader->side),
                          "a resize"));
    return fz_alloc((void **)&reader->rgb, side * side * 3, "a resized image");
}

fz_status fz_sample_reader_init(fz_sample_reader *reader, const fz_index *index, int side)
{
    *reader = (fz_sample_reader){.index = index, .side = side};
    fz_shard_reader_init(&reader->shards, index->shards);
    const fz_status status = take_scratch(reader);
    if (status != FZ_OK) {
        fz_sample_reader_reset(reader);
        return status;
    }
    /* What was taken here is planned; only what comes later is growth. */
    reader->file.n_grown = reader->pixels.n_grown = reader->resize.n_grown = 0;
    return FZ_OK;
}

void fz_sample_reader_reset(fz_sample_reader *reader)
{
    if (reader->index == NULL) return;
    fz_shard_reader_reset(&reader->shards);
    fz_buffer_reset(&reader->file);
    fz_buffer_reset(&reader->pixels);
    fz_buffer_reset(&reader->resize);
    fz_free(&reader->rgb);
    reader->index = NULL;
}

size_t fz_sample_reader_bytes(const fz_index *index, int side)
{
    size_t bytes = largest_file(index, side > 0);

    if (side > 0)
        bytes += (size_t)FZ_SCRATCH_SIDE * FZ_SCRATCH_SIDE * 3 + (size_t)side * (size_t)side * 3 +
                 fz_image_resize_bytes(FZ_SCRATCH_SIDE, FZ_SCRATCH_SIDE, side);
    return bytes;
}

int64_t fz_sample_reader_n_grown(const fz_sample_reader *reader)
{
    return reader->file.n_grown + reader->pixels.n_grown + reader->resize.n_grown;
}

/* Puts shard and member before the thread's last error. */
static fz_status name_it(const fz_sample_reader *reader, const fz_index_image *image,
                         const char *member, fz_status status)
{
    return FZ_FAIL(status, "%s: %s: %s", reader->index->shards[image->shard], member,
                   fz_last_error()->text);
}

fz_status fz_sample_reader_ids(fz_sample_reader *reader, int64_t number, int32_t annotation,
                               const fz_sample_rules *rules, fz_sample_ids *ids)
{
    const fz_index_image *image = &reader->index->images[number];
    char member[PATH_MAX];

    fz_status status = fz_shard_read(&reader->shards, image->shard, image->json_offset,
                                     image->json_bytes, reader->file.bytes);
    if (status == FZ_OK)
        status =
            fz_sample_read(reader->file.bytes, (size_t)image->json_bytes, annotation, rules, ids);
    if (status == FZ_OK) return FZ_OK;
    fz_index_json_name(member, sizeof member, reader->index->keys + image->key_offset);
    return name_it(reader, image, member, status);
}

static fz_status read_pixels(fz_sample_reader *reader, const fz_index_image *image, float *out)
{
    int width = 0, height = 0;

    FZ_TRY(fz_shard_read(&reader->shards, image->shard, image->image_offset, image->image_bytes,
                         reader->file.bytes));
    FZ_TRY(fz_image_decode_into(reader->file.bytes, (size_t)image->image_bytes, &reader->pixels,
                                &width, &height));
    FZ_TRY(fz_image_resize_into(reader->pixels.bytes, width, height, reader->side, &reader->resize,
                                reader->rgb));
    fz_image_normalise(reader->rgb, reader->side, out);
    return FZ_OK;
}

fz_status fz_sample_reader_pixels(fz_sample_reader *reader, int64_t number, float *out)
{
    const fz_index_image *image = &reader->index->images[number];
    const fz_status status = read_pixels(reader, image, out);

    if (status == FZ_OK) return FZ_OK;
    return name_it(reader, image, reader->index->keys + image->key_offset, status);
}
