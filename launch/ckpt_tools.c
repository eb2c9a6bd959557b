#include "launch/ckpt_tools.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"
#include "core/memory.h"
#include "launch/exit_codes.h"

fz_status fz_ckpt_path(const char *argument, char path[FZ_PATH_BYTES])
{
    struct stat about;
    char *real = realpath(argument, NULL);

    FZ_CHECK(real, FZ_ERR_USAGE, "open %s: %s", argument, strerror(errno));
    const bool fits = strlen(real) < FZ_PATH_BYTES - 512;
    if (fits) strcpy(path, real);
    free(real); /* the library's memory */
    FZ_CHECK(fits, FZ_ERR_USAGE, "open %s: the path is too long", argument);
    FZ_CHECK(stat(path, &about) == 0 && S_ISDIR(about.st_mode), FZ_ERR_USAGE,
             "open %s: not a directory", argument);
    return FZ_OK;
}

const char *fz_ckpt_split(const char *path, char dir[FZ_PATH_BYTES])
{
    const char *slash = strrchr(path, '/');

    if (!slash) {
        strcpy(dir, ".");
        return path;
    }
    snprintf(dir, FZ_PATH_BYTES, "%.*s", (int)(slash > path ? slash - path : 1), path);
    return slash + 1;
}

static bool begins(const char *path, const char *prefix)
{
    const char *slash = strrchr(path, '/');
    return strncmp(slash ? slash + 1 : path, prefix, strlen(prefix)) == 0;
}

bool fz_ckpt_is_step(const char *path)
{
    return begins(path, "step-");
}

bool fz_ckpt_is_base(const char *path)
{
    return begins(path, "base-");
}

fz_status fz_ckpt_directory(const char *argument, char path[FZ_PATH_BYTES])
{
    char inner[FZ_PATH_BYTES];
    int64_t *steps = NULL;
    int n = 0;

    FZ_TRY(fz_ckpt_path(argument, path));
    FZ_CHECK(!fz_ckpt_is_step(path) && !fz_ckpt_is_base(path), FZ_ERR_USAGE,
             "%s: name the directory that it lies in", argument);
    FZ_TRY(fz_disk_join(inner, path, "checkpoints"));
    FZ_TRY(fz_directory_steps(path, &steps, &n));
    fz_free(&steps);
    if (n == 0 && fz_disk_is_there(inner)) strcpy(path, inner);
    return FZ_OK;
}

fz_status fz_ckpt_step(const char *argument, char path[FZ_PATH_BYTES])
{
    char dir[FZ_PATH_BYTES], name[FZ_STEP_NAME_BYTES];
    int64_t *steps = NULL;
    bool is_found = false;
    int n = 0;

    FZ_TRY(fz_ckpt_path(argument, path));
    if (fz_ckpt_is_step(path)) return FZ_OK;
    FZ_CHECK(!fz_ckpt_is_base(path), FZ_ERR_USAGE, "%s is a base; name a step", argument);
    FZ_TRY(fz_ckpt_directory(argument, dir));
    FZ_TRY(fz_directory_steps(dir, &steps, &n));
    for (int i = 0; i < n && !is_found; i++) {
        fz_manifest manifest;
        fz_step_name(name, steps[i]);
        is_found =
            fz_disk_join(path, dir, name) == FZ_OK && fz_manifest_accept(path, &manifest) == FZ_OK;
        if (is_found) fz_manifest_reset(&manifest);
    }
    fz_free(&steps);
    FZ_CHECK(is_found, FZ_ERR_USAGE, "%s: no acceptable checkpoint in it; see florenz ckpt list",
             dir);
    return FZ_OK;
}

int fz_ckpt_tool(const fz_command *command, int argc, char **argv,
                 fz_status (*run)(const fz_options *options, int *code))
{
    static fz_options options; /* large, and there is one */
    int code = FZ_EXIT_DONE;

    if (!fz_command_begins(command, argc, argv, &options, &code)) return code;
    fz_status status = fz_ckpt_start();
    if (status == FZ_OK) status = run(&options, &code);
    return status == FZ_OK ? code : fz_exit_with(status, false);
}
