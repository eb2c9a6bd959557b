/* Folders and files of tests that run without ranks. Include after unit.h. */
#ifndef FZ_TESTS_SCRATCH_H
#define FZ_TESTS_SCRATCH_H

#include <stdlib.h>
#include <unistd.h>

#include "tests/support/unit.h"

#include "checkpoint/disk.h"

static void make_folder(char path[FZ_PATH_BYTES])
{
    snprintf(path, FZ_PATH_BYTES, "%s/folder-test-XXXXXX", FZ_BINARY_DIR);
    assert_non_null(mkdtemp(path));
}

static const char *in_folder(const char *folder, const char *name)
{
    static char path[FZ_PATH_BYTES];
    assert_ok(fz_disk_join(path, folder, name));
    return path;
}

#endif
