#include "data/sampler.h"

#include <string.h>

#include "core/assert.h"
#include "core/memory.h"
#include "core/rng.h"
#include "data/permute.h"

/* What a key is for; a part of every key (core/rng.h). */
enum purpose {
    PURPOSE_SHARDS = 0x64617401,
    PURPOSE_IMAGES,
    PURPOSE_CLASS,
    PURPOSE_ANNOTATION,
    PURPOSE_REDRAW,
};

struct fz_sampler {
    const fz_index *index; /* borrowed */
    uint64_t seed;
    int64_t window, global_batch;
    fz_balance balance;
    int64_t epoch;        /* whose order is below; -1: none yet */
    int32_t *order;       /* owned (n_shards): shard at each place of the epoch */
    int64_t *order_first; /* owned (n_shards+1): images before each place */
};

static uint64_t key_of(uint64_t seed, uint32_t purpose, int64_t a, int64_t b)
{
    uint32_t key[2];
    fz_rng_key(key, seed, purpose);
    const fz_philox x = fz_philox4x32((fz_philox){{(uint32_t)a, (uint32_t)((uint64_t)a >> 32),
                                                   (uint32_t)b, (uint32_t)((uint64_t)b >> 32)}},
                                      key[0], key[1]);
    return (uint64_t)x.v[0] << 32 | x.v[1];
}

static fz_status take_order(fz_sampler *sampler)
{
    FZ_TRY(FZ_NEW(&sampler->order, sampler->index->n_shards));
    return FZ_NEW(&sampler->order_first, sampler->index->n_shards + 1);
}

fz_status fz_sampler_create(const fz_index *index, uint64_t seed, int64_t window,
                            int64_t global_batch, fz_balance balance, fz_sampler **sampler_p)
{
    fz_sampler *sampler = NULL;

    FZ_CHECK(window >= 1 && global_batch >= 1, FZ_ERR_ARG,
             "sampler: window %lld and global batch %lld must be at least 1", (long long)window,
             (long long)global_batch);
    FZ_TRY(FZ_NEW(&sampler, 1));
    *sampler = (fz_sampler){.index = index,
                            .seed = seed,
                            .window = window < index->n_shards ? window : index->n_shards,
                            .global_batch = global_batch,
                            .balance = balance,
                            .epoch = -1};
    const fz_status status = take_order(sampler);
    if (status == FZ_OK)
        *sampler_p = sampler;
    else
        fz_sampler_destroy(&sampler);
    return status;
}

void fz_sampler_destroy(fz_sampler **sampler)
{
    if (*sampler == NULL) return;
    fz_free(&(*sampler)->order);
    fz_free(&(*sampler)->order_first);
    fz_free(sampler);
}

/* ---- images ---- */

static void set_epoch(fz_sampler *sampler, int64_t epoch)
{
    const fz_index *index = sampler->index;
    const uint64_t key = key_of(sampler->seed, PURPOSE_SHARDS, epoch, 0);

    if (sampler->epoch == epoch) return;
    for (int s = 0; s < index->n_shards; s++) {
        const int32_t shard = (int32_t)fz_permute(s, index->n_shards, key);
        sampler->order[s] = shard;
        sampler->order_first[s + 1] =
            sampler->order_first[s] + index->shard_first[shard + 1] - index->shard_first[shard];
    }
    sampler->epoch = epoch;
}

/* Last place of places low .. high-1 whose images begin at or before i and are not none. */
static int64_t place_of(const int64_t *first, int64_t low, int64_t high, int64_t i)
{
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (first[middle] <= i)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int64_t image_at(fz_sampler *sampler, int64_t n)
{
    const fz_index *index = sampler->index;
    const int64_t *first = sampler->order_first;

    set_epoch(sampler, n / index->n_images);
    const int64_t i = n % index->n_images;
    const int64_t begin =
        place_of(first, 0, index->n_shards, i) / sampler->window * sampler->window;
    const int64_t end =
        begin + sampler->window < index->n_shards ? begin + sampler->window : index->n_shards;
    const uint64_t key = key_of(sampler->seed, PURPOSE_IMAGES, sampler->epoch, begin);
    const int64_t j = first[begin] + fz_permute(i - first[begin], first[end] - first[begin], key);
    const int64_t place = place_of(first, begin, end, j);
    return index->shard_first[sampler->order[place]] + j - first[place];
}

/* ---- classes and annotations ---- */

/* The k-th annotation of a class inside an image's list, k by hash. */
static int32_t annotation_of_class(const fz_index *index, int64_t image_number, int32_t class_id,
                                   uint64_t hash)
{
    const fz_index_image *image = &index->images[image_number];
    const uint8_t *classes = index->annotation_class + image->first_annotation;
    uint32_t n = 0;

    for (int32_t a = 0; a < image->n_annotations; a++)
        n += classes[a] == class_id;
    FZ_ASSERT(n > 0);
    uint32_t k = fz_rng_below((uint32_t)(hash >> 32), n);
    for (int32_t a = 0; a < image->n_annotations; a++)
        if (classes[a] == class_id && k-- == 0) return a;
    return -1; /* not reached: there are n of them */
}

static fz_draw any_annotation(const fz_index *index, int64_t image_number, uint64_t hash)
{
    const fz_index_image *image = &index->images[image_number];

    if (image->n_annotations == 0) return (fz_draw){image_number, -1, -1};
    const int32_t a = (int32_t)fz_rng_below((uint32_t)(hash >> 32), (uint32_t)image->n_annotations);
    return (fz_draw){image_number, a, index->annotation_class[image->first_annotation + a]};
}

static int32_t rarest_class(const fz_sampler *sampler, uint64_t class_set, const int64_t *counts,
                            int64_t n)
{
    const uint64_t key = key_of(sampler->seed, PURPOSE_CLASS, n, 0);
    int32_t best = -1;
    uint64_t best_tie = 0;

    for (int32_t c = 0; c < sampler->index->n_classes; c++) {
        if ((class_set >> c & 1) == 0) continue;
        const uint64_t tie = fz_mix64(key + (uint64_t)c);
        if (best < 0 || counts[c] < counts[best] || (counts[c] == counts[best] && tie < best_tie)) {
            best = c;
            best_tie = tie;
        }
    }
    return best;
}

void fz_sampler_step(fz_sampler *sampler, int64_t step, fz_draw *out)
{
    const fz_index *index = sampler->index;
    int64_t counts[FZ_MAX_CLASSES] = {0};

    FZ_ASSERT(step >= 0);
    for (int64_t p = 0; p < sampler->global_batch; p++) {
        const int64_t n = step * sampler->global_batch + p;
        const int64_t image = image_at(sampler, n);
        const uint64_t hash = key_of(sampler->seed, PURPOSE_ANNOTATION, n, 0);
        const uint64_t class_set = index->images[image].class_set;
        if (sampler->balance == FZ_BALANCE_NONE || class_set == 0) {
            out[p] = any_annotation(index, image, hash);
            continue;
        }
        const int32_t c = rarest_class(sampler, class_set, counts, n);
        counts[c]++;
        out[p] = (fz_draw){image, annotation_of_class(index, image, c, hash), c};
    }
}

fz_draw fz_sampler_redraw(const fz_sampler *sampler, int64_t n, int32_t attempt, int32_t class_id)
{
    const fz_index *index = sampler->index;
    const uint64_t bits = key_of(sampler->seed, PURPOSE_REDRAW, n, attempt);
    const int64_t image = fz_rng_below((uint32_t)(bits >> 32), (uint32_t)index->n_images);
    const uint64_t hash = fz_mix64(bits);

    FZ_ASSERT(attempt >= 1);
    if (class_id >= 0 && (index->images[image].class_set >> class_id & 1) != 0)
        return (fz_draw){image, annotation_of_class(index, image, class_id, hash), class_id};
    return any_annotation(index, image, hash);
}
