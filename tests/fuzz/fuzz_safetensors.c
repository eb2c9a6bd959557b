/* libFuzzer on the header parser. The input is eight bytes, how many bytes of data the file is said
 * to have, and the header. What is accepted must hold what checkpoint/safetensors.h promises; a
 * broken promise aborts.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/safetensors.h"
#include "core/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "broken promise: %s\n", what);
    abort();
}

static int compare_offsets(const void *x, const void *y)
{
    const fz_safetensor *a = x, *b = y;

    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
}

static void check_tensor(const fz_safetensor *t)
{
    int64_t elements = 1;

    must(t->name != NULL, "a tensor has a name");
    must(t->dtype >= 0 && t->dtype < FZ_N_DTYPES, "a tensor has a known dtype");
    must(t->ndim >= 0 && t->ndim <= FZ_SAFETENSOR_AXES, "a tensor has few axes");
    for (int axis = 0; axis < t->ndim; axis++)
        if (t->shape[axis] == 0) elements = 0;
    for (int axis = 0; axis < t->ndim && elements > 0; axis++)
        must(!__builtin_mul_overflow(elements, t->shape[axis], &elements),
             "a shape can be counted");
    must(elements == t->elements, "elements are those of the shape");
    must(t->bytes / (int64_t)fz_dtype_bytes(t->dtype) == elements &&
             t->bytes % (int64_t)fz_dtype_bytes(t->dtype) == 0,
         "bytes are those of the elements");
}

static void check_header(fz_safetensors_header *h, int64_t data_bytes)
{
    int64_t at = 0;

    for (int i = 0; i < h->n_tensors; i++) {
        check_tensor(&h->tensors[i]);
        must(i == 0 || strcmp(h->tensors[i - 1].name, h->tensors[i].name) < 0,
             "tensors are sorted, each name once");
    }
    if (h->n_tensors > 0)
        qsort(h->tensors, (size_t)h->n_tensors, sizeof *h->tensors, compare_offsets);
    for (int i = 0; i < h->n_tensors; i++) {
        must(h->tensors[i].offset == at, "there is no gap and no overlap");
        at += h->tensors[i].bytes;
    }
    must(at == data_bytes, "all bytes belong to a tensor");
    for (int i = 0; i < h->n_metadata; i++)
        must(h->keys[i] && h->values[i], "metadata are texts");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fz_safetensors_header header;
    int64_t data_bytes = 0;
    char *json = NULL;

    if (n < sizeof data_bytes) return 0;
    memcpy(&data_bytes, data, sizeof data_bytes);
    data_bytes &= INT64_MAX; /* what a file can have */
    n -= sizeof data_bytes;
    json = malloc(n > 0 ? n : 1); /* of its own, so that a read behind its end is seen */
    if (!json) return 0;
    memcpy(json, data + sizeof data_bytes, n);
    const fz_status status = fz_safetensors_parse(json, n, data_bytes, &header);
    if (status == FZ_OK) {
        check_header(&header, data_bytes);
        fz_safetensors_header_reset(&header);
    } else {
        must(status == FZ_ERR_FORMAT, "a bad header is a bad file");
        must(fz_last_error()->text[0] != 0, "a refusal has a reason");
    }
    must(!header.tensors && !header.keys && !header.values, "nothing is left");
    must(fz_memory_get().n_live == 0, "all memory is given back");
    free(json);
    return 0;
}
