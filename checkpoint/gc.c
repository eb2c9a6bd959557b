#include "checkpoint/gc.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"
#include "checkpoint/source.h"
#include "core/memory.h"

/* looking */

bool fz_is_unfinished(const char *name)
{
    const bool is_ours = strncmp(name, ".step-", 6) == 0 || strncmp(name, ".base-", 6) == 0;
    return is_ours && (strstr(name, ".tmp-") || strstr(name, ".old-"));
}

static bool base_is_acceptable(const fz_source *step)
{
    char path[FZ_PATH_BYTES];
    fz_manifest manifest;

    if (fz_source_base(step, path) != FZ_OK) return false;
    if (!path[0]) return true;
    if (fz_manifest_accept(path, &manifest) != FZ_OK) return false;
    fz_manifest_reset(&manifest);
    return true;
}

bool fz_step_is_acceptable(const char *dir, int64_t step)
{
    char path[FZ_PATH_BYTES], name[FZ_STEP_NAME_BYTES];
    fz_source *source = NULL;
    bool is_good = false;

    fz_step_name(name, step);
    if (FZ_NEW(&source, 1) != FZ_OK) return false;
    if (fz_disk_join(path, dir, name) == FZ_OK &&
        fz_source_open_here(path, "step", source) == FZ_OK) {
        is_good = source->index.info.step == step && base_is_acceptable(source);
        fz_source_reset(source);
    }
    fz_free(&source);
    return is_good;
}

/* Bytes, and the time of the youngest file, of a tree. Our trees have two levels. */
static void look_at_tree(const char *path, int depth, int64_t *bytes,
                         time_t *newest) /* NOLINT(misc-no-recursion) */
{
    DIR *list = opendir(path);
    const struct dirent *entry;
    char inner[FZ_PATH_BYTES];
    struct stat about;

    while (list && (entry = readdir(list))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (fz_disk_join(inner, path, entry->d_name) != FZ_OK || lstat(inner, &about) != 0)
            continue;
        if (about.st_mtime > *newest) *newest = about.st_mtime;
        if (S_ISDIR(about.st_mode) && depth < 4)
            look_at_tree(inner, depth + 1, bytes, newest);
        else if (S_ISREG(about.st_mode))
            *bytes += (int64_t)about.st_size;
    }
    if (list) closedir(list);
}

int64_t fz_tree_bytes(const char *path)
{
    int64_t bytes = 0;
    time_t newest = 0;

    look_at_tree(path, 0, &bytes, &newest);
    return bytes;
}

/* the plan */

typedef struct plan {
    const char *dir;
    fz_gc_item *items; /* owned until handed over */
    int n, room;
    bool has_unfinished; /* that stay */
} plan;

static fz_status add(plan *p, const char *name, const char *why, int64_t bytes)
{
    if (p->n == p->room) {
        p->room = 2 * p->room + 16;
        FZ_TRY(fz_realloc((void **)&p->items, (size_t)p->room * sizeof *p->items, "list"));
    }
    fz_gc_item *item = &p->items[p->n++];
    snprintf(item->name, sizeof item->name, "%s", name);
    item->why = why;
    item->bytes = bytes;
    return FZ_OK;
}

static bool is_planned(const plan *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->items[i].name, name) == 0) return true;
    return false;
}

/* One that was replaced by a save which died before it had the name is not left over: it comes
 * back (fz_directory_recover). */
static bool comes_back(const plan *p, const char *name)
{
    const char *mark = strstr(name, ".old-");
    char first[FZ_STEP_NAME_BYTES], path[FZ_PATH_BYTES];

    if (!mark || mark - name >= (long)sizeof first) return false;
    snprintf(first, sizeof first, "%.*s", (int)(mark - name - 1), name + 1);
    return fz_disk_join(path, p->dir, first) == FZ_OK && !fz_disk_is_there(path);
}

static fz_status plan_unfinished(plan *p, const char *name, double least_age_s)
{
    char path[FZ_PATH_BYTES];
    int64_t bytes = 0;
    time_t newest = 0;
    struct stat about;

    FZ_TRY(fz_disk_join(path, p->dir, name));
    if (stat(path, &about) == 0) newest = about.st_mtime;
    look_at_tree(path, 0, &bytes, &newest);
    if (comes_back(p, name) || difftime(time(NULL), newest) < least_age_s) {
        p->has_unfinished = true;
        return FZ_OK;
    }
    return add(p, name, "left by a save that was killed", bytes);
}

static fz_status plan_steps(plan *p, const int64_t *steps, int n_steps, int keep)
{
    int n_kept = 0;

    for (int i = 0; i < n_steps && keep > 0; i++) {
        char name[FZ_STEP_NAME_BYTES], path[FZ_PATH_BYTES];
        if (n_kept < keep) { /* a damaged one does not count, and stays: it may be mended */
            n_kept += fz_step_is_acceptable(p->dir, steps[i]);
            continue;
        }
        fz_step_name(name, steps[i]);
        FZ_TRY(fz_disk_join(path, p->dir, name));
        FZ_TRY(add(p, name, "older than those to keep", fz_tree_bytes(path)));
    }
    return FZ_OK;
}

/* In doubt (a manifest that cannot be read) a step may refer to any base. */
static bool is_used(const plan *p, const char *base, const int64_t *steps, int n_steps)
{
    for (int i = 0; i < n_steps; i++) {
        char name[FZ_STEP_NAME_BYTES + 16], path[FZ_PATH_BYTES], *text = NULL;
        fz_manifest manifest;
        size_t bytes = 0;
        fz_step_name(name, steps[i]);
        if (is_planned(p, name)) continue;
        strcat(name, "/MANIFEST");
        if (fz_disk_join(path, p->dir, name) != FZ_OK ||
            fz_disk_read_file(path, &text, &bytes) != FZ_OK)
            return true;
        const bool is_read = fz_manifest_parse(text, bytes, path, &manifest) == FZ_OK;
        fz_free(&text);
        const bool is_it = !is_read || strcmp(manifest.base, base) == 0;
        if (is_read) fz_manifest_reset(&manifest);
        if (is_it) return true;
    }
    return false;
}

static fz_status plan_entries(plan *p, const int64_t *steps, int n_steps, double least_age_s)
{
    DIR *list = opendir(p->dir);
    const struct dirent *entry;
    char path[FZ_PATH_BYTES];
    fz_status status = FZ_OK;

    FZ_CHECK(list, FZ_ERR_IO, "open directory %s: %s", p->dir, strerror(errno));
    while (status == FZ_OK && (entry = readdir(list)))
        if (fz_is_unfinished(entry->d_name))
            status = plan_unfinished(p, entry->d_name, least_age_s);
    rewinddir(list);
    while (status == FZ_OK && !p->has_unfinished && (entry = readdir(list))) {
        if (strncmp(entry->d_name, "base-", 5) != 0 || is_used(p, entry->d_name, steps, n_steps))
            continue;
        status = fz_disk_join(path, p->dir, entry->d_name);
        if (status == FZ_OK)
            status = add(p, entry->d_name, "no step refers to it", fz_tree_bytes(path));
    }
    closedir(list);
    return status;
}

fz_status fz_gc_plan(const char *dir, int keep, double least_age_s, fz_gc_item **items_p, int *n_p)
{
    plan p = {.dir = dir};
    int64_t *steps = NULL;
    int n_steps = 0;

    FZ_TRY(fz_directory_steps(dir, &steps, &n_steps));
    fz_status status = plan_steps(&p, steps, n_steps, keep);
    if (status == FZ_OK) status = plan_entries(&p, steps, n_steps, least_age_s);
    fz_free(&steps);
    if (status != FZ_OK) {
        fz_free(&p.items);
        return status;
    }
    *items_p = p.items;
    *n_p = p.n;
    return FZ_OK;
}
