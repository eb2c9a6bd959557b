#include "data/index_part.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "core/memory.h"
#include "data/buffer.h"
#include "data/shard.h"

/* ---- members to pairs ---- */

typedef enum kind { KIND_IMAGE, KIND_JSON, KIND_OTHER } kind;

typedef struct named {
    const char *name; /* borrowed */
    int32_t member;
    int32_t key_bytes;
    kind kind;
} named;

static int32_t key_bytes_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    const char *base = slash != NULL ? slash + 1 : name;
    const char *dot = strchr(*base == '.' ? base + 1 : base, '.');
    return (int32_t)(dot != NULL ? (size_t)(dot - name) : strlen(name));
}

static kind kind_of(const char *name, int32_t key_bytes)
{
    static const char *const images[] = {".jpg", ".jpeg", ".png", ".webp"};
    const char *slash = strrchr(name, '/');

    /* "._x.jpg" beside "x.jpg" is what macOS puts into tars: no image. */
    if (strncmp(slash != NULL ? slash + 1 : name, "._", 2) == 0) return KIND_OTHER;
    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++)
        if (strcasecmp(name + key_bytes, images[i]) == 0) return KIND_IMAGE;
    return strcasecmp(name + key_bytes, ".json") == 0 ? KIND_JSON : KIND_OTHER;
}

static int compare_keys(const named *a, const named *b)
{
    const int32_t n = a->key_bytes < b->key_bytes ? a->key_bytes : b->key_bytes;
    const int order = memcmp(a->name, b->name, (size_t)n);
    return order != 0 ? order : (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
}

static int compare_named(const void *left, const void *right)
{
    const named *a = left, *b = right;
    const int order = compare_keys(a, b);
    return order != 0 ? order : (a->member > b->member) - (a->member < b->member);
}

static int compare_pairs(const void *left, const void *right)
{
    const fz_index_pair *a = left, *b = right;
    const int32_t ma = a->image >= 0 ? a->image : a->json, mb = b->image >= 0 ? b->image : b->json;
    return (ma > mb) - (ma < mb);
}

static fz_status join_sorted(const named *list, int64_t n, fz_index_pair *pairs, int64_t *n_p)
{
    int64_t n_pairs = 0;

    for (int64_t i = 0; i < n; i++) {
        if (i == 0 || compare_keys(&list[i - 1], &list[i]) != 0)
            pairs[n_pairs++] = (fz_index_pair){-1, -1};
        fz_index_pair *pair = &pairs[n_pairs - 1];
        int32_t *place = list[i].kind == KIND_IMAGE ? &pair->image : &pair->json;
        FZ_CHECK(*place < 0, FZ_ERR_FORMAT, "%s: a second %s for this key", list[i].name,
                 list[i].kind == KIND_IMAGE ? "image" : "JSON");
        *place = list[i].member;
    }
    *n_p = n_pairs;
    return FZ_OK;
}

fz_status fz_index_pair_members(const fz_shard_listing *listing, fz_index_pair *pairs, int64_t *n_p)
{
    named *list = NULL;
    int64_t n = 0;

    FZ_TRY(FZ_NEW(&list, listing->n_members));
    for (int64_t i = 0; i < listing->n_members; i++) {
        const char *name = listing->names + listing->members[i].name;
        const int32_t key_bytes = key_bytes_of(name);
        const kind what = kind_of(name, key_bytes);
        if (what != KIND_OTHER) list[n++] = (named){name, (int32_t)i, key_bytes, what};
    }
    qsort(list, (size_t)n, sizeof *list, compare_named);
    const fz_status status = join_sorted(list, n, pairs, n_p);
    fz_free(&list);
    FZ_TRY(status);
    qsort(pairs, (size_t)*n_p, sizeof *pairs, compare_pairs);
    return FZ_OK;
}

void fz_index_json_name(char *out, size_t bytes, const char *image_name)
{
    snprintf(out, bytes, "%.*s.json", (int)key_bytes_of(image_name), image_name);
}

/* ---- one part ---- */

typedef struct builder {
    const char *shard;
    fz_index_part *part;
    fz_shard_listing listing;
    fz_shard_reader reader;
    fz_buffer json;
    fz_index_pair *pairs;
    int64_t n_pairs, max_annotations;
} builder;

static int class_number(fz_index_part *part, const char *type, const char *lang, int hint)
{
    const size_t type_bytes = strlen(type), lang_bytes = strlen(lang);
    char name[FZ_CLASS_BYTES] = "";

    if (type_bytes + lang_bytes + 2 > sizeof name) return -1;
    memcpy(name, type, type_bytes);
    name[type_bytes] = '/';
    memcpy(name + type_bytes + 1, lang, lang_bytes);
    if (hint < part->n_classes && strcmp(part->class_name[hint], name) == 0) return hint;
    for (int c = 0; c < part->n_classes; c++)
        if (strcmp(part->class_name[c], name) == 0) return c;
    if (part->n_classes == FZ_MAX_CLASSES) return -1;
    memcpy(part->class_name[part->n_classes], name, sizeof name);
    return part->n_classes++;
}

static fz_status add_annotation(builder *b, size_t number, const json_t *annotation)
{
    fz_index_part *part = b->part;

    FZ_CHECK(json_is_object(annotation), FZ_ERR_FORMAT, "annotation %zu is not an object", number);
    const char *type = json_string_value(json_object_get(annotation, "type"));
    const char *lang = json_string_value(json_object_get(annotation, "lang"));
    FZ_CHECK(type != NULL && lang != NULL, FZ_ERR_FORMAT, "annotation %zu has no text \"%s\"",
             number, type == NULL ? "type" : "lang");
    /* Images mostly list the same classes in the same order. */
    const int class_id = class_number(part, type, lang, (int)(number % FZ_MAX_CLASSES));
    FZ_CHECK(class_id >= 0, FZ_ERR_FORMAT,
             "annotation %zu: class \"%s/%s\" is longer than %d bytes or the %dth of this shard",
             number, type, lang, FZ_CLASS_BYTES - 1, FZ_MAX_CLASSES + 1);
    if (part->n_annotations == b->max_annotations) {
        b->max_annotations = 2 * b->max_annotations + 4096;
        FZ_TRY(fz_realloc((void **)&part->annotation_class, (size_t)b->max_annotations,
                          "annotation classes"));
    }
    part->annotation_class[part->n_annotations++] = (uint8_t)class_id;
    return FZ_OK;
}

static fz_status add_annotations(builder *b, fz_index_image *image, const json_t *root)
{
    FZ_CHECK(json_is_array(root), FZ_ERR_FORMAT, "not a list of annotations");
    FZ_CHECK(json_array_size(root) > 0, FZ_ERR_FORMAT, "the list of annotations is empty");
    FZ_CHECK(json_array_size(root) <= INT32_MAX, FZ_ERR_FORMAT, "too many annotations");
    for (size_t i = 0; i < json_array_size(root); i++)
        FZ_TRY(add_annotation(b, i, json_array_get(root, i)));
    image->n_annotations = (int32_t)json_array_size(root);
    return FZ_OK;
}

static fz_status read_annotations(builder *b, fz_index_image *image)
{
    json_error_t error;

    FZ_TRY(fz_buffer_need(&b->json, (size_t)image->json_bytes, "JSON"));
    FZ_TRY(fz_shard_read(&b->reader, 0, image->json_offset, image->json_bytes, b->json.bytes));
    json_t *root = json_loadb(b->json.bytes, (size_t)image->json_bytes, 0, &error);
    if (root == NULL)
        return FZ_FAIL(FZ_ERR_FORMAT, "not JSON: line %d: %s", error.line, error.text);
    const fz_status status = add_annotations(b, image, root);
    json_decref(root);
    return status;
}

static fz_status add_image(builder *b, const fz_index_pair *pair)
{
    const fz_shard_listing *list = &b->listing;
    fz_index_part *part = b->part;

    if (pair->image < 0)
        return FZ_FAIL(FZ_ERR_FORMAT, "%s: %s: no image of this name", b->shard,
                       list->names + list->members[pair->json].name);
    const fz_shard_member *picture = &list->members[pair->image];
    const char *name = list->names + picture->name;
    FZ_CHECK(pair->json >= 0, FZ_ERR_FORMAT, "%s: %s: no JSON of this name", b->shard, name);
    const fz_shard_member *json = &list->members[pair->json];

    fz_index_image *image = &part->images[part->n_images++];
    *image = (fz_index_image){.key_offset = (int32_t)part->keys_bytes,
                              .image_offset = picture->offset,
                              .image_bytes = picture->bytes,
                              .json_offset = json->offset,
                              .json_bytes = json->bytes,
                              .first_annotation = part->n_annotations};
    const size_t name_bytes = strlen(name) + 1;
    memcpy(part->keys + part->keys_bytes, name, name_bytes);
    part->keys_bytes += (int64_t)name_bytes;

    const int n_classes = part->n_classes;
    const fz_status status = read_annotations(b, image);
    if (status != FZ_ERR_FORMAT) {
        if (status != FZ_OK)
            return FZ_FAIL(status, "%s: %s: %s", b->shard, list->names + json->name,
                           fz_last_error()->text);
        return FZ_OK;
    }
    if (part->n_bad++ == 0)
        snprintf(part->bad_text, sizeof part->bad_text, "%.100s: %.150s", list->names + json->name,
                 fz_last_error()->text);
    part->n_annotations = image->first_annotation;
    part->n_classes = n_classes;
    image->n_annotations = 0;
    return FZ_OK;
}

static fz_status build(builder *b)
{
    fz_index_part *part = b->part;
    int64_t names_bytes = 1;

    FZ_TRY(fz_shard_list(b->shard, &b->listing));
    if (b->listing.damage[0] != '\0')
        return FZ_FAIL(FZ_ERR_FORMAT, "%s: %s", b->shard, b->listing.damage);
    part->tar_bytes = b->listing.tar_bytes;
    part->mtime_ns = b->listing.mtime_ns;
    FZ_TRY(FZ_NEW(&b->pairs, b->listing.n_members));
    if (fz_index_pair_members(&b->listing, b->pairs, &b->n_pairs) != FZ_OK)
        return FZ_FAIL(fz_last_error()->status, "%s: %s", b->shard, fz_last_error()->text);
    for (int64_t i = 0; i < b->n_pairs; i++)
        if (b->pairs[i].image >= 0)
            names_bytes +=
                (int64_t)strlen(b->listing.names + b->listing.members[b->pairs[i].image].name) + 1;
    FZ_CHECK(names_bytes <= INT32_MAX, FZ_ERR_FORMAT, "%s: names of %lld bytes are too many",
             b->shard, (long long)names_bytes);
    FZ_TRY(FZ_NEW(&part->images, b->n_pairs));
    FZ_TRY(FZ_NEW(&part->keys, names_bytes));
    for (int64_t i = 0; i < b->n_pairs; i++)
        FZ_TRY(add_image(b, &b->pairs[i]));
    return FZ_OK;
}

fz_status fz_index_part_build(const char *shard, fz_index_part *part_p)
{
    char path[PATH_MAX];
    char *const paths[1] = {path};
    fz_index_part *part = NULL; /* on the heap: its class names are 3 KB */
    builder b = {.shard = shard};

    FZ_CHECK(strlen(shard) < sizeof path, FZ_ERR_IO, "open %.100s...: path too long", shard);
    memcpy(path, shard, strlen(shard) + 1);
    FZ_TRY(FZ_NEW(&part, 1));
    b.part = part;
    fz_shard_reader_init(&b.reader, paths);
    const fz_status status = build(&b);
    fz_shard_reader_reset(&b.reader);
    fz_shard_listing_reset(&b.listing);
    fz_buffer_reset(&b.json);
    fz_free(&b.pairs);
    if (status == FZ_OK)
        *part_p = *part;
    else
        fz_index_part_reset(part);
    fz_free(&part);
    return status;
}

void fz_index_part_reset(fz_index_part *part)
{
    fz_free(&part->images);
    fz_free(&part->annotation_class);
    fz_free(&part->keys);
    *part = (fz_index_part){0};
}
