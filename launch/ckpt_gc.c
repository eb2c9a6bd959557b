/* florenz ckpt gc: removes what nobody needs of a directory of checkpoints. */
#include <stdio.h>
#include <string.h>

#include "checkpoint/directory.h"
#include "checkpoint/gc.h"
#include "core/memory.h"
#include "launch/ckpt_tools.h"
#include "launch/run_dir.h"

static const fz_option options_table[] = {
    {"--keep", "N", "only the newest N acceptable steps stay; default 0: all", false},
    {"--dry-run", NULL, "list, remove nothing", false},
};
static const fz_command command = {
    .usage = "florenz ckpt gc DIR [OPTION]...",
    .about = "Removes what killed saves left, bases that no step refers to, and steps beyond the\n"
             "newest N; never the newest one that a load would take. Not while a job uses the\n"
             "run directory. Where no run has its lock beside DIR, unfinished saves of the last\n"
             "hour stay, and then bases too.",
    .least_args = 1,
    .most_args = 1,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

enum { HOUR_S = 3600 };

static fz_status collect(const char *dir, int keep, double least_age_s, bool is_dry)
{
    fz_gc_item *items = NULL;
    int64_t bytes = 0;
    int n = 0;

    if (!is_dry) fz_directory_recover(dir);
    FZ_TRY(fz_gc_plan(dir, keep, least_age_s, &items, &n));
    for (int i = 0; i < n; i++) {
        printf("%s: %s, %lld bytes\n", items[i].name, items[i].why, (long long)items[i].bytes);
        bytes += items[i].bytes;
        if (is_dry) continue;
        if (items[i].name[0] == '.') {
            char path[FZ_PATH_BYTES];
            if (fz_disk_join(path, dir, items[i].name) == FZ_OK) fz_disk_remove_tree(path);
        } else {
            fz_directory_drop(dir, items[i].name);
        }
    }
    printf("%d %s, %lld bytes %s\n", n, n == 1 ? "directory" : "directories", (long long)bytes,
           is_dry ? "can go" : "removed");
    fz_free(&items);
    return FZ_OK;
}

static fz_status run(const fz_options *options, int *code)
{
    char dir[FZ_PATH_BYTES], parent[FZ_PATH_BYTES], lock[FZ_PATH_BYTES];
    fz_run_dir owner = {.lock = 0};
    long long keep = 0;

    (void)code;
    FZ_TRY(fz_options_int(options, "--keep", 0, &keep));
    FZ_CHECK(keep <= 1000000, FZ_ERR_USAGE, "--keep: %lld is too many", keep);
    FZ_TRY(fz_ckpt_directory(options->arg[0], dir));
    fz_ckpt_split(dir, parent);
    FZ_TRY(fz_disk_join(lock, parent, "lock"));
    const bool has_lock = fz_disk_is_there(lock);
    if (has_lock) FZ_TRY(fz_run_dir_open(parent, NULL, &owner));
    const fz_status status = collect(dir, (int)keep, has_lock ? 0 : HOUR_S,
                                     fz_options_get(options, "--dry-run") != NULL);
    fz_run_dir_close(&owner);
    return status;
}

int fz_ckpt_gc(int argc, char **argv)
{
    return fz_ckpt_tool(&command, argc, argv, run);
}
