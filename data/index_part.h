/* The index of one shard, before the shards are joined; and its cache file SHARD.idx. Local.
 *
 * SHARD.idx   header (magic, version, size and time of the tar, counts, CRC-32C of the rest), then
 *             images, annotation classes, class names, names; in the machine's byte order. It is
 *             used while the tar has the same size and time; a damaged or foreign one is ignored.
 */
#ifndef FZ_DATA_INDEX_PART_H
#define FZ_DATA_INDEX_PART_H

#include "data/index.h"

typedef struct fz_index_part {
    int64_t n_images, n_annotations, keys_bytes, n_bad;
    int64_t tar_bytes, mtime_ns;
    fz_index_image *images;    /* owned; key_offset and first_annotation within the part */
    uint8_t *annotation_class; /* owned; numbers into class_name below */
    char *keys;                /* owned */
    int n_classes;
    char class_name[FZ_MAX_CLASSES][FZ_CLASS_BYTES]; /* in order of appearance */
    char bad_text[256]; /* of the first bad image: "000123.json: ..." */
} fz_index_part;

/* From the tar. An unusable JSON is counted in n_bad and is no error here. */
fz_status fz_index_part_build(const char *shard, fz_index_part *part_p);
void fz_index_part_reset(fz_index_part *part);

/* From SHARD.idx; false (part untouched) if there is none that can be trusted. */
bool fz_index_part_load(const char *shard, fz_index_part *part_p);
fz_status fz_index_part_save(const char *shard, const fz_index_part *part);
/* From the tar to SHARD.idx. */
fz_status fz_index_part_write(const char *shard);

/* Image and JSON members of a listing, joined by KEY, in file order. Shared with data check. */
typedef struct fz_shard_listing fz_shard_listing;
typedef struct fz_index_pair {
    int32_t image, json; /* members; -1: missing */
} fz_index_pair;
/* pairs: (listing->n_members) room; *n_p pairs. FZ_ERR_FORMAT: a KEY with two images or JSONs. */
fz_status fz_index_pair_members(const fz_shard_listing *listing, fz_index_pair *pairs,
                                int64_t *n_p);
/* "dir/000123.jpg" -> "dir/000123.json" */
void fz_index_json_name(char *out, size_t bytes, const char *image_name);

#endif
