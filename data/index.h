/* The index of a set of WebDataset shards: where each image and its annotations lie, and of which
 * class (type, lang) each annotation is. Local.
 *
 * A sample of a shard is KEY.jpg|jpeg|png|webp and KEY.json (the KEY ends at the first dot of the
 * name, as in WebDataset; other members are passed over). The JSON is a list of annotations:
 *   {"prompt_ids": [..], "output_ids": [..], "lang": "de", "type": "caption"}     or with text
 *   {"prompt": "..", "output": "..", "lang": .., "type": ..}
 */
#ifndef FZ_DATA_INDEX_H
#define FZ_DATA_INDEX_H

#include <stdint.h>

#include "core/status.h"

enum { FZ_MAX_CLASSES = 64, FZ_CLASS_BYTES = 48 };

typedef struct fz_index_image {
    int32_t shard;
    int32_t key_offset; /* into keys: the image member's name, "000123.jpg", for messages */
    int64_t image_offset, image_bytes; /* member's bytes inside the tar */
    int64_t json_offset, json_bytes;
    uint64_t class_set; /* bit c: has an annotation of class c */
    int64_t first_annotation;
    int32_t n_annotations; /* 0: its JSON is unusable (fz_index_build_skip only) */
} fz_index_image;

typedef struct fz_index {
    int n_shards;
    char **shards;        /* owned paths, in sorted order */
    int32_t *shard_first; /* owned (n_shards+1): images of a shard are consecutive */
    int64_t n_images;
    fz_index_image *images; /* owned */
    int64_t n_annotations;
    uint8_t *annotation_class; /* owned (n_annotations) */
    char *keys;                /* owned */
    int64_t keys_bytes;
    int n_classes;
    char class_name[FZ_MAX_CLASSES][FZ_CLASS_BYTES]; /* "caption/de", sorted */
    int64_t n_bad;                                   /* images whose JSON is unusable */
    uint64_t fingerprint; /* over names (without folders), sizes, offsets, classes */
} fz_index;

/* pattern: a glob or a comma list of globs. Uses SHARD.idx beside a shard where it is present and
 * newer, else reads the tar. FZ_ERR_FORMAT/IO name shard, member and what is wrong: no match, not a
 * tar, truncated, image without JSON, JSON that is not a list of annotations, no annotations. */
fz_status fz_index_build(const char *pattern, fz_index **index_p);
/* The same for data.on_bad_sample: skip: an image whose JSON is unusable stays in the index without
 * annotations (counted in n_bad), so that the loader meets it as a bad sample. A tar that is
 * damaged, and an image without JSON, stay errors. */
fz_status fz_index_build_skip(const char *pattern, fz_index **index_p);
void fz_index_destroy(fz_index **index);
/* Writes SHARD.idx for every shard of the pattern (florenz data index). */
fz_status fz_index_write(const char *pattern);
/* As bytes, for a broadcast; and back. pack's memory is the caller's (fz_free). */
fz_status fz_index_pack(const fz_index *index, void **bytes_p, size_t *n_p);
fz_status fz_index_unpack(const void *bytes, size_t n, fz_index **index_p);

#endif
