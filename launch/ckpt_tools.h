/* What the tools of checkpoints share: names on the command line and how they begin. Local. */
#ifndef FZ_LAUNCH_CKPT_TOOLS_H
#define FZ_LAUNCH_CKPT_TOOLS_H

#include "checkpoint/disk.h"
#include "launch/options.h"

/* The parts of florenz ckpt that need no ranks; as in launch/commands.h. */
int fz_ckpt_list(int argc, char **argv);
int fz_ckpt_show(int argc, char **argv);
int fz_ckpt_gc(int argc, char **argv);
int fz_ckpt_view(int argc, char **argv);
int fz_ckpt_verify(int argc, char **argv);
int fz_ckpt_rebuild_index(int argc, char **argv);
int fz_ckpt_diff(int argc, char **argv);

/* The absolute path of an argument, without links. FZ_ERR_USAGE if it is not a directory. */
fz_status fz_ckpt_path(const char *argument, char path[FZ_PATH_BYTES]);
/* Whether it is a step-* or a base-* directory, by its name. */
bool fz_ckpt_is_step(const char *path);
bool fz_ckpt_is_base(const char *path);
/* A directory of checkpoints; a run directory stands for its own. */
fz_status fz_ckpt_directory(const char *argument, char path[FZ_PATH_BYTES]);
/* A step directory; a directory of checkpoints stands for its newest acceptable step. */
fz_status fz_ckpt_step(const char *argument, char path[FZ_PATH_BYTES]);
/* "/dir/step-1" is "/dir" and "step-1". The name points into path. */
const char *fz_ckpt_split(const char *path, char dir[FZ_PATH_BYTES]);

/* Parses the command line, starts HDF5, runs. Returns the exit code: that of a failure, or the one
 * that run leaves in *code, which is 0 before. */
int fz_ckpt_tool(const fz_command *command, int argc, char **argv,
                 fz_status (*run)(const fz_options *options, int *code));

#endif
