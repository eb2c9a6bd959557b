#include "data/shard_glob.h"

#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

static int compare_paths(const void *left, const void *right)
{
    char *const *a = left;
    char *const *b = right;
    return strcmp(*a, *b);
}

static fz_status match_one(const char *pattern, size_t bytes, glob_t *found)
{
    char text[PATH_MAX];

    FZ_CHECK(bytes < sizeof text, FZ_ERR_IO, "shard pattern %.100s...: too long", pattern);
    memcpy(text, pattern, bytes);
    text[bytes] = '\0';
    const int code = glob(text, found->gl_pathc > 0 ? GLOB_APPEND : 0, NULL, found);
    if (code == GLOB_NOMATCH) return FZ_FAIL(FZ_ERR_IO, "no shard matches %s", text);
    FZ_CHECK(code == 0, FZ_ERR_IO, "shard pattern %s: cannot be read", text);
    return FZ_OK;
}

static fz_status match_all(const char *pattern, glob_t *found)
{
    for (const char *at = pattern;;) {
        at += strspn(at, " ");
        size_t bytes = strcspn(at, ",");
        const bool last = at[bytes] == '\0';
        const char *next = at + bytes + 1;
        while (bytes > 0 && at[bytes - 1] == ' ')
            bytes--;
        FZ_CHECK(bytes > 0, FZ_ERR_IO, "shard pattern \"%s\": an empty name", pattern);
        FZ_TRY(match_one(at, bytes, found));
        if (last) return FZ_OK;
        at = next;
    }
}

static fz_status copy_paths(const glob_t *found, char ***paths_p, int *n_p)
{
    char **paths = NULL;
    int n = 0;

    qsort(found->gl_pathv, found->gl_pathc, sizeof *found->gl_pathv, compare_paths);
    FZ_TRY(FZ_NEW(&paths, found->gl_pathc));
    for (size_t i = 0; i < found->gl_pathc; i++) {
        if (i > 0 && strcmp(found->gl_pathv[i], found->gl_pathv[i - 1]) == 0) continue;
        const fz_status status = fz_strdup(&paths[n], found->gl_pathv[i]);
        if (status != FZ_OK) {
            fz_shard_glob_free(&paths, n);
            return status;
        }
        n++;
    }
    *paths_p = paths;
    *n_p = n;
    return FZ_OK;
}

fz_status fz_shard_glob(const char *pattern, char ***paths_p, int *n_p)
{
    glob_t found = {0};
    fz_status status = match_all(pattern, &found);

    if (status == FZ_OK) status = copy_paths(&found, paths_p, n_p);
    globfree(&found);
    return status;
}

void fz_shard_glob_free(char ***paths, int n)
{
    for (int i = 0; *paths != NULL && i < n; i++)
        fz_free(&(*paths)[i]);
    fz_free(paths);
}
