/* The little of HDF5 that checkpoints use: files, attributes, small columns. One thread only.
 * Errors are FZ_ERR_IO with HDF5's innermost text. Local. */
#ifndef FZ_CHECKPOINT_H5_H
#define FZ_CHECKPOINT_H5_H

#include <stdint.h>

#include <hdf5.h>

#include "core/status.h"

/* FZ_ERR_IO "what: text of hdf5"; for calls that returned a negative. */
fz_status fz_h5_failed(const char *what, const char *name);

/* Once in every thread but the first (fz_ckpt_start does it there): HDF5 prints nothing itself. */
void fz_h5_start_thread(void);

#define FZ_H5(call, what, name)                                                                    \
    do {                                                                                           \
        if ((call) < 0) return fz_h5_failed((what), (name));                                       \
    } while (0)

/* New file in the V110 format; datasets are put back to back as long as all objects' metadata fit
 * metadata_bytes. */
fz_status fz_h5_create(const char *path, size_t metadata_bytes, hid_t *file_p);
/* A file whose bytes are in memory, which must outlive it. name is for errors. */
fz_status fz_h5_open_image(const void *bytes, size_t size, const char *name, hid_t *file_p);
fz_status fz_h5_open(const char *path, hid_t *file_p); /* read-only */
fz_status fz_h5_close(hid_t file, const char *path);
/* Names the file that could not be written, unless the text does. */
fz_status fz_h5_blame(fz_status status, const char *path);

fz_status fz_h5_group(hid_t at, const char *name, hid_t *group_p); /* new, without time stamps */
/* How to create contiguous datasets whose place is fixed at once and never filled; negative on
 * failure; closed by the caller. */
hid_t fz_h5_contiguous(void);
/* A new dataset created so. offset is where its bytes lie, 0 for an empty one. */
fz_status fz_h5_reserve(hid_t at, const char *name, hid_t type, int ndim, const int64_t *dims,
                        hid_t creation, int64_t *offset);

fz_status fz_h5_put_int(hid_t at, const char *name, int64_t value);
fz_status fz_h5_put_uint(hid_t at, const char *name, uint64_t value);
fz_status fz_h5_put_text(hid_t at, const char *name, const char *text);
fz_status fz_h5_get_int(hid_t at, const char *name, int64_t *value);
fz_status fz_h5_get_uint(hid_t at, const char *name, uint64_t *value);
fz_status fz_h5_get_text(hid_t at, const char *name, char *text, size_t bytes); /* cut to fit */

/* A text of any length as a scalar dataset; reading gives it to the caller. */
fz_status fz_h5_put_string(hid_t at, const char *name, const char *text);
fz_status fz_h5_get_string(hid_t at, const char *name, char **text_p);

/* Whole datasets; file_type and memory_type differ at most in byte order. */
fz_status fz_h5_put(hid_t at, const char *name, hid_t file_type, hid_t memory_type, int ndim,
                    const int64_t *dims, const void *data);
/* Checks rank and all sizes but the first, which is returned in n. data: owned by the caller. */
fz_status fz_h5_get(hid_t at, const char *name, hid_t memory_type, size_t element_bytes, int ndim,
                    const int64_t *dims, int64_t *n, void **data_p);

#endif
