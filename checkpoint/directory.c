#include "checkpoint/directory.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "checkpoint/disk.h"
#include "checkpoint/manifest.h"
#include "core/log.h"
#include "core/memory.h"

static const char PROBE[] = ".probe.tmp-"; /* a file (direct.c) */

void fz_step_name(char name[FZ_STEP_NAME_BYTES], int64_t step)
{
    snprintf(name, FZ_STEP_NAME_BYTES, "step-%09lld", (long long)step);
}

/* The step of "step-000012000", or -1. */
static int64_t step_of(const char *name)
{
    char again[FZ_STEP_NAME_BYTES], *end;

    if (strncmp(name, "step-", 5) != 0) return -1;
    const int64_t step = strtoll(name + 5, &end, 10);
    if (*end || step < 0) return -1;
    fz_step_name(again, step);
    return strcmp(again, name) == 0 ? step : -1;
}

static int descending(const void *x, const void *y)
{
    const int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return a > b ? -1 : a < b;
}

fz_status fz_directory_steps(const char *dir, int64_t **steps_p, int *n_p)
{
    DIR *list = opendir(dir);
    const struct dirent *entry;
    int64_t *steps = NULL;
    int n = 0, room = 0;
    fz_status status = FZ_OK;

    if (!list && errno != ENOENT)
        return FZ_FAIL(FZ_ERR_IO, "open directory %s: %s", dir, strerror(errno));
    while (list && status == FZ_OK && (entry = readdir(list))) {
        const int64_t step = step_of(entry->d_name);
        if (step < 0) continue;
        if (n == room) {
            room = 2 * room + 16;
            status = fz_realloc((void **)&steps, (size_t)room * sizeof *steps, "list of steps");
        }
        if (status == FZ_OK) steps[n++] = step;
    }
    if (list) closedir(list);
    if (status != FZ_OK) {
        fz_free(&steps);
        return status;
    }
    if (n > 1) qsort(steps, (size_t)n, sizeof *steps, descending);
    *steps_p = steps;
    *n_p = n;
    return FZ_OK;
}

static bool is_acceptable(const char *path)
{
    fz_manifest manifest;
    if (fz_manifest_accept(path, &manifest) != FZ_OK) return false;
    fz_manifest_reset(&manifest);
    return true;
}

/* ".step-000000012.old-x" gives "step-000000012"; false for other names. */
static bool name_before(const char *hidden, const char *mark, char *name, size_t bytes)
{
    const char *end = strstr(hidden, mark);

    if (hidden[0] != '.' || !end || (size_t)(end - hidden) > bytes) return false;
    if (strncmp(hidden, ".step-", 6) != 0 && strncmp(hidden, ".base-", 6) != 0) return false;
    snprintf(name, bytes, "%.*s", (int)(end - hidden - 1), hidden + 1);
    return true;
}

void fz_directory_recover(const char *dir)
{
    DIR *list = opendir(dir);
    const struct dirent *entry;
    char name[FZ_STEP_NAME_BYTES], path[FZ_PATH_BYTES], old[FZ_PATH_BYTES];

    while (list && (entry = readdir(list))) {
        if (!name_before(entry->d_name, ".old-", name, sizeof name)) continue;
        if (fz_disk_join(path, dir, name) != FZ_OK) continue;
        if (fz_disk_join(old, dir, entry->d_name) != FZ_OK) continue;
        if (fz_disk_is_there(path) || !is_acceptable(old)) continue;
        if (fz_disk_rename(old, path) == FZ_OK)
            fz_info("%s: taken back; the save that replaced it was killed", path);
        else
            fz_warn("%s", fz_last_error()->text);
    }
    if (list) closedir(list);
}

void fz_directory_clean(const char *dir)
{
    DIR *list = opendir(dir);
    const struct dirent *entry;
    char name[FZ_STEP_NAME_BYTES], path[FZ_PATH_BYTES];

    while (list && (entry = readdir(list))) {
        if (!name_before(entry->d_name, ".tmp-", name, sizeof name) &&
            !name_before(entry->d_name, ".old-", name, sizeof name) &&
            strncmp(entry->d_name, PROBE, strlen(PROBE)) != 0)
            continue;
        if (fz_disk_join(path, dir, entry->d_name) != FZ_OK) continue;
        if (entry->d_name[1] == PROBE[1])
            fz_disk_remove(path);
        else
            fz_disk_remove_tree(path);
    }
    if (list) closedir(list);
}

fz_status fz_directory_commit(const char *dir, const char *tmp, const char *name)
{
    char from[FZ_PATH_BYTES], to[FZ_PATH_BYTES], old[FZ_PATH_BYTES], old_name[128];
    bool has_old = false, has_name = false;

    snprintf(old_name, sizeof old_name, ".%.60s.old-%.60s", name, strstr(tmp, ".tmp-") + 5);
    FZ_TRY(fz_disk_join(from, dir, tmp));
    FZ_TRY(fz_disk_join(to, dir, name));
    FZ_TRY(fz_disk_join(old, dir, old_name));
    fz_status status = FZ_OK;
    if (fz_disk_is_there(to)) {
        status = fz_disk_rename(to, old);
        has_old = status == FZ_OK;
    }
    if (status == FZ_OK) {
        status = fz_disk_rename(from, to);
        has_name = status == FZ_OK;
    }
    if (status == FZ_OK) status = fz_disk_sync_directory(dir);
    if (status == FZ_OK) status = fz_disk_sync_parent(dir); /* which may be new itself */
    if (status == FZ_OK) {
        if (has_old) fz_disk_remove_tree(old);
        return FZ_OK;
    }
    if (has_name) rename(to, from);
    if (has_old) rename(old, to);
    return status;
}

fz_status fz_directory_set_latest(const char *dir, const char *name)
{
    char path[FZ_PATH_BYTES], tmp[FZ_PATH_BYTES], line[FZ_STEP_NAME_BYTES + 2];

    FZ_TRY(fz_disk_join(path, dir, "latest"));
    FZ_TRY(fz_disk_join(tmp, dir, ".latest.tmp"));
    const int n = snprintf(line, sizeof line, "%s\n", name);
    fz_status status = fz_disk_write_file(tmp, line, (size_t)n);
    if (status == FZ_OK) status = fz_disk_rename(tmp, path);
    if (status != FZ_OK) fz_disk_remove(tmp);
    return status;
}

/* pruning */

void fz_directory_drop(const char *dir, const char *name)
{
    char path[FZ_PATH_BYTES], hidden[FZ_PATH_BYTES], hidden_name[128];

    snprintf(hidden_name, sizeof hidden_name, ".%.100s.tmp-gone", name);
    if (fz_disk_join(path, dir, name) != FZ_OK || fz_disk_join(hidden, dir, hidden_name) != FZ_OK)
        return;
    if (fz_disk_rename(path, hidden) == FZ_OK)
        fz_disk_remove_tree(hidden);
    else
        fz_warn("%s", fz_last_error()->text);
}

/* Whether some step refers to the base; in doubt (a step that cannot be read) it does. */
static bool is_base_used(const char *dir, const char *base, const int64_t *steps, int n)
{
    bool is_used = false;

    for (int i = 0; i < n && !is_used; i++) {
        char name[FZ_STEP_NAME_BYTES], path[FZ_PATH_BYTES];
        fz_manifest manifest;
        fz_step_name(name, steps[i]);
        is_used = true;
        if (fz_disk_join(path, dir, name) != FZ_OK || fz_manifest_accept(path, &manifest) != FZ_OK)
            continue;
        is_used = strcmp(manifest.base, base) == 0;
        fz_manifest_reset(&manifest);
    }
    return is_used;
}

static void prune_bases(const char *dir)
{
    int64_t *steps = NULL;
    int n = 0;
    const struct dirent *entry;
    DIR *list = NULL;

    if (fz_directory_steps(dir, &steps, &n) == FZ_OK) list = opendir(dir);
    while (list && (entry = readdir(list)))
        if (strncmp(entry->d_name, "base-", 5) == 0 && !is_base_used(dir, entry->d_name, steps, n))
            fz_directory_drop(dir, entry->d_name);
    if (list) closedir(list);
    fz_free(&steps);
}

void fz_directory_prune(const char *dir, int64_t newest, int keep, int64_t keep_every)
{
    int64_t *steps = NULL;
    int n = 0, n_kept = 0, n_dropped = 0;

    if (keep <= 0) return;
    if (fz_directory_steps(dir, &steps, &n) != FZ_OK) {
        fz_warn("%s", fz_last_error()->text);
        return;
    }
    for (int i = 0; i < n; i++) {
        char name[FZ_STEP_NAME_BYTES], path[FZ_PATH_BYTES];
        if (steps[i] > newest) continue;
        fz_step_name(name, steps[i]);
        if (fz_disk_join(path, dir, name) != FZ_OK) continue;
        if (n_kept < keep) { /* a damaged one is not counted, and goes when enough are kept */
            n_kept += is_acceptable(path);
            continue;
        }
        if (keep_every > 0 && steps[i] % keep_every == 0) continue;
        fz_directory_drop(dir, name);
        n_dropped++;
    }
    fz_free(&steps);
    if (n_dropped > 0) prune_bases(dir);
}
