/* libFuzzer on MANIFEST. The input is the text without its last line, which is added with the right
 * checksum, so that what follows the checksum is reached; every third input goes in as it is. What
 * is accepted must be safe to use and be written again as it was.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/disk.h"
#include "checkpoint/manifest.h"
#include "core/checksum.h"
#include "core/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "broken promise: %s\n", what);
    abort();
}

static void check_file(const fz_manifest_file *file)
{
    must(memchr(file->name, 0, sizeof file->name) != NULL, "a name ends");
    must(file->name[0] != 0 && file->name[0] != '/' && !strstr(file->name, ".."),
         "a name stays in its directory");
    must(file->size >= 0, "a size is none or more");
}

static void check_again(const fz_manifest *manifest)
{
    static char path[64];
    char *again = NULL;
    size_t n_again = 0;

    if (!path[0]) snprintf(path, sizeof path, "/tmp/fuzz-manifest-%ld", (long)getpid());
    must(fz_manifest_write(path, manifest) == FZ_OK, "what was read can be written");
    must(fz_disk_read_file(path, &again, &n_again) == FZ_OK, "and read again");
    unlink(path);
    fz_manifest other;
    must(fz_manifest_parse(again, n_again, "again", &other) == FZ_OK, "and is accepted again");
    must(other.n_files == manifest->n_files && other.step == manifest->step &&
             strcmp(other.kind, manifest->kind) == 0 && strcmp(other.base, manifest->base) == 0 &&
             strcmp(other.run_id, manifest->run_id) == 0 &&
             memcmp(other.files, manifest->files, (size_t)other.n_files * sizeof *other.files) == 0,
         "and is the same");
    fz_manifest_reset(&other);
    fz_free(&again);
}

static void parse(const char *text, size_t n, bool writes)
{
    fz_manifest manifest;
    const fz_status status = fz_manifest_parse(text, n, "input", &manifest);

    if (status != FZ_OK) {
        must(status == FZ_ERR_FORMAT, "a bad manifest is a bad file");
        must(fz_last_error()->text[0] != 0, "a refusal has a reason");
        must(!manifest.files, "nothing is left");
        return;
    }
    must(manifest.n_files > 0 && strcmp(manifest.files[0].name, "index.h5") == 0,
         "the index comes first");
    must(memchr(manifest.kind, 0, sizeof manifest.kind) && manifest.step >= 0, "it has a step");
    must(!strchr(manifest.base, '/') && strcmp(manifest.base, "..") != 0,
         "the base stays beside the step");
    for (int64_t i = 0; i < manifest.n_files; i++)
        check_file(&manifest.files[i]);
    if (writes) check_again(&manifest);
    fz_manifest_reset(&manifest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static unsigned turn;
    char *text = malloc(n + 16);

    if (!text) return 0;
    memcpy(text, data, n);
    if (turn++ % 3 == 0) {
        char *exact = malloc(n > 0 ? n : 1); /* a read behind its end is seen */
        if (exact) {
            memcpy(exact, data, n);
            parse(exact, n, false);
        }
        free(exact);
    }
    snprintf(text + n, 16, "crc %08" PRIx32 "\n", fz_crc32c(0, text, n));
    parse(text, n + sizeof "crc 01234567\n" - 1, true);
    free(text);
    must(fz_memory_get().n_live == 0, "all memory is given back");
    return 0;
}
