#include "checkpoint/shard_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/block_writer.h"
#include "checkpoint/crc_combine.h"
#include "checkpoint/disk.h"
#include "checkpoint/h5.h"
#include "core/checksum.h"
#include "core/memory.h"

/* COPY_BYTES stay in a core's cache. */
enum { COPY_BYTES = 1 << 18, READ_BYTES = 1 << 16 };
static const unsigned char SIGNATURE[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

/* Rows in the order they have in the file. */
typedef struct piece {
    int kind, tensor, piece;
    int64_t row;
    const int64_t *lo;
} piece;

int64_t fz_blocks_of(int64_t arena_bytes)
{
    return (arena_bytes + FZ_BLOCK_BYTES - 1) / FZ_BLOCK_BYTES;
}

fz_status fz_shard_init(fz_shard *shard, const fz_state *state, const fz_ckpt_info *info, int rank,
                        int size, unsigned mask, const uint64_t *views)
{
    *shard = (fz_shard){.state = state, .info = info, .rank = rank, .size = size};
    FZ_TRY(FZ_NEW(&shard->rows, state->n_views));
    FZ_TRY(FZ_NEW(&shard->digests, state->n_views));
    FZ_TRY(FZ_NEW(&shard->view_of, state->n_views));
    shard->n_rows =
        fz_owned_rows(state, rank, mask, views, shard->rows, shard->digests, shard->view_of);
    shard->record.n_rows = shard->n_rows;
    for (int i = 0; i < state->n_views; i++) {
        const fz_state_view *view = &state->views[i];
        if (!view->is_owner && (mask >> view->kind & 1) && fz_view_is_stored(state, view))
            shard->record.n_replicas++;
    }
    return FZ_OK;
}

int64_t fz_shard_bytes(const fz_shard *shard)
{
    int64_t bytes = 0;

    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
        bytes += shard->record.arena[kind].bytes;
    return bytes;
}

void fz_shard_reset(fz_shard *shard)
{
    fz_free(&shard->rows);
    fz_free(&shard->digests);
    fz_free(&shard->view_of);
    fz_free(&shard->crcs);
    *shard = (fz_shard){.n_rows = 0};
}

/* order */

static int compare_pieces(const void *x, const void *y)
{
    const piece *a = x, *b = y;

    if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
    if (a->tensor != b->tensor) return a->tensor < b->tensor ? -1 : 1;
    if (a->piece != b->piece) return a->piece < b->piece ? -1 : 1;
    for (int axis = 0; axis < FZ_MAX_AXES; axis++)
        if (a->lo[axis] != b->lo[axis]) return a->lo[axis] < b->lo[axis] ? -1 : 1;
    return 0;
}

static void order_pieces(const fz_shard *shard, piece *pieces)
{
    for (int64_t i = 0; i < shard->n_rows; i++) {
        const fz_fragment *row = &shard->rows[i];
        pieces[i] = (piece){.kind = (int)row->kind,
                            .tensor = (int)row->tensor,
                            .piece = shard->state->views[shard->view_of[i]].piece,
                            .row = i,
                            .lo = row->lo};
    }
    qsort(pieces, (size_t)shard->n_rows, sizeof *pieces, compare_pieces);
}

/* the skeleton: HDF5 names and places everything, and holds none of the bytes */

typedef struct skeleton {
    hid_t file, creation, kind, tensor; /* open, or -1 */
    int64_t crc_offset[FZ_N_STATE_KINDS], rows_offset;
} skeleton;

static fz_status put_attributes(const fz_shard *shard, hid_t file)
{
    const fz_ckpt_info *info = shard->info;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"format", FZ_FORMAT_VERSION},
        {"step", info->step},
        {"world", shard->size},
        {"rank", shard->rank},
        {"tp", info->tp},
        {"pp", info->pp},
        {"dp", info->dp},
        {"shards", info->shards},
        {"lanes", info->lanes},
        /* Of no use to a load: what an index that is lost is made from. */
        {"tensors", shard->state->n_tensors},
        {"samples", info->samples},
        {"global_batch", info->global_batch},
        {"micro_batch", info->micro_batch},
    };

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        FZ_TRY(fz_h5_put_int(file, numbers[i].name, numbers[i].value));
    FZ_TRY(fz_h5_put_uint(file, "seed", info->seed));
    FZ_TRY(fz_h5_put_uint(file, "config_hash", info->config_hash));
    FZ_TRY(fz_h5_put_uint(file, "fingerprint", info->data_fingerprint));
    FZ_TRY(fz_h5_put_text(file, "run_id", info->run_id));
    FZ_TRY(fz_h5_put_text(file, "arithmetic_id", info->arithmetic_id));
    return fz_h5_put_text(file, "endian", "LE");
}

/* Names the box by its piece; further boxes of one piece are piece.1, piece.2, ... */
static fz_status reserve_piece(const fz_shard *shard, const skeleton *sk, const piece *p, int again)
{
    fz_fragment *row = &shard->rows[p->row];
    const int ndim = shard->state->tensors[p->tensor].ndim;
    int64_t dims[FZ_MAX_AXES];
    char name[32];

    for (int axis = 0; axis < ndim; axis++)
        dims[axis] = row->hi[axis] - row->lo[axis];
    snprintf(name, sizeof name, again ? "%d.%d" : "%d", p->piece, again);
    return fz_h5_reserve(sk->tensor, name, H5T_IEEE_F32LE, ndim, dims, sk->creation, &row->offset);
}

static fz_status reserve_pieces(const fz_shard *shard, skeleton *sk, const piece *pieces)
{
    int again = 0;

    for (int64_t i = 0; i < shard->n_rows; i++) {
        const piece *p = &pieces[i], *before = i > 0 ? p - 1 : NULL;
        const bool is_kind_new = !before || before->kind != p->kind;
        const bool is_tensor_new = is_kind_new || before->tensor != p->tensor;
        if (is_tensor_new && sk->tensor >= 0) {
            H5Gclose(sk->tensor);
            sk->tensor = -1;
        }
        if (is_kind_new) {
            if (sk->kind >= 0) H5Gclose(sk->kind);
            FZ_TRY(fz_h5_group(sk->file, FZ_KIND_NAMES[p->kind], &sk->kind));
        }
        if (is_tensor_new)
            FZ_TRY(fz_h5_group(sk->kind, shard->state->tensors[p->tensor].name, &sk->tensor));
        again = !is_tensor_new && before->piece == p->piece ? again + 1 : 0;
        FZ_TRY(reserve_piece(shard, sk, p, again));
    }
    return FZ_OK;
}

/* Arenas from the places HDF5 chose, which must lie back to back: the blocks rely on it. */
static fz_status find_arenas(fz_shard *shard, const piece *pieces, const char *path)
{
    fz_arena_place *arenas = shard->record.arena;

    for (int64_t i = 0; i < shard->n_rows; i++) {
        const fz_fragment *row = &shard->rows[pieces[i].row];
        fz_arena_place *arena = &arenas[row->kind];
        if (arena->bytes == 0) arena->offset = row->offset;
        FZ_CHECK(row->offset == arena->offset + arena->bytes, FZ_ERR_IO,
                 "%s: hdf5 left a gap before byte %lld", path, (long long)row->offset);
        arena->bytes += row->b * 4;
    }
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
        shard->record.n_blocks += fz_blocks_of(arenas[kind].bytes);
    return FZ_OK;
}

static fz_status reserve_tables(const fz_shard *shard, skeleton *sk)
{
    const int64_t dims[2] = {shard->n_rows, FZ_FRAGMENT_COLUMNS};

    FZ_TRY(fz_h5_reserve(sk->file, "fragments", H5T_STD_I64LE, 2, dims, sk->creation,
                         &sk->rows_offset));
    H5Gclose(sk->tensor);
    sk->tensor = -1;
    H5Gclose(sk->kind);
    sk->kind = -1;
    FZ_TRY(fz_h5_group(sk->file, "crc", &sk->kind));
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
        const int64_t n = fz_blocks_of(shard->record.arena[kind].bytes);
        if (n > 0)
            FZ_TRY(fz_h5_reserve(sk->kind, FZ_KIND_NAMES[kind], H5T_STD_U32LE, 1, &n, sk->creation,
                                 &sk->crc_offset[kind]));
    }
    return FZ_OK;
}

/* All metadata must fit one block, or HDF5 starts the next in the middle of an arena. An object
 * takes about 250 bytes and its link 50 to 200; a group with its first heap about 1.5 KiB. */
static size_t metadata_bytes(const fz_shard *shard, const piece *pieces)
{
    size_t groups = 8;

    for (int64_t i = 0; i < shard->n_rows; i++)
        groups += i == 0 || pieces[i].tensor != pieces[i - 1].tensor;
    return (groups * 2048 + (size_t)shard->n_rows * 1024 + 65536) / 4096 * 4096;
}

static fz_status make_skeleton(fz_shard *shard, const piece *pieces, skeleton *sk, const char *path)
{
    *sk = (skeleton){.kind = -1, .tensor = -1};
    FZ_TRY(fz_h5_create(path, metadata_bytes(shard, pieces), &sk->file));
    sk->creation = fz_h5_contiguous();
    fz_status status =
        sk->creation >= 0 ? put_attributes(shard, sk->file) : fz_h5_failed("create", path);
    if (status == FZ_OK) status = reserve_pieces(shard, sk, pieces);
    if (status == FZ_OK) status = find_arenas(shard, pieces, path);
    if (status == FZ_OK) status = reserve_tables(shard, sk);
    if (sk->tensor >= 0) H5Gclose(sk->tensor);
    if (sk->kind >= 0) H5Gclose(sk->kind);
    if (sk->creation >= 0) H5Pclose(sk->creation);
    status = fz_h5_blame(status, path);
    const fz_status closed = fz_h5_close(sk->file, path);
    return status != FZ_OK ? status : closed;
}

/* the bytes */

typedef struct writer {
    fz_block_file file;
    fz_block_writer *blocks; /* owned */
} writer;

/* Where a row's elements lie; they are read, and their digest is taken, if they are not there yet.
 */
static fz_status take_row(fz_shard *shard, int64_t row, char **at)
{
    fz_state_view view = shard->state->views[shard->view_of[row]];

    if (shard->read) {
        FZ_TRY(shard->read(shard->read_context, &view, &view.data));
        shard->digests[row] = fz_view_digest(shard->state, &view);
    }
    *at = (char *)view.data;
    return FZ_OK;
}

/* One arena: pieces run across block borders. Bytes are summed right after they were copied. */
static fz_status write_arena(fz_shard *shard, writer *w, const piece *pieces, int64_t *next,
                             int kind, uint32_t *crcs)
{
    int64_t offset = shard->record.arena[kind].offset, in_block = 0;
    uint32_t crc = 0;

    for (; *next < shard->n_rows && pieces[*next].kind == kind; (*next)++) {
        const int64_t row = pieces[*next].row;
        char *at = NULL;
        FZ_TRY(take_row(shard, row, &at));
        for (int64_t left = shard->rows[row].b * 4, now; left > 0; left -= now) {
            now = FZ_BLOCK_BYTES - in_block < COPY_BYTES ? FZ_BLOCK_BYTES - in_block : COPY_BYTES;
            if (now > left) now = left;
            FZ_TRY(fz_block_writer_put(w->blocks, &w->file, offset, at, (size_t)now));
            crc = fz_crc32c(crc, at, (size_t)now);
            at += now;
            offset += now;
            in_block += now;
            if (in_block < FZ_BLOCK_BYTES) continue;
            *crcs++ = crc;
            crc = 0;
            in_block = 0;
        }
    }
    if (in_block > 0) *crcs = crc;
    return FZ_OK;
}

/* The arenas, which lie behind each other, then the tables. */
static fz_status write_bytes(fz_shard *shard, const piece *pieces, const skeleton *sk, writer *w)
{
    const fz_block_file *file = &w->file;
    int64_t next = 0, n_blocks[FZ_N_STATE_KINDS];
    uint32_t *crcs = shard->crcs;

    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
        n_blocks[kind] = fz_blocks_of(shard->record.arena[kind].bytes);
        if (n_blocks[kind] > 0) FZ_TRY(write_arena(shard, w, pieces, &next, kind, crcs));
        crcs += n_blocks[kind];
    }
    FZ_TRY(fz_block_writer_put(w->blocks, file, sk->rows_offset, shard->rows,
                               (size_t)shard->n_rows * sizeof *shard->rows));
    crcs = shard->crcs;
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
        if (n_blocks[kind] > 0)
            FZ_TRY(fz_block_writer_put(w->blocks, file, sk->crc_offset[kind], crcs,
                                       (size_t)n_blocks[kind] * sizeof *crcs));
        crcs += n_blocks[kind];
    }
    return fz_block_writer_wait(w->blocks);
}

static fz_status write_blocks(fz_shard *shard, const piece *pieces, const skeleton *sk, writer *w)
{
    const char *path = w->file.path;
    fz_status closed = FZ_OK;

    FZ_TRY(fz_block_writer_create(fz_shard_bytes(shard), &w->blocks));
    fz_status status =
        shard->is_direct ? fz_disk_open_direct(path, true, &w->file.direct_fd) : FZ_OK;
    if (status == FZ_OK) status = write_bytes(shard, pieces, sk, w);
    fz_block_writer_destroy(&w->blocks);
    if (w->file.direct_fd >= 0) closed = fz_disk_close(w->file.direct_fd, path);
    return status == FZ_OK ? closed : status;
}

/* Until all is there no HDF5 tool opens the file. */
static fz_status write_file(fz_shard *shard, const piece *pieces, const skeleton *sk, writer *w)
{
    static const unsigned char NOTHING[sizeof SIGNATURE] = {0};
    const char *path = w->file.path;

    FZ_TRY(fz_disk_write(w->file.fd, path, NOTHING, sizeof NOTHING, 0));
    FZ_TRY(fz_disk_size(path, &shard->record.size));
    FZ_TRY(fz_disk_reserve(w->file.fd, path, shard->record.size));
    FZ_TRY(write_blocks(shard, pieces, sk, w));
    FZ_TRY(fz_disk_write(w->file.fd, path, SIGNATURE, sizeof SIGNATURE, 0));
    return fz_disk_sync(w->file.fd, path);
}

static fz_status crc_of_range(const writer *w, int64_t from, int64_t to, uint32_t *crc)
{
    char part[READ_BYTES];

    while (from < to) {
        const size_t n = (size_t)(to - from < READ_BYTES ? to - from : READ_BYTES);
        FZ_TRY(fz_disk_read(w->file.fd, w->file.path, part, n, from));
        *crc = fz_crc32c(*crc, part, n);
        from += (int64_t)n;
    }
    return FZ_OK;
}

/* The file's checksum: metadata is read back, arenas are combined from their blocks. */
static fz_status sum_file(fz_shard *shard, const writer *w)
{
    const uint32_t *crcs = shard->crcs;
    uint32_t crc = 0;
    int64_t at = 0;

    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
        const fz_arena_place arena = shard->record.arena[kind];
        if (arena.bytes == 0) continue;
        FZ_TRY(crc_of_range(w, at, arena.offset, &crc));
        for (int64_t done = 0; done < arena.bytes; done += FZ_BLOCK_BYTES) {
            const int64_t left = arena.bytes - done;
            crc = fz_crc32c_combine(crc, *crcs++, left < FZ_BLOCK_BYTES ? left : FZ_BLOCK_BYTES);
        }
        at = arena.offset + arena.bytes;
    }
    FZ_TRY(crc_of_range(w, at, shard->record.size, &crc));
    shard->record.crc = crc;
    return FZ_OK;
}

static fz_status write_shard(fz_shard *shard, piece *pieces, const char *path)
{
    writer w = {.file = {.direct_fd = -1, .path = path}};
    skeleton sk;

    order_pieces(shard, pieces);
    FZ_TRY(fz_disk_open(path, true, &w.file.fd)); /* HDF5 opens it again: faults are met here */
    fz_status status = make_skeleton(shard, pieces, &sk, path);
    if (status == FZ_OK) status = FZ_NEW(&shard->crcs, shard->record.n_blocks);
    if (status == FZ_OK) status = write_file(shard, pieces, &sk, &w);
    if (status == FZ_OK) status = sum_file(shard, &w);
    const fz_status closed = fz_disk_close(w.file.fd, path);
    return status != FZ_OK ? status : closed;
}

fz_status fz_shard_write(fz_shard *shard, const char *path)
{
    piece *pieces = NULL;

    if (shard->n_rows == 0) return FZ_OK;
    FZ_TRY(FZ_NEW(&pieces, shard->n_rows));
    const fz_status status = write_shard(shard, pieces, path);
    fz_free(&pieces);
    return status;
}
