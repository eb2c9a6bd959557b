#include "checkpoint/view.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/h5.h"
#include "checkpoint/shard_read.h"
#include "checkpoint/source.h"
#include "checkpoint/stream.h"
#include "core/memory.h"

enum { PIECE_BYTES = sizeof((fz_shard_piece *)0)->name };

typedef struct side { /* the step, or its base */
    fz_source source;
    char (*piece)[PIECE_BYTES]; /* owned: [n_rows] the dataset of each row */
    char where[FZ_PATH_BYTES];  /* of its files, as the view names them: "" or "dir/", escaped */
} side;

typedef struct view {
    const char *step_path, *out;
    side sides[2];
    bool has_base, is_beside;
    fz_ckpt_reader *reader;
    int64_t n_datasets;
} view;

/* pieces */

static fz_status name_pieces_of(side *s, int64_t file)
{
    const fz_index *index = &s->source.index;
    fz_shard_content shard;
    char name[FZ_SHARD_NAME_BYTES], path[FZ_PATH_BYTES];

    fz_shard_name(name, file);
    FZ_TRY(fz_disk_join(path, s->source.path, name));
    FZ_TRY(fz_ckpt_shard_read(path, &shard));
    fz_status status = FZ_OK;
    for (int64_t i = 0; i < index->n_rows && status == FZ_OK; i++) {
        const fz_fragment *row = &index->rows[i];
        if (row->file != file) continue;
        const fz_shard_piece *piece = fz_shard_piece_at(&shard, row->offset);
        const fz_box box = fz_box_of_fragment(row);
        if (!piece || piece->kind != row->kind ||
            strcmp(piece->tensor, index->tensors[row->tensor].name) != 0 || row->a != 0 ||
            row->b != fz_box_elements(&box))
            status = FZ_FAIL(FZ_ERR_FORMAT, "%s: the fragment at byte %lld is no dataset", path,
                             (long long)row->offset);
        else
            memcpy(s->piece[i], piece->name, sizeof piece->name);
    }
    fz_shard_content_reset(&shard);
    return status;
}

static fz_status name_pieces(side *s)
{
    FZ_TRY(FZ_NEW(&s->piece, s->source.index.n_rows));
    for (int64_t file = 0; file < s->source.index.n_files; file++)
        if (s->source.index.files[file].size > 0) FZ_TRY(name_pieces_of(s, file));
    return FZ_OK;
}

/* A percent sign begins a pattern in the name of a source. */
static fz_status escape(const char *text, char *out, size_t bytes)
{
    size_t n = 0;

    for (; *text; text++) {
        FZ_CHECK(n + 3 < bytes, FZ_ERR_USAGE, "the path of the checkpoint is too long for a view");
        if (*text == '%') out[n++] = '%';
        out[n++] = *text;
    }
    out[n] = 0;
    return FZ_OK;
}

static fz_status name_files(const view *v, side *s, bool is_base)
{
    char real[FZ_PATH_BYTES], *resolved = realpath(s->source.path, NULL);
    const char *slash = strrchr(s->source.path, '/');

    FZ_CHECK(resolved && strlen(resolved) + 2 < sizeof real, FZ_ERR_IO, "where is %s",
             s->source.path);
    strcpy(real, resolved);
    free(resolved); /* the library's memory */
    strcat(real, "/");
    if (v->is_beside) real[0] = 0;
    if (v->is_beside && is_base) snprintf(real, sizeof real, "../%.200s/", slash ? slash + 1 : "");
    return escape(real, s->where, sizeof s->where);
}

/* datasets */

static hid_t space_of_box(const fz_state_tensor *tensor, const fz_box *box)
{
    hsize_t sizes[FZ_MAX_AXES], start[FZ_MAX_AXES], count[FZ_MAX_AXES];

    for (int axis = 0; axis < tensor->ndim; axis++) {
        sizes[axis] = (hsize_t)tensor->shape[axis];
        start[axis] = (hsize_t)box->lo[axis];
        count[axis] = (hsize_t)(box->hi[axis] - box->lo[axis]);
    }
    const hid_t space = H5Screate_simple(tensor->ndim, sizes, NULL);
    if (space >= 0) H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
    return space;
}

static fz_status map_row(const side *s, int64_t i, hid_t creation)
{
    const fz_fragment *row = &s->source.index.rows[i];
    const fz_state_tensor *tensor = &s->source.index.tensors[row->tensor];
    const fz_box box = fz_box_of_fragment(row);
    char file[FZ_PATH_BYTES + FZ_SHARD_NAME_BYTES], set[FZ_NAME_BYTES * 2 + 64];
    char name[FZ_SHARD_NAME_BYTES], escaped[FZ_NAME_BYTES * 2];
    hsize_t dims[FZ_MAX_AXES];

    fz_shard_name(name, row->file);
    snprintf(file, sizeof file, "%s%s", s->where, name);
    FZ_TRY(escape(tensor->name, escaped, sizeof escaped));
    snprintf(set, sizeof set, "/%s/%s/%s", FZ_KIND_NAMES[row->kind], escaped, s->piece[i]);
    for (int axis = 0; axis < tensor->ndim; axis++)
        dims[axis] = (hsize_t)(box.hi[axis] - box.lo[axis]);
    const hid_t whole = space_of_box(tensor, &box);
    const hid_t piece = H5Screate_simple(tensor->ndim, dims, NULL);
    const bool is_mapped =
        whole >= 0 && piece >= 0 && H5Pset_virtual(creation, whole, file, set, piece) >= 0;
    const fz_status status = is_mapped ? FZ_OK : fz_h5_failed("map", set);
    if (whole >= 0) H5Sclose(whole);
    if (piece >= 0) H5Sclose(piece);
    return status;
}

static fz_status put_virtual(view *v, const side *s, int tensor, int kind, hid_t group)
{
    const fz_state_tensor *t = &s->source.index.tensors[tensor];
    const fz_box all = fz_box_of_tensor(t);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), space = space_of_box(t, &all);
    const float nothing = NAN;
    hid_t set = -1;

    fz_status status = FZ_OK;
    if (creation < 0 || space < 0 || H5Pset_obj_track_times(creation, 0) < 0 ||
        H5Pset_fill_value(creation, H5T_NATIVE_FLOAT, &nothing) < 0)
        status = fz_h5_failed("describe", t->name);
    int64_t row = s->source.head[(int64_t)kind * s->source.index.n_tensors + tensor];
    for (; row >= 0 && status == FZ_OK; row = s->source.next[row])
        status = map_row(s, row, creation);
    if (status == FZ_OK) {
        H5Sselect_all(space);
        set = H5Dcreate2(group, t->name, H5T_IEEE_F32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
        if (set < 0) status = fz_h5_failed("make dataset", t->name);
    }
    if (set >= 0) H5Dclose(set);
    if (space >= 0) H5Sclose(space);
    if (creation >= 0) H5Pclose(creation);
    v->n_datasets += status == FZ_OK;
    return status;
}

static fz_status put_scalar(view *v, const char *name, int tensor, int kind, hid_t group)
{
    float value = 0;

    FZ_TRY(fz_ckpt_reader_read(v->reader, tensor, (fz_state_kind)kind, &value));
    v->n_datasets++;
    return fz_h5_put(group, name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 0, NULL, &value);
}

static fz_status put_kind(view *v, const side *s, int kind, hid_t file)
{
    const fz_index *index = &s->source.index;
    fz_status status = FZ_OK;
    hid_t group = -1;

    for (int t = 0; t < index->n_tensors && status == FZ_OK; t++) {
        if (s->source.head[(int64_t)kind * index->n_tensors + t] < 0) continue;
        if (group < 0) status = fz_h5_group(file, FZ_KIND_NAMES[kind], &group);
        if (status != FZ_OK) break;
        status = index->tensors[t].ndim == 0 ? put_scalar(v, index->tensors[t].name, t, kind, group)
                                             : put_virtual(v, s, t, kind, group);
    }
    if (group >= 0) H5Gclose(group);
    return status;
}

/* the file */

static fz_status open_sides(view *v)
{
    char base[FZ_PATH_BYTES];
    const char *slash = strrchr(v->out, '/');
    const size_t n = strlen(v->step_path);

    v->is_beside = slash && (size_t)(slash - v->out) == n && strncmp(v->out, v->step_path, n) == 0;
    FZ_TRY(fz_source_open_here(v->step_path, "step", &v->sides[0].source));
    FZ_TRY(fz_source_base(&v->sides[0].source, base));
    v->has_base = base[0] != 0;
    if (v->has_base) FZ_TRY(fz_source_open_here(base, "base", &v->sides[1].source));
    for (int i = 0; i <= (int)v->has_base; i++) {
        FZ_TRY(name_files(v, &v->sides[i], i == 1));
        FZ_TRY(name_pieces(&v->sides[i]));
    }
    return fz_ckpt_reader_open(v->step_path, &v->reader);
}

static fz_status write_view(view *v)
{
    const fz_ckpt_info *info = &v->sides[0].source.index.info;
    hid_t file;

    FZ_TRY(fz_h5_create(v->out, 65536, &file));
    fz_status status = fz_h5_put_int(file, "step", info->step);
    if (status == FZ_OK) status = fz_h5_put_text(file, "run_id", info->run_id);
    for (int i = 0; i <= (int)v->has_base; i++)
        for (int kind = 0; kind < FZ_N_STATE_KINDS && status == FZ_OK; kind++)
            status = put_kind(v, &v->sides[i], kind, file);
    const fz_status closed = fz_h5_close(file, v->out);
    return status != FZ_OK ? status : closed;
}

fz_status fz_view_write(const char *step_path, const char *out, int64_t *n_datasets_p)
{
    view *v = NULL;

    FZ_TRY(FZ_NEW(&v, 1));
    v->step_path = step_path;
    v->out = out;
    fz_status status = open_sides(v);
    if (status == FZ_OK) status = write_view(v);
    if (status == FZ_OK) *n_datasets_p = v->n_datasets;
    fz_ckpt_reader_close(&v->reader);
    for (int i = 0; i < 2; i++) {
        fz_source_reset(&v->sides[i].source);
        fz_free(&v->sides[i].piece);
    }
    fz_free(&v);
    return status;
}
