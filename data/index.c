#include "data/index.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/rng.h"
#include "data/index_part.h"
#include "data/shard_glob.h"

/* ---- joining parts ---- */

static int compare_classes(const void *left, const void *right)
{
    return strcmp(left, right);
}

/* All class names of all parts, sorted, so that numbers do not depend on which shard came first. */
static fz_status join_classes(fz_index *index, const fz_index_part *parts)
{
    for (int s = 0; s < index->n_shards; s++) {
        for (int c = 0; c < parts[s].n_classes; c++) {
            int at = 0;
            while (at < index->n_classes &&
                   strcmp(index->class_name[at], parts[s].class_name[c]) != 0)
                at++;
            if (at < index->n_classes) continue;
            FZ_CHECK(index->n_classes < FZ_MAX_CLASSES, FZ_ERR_FORMAT,
                     "%s: class \"%s\" is the %dth of the data set; at most %d", index->shards[s],
                     parts[s].class_name[c], FZ_MAX_CLASSES + 1, FZ_MAX_CLASSES);
            memcpy(index->class_name[index->n_classes++], parts[s].class_name[c], FZ_CLASS_BYTES);
        }
    }
    qsort(index->class_name, (size_t)index->n_classes, FZ_CLASS_BYTES, compare_classes);
    return FZ_OK;
}

static void join_part(fz_index *index, int shard, const fz_index_part *part)
{
    uint8_t number[FZ_MAX_CLASSES] = {0};

    for (int c = 0; c < part->n_classes; c++)
        for (int g = 0; g < index->n_classes; g++)
            if (strcmp(part->class_name[c], index->class_name[g]) == 0) number[c] = (uint8_t)g;
    for (int64_t i = 0; i < part->n_images; i++) {
        fz_index_image *image = &index->images[index->n_images + i];
        *image = part->images[i];
        image->shard = shard;
        image->key_offset += (int32_t)index->keys_bytes;
        for (int64_t a = 0; a < image->n_annotations; a++)
            image->class_set |= UINT64_C(1)
                                << number[part->annotation_class[image->first_annotation + a]];
        image->first_annotation += index->n_annotations;
    }
    for (int64_t a = 0; a < part->n_annotations; a++)
        index->annotation_class[index->n_annotations + a] = number[part->annotation_class[a]];
    memcpy(index->keys + index->keys_bytes, part->keys, (size_t)part->keys_bytes);
    index->shard_first[shard] = (int32_t)index->n_images;
    index->n_images += part->n_images;
    index->n_annotations += part->n_annotations;
    index->keys_bytes += part->keys_bytes;
    index->n_bad += part->n_bad;
}

static uint64_t stir(uint64_t hash, uint64_t value)
{
    return fz_mix64(hash + UINT64_C(0x9E3779B97F4A7C15) + value);
}

static uint64_t fingerprint_of(const fz_index *index)
{
    uint64_t hash = 0;

    for (int s = 0; s < index->n_shards; s++) {
        const char *slash = strrchr(index->shards[s], '/');
        hash = stir(hash, fz_hash_text(slash != NULL ? slash + 1 : index->shards[s]));
    }
    for (int64_t i = 0; i < index->n_images; i++) {
        const fz_index_image *image = &index->images[i];
        hash = stir(hash, fz_hash_text(index->keys + image->key_offset));
        hash = stir(hash, (uint64_t)image->shard);
        hash = stir(hash, (uint64_t)image->image_offset);
        hash = stir(hash, (uint64_t)image->image_bytes);
        hash = stir(hash, (uint64_t)image->json_offset);
        hash = stir(hash, (uint64_t)image->json_bytes);
        hash = stir(hash, (uint64_t)image->n_annotations);
    }
    for (int64_t a = 0; a < index->n_annotations; a++)
        hash = stir(hash, index->annotation_class[a]);
    for (int c = 0; c < index->n_classes; c++)
        hash = stir(hash, fz_hash_text(index->class_name[c]));
    return hash;
}

static fz_status join(fz_index *index, const fz_index_part *parts)
{
    int64_t n_images = 0, n_annotations = 0, keys_bytes = 0;

    for (int s = 0; s < index->n_shards; s++) {
        n_images += parts[s].n_images;
        n_annotations += parts[s].n_annotations;
        keys_bytes += parts[s].keys_bytes;
    }
    FZ_CHECK(n_images > 0, FZ_ERR_FORMAT, "%s%s: no images", index->shards[0],
             index->n_shards > 1 ? " and the other shards" : "");
    FZ_CHECK(n_annotations > 0, FZ_ERR_FORMAT, "%s: no annotations", index->shards[0]);
    FZ_CHECK(n_images < INT32_MAX && keys_bytes < INT32_MAX, FZ_ERR_FORMAT,
             "%lld images with names of %lld bytes are more than an index holds",
             (long long)n_images, (long long)keys_bytes);
    FZ_TRY(FZ_NEW(&index->shard_first, index->n_shards + 1));
    FZ_TRY(FZ_NEW(&index->images, n_images));
    FZ_TRY(FZ_NEW(&index->annotation_class, n_annotations));
    FZ_TRY(FZ_NEW(&index->keys, keys_bytes));
    FZ_TRY(join_classes(index, parts));
    for (int s = 0; s < index->n_shards; s++)
        join_part(index, s, &parts[s]);
    index->shard_first[index->n_shards] = (int32_t)index->n_images;
    index->fingerprint = fingerprint_of(index);
    return FZ_OK;
}

/* ---- building ---- */

static fz_status get_part(const char *shard, bool skip_bad, fz_index_part *part)
{
    if (!fz_index_part_load(shard, part)) FZ_TRY(fz_index_part_build(shard, part));
    FZ_CHECK(skip_bad || part->n_bad == 0, FZ_ERR_FORMAT, "%s: %s", shard, part->bad_text);
    return FZ_OK;
}

static fz_status build(const char *pattern, bool skip_bad, fz_index **index_p)
{
    fz_index *index = NULL;
    fz_index_part *parts = NULL;

    FZ_TRY(FZ_NEW(&index, 1));
    fz_status status = fz_shard_glob(pattern, &index->shards, &index->n_shards);
    if (status == FZ_OK) status = FZ_NEW(&parts, index->n_shards);
    for (int s = 0; status == FZ_OK && s < index->n_shards; s++)
        status = get_part(index->shards[s], skip_bad, &parts[s]);
    if (status == FZ_OK) status = join(index, parts);
    for (int s = 0; parts != NULL && s < index->n_shards; s++)
        fz_index_part_reset(&parts[s]);
    fz_free(&parts);
    if (status == FZ_OK)
        *index_p = index;
    else
        fz_index_destroy(&index);
    return status;
}

fz_status fz_index_build(const char *pattern, fz_index **index_p)
{
    return build(pattern, false, index_p);
}

fz_status fz_index_build_skip(const char *pattern, fz_index **index_p)
{
    return build(pattern, true, index_p);
}

void fz_index_destroy(fz_index **index)
{
    fz_index *old = *index;

    if (old == NULL) return;
    fz_shard_glob_free(&old->shards, old->n_shards);
    fz_free(&old->shard_first);
    fz_free(&old->images);
    fz_free(&old->annotation_class);
    fz_free(&old->keys);
    fz_free(index);
}

fz_status fz_index_part_write(const char *shard)
{
    fz_index_part part = {0};
    fz_status status = fz_index_part_build(shard, &part);
    if (status == FZ_OK) status = fz_index_part_save(shard, &part);
    fz_index_part_reset(&part);
    return status;
}

fz_status fz_index_write(const char *pattern)
{
    char **shards = NULL;
    int n_shards = 0;
    fz_status status = fz_shard_glob(pattern, &shards, &n_shards);

    for (int s = 0; status == FZ_OK && s < n_shards; s++)
        status = fz_index_part_write(shards[s]);
    fz_shard_glob_free(&shards, n_shards);
    return status;
}
