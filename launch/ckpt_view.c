/* florenz ckpt view: a checkpoint as one HDF5 file with whole tensors. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/view.h"
#include "launch/ckpt_tools.h"

static const fz_option options_table[] = {
    {"--out", "FILE", "default PATH/view.h5", false},
};
static const fz_command command = {
    .usage = "florenz ckpt view PATH [OPTION]...",
    .about =
        "Writes a small HDF5 file in which every tensor of a step (a directory stands for its\n"
        "newest) is whole: /master, /exp_avg, /exp_avg_sq and /weight (frozen) by name, as\n"
        "virtual datasets over the shards; NaN where a shard is missing. Readers get no\n"
        "checksums: verify first. In PATH it moves with the checkpoint, elsewhere it names\n"
        "the shards absolutely.",
    .least_args = 1,
    .most_args = 1,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

/* Where the file will lie: its folder without links, so that it is known whether that is the
 * step's. */
static fz_status find_place(const char *name, char path[FZ_PATH_BYTES])
{
    char folder[FZ_PATH_BYTES];
    const char *slash = strrchr(name, '/'), *last = slash ? slash + 1 : name;

    FZ_CHECK(*last, FZ_ERR_USAGE, "--out: %s is no name of a file", name);
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - name + 1) : 1,
             slash ? name : ".");
    const fz_status status = fz_ckpt_path(folder, folder);
    if (status != FZ_OK) return FZ_FAIL(status, "--out: %s", fz_last_error()->text);
    return fz_disk_join(path, folder, last);
}

/* Written beside its place and then put there. */
static fz_status run(const fz_options *options, int *code)
{
    const char *name = fz_options_get(options, "--out");
    char step[FZ_PATH_BYTES], out[FZ_PATH_BYTES], tmp[FZ_PATH_BYTES];
    int64_t n = 0;

    (void)code;
    FZ_TRY(fz_ckpt_step(options->arg[0], step));
    if (name)
        FZ_TRY(find_place(name, out));
    else
        FZ_TRY(fz_disk_join(out, step, "view.h5"));
    FZ_CHECK(snprintf(tmp, sizeof tmp, "%s.tmp", out) < (int)sizeof tmp, FZ_ERR_USAGE,
             "--out: the path is too long");
    fz_status status = fz_view_write(step, tmp, &n);
    if (status == FZ_OK) status = fz_disk_rename(tmp, out);
    if (status != FZ_OK) {
        fz_disk_remove(tmp);
        return status;
    }
    printf("%s: %lld datasets\n", out, (long long)n);
    return FZ_OK;
}

int fz_ckpt_view(int argc, char **argv)
{
    return fz_ckpt_tool(&command, argc, argv, run);
}
