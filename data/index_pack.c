#include "data/index.h"

#include <string.h>

#include "core/assert.h"
#include "core/memory.h"

/* Packed: the counts, then the arrays, all in the machine's byte order: it goes to other ranks of
 * the same job and never to a file. */
typedef struct counts {
    int64_t n_shards, n_images, n_annotations, keys_bytes, n_classes, n_bad, paths_bytes;
    uint64_t fingerprint;
} counts;

typedef struct cursor {
    char *at;
    size_t left;
} cursor;

static void put(cursor *c, const void *bytes, size_t n)
{
    FZ_ASSERT(n <= c->left);
    memcpy(c->at, bytes, n);
    c->at += n;
    c->left -= n;
}

fz_status fz_index_pack(const fz_index *index, void **bytes_p, size_t *n_p)
{
    counts head = {index->n_shards,
                   index->n_images,
                   index->n_annotations,
                   index->keys_bytes,
                   index->n_classes,
                   index->n_bad,
                   0,
                   index->fingerprint};
    char *bytes = NULL;

    for (int s = 0; s < index->n_shards; s++)
        head.paths_bytes += (int64_t)strlen(index->shards[s]) + 1;
    const size_t n = sizeof head +
                     (size_t)(head.paths_bytes + head.keys_bytes + head.n_annotations +
                              head.n_classes * FZ_CLASS_BYTES) +
                     (size_t)(index->n_shards + 1) * sizeof *index->shard_first +
                     (size_t)index->n_images * sizeof *index->images;
    FZ_TRY(fz_alloc((void **)&bytes, n, "a packed index"));
    cursor c = {bytes, n};
    put(&c, &head, sizeof head);
    put(&c, index->images, (size_t)index->n_images * sizeof *index->images);
    put(&c, index->shard_first, (size_t)(index->n_shards + 1) * sizeof *index->shard_first);
    put(&c, index->annotation_class, (size_t)index->n_annotations);
    put(&c, index->keys, (size_t)index->keys_bytes);
    put(&c, index->class_name, (size_t)index->n_classes * FZ_CLASS_BYTES);
    for (int s = 0; s < index->n_shards; s++)
        put(&c, index->shards[s], strlen(index->shards[s]) + 1);
    FZ_ASSERT(c.left == 0);
    *bytes_p = bytes;
    *n_p = n;
    return FZ_OK;
}

static fz_status get(const char **at, size_t *left, void *out, size_t n)
{
    FZ_CHECK(n <= *left, FZ_ERR_FORMAT, "packed index: %zu bytes are missing", n - *left);
    memcpy(out, *at, n);
    *at += n;
    *left -= n;
    return FZ_OK;
}

static fz_status get_paths(const char *at, size_t left, fz_index *index)
{
    for (int s = 0; s < index->n_shards; s++) {
        const char *end = memchr(at, '\0', left);
        FZ_CHECK(end != NULL, FZ_ERR_FORMAT, "packed index: path %d does not end", s);
        FZ_TRY(fz_strdup(&index->shards[s], at));
        left -= (size_t)(end + 1 - at);
        at = end + 1;
    }
    FZ_CHECK(left == 0, FZ_ERR_FORMAT, "packed index: %zu bytes too many", left);
    return FZ_OK;
}

static fz_status unpack(const char *at, size_t left, fz_index *index)
{
    counts head;

    FZ_TRY(get(&at, &left, &head, sizeof head));
    FZ_CHECK(head.n_shards > 0 && head.n_shards < INT32_MAX && head.n_images > 0 &&
                 head.n_images < INT32_MAX && head.n_annotations > 0 && head.keys_bytes > 0 &&
                 head.n_classes > 0 && head.n_classes <= FZ_MAX_CLASSES,
             FZ_ERR_FORMAT, "packed index: counts make no sense");
    FZ_TRY(FZ_NEW(&index->shards, head.n_shards));
    index->n_shards = (int)head.n_shards;
    index->n_images = head.n_images;
    index->n_annotations = head.n_annotations;
    index->keys_bytes = head.keys_bytes;
    index->n_classes = (int)head.n_classes;
    index->n_bad = head.n_bad;
    index->fingerprint = head.fingerprint;
    FZ_TRY(FZ_NEW(&index->images, index->n_images));
    FZ_TRY(FZ_NEW(&index->shard_first, index->n_shards + 1));
    FZ_TRY(FZ_NEW(&index->annotation_class, index->n_annotations));
    FZ_TRY(FZ_NEW(&index->keys, index->keys_bytes));
    FZ_TRY(get(&at, &left, index->images, (size_t)index->n_images * sizeof *index->images));
    FZ_TRY(get(&at, &left, index->shard_first,
               (size_t)(index->n_shards + 1) * sizeof *index->shard_first));
    FZ_TRY(get(&at, &left, index->annotation_class, (size_t)index->n_annotations));
    FZ_TRY(get(&at, &left, index->keys, (size_t)index->keys_bytes));
    FZ_TRY(get(&at, &left, index->class_name, (size_t)index->n_classes * FZ_CLASS_BYTES));
    return get_paths(at, left, index);
}

fz_status fz_index_unpack(const void *bytes, size_t n, fz_index **index_p)
{
    fz_index *index = NULL;

    FZ_TRY(FZ_NEW(&index, 1));
    const fz_status status = unpack(bytes, n, index);
    if (status == FZ_OK)
        *index_p = index;
    else
        fz_index_destroy(&index);
    return status;
}
