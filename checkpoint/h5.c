#include "checkpoint/h5.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

enum { IMAGE_NAME_BYTES = 1040 };

/* HDF5 tells a refusal of the system in several lines, with the time and the path: what counts is
 * the errno in it. */
static herr_t innermost(unsigned n, const H5E_error2_t *error, void *text)
{
    const char *number = strstr(error->desc, "errno = ");

    if (n > 0) return 0;
    if (number)
        snprintf(text, 160, "%s", strerror(atoi(number + strlen("errno = "))));
    else
        snprintf(text, 160, "%s: %.*s", error->func_name, (int)strcspn(error->desc, "\n"),
                 error->desc);
    return 0;
}

fz_status fz_h5_failed(const char *what, const char *name)
{
    char text[160] = "no details";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, text);
    return FZ_FAIL(FZ_ERR_IO, "hdf5: %s %s: %s", what, name, text);
}

void fz_h5_start_thread(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* files */

static bool set_access(hid_t access, size_t metadata_bytes)
{
    return H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
           H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
           H5Pset_file_locking(access, 0, 1) >= 0 && H5Pset_small_data_block_size(access, 0) >= 0 &&
           H5Pset_meta_block_size(access, metadata_bytes) >= 0;
}

fz_status fz_h5_create(const char *path, size_t metadata_bytes, hid_t *file_p)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = H5Pcreate(H5P_FILE_CREATE);
    hid_t file = -1;

    if (access >= 0 && creation >= 0 && set_access(access, metadata_bytes) &&
        H5Pset_obj_track_times(creation, 0) >= 0)
        file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    const fz_status status = file >= 0 ? FZ_OK : fz_h5_failed("create", path);
    if (access >= 0) H5Pclose(access);
    if (creation >= 0) H5Pclose(creation);
    *file_p = file;
    return status;
}

fz_status fz_h5_open_image(const void *bytes, size_t size, const char *name, hid_t *file_p)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    char *image = NULL, file_name[IMAGE_NAME_BYTES];
    hid_t file = -1;

    /* The name must not be that of a file, or HDF5 refuses the image; HDF5 takes a pointer to
     * non-const, and copies. */
    snprintf(file_name, sizeof file_name, "%.1000s/index in memory", name);
    fz_status status = fz_alloc((void **)&image, size, "image of an index");
    if (status == FZ_OK) {
        memcpy(image, bytes, size);
        if (access >= 0 && H5Pset_fapl_core(access, 1 << 16, 0) >= 0 &&
            H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
            H5Pset_file_image(access, image, size) >= 0)
            file = H5Fopen(file_name, H5F_ACC_RDONLY, access);
        if (file < 0) status = fz_h5_failed("open", name);
    }
    fz_free(&image);
    if (access >= 0) H5Pclose(access);
    *file_p = file;
    return status;
}

fz_status fz_h5_open(const char *path, hid_t *file_p)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    hid_t file = -1;

    if (access >= 0 && H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_file_locking(access, 0, 1) >= 0)
        file = H5Fopen(path, H5F_ACC_RDONLY, access);
    const fz_status status = file >= 0 ? FZ_OK : fz_h5_failed("open", path);
    if (access >= 0) H5Pclose(access);
    *file_p = file;
    return status;
}

fz_status fz_h5_blame(fz_status status, const char *path)
{
    if (status != FZ_ERR_IO || strstr(fz_last_error()->text, path)) return status;
    return FZ_FAIL(status, "write %s: %s", path, fz_last_error()->text);
}

fz_status fz_h5_close(hid_t file, const char *path)
{
    FZ_H5(H5Fclose(file), "close", path);
    return FZ_OK;
}

/* objects */

fz_status fz_h5_group(hid_t at, const char *name, hid_t *group_p)
{
    const hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    hid_t group = -1;

    if (creation >= 0 && H5Pset_obj_track_times(creation, 0) >= 0)
        group = H5Gcreate2(at, name, H5P_DEFAULT, creation, H5P_DEFAULT);
    const fz_status status = group >= 0 ? FZ_OK : fz_h5_failed("make group", name);
    if (creation >= 0) H5Pclose(creation);
    *group_p = group;
    return status;
}

static hid_t space_of(int ndim, const int64_t *dims)
{
    hsize_t sizes[8];

    if (ndim == 0) return H5Screate(H5S_SCALAR);
    for (int axis = 0; axis < ndim; axis++)
        sizes[axis] = (hsize_t)dims[axis];
    return H5Screate_simple(ndim, sizes, NULL);
}

hid_t fz_h5_contiguous(void)
{
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);

    if (creation >= 0 && H5Pset_layout(creation, H5D_CONTIGUOUS) >= 0 &&
        H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY) >= 0 &&
        H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) >= 0 &&
        H5Pset_obj_track_times(creation, 0) >= 0)
        return creation;
    if (creation >= 0) H5Pclose(creation);
    return -1;
}

fz_status fz_h5_reserve(hid_t at, const char *name, hid_t type, int ndim, const int64_t *dims,
                        hid_t creation, int64_t *offset)
{
    const hid_t space = space_of(ndim, dims);
    hid_t set = -1;

    if (space >= 0) set = H5Dcreate2(at, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    fz_status status = set >= 0 ? FZ_OK : fz_h5_failed("make dataset", name);
    const haddr_t place = set >= 0 ? H5Dget_offset(set) : HADDR_UNDEF;
    *offset = place == HADDR_UNDEF ? 0 : (int64_t)place;
    if (set >= 0 && H5Dclose(set) < 0) status = fz_h5_failed("close", name);
    if (space >= 0) H5Sclose(space);
    return status;
}

/* attributes */

static fz_status put_attribute(hid_t at, const char *name, hid_t file_type, hid_t memory_type,
                               const void *value)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = -1;
    bool is_written = false;

    if (space >= 0) attribute = H5Acreate2(at, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute >= 0) is_written = H5Awrite(attribute, memory_type, value) >= 0;
    fz_status status = is_written ? FZ_OK : fz_h5_failed("write attribute", name);
    if (attribute >= 0 && H5Aclose(attribute) < 0) status = fz_h5_failed("close", name);
    if (space >= 0) H5Sclose(space);
    return status;
}

static fz_status get_attribute(hid_t at, const char *name, hid_t memory_type, void *value)
{
    const hid_t attribute = H5Aopen(at, name, H5P_DEFAULT);
    const hid_t space = attribute >= 0 ? H5Aget_space(attribute) : -1;
    const bool is_read = space >= 0 && H5Sget_simple_extent_npoints(space) == 1 &&
                         H5Aread(attribute, memory_type, value) >= 0;
    const fz_status status = is_read ? FZ_OK : fz_h5_failed("read attribute", name);
    if (space >= 0) H5Sclose(space);
    if (attribute >= 0) H5Aclose(attribute);
    return status;
}

fz_status fz_h5_put_int(hid_t at, const char *name, int64_t value)
{
    return put_attribute(at, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

fz_status fz_h5_put_uint(hid_t at, const char *name, uint64_t value)
{
    return put_attribute(at, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, &value);
}

fz_status fz_h5_get_int(hid_t at, const char *name, int64_t *value)
{
    return get_attribute(at, name, H5T_NATIVE_INT64, value);
}

fz_status fz_h5_get_uint(hid_t at, const char *name, uint64_t *value)
{
    return get_attribute(at, name, H5T_NATIVE_UINT64, value);
}

/* Fixed-length, null-terminated: what every HDF5 tool prints as plain text. */
static hid_t text_type(size_t bytes)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 && H5Tset_size(type, bytes) < 0) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

fz_status fz_h5_put_text(hid_t at, const char *name, const char *text)
{
    const hid_t type = text_type(strlen(text) + 1);
    if (type < 0) return fz_h5_failed("type of", name);
    const fz_status status = put_attribute(at, name, type, type, text);
    H5Tclose(type);
    return status;
}

fz_status fz_h5_get_text(hid_t at, const char *name, char *text, size_t bytes)
{
    const hid_t type = text_type(bytes);
    if (type < 0) return fz_h5_failed("type of", name);
    const fz_status status = get_attribute(at, name, type, text);
    H5Tclose(type);
    text[bytes - 1] = 0;
    return status;
}

/* columns */

fz_status fz_h5_put(hid_t at, const char *name, hid_t file_type, hid_t memory_type, int ndim,
                    const int64_t *dims, const void *data)
{
    const hid_t space = space_of(ndim, dims), creation = fz_h5_contiguous();
    hid_t set = -1;
    bool is_written = false;

    if (space >= 0 && creation >= 0)
        set = H5Dcreate2(at, name, file_type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    if (set >= 0)
        is_written = H5Sget_simple_extent_npoints(space) == 0 ||
                     H5Dwrite(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    fz_status status = is_written ? FZ_OK : fz_h5_failed("write", name);
    /* HDF5 keeps small datasets back until here. */
    if (set >= 0 && H5Dclose(set) < 0) status = fz_h5_failed("close", name);
    if (creation >= 0) H5Pclose(creation);
    if (space >= 0) H5Sclose(space);
    return status;
}

static bool has_shape(hid_t set, int ndim, const int64_t *dims, int64_t *n)
{
    hsize_t sizes[8];
    const hid_t space = H5Dget_space(set);
    bool fits = space >= 0 && H5Sget_simple_extent_ndims(space) == ndim &&
                H5Sget_simple_extent_dims(space, sizes, NULL) == ndim;

    for (int axis = 1; fits && axis < ndim; axis++)
        fits = sizes[axis] == (hsize_t)dims[axis];
    if (fits) *n = (int64_t)sizes[0];
    if (space >= 0) H5Sclose(space);
    return fits;
}

fz_status fz_h5_get(hid_t at, const char *name, hid_t memory_type, size_t element_bytes, int ndim,
                    const int64_t *dims, int64_t *n, void **data_p)
{
    const hid_t set = H5Dopen2(at, name, H5P_DEFAULT);
    void *data = NULL;

    if (set < 0) return fz_h5_failed("open dataset", name);
    fz_status status = FZ_OK;
    if (!has_shape(set, ndim, dims, n))
        status = FZ_FAIL(FZ_ERR_FORMAT, "index: dataset %s has another shape", name);
    size_t bytes = element_bytes * (size_t)*n;
    for (int axis = 1; axis < ndim; axis++)
        bytes *= (size_t)dims[axis];
    if (status == FZ_OK) status = fz_alloc(&data, bytes, name);
    if (status == FZ_OK && bytes > 0 &&
        H5Dread(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        status = fz_h5_failed("read", name);
    H5Dclose(set);
    if (status != FZ_OK)
        fz_free(&data);
    else
        *data_p = data;
    return status;
}

fz_status fz_h5_put_string(hid_t at, const char *name, const char *text)
{
    const hid_t type = text_type(strlen(text) + 1);
    if (type < 0) return fz_h5_failed("type of", name);
    const fz_status status = fz_h5_put(at, name, type, type, 0, NULL, text);
    H5Tclose(type);
    return status;
}

fz_status fz_h5_get_string(hid_t at, const char *name, char **text_p)
{
    const hid_t set = H5Dopen2(at, name, H5P_DEFAULT);
    const hid_t type = set >= 0 ? H5Dget_type(set) : -1;
    const hid_t space = set >= 0 ? H5Dget_space(set) : -1;
    const size_t bytes = type >= 0 ? H5Tget_size(type) : 0;
    char *text = NULL;

    fz_status status = FZ_OK;
    if (type < 0 || space < 0 || H5Tget_class(type) != H5T_STRING ||
        H5Tis_variable_str(type) != 0 || H5Sget_simple_extent_npoints(space) != 1)
        status = FZ_FAIL(FZ_ERR_FORMAT, "index: %s is not one text of fixed length", name);
    if (status == FZ_OK) status = fz_alloc((void **)&text, bytes + 1, name);
    if (status == FZ_OK && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) < 0)
        status = fz_h5_failed("read", name);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (set >= 0) H5Dclose(set);
    if (status != FZ_OK)
        fz_free(&text);
    else
        *text_p = text;
    return status;
}
