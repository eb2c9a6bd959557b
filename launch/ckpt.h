/* The parts of florenz ckpt, and what they share. */
#ifndef FZ_LAUNCH_CKPT_H
#define FZ_LAUNCH_CKPT_H

#include "launch/session.h"

/* As in launch/commands.h. */
int fz_ckpt_import(int argc, char **argv);
int fz_ckpt_export(int argc, char **argv);
int fz_ckpt_bench(int argc, char **argv);

/* The model of the session's config: model, train, program. Nothing of its size is allocated.
 * Collective over the world. */
fz_status fz_ckpt_program(fz_session *session);

/* Their option --io, over the config's checkpoint.io. FZ_ERR_USAGE: none of auto, direct, buffered.
 * Local. */
fz_status fz_ckpt_read_io(const fz_options *options);

#endif
