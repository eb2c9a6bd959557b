/* A committed directory written anew with its fragments cut at random places and spread over other
 * files, as an optimizer that is sharded over flat ranges would cut them: the format allows it, the
 * writer does not do it. One process. */
#ifndef FZ_TESTS_RECUT_H
#define FZ_TESTS_RECUT_H

#include "tests/support/unit.h"

#include "checkpoint/manifest.h"
#include "checkpoint/source.h"
#include "core/checksum.h"
#include "core/memory.h"
#include "core/rng.h"

enum { RECUT_FILES = 16, RECUT_HEAD = 1000 }; /* what stands for the HDF5 metadata */

typedef struct recut {
    uint64_t seed;
    const fz_index *old;
    fz_index index; /* its arrays are ours, its tensors and sums old's */
    char *in[512], *out[RECUT_FILES];
    int64_t room;
} recut;

static inline int64_t recut_below(recut *r, int64_t n)
{
    r->seed = fz_mix64(r->seed + 1);
    return (int64_t)(r->seed % (uint64_t)n);
}

/* One row becomes one to three, each in some file. Offsets come later. */
static inline void recut_row(recut *r, const fz_fragment *row, int64_t *from)
{
    for (int64_t a = row->a, b; a < row->b; a = b) {
        const bool is_rest = recut_below(r, 3) == 0;
        b = is_rest ? row->b : a + 1 + recut_below(r, row->b - a);
        assert_true(r->index.n_rows < r->room);
        from[r->index.n_rows] = row->offset + (a - row->a) * 4;
        fz_fragment *new = &r->index.rows[r->index.n_rows++];
        *new = *row;
        new->a = a;
        new->b = b;
        new->file = recut_below(r, r->index.n_files);
    }
}

/* Puts the rows of one file and kind behind each other, in a random order of tensors. */
static inline void recut_arena(recut *r, int64_t f, int kind, const int64_t *from,
                               const int64_t *file)
{
    fz_index_file *new = &r->index.files[f];
    fz_arena_place *arena = &new->arena[kind];
    const int64_t first = recut_below(r, r->index.n_rows + 1);

    arena->offset = new->size;
    for (int64_t k = 0; k < r->index.n_rows; k++) {
        fz_fragment *row = &r->index.rows[(first + k) % r->index.n_rows];
        const int64_t i = row - r->index.rows, bytes = (row->b - row->a) * 4;
        if (row->file != f || row->kind != kind) continue;
        row->offset = arena->offset + arena->bytes;
        r->out[f] = realloc(r->out[f], (size_t)(row->offset + bytes));
        memcpy(r->out[f] + row->offset, r->in[file[i]] + from[i], (size_t)bytes);
        arena->bytes += bytes;
    }
    new->size = arena->offset + arena->bytes;
    new->first_block[kind] = r->index.n_blocks;
    for (int64_t at = 0; at < arena->bytes; at += FZ_BLOCK_BYTES) {
        const int64_t rest = arena->bytes - at;
        r->index.crcs[r->index.n_blocks++] =
            fz_crc32c(0, r->out[f] + arena->offset + at,
                      (size_t)(rest < FZ_BLOCK_BYTES ? rest : FZ_BLOCK_BYTES));
    }
}

static inline void recut_rows(recut *r, int64_t n_files)
{
    int64_t *from, *file;

    r->room = 20 * r->old->n_rows;
    r->index.n_rows = r->index.n_blocks = 0;
    r->index.n_files = n_files;
    assert_ok(FZ_NEW(&r->index.rows, r->room));
    assert_ok(FZ_NEW(&r->index.row_digests, r->room));
    assert_ok(FZ_NEW(&r->index.files, n_files));
    assert_ok(FZ_NEW(&r->index.crcs, 4 * n_files + r->old->n_blocks));
    assert_ok(FZ_NEW(&from, r->room));
    assert_ok(FZ_NEW(&file, r->room));
    for (int64_t i = 0; i < r->old->n_rows; i++) {
        const int64_t first = r->index.n_rows;
        recut_row(r, &r->old->rows[i], from);
        for (int64_t k = first; k < r->index.n_rows; k++)
            file[k] = r->old->rows[i].file;
    }
    for (int64_t f = 0; f < n_files; f++) {
        r->index.files[f].size = RECUT_HEAD;
        r->out[f] = calloc(1, RECUT_HEAD);
        for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
            recut_arena(r, f, kind, from, file);
    }
    fz_free(&from);
    fz_free(&file);
}

static inline void recut_write(const recut *r, const char *path, fz_manifest *manifest)
{
    char name[FZ_PATH_BYTES];

    assert_true(manifest->n_files > 0);
    fz_free(&manifest->files);
    manifest->n_files = r->index.n_files + 1;
    assert_ok(FZ_NEW(&manifest->files, manifest->n_files));
    for (int64_t f = 0; f < r->index.n_files; f++) {
        fz_manifest_file *file = &manifest->files[f + 1];
        fz_shard_name(file->name, f);
        fz_disk_join(name, path, file->name);
        file->size = r->index.files[f].size;
        file->crc = fz_crc32c(0, r->out[f], (size_t)file->size);
        assert_ok(fz_disk_write_file(name, r->out[f], (size_t)file->size));
    }
    fz_disk_join(name, path, "index.h5");
    strcpy(manifest->files[0].name, "index.h5");
    assert_ok(
        fz_ckpt_index_write(name, &r->index, &manifest->files[0].size, &manifest->files[0].crc));
    fz_disk_join(name, path, "MANIFEST");
    assert_ok(fz_manifest_write(name, manifest));
}

/* path: a step or a base; afterwards it has n_files files. */
static inline void recut_directory(const char *path, const char *kind, int64_t n_files,
                                   uint64_t seed)
{
    char name[FZ_PATH_BYTES], shard[FZ_SHARD_NAME_BYTES];
    recut r = {.seed = seed};
    fz_manifest manifest;
    fz_source source;
    size_t n;

    assert_true(n_files <= RECUT_FILES);
    assert_ok(fz_source_open_here(path, kind, &source));
    assert_ok(fz_manifest_accept(path, &manifest));
    r.old = &source.index;
    r.index = source.index;
    for (int64_t f = 0; f < r.old->n_files; f++) {
        if (r.old->files[f].size == 0) continue;
        fz_shard_name(shard, f);
        fz_disk_join(name, path, shard);
        assert_ok(fz_disk_read_file(name, &r.in[f], &n));
        assert_int_equal(unlink(name), 0);
    }
    recut_rows(&r, n_files);
    recut_write(&r, path, &manifest);
    for (int64_t f = 0; f < r.old->n_files; f++)
        fz_free(&r.in[f]);
    for (int64_t f = 0; f < n_files; f++)
        free(r.out[f]);
    fz_free(&r.index.rows);
    fz_free(&r.index.row_digests);
    fz_free(&r.index.files);
    fz_free(&r.index.crcs);
    fz_source_reset(&source);
    fz_manifest_reset(&manifest);
}

#endif
