#include "checkpoint/shard_list.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/disk.h"
#include "checkpoint/index_file.h"
#include "core/memory.h"

typedef struct list {
    int64_t *ranks; /* owned */
    int64_t n, room;
} list;

static fz_status add(list *l, int64_t rank)
{
    if (l->n == l->room) {
        l->room = 2 * l->room + 16;
        FZ_TRY(fz_realloc((void **)&l->ranks, (size_t)l->room * sizeof *l->ranks, "shards"));
    }
    l->ranks[l->n++] = rank;
    return FZ_OK;
}

/* Only names that are exactly what a save would write. */
static fz_status list_part(list *l, const char *path, const char *part)
{
    char folder[FZ_PATH_BYTES], name[FZ_SHARD_NAME_BYTES + 512], again[FZ_SHARD_NAME_BYTES];
    const struct dirent *entry;
    fz_status status = FZ_OK;
    long long rank;

    FZ_TRY(fz_disk_join(folder, path, part));
    DIR *dir = opendir(folder);
    if (!dir) return FZ_OK; /* a file that looks like a folder */
    while (status == FZ_OK && (entry = readdir(dir))) {
        if (sscanf(entry->d_name, "rank-%10lld.h5", &rank) != 1 || rank < 0) continue;
        fz_shard_name(again, rank);
        snprintf(name, sizeof name, "%.15s/%s", part, entry->d_name);
        if (strcmp(name, again) == 0) status = add(l, rank);
    }
    closedir(dir);
    return status;
}

static int ascending(const void *x, const void *y)
{
    const int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

fz_status fz_ckpt_shards(const char *path, int64_t **ranks_p, int64_t *n_p)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    list l = {.n = 0};
    fz_status status = FZ_OK;
    int part;

    if (!dir) return FZ_FAIL(FZ_ERR_FORMAT, "open directory %s: %s", path, strerror(errno));
    while (status == FZ_OK && (entry = readdir(dir)))
        if (sscanf(entry->d_name, "s%d", &part) == 1) status = list_part(&l, path, entry->d_name);
    closedir(dir);
    if (status != FZ_OK) {
        fz_free(&l.ranks);
        return status;
    }
    if (l.n > 1) qsort(l.ranks, (size_t)l.n, sizeof *l.ranks, ascending);
    *ranks_p = l.ranks;
    *n_p = l.n;
    return FZ_OK;
}
