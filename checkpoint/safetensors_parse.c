#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "checkpoint/safetensors.h"
#include "core/memory.h"

static const char METADATA[] = "__metadata__";
const char *const FZ_DTYPE_NAMES[FZ_N_DTYPES] = {"F64", "F32", "F16", "BF16", "I64",
                                                 "I32", "I16", "I8",  "U8",   "BOOL"};

size_t fz_dtype_bytes(fz_dtype dtype)
{
    static const size_t BYTES[FZ_N_DTYPES] = {8, 4, 2, 2, 8, 4, 2, 1, 1, 1};
    return BYTES[dtype];
}

/* one tensor; the names in errors are cut: they may be as long as the file */

static fz_status read_dtype(const char *name, const json_t *value, fz_dtype *dtype)
{
    FZ_CHECK(json_is_string(value), FZ_ERR_FORMAT, "tensor %.200s has no dtype", name);
    for (int d = 0; d < FZ_N_DTYPES; d++)
        if (strcmp(json_string_value(value), FZ_DTYPE_NAMES[d]) == 0) {
            *dtype = (fz_dtype)d;
            return FZ_OK;
        }
    return FZ_FAIL(FZ_ERR_FORMAT, "tensor %.200s is of dtype %.32s, which is not read here", name,
                   json_string_value(value));
}

static fz_status read_shape(const json_t *value, fz_safetensor *tensor)
{
    FZ_CHECK(json_is_array(value), FZ_ERR_FORMAT, "tensor %.200s has no shape", tensor->name);
    const size_t ndim = json_array_size(value);
    FZ_CHECK(ndim <= FZ_SAFETENSOR_AXES, FZ_ERR_FORMAT, "tensor %.200s has %zu axes, at most %d",
             tensor->name, ndim, FZ_SAFETENSOR_AXES);
    tensor->ndim = (int)ndim;
    tensor->elements = 1;
    bool is_empty = false;
    for (size_t axis = 0; axis < ndim; axis++) {
        const json_t *size = json_array_get(value, axis);
        const int64_t n = json_integer_value(size);
        FZ_CHECK(json_is_integer(size) && n >= 0, FZ_ERR_FORMAT,
                 "tensor %.200s: the size of axis %zu is not a number from 0 on", tensor->name,
                 axis);
        tensor->shape[axis] = n;
        is_empty |= n == 0;
    }
    for (int axis = 0; axis < tensor->ndim && !is_empty; axis++) {
        FZ_CHECK(tensor->elements <= INT64_MAX / 8 / tensor->shape[axis], FZ_ERR_FORMAT,
                 "tensor %.200s: its shape has more elements than can be counted", tensor->name);
        tensor->elements *= tensor->shape[axis];
    }
    if (is_empty) tensor->elements = 0;
    return FZ_OK;
}

static fz_status read_offsets(const json_t *value, int64_t data_bytes, fz_safetensor *tensor)
{
    const json_t *begin = json_array_get(value, 0), *end = json_array_get(value, 1);

    FZ_CHECK(json_array_size(value) == 2 && json_is_integer(begin) && json_is_integer(end),
             FZ_ERR_FORMAT, "tensor %.200s: its data_offsets are not two numbers", tensor->name);
    const int64_t from = json_integer_value(begin), to = json_integer_value(end);
    FZ_CHECK(from >= 0 && from <= to && to <= data_bytes, FZ_ERR_FORMAT,
             "tensor %.200s lies at bytes %" PRId64 " to %" PRId64 ", the data have %" PRId64,
             tensor->name, from, to, data_bytes);
    tensor->offset = from;
    tensor->bytes = to - from;
    const int64_t bytes = tensor->elements * (int64_t)fz_dtype_bytes(tensor->dtype);
    FZ_CHECK(tensor->bytes == bytes, FZ_ERR_FORMAT,
             "tensor %.200s has %" PRId64 " bytes, its shape and dtype %s make %" PRId64,
             tensor->name, tensor->bytes, FZ_DTYPE_NAMES[tensor->dtype], bytes);
    return FZ_OK;
}

static fz_status read_tensor(const char *name, json_t *entry, int64_t data_bytes,
                             fz_safetensor *tensor)
{
    const char *key;
    json_t *value;

    FZ_CHECK(json_is_object(entry), FZ_ERR_FORMAT, "tensor %.200s is not described by an object",
             name);
    json_object_foreach(entry, key, value)
    {
        const bool is_known = strcmp(key, "dtype") == 0 || strcmp(key, "shape") == 0 ||
                              strcmp(key, "data_offsets") == 0;
        FZ_CHECK(is_known, FZ_ERR_FORMAT, "tensor %.200s has the unknown key %.64s", name, key);
    }
    tensor->name = name;
    FZ_TRY(read_dtype(name, json_object_get(entry, "dtype"), &tensor->dtype));
    FZ_TRY(read_shape(json_object_get(entry, "shape"), tensor));
    return read_offsets(json_object_get(entry, "data_offsets"), data_bytes, tensor);
}

static fz_status own_name(fz_safetensor *tensor)
{
    char *name = NULL;

    const fz_status status = fz_strdup(&name, tensor->name);
    tensor->name = name; /* NULL where there was no memory */
    return status;
}

/* all of them */

static fz_status read_metadata(json_t *metadata, fz_safetensors_header *header)
{
    const char *key;
    json_t *value;

    if (!metadata) return FZ_OK;
    FZ_CHECK(json_is_object(metadata), FZ_ERR_FORMAT, "%s is not an object", METADATA);
    FZ_TRY(FZ_NEW(&header->keys, json_object_size(metadata)));
    FZ_TRY(FZ_NEW(&header->values, json_object_size(metadata)));
    json_object_foreach(metadata, key, value)
    {
        FZ_CHECK(json_is_string(value), FZ_ERR_FORMAT, "%s: the value of %.200s is not a text",
                 METADATA, key);
        const int i = header->n_metadata++;
        FZ_TRY(fz_strdup(&header->keys[i], key));
        FZ_TRY(fz_strdup(&header->values[i], json_string_value(value)));
    }
    return FZ_OK;
}

static int compare_places(const void *x, const void *y)
{
    const fz_safetensor *a = x, *b = y;

    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
}

static int compare_names(const void *x, const void *y)
{
    const fz_safetensor *a = x, *b = y;
    return strcmp(a->name, b->name);
}

/* Every byte of the data belongs to exactly one tensor. */
static fz_status check_places(fz_safetensors_header *header, int64_t data_bytes)
{
    const fz_safetensor *before = NULL;
    int64_t at = 0;

    qsort(header->tensors, (size_t)header->n_tensors, sizeof *header->tensors, compare_places);
    for (int i = 0; i < header->n_tensors; i++) {
        const fz_safetensor *tensor = &header->tensors[i];
        FZ_CHECK(tensor->offset >= at, FZ_ERR_FORMAT, "tensors %.200s and %.200s overlap",
                 before ? before->name : "", tensor->name);
        FZ_CHECK(tensor->offset == at, FZ_ERR_FORMAT,
                 "bytes %" PRId64 " to %" PRId64 " of the data, before tensor %.200s, are nobody's",
                 at, tensor->offset, tensor->name);
        at = tensor->offset + tensor->bytes;
        before = tensor;
    }
    FZ_CHECK(at == data_bytes, FZ_ERR_FORMAT,
             "the tensors end at byte %" PRId64 " of the data, which have %" PRId64, at,
             data_bytes);
    return FZ_OK;
}

static fz_status read_header(json_t *root, int64_t data_bytes, fz_safetensors_header *header)
{
    const char *name;
    json_t *entry;

    const size_t n_entries = json_object_size(root);
    FZ_CHECK(n_entries < INT32_MAX, FZ_ERR_FORMAT, "the header has %zu entries", n_entries);
    FZ_TRY(read_metadata(json_object_get(root, METADATA), header));
    FZ_TRY(FZ_NEW(&header->tensors, n_entries));
    json_object_foreach(root, name, entry)
    {
        fz_safetensor tensor = {.ndim = 0};
        if (strcmp(name, METADATA) == 0) continue;
        FZ_TRY(read_tensor(name, entry, data_bytes, &tensor));
        FZ_TRY(own_name(&tensor));
        header->tensors[header->n_tensors++] = tensor;
    }
    FZ_TRY(check_places(header, data_bytes));
    qsort(header->tensors, (size_t)header->n_tensors, sizeof *header->tensors, compare_names);
    return FZ_OK;
}

fz_status fz_safetensors_parse(const char *json, size_t n, int64_t data_bytes,
                               fz_safetensors_header *header)
{
    json_error_t error;

    *header = (fz_safetensors_header){.n_tensors = 0};
    FZ_CHECK(n > 0 && json[0] == '{', FZ_ERR_FORMAT, "the header does not begin with {");
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &error);
    FZ_CHECK(root, FZ_ERR_FORMAT, "the header is not json: %.200s (byte %d)", error.text,
             error.position);
    const fz_status status = read_header(root, data_bytes, header);
    json_decref(root);
    if (status != FZ_OK) fz_safetensors_header_reset(header);
    return status;
}

void fz_safetensors_header_reset(fz_safetensors_header *header)
{
    for (int i = 0; i < header->n_tensors; i++)
        fz_free(&header->tensors[i].name);
    for (int i = 0; i < header->n_metadata; i++) {
        fz_free(&header->keys[i]);
        fz_free(&header->values[i]);
    }
    fz_free(&header->tensors);
    fz_free(&header->keys);
    fz_free(&header->values);
    *header = (fz_safetensors_header){.n_tensors = 0};
}
