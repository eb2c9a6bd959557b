/* The program's half of a comparison with the format's own library (tests/reference).
 *
 *   safetensors_peer write DIR BYTES   a model whose numbers anyone can compute, in files of BYTES
 *   safetensors_peer read PATH         one line a tensor: name dtype shape bytes floats, in hex
 *
 * Element i of tensor t has the bits (2654435761 * i + 40503 * t) mod 2^32 before it is rounded;
 * every third lies in the middle of two BF16 numbers, the next in that of two F16 numbers.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/safetensors.h"

enum { N_TENSORS = 5, ELEMENTS = 6 * 700 };

static fz_status write_tensors(fz_safetensors_writer *w)
{
    static float x[ELEMENTS];

    FZ_TRY(fz_safetensors_writer_start(w));
    for (int t = 0; t < N_TENSORS; t++) {
        for (uint32_t i = 0; i < ELEMENTS; i++) {
            uint32_t bits = 2654435761u * i + 40503u * (uint32_t)t;
            if (i % 3 == 0) bits = (bits & 0xffff0000u) | 0x8000u;
            if (i % 3 == 1) bits = (bits & 0xffffe000u) | 0x1000u;
            memcpy(&x[i], &bits, sizeof bits);
        }
        FZ_TRY(fz_safetensors_write(w, t, 0, t == N_TENSORS - 1 ? 1 : ELEMENTS, x));
    }
    FZ_TRY(fz_safetensors_writer_sync(w));
    return fz_safetensors_writer_commit(w);
}

static fz_status write_model(const char *dir, int64_t bytes)
{
    static const char *const METADATA[][2] = {{"format", "pt"}, {0}};
    const fz_safetensor big = {.ndim = 2, .shape = {6, 700}, .elements = ELEMENTS};
    fz_safetensor list[N_TENSORS] = {big, big, big, big, {.ndim = 0, .elements = 1}};
    const char *names[N_TENSORS] = {"half", "brain \xc3\xbc", "\"single\"", "double", "scalar"};
    const fz_dtype dtypes[N_TENSORS] = {FZ_DTYPE_F16, FZ_DTYPE_BF16, FZ_DTYPE_F32, FZ_DTYPE_F64,
                                        FZ_DTYPE_F32};
    fz_safetensors_writer *w = NULL;

    for (int t = 0; t < N_TENSORS; t++) {
        list[t].name = names[t];
        list[t].dtype = dtypes[t];
    }
    FZ_TRY(fz_safetensors_writer_create(dir, N_TENSORS, list, bytes, METADATA, &w));
    const fz_status status = write_tensors(w);
    if (status != FZ_OK) fz_safetensors_writer_abandon(w);
    fz_safetensors_writer_destroy(&w);
    return status;
}

static void print_hex(const void *data, size_t n)
{
    const unsigned char *bytes = data;

    putchar('\t');
    for (size_t i = 0; i < n; i++)
        printf("%02x", bytes[i]);
}

static fz_status print_tensor(const fz_safetensors *st, const fz_safetensor *t)
{
    static unsigned char bytes[ELEMENTS * 8];
    static float floats[ELEMENTS];

    FZ_CHECK(t->elements <= ELEMENTS, FZ_ERR_USAGE, "%s is too large for this program", t->name);
    printf("%s\t%s\t", t->name, FZ_DTYPE_NAMES[t->dtype]);
    for (int axis = 0; axis < t->ndim; axis++)
        printf(axis ? "x%" PRId64 : "%" PRId64, t->shape[axis]);
    FZ_TRY(fz_safetensors_read(st, t, 0, t->elements, bytes));
    print_hex(bytes, (size_t)t->bytes);
    if (t->dtype <= FZ_DTYPE_BF16) {
        FZ_TRY(fz_safetensors_read_float(st, t, 0, t->elements, floats));
        print_hex(floats, (size_t)t->elements * sizeof *floats);
    }
    putchar('\n');
    return FZ_OK;
}

static fz_status read_model(const char *path)
{
    fz_safetensors *st = NULL;
    fz_status status = FZ_OK;

    FZ_TRY(fz_safetensors_open(path, &st));
    for (int i = 0; i < fz_safetensors_count(st) && status == FZ_OK; i++)
        status = print_tensor(st, fz_safetensors_get(st, i));
    fz_safetensors_close(&st);
    return status;
}

int main(int argc, char **argv)
{
    fz_status status = FZ_ERR_USAGE;

    if (argc == 4 && strcmp(argv[1], "write") == 0)
        status = write_model(argv[2], strtoll(argv[3], NULL, 10));
    else if (argc == 3 && strcmp(argv[1], "read") == 0)
        status = read_model(argv[2]);
    if (status != FZ_OK) fprintf(stderr, "%s\n", fz_last_error()->text);
    return status == FZ_OK ? 0 : status == FZ_ERR_FORMAT ? 65 : 64;
}
