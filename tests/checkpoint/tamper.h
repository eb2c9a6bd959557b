/* Damage for tests, and damage that comes with checksums to match. One process. */
#ifndef FZ_TESTS_TAMPER_H
#define FZ_TESTS_TAMPER_H

#include "tests/support/unit.h"

#include "checkpoint/disk.h"
#include "checkpoint/manifest.h"
#include "checkpoint/source.h"
#include "core/checksum.h"
#include "core/memory.h"

/* Changes one bit. */
static inline void flip_at(const char *path, int64_t at)
{
    FILE *file = fopen(path, "r+b");

    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    const int byte = fgetc(file);
    assert_int_not_equal(byte, EOF);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 0x10, file), byte ^ 0x10);
    assert_int_equal(fclose(file), 0);
}

/* The CRC of a block in the index, then that of the index in the manifest. */
static inline void put_checksums_right(const char *step, uint32_t old_crc, uint32_t new_crc)
{
    char path[FZ_PATH_BYTES], *bytes;
    fz_manifest manifest;
    size_t n, n_found = 0;

    fz_disk_join(path, step, "index.h5");
    assert_int_equal(fz_disk_read_file(path, &bytes, &n), FZ_OK);
    for (size_t at = 0; at + 4 <= n; at++)
        if (memcmp(bytes + at, &old_crc, 4) == 0) {
            memcpy(bytes + at, &new_crc, 4);
            n_found++;
        }
    assert_int_equal(n_found, 1);
    assert_int_equal(fz_disk_write_file(path, bytes, n), FZ_OK);
    assert_int_equal(fz_manifest_accept(step, &manifest), FZ_OK);
    manifest.files[0].crc = fz_crc32c(0, bytes, n);
    fz_disk_join(path, step, "MANIFEST");
    assert_int_equal(fz_manifest_write(path, &manifest), FZ_OK);
    fz_manifest_reset(&manifest);
    fz_free(&bytes);
}

/* Flips a bit of the first arena of that kind of rank 0's file and makes blocks and files agree
 * with it: only the digests do not. */
static inline void flip_with_right_checksums(const char *step, int kind, int64_t at)
{
    char path[FZ_PATH_BYTES], *bytes;
    fz_source source;
    size_t n;

    assert_ok(fz_source_open_here(step, "step", &source));
    const fz_index_file *file = &source.index.files[0];
    const fz_arena_place arena = file->arena[kind];
    fz_disk_join(path, step, "s00/rank-00000.h5");
    flip_at(path, arena.offset + at);
    assert_int_equal(fz_disk_read_file(path, &bytes, &n), FZ_OK);
    put_checksums_right(step, source.index.crcs[file->first_block[kind]],
                        fz_crc32c(0, bytes + arena.offset, (size_t)arena.bytes));
    fz_free(&bytes);
    fz_source_reset(&source);
}

#endif
