#include "launch/import_read.h"

#include <math.h>
#include <string.h>

#include "core/log.h"
#include "core/memory.h"

enum { CHUNK = 1 << 16 }; /* elements compared at once */

/* The whole of a parameter as a new run would start with it. */
static void initialise(const fz_import_reader *reader, const fz_param *param, float *out)
{
    fz_param whole = *param;
    whole.cut = FZ_CUT_NONE;
    whole.replicas = 1;
    fz_param_init_piece(&whole, 1, 0, reader->seed, out);
}

static fz_status compare(const fz_import_reader *reader, const fz_import_item *item,
                         const fz_safetensor *alias, float *buffer)
{
    const fz_safetensors *folder = reader->folders[item->source];
    float *other = buffer + CHUNK;
    for (int64_t at = 0; at < alias->elements; at += CHUNK) {
        const int64_t n = alias->elements - at < CHUNK ? alias->elements - at : CHUNK;
        FZ_TRY(fz_safetensors_read_float(folder, item->tensor, at, n, buffer));
        FZ_TRY(fz_safetensors_read_float(folder, alias, at, n, other));
        FZ_CHECK(memcmp(buffer, other, (size_t)n * sizeof *buffer) == 0, FZ_ERR_FORMAT,
                 "%s: %s and %s are tied and must be equal, but differ among elements %lld to "
                 "%lld",
                 fz_safetensors_file(folder, alias->file), item->tensor->name, alias->name,
                 (long long)at, (long long)(at + n - 1));
    }
    return FZ_OK;
}

static fz_status compare_aliases(const fz_import_reader *reader, const fz_import_item *item)
{
    float *buffer = NULL;
    fz_status status = FZ_OK;
    if (item->n_aliases == 0) return FZ_OK;
    FZ_TRY(FZ_NEW(&buffer, 2 * CHUNK));
    for (int i = 0; i < item->n_aliases && status == FZ_OK; i++)
        status = compare(reader, item, item->alias[i], buffer);
    fz_free(&buffer);
    return status;
}

/* out (rows, cols) from a tensor that is stored (cols, rows). */
static fz_status read_transposed(const fz_safetensors *folder, const fz_safetensor *tensor,
                                 float *out)
{
    const int64_t cols = tensor->shape[0], rows = tensor->shape[1];
    float *stored = NULL;
    FZ_TRY(FZ_NEW(&stored, tensor->elements));
    const fz_status status = fz_safetensors_read_float(folder, tensor, 0, tensor->elements, stored);
    for (int64_t r = 0; r < rows && status == FZ_OK; r++)
        for (int64_t c = 0; c < cols; c++)
            out[r * cols + c] = stored[c * rows + r];
    fz_free(&stored);
    return status;
}

static fz_status rebuild(fz_import_reader *reader, const fz_import_item *item,
                         const fz_param *param, float *out)
{
    const fz_safetensor *tensor = item->tensor;
    float *table = NULL;
    initialise(reader, param, out);
    FZ_TRY(FZ_NEW(&table, tensor->elements));
    fz_status status = fz_safetensors_read_float(reader->folders[item->source], tensor, 0,
                                                 tensor->elements, table);
    if (status == FZ_OK)
        status = fz_vocabulary_average(reader->vocabulary, table, tensor->shape[0],
                                       tensor->shape[1], out);
    fz_free(&table);
    return status;
}

static void count_bad(fz_import_reader *reader, const fz_param *param, const float *x)
{
    const int64_t n = fz_param_elements(param);
    int64_t n_bad = 0, n_nan = 0;
    for (int64_t i = 0; i < n; i++)
        n_bad += !isfinite(x[i]);
    if (n_bad == 0) return;
    for (int64_t i = 0; i < n; i++)
        n_nan += isnan(x[i]) != 0;
    fz_warn("%s: %lld NaN and %lld infinite of %lld values", param->name, (long long)n_nan,
            (long long)(n_bad - n_nan), (long long)n);
    reader->n_nan += n_nan;
    reader->n_infinite += n_bad - n_nan;
    reader->n_bad_tensors++;
}

fz_status fz_import_read(void *context, int i, float *out)
{
    fz_import_reader *reader = context;
    const fz_param *param = &reader->program->params[i];
    const fz_import_item *item = &reader->plan->items[i];
    const fz_safetensors *folder = item->tensor ? reader->folders[item->source] : NULL;
    const int64_t n = fz_param_elements(param);
    FZ_TRY(compare_aliases(reader, item));
    switch (item->how) {
    case FZ_IMPORT_TAKE:
        FZ_TRY(fz_safetensors_read_float(folder, item->tensor, 0, n, out));
        break;
    case FZ_IMPORT_TRANSPOSE:
        FZ_TRY(read_transposed(folder, item->tensor, out));
        break;
    case FZ_IMPORT_ROWS:
        initialise(reader, param, out);
        FZ_TRY(fz_safetensors_read_float(folder, item->tensor, 0, item->tensor->elements, out));
        break;
    case FZ_IMPORT_REBUILD:
        FZ_TRY(rebuild(reader, item, param, out));
        break;
    case FZ_IMPORT_INIT:
        initialise(reader, param, out);
        return FZ_OK;
    }
    count_bad(reader, param, out);
    return FZ_OK;
}
