/* The safetensors format: eight bytes of header length, a JSON header, then the tensors' bytes
 * (https://github.com/huggingface/safetensors, "Format"). Reads one file, or a folder with
 * model.safetensors or model.safetensors.index.json; writes the same. Little endian, row-major.
 *
 * Nothing of a file is believed before it is checked: lengths, offsets, overlaps, gaps, shapes,
 * duplicate names. FZ_ERR_FORMAT names file and tensor. Local unless it says Collective.
 */
#ifndef FZ_CHECKPOINT_SAFETENSORS_H
#define FZ_CHECKPOINT_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef enum fz_dtype {
    FZ_DTYPE_F64,
    FZ_DTYPE_F32,
    FZ_DTYPE_F16,
    FZ_DTYPE_BF16,
    FZ_DTYPE_I64,
    FZ_DTYPE_I32,
    FZ_DTYPE_I16,
    FZ_DTYPE_I8,
    FZ_DTYPE_U8,
    FZ_DTYPE_BOOL,
    FZ_N_DTYPES
} fz_dtype;
extern const char *const FZ_DTYPE_NAMES[FZ_N_DTYPES]; /* "F64", "F32", ... */
size_t fz_dtype_bytes(fz_dtype dtype);

enum { FZ_SAFETENSOR_AXES = 8 };

typedef struct fz_safetensor {
    const char *name; /* borrowed from whoever holds the list */
    fz_dtype dtype;
    int ndim; /* 0: one element */
    int64_t shape[FZ_SAFETENSOR_AXES];
    int64_t elements;
    int file;              /* of the folder; set by open and by the writer */
    int64_t offset, bytes; /* in that file; likewise. Of fz_safetensors_parse: behind the header */
} fz_safetensor;

/* ---- reading ---- */

typedef struct fz_safetensors fz_safetensors;

/* path: a .safetensors file or a folder, whose model.safetensors is taken before its index.
 * FZ_ERR_USAGE: nothing of the kind there. */
fz_status fz_safetensors_open(const char *path, fz_safetensors **st_p);
void fz_safetensors_close(fz_safetensors **st);
int fz_safetensors_count(const fz_safetensors *st);
const fz_safetensor *fz_safetensors_get(const fz_safetensors *st, int i); /* sorted by name */
const fz_safetensor *fz_safetensors_find(const fz_safetensors *st, const char *name); /* or NULL */
const char *fz_safetensors_file(const fz_safetensors *st, int file); /* its path, for errors */
/* Text of __metadata__ of the first file that has the key, or NULL. */
const char *fz_safetensors_metadata(const fz_safetensors *st, const char *key);
/* Elements [first, first + n), as stored. Thread-safe. */
fz_status fz_safetensors_read(const fz_safetensors *st, const fz_safetensor *tensor, int64_t first,
                              int64_t n, void *out);
/* The same as float: F16 and BF16 are widened exactly, F64 rounded. Integers: FZ_ERR_FORMAT. Uses
 * a small buffer of its own, whatever n. Thread-safe. */
fz_status fz_safetensors_read_float(const fz_safetensors *st, const fz_safetensor *tensor,
                                    int64_t first, int64_t n, float *out);

/* The header alone (what the fuzzer drives): JSON of n bytes in front of data_bytes bytes of data.
 * tensors: owned by the caller, names too, freed with fz_safetensors_header_reset. */
typedef struct fz_safetensors_header {
    int n_tensors;
    fz_safetensor *tensors; /* sorted by name */
    int n_metadata;
    char **keys, **values;
} fz_safetensors_header;
fz_status fz_safetensors_parse(const char *json, size_t n, int64_t data_bytes,
                               fz_safetensors_header *header);
void fz_safetensors_header_reset(fz_safetensors_header *header);

/* ---- rounding; n elements; ties to even, NaN stays NaN, overflow becomes infinity ---- */

void fz_widen_f16(float *out, const uint16_t *x, int64_t n);
void fz_widen_bf16(float *out, const uint16_t *x, int64_t n);
void fz_narrow_f16(uint16_t *out, const float *x, int64_t n);
void fz_narrow_bf16(uint16_t *out, const float *x, int64_t n);

/* ---- writing ---- */

typedef struct fz_safetensors_writer fz_safetensors_writer;

/* Plans the files of folder `dir`: tensors in the order given, a new file where the next would not
 * fit max_file_bytes: model.safetensors, or model-00001-of-000NN.safetensors with an index. Inside
 * a file wide dtypes come first, so that all are aligned. Floating-point dtypes alone (FZ_ERR_ARG).
 * Sets file, offset and bytes of every tensor; the list stays the caller's and must outlive the
 * writer. metadata: {key, value} pairs ended by NULL; may be NULL. Touches no disk: every rank can
 * make the same writer. */
fz_status fz_safetensors_writer_create(const char *dir, int n_tensors, fz_safetensor *tensors,
                                       int64_t max_file_bytes, const char *const (*metadata)[2],
                                       fz_safetensors_writer **writer_p);
void fz_safetensors_writer_destroy(fz_safetensors_writer **writer);
int fz_safetensors_writer_files(const fz_safetensors_writer *writer);
/* Every process, before it writes: past the page cache (checkpoint/direct.h). Else through it. */
void fz_safetensors_writer_set_direct(fz_safetensors_writer *writer, bool is_direct);
/* One process: makes the files (full length, with room on the disk, headers in place) and the
 * index, under names that end in .tmp. FZ_ERR_USAGE: files of these names are there already. */
fz_status fz_safetensors_writer_start(fz_safetensors_writer *writer);
/* Any process after that: elements [first, first + n) of tensor i, rounded to its dtype. x is the
 * caller's again; the bytes go out by a thread, and what fails there is returned by a later call,
 * the sync at the latest. Consecutive ranges are best. */
fz_status fz_safetensors_write(fz_safetensors_writer *writer, int i, int64_t first, int64_t n,
                               const float *x);
/* Every process: its bytes are on the disk. */
fz_status fz_safetensors_writer_sync(fz_safetensors_writer *writer);
/* One process, when all have synced: final names. On failure, or in its place: removes the .tmp. */
fz_status fz_safetensors_writer_commit(fz_safetensors_writer *writer);
void fz_safetensors_writer_abandon(fz_safetensors_writer *writer);

#endif
