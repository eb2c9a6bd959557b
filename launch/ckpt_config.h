/* The config text of a checkpoint, apart from the rest: checkpoint/ and data/ both have an index.
 * Local. */
#ifndef FZ_LAUNCH_CKPT_CONFIG_H
#define FZ_LAUNCH_CKPT_CONFIG_H

#include <stdint.h>

#include "core/status.h"

/* What a save notes of it. name is for errors. */
fz_status fz_ckpt_config_hash(const char *text, const char *name, uint64_t *hash_p);

/* Tells each key whose value differs. change: what a continuation does, "free", "announced",
 * "refused" (without --accept-change) or "never". */
typedef void fz_ckpt_config_say(void *context, const char *key, const char *stored,
                                const char *file, const char *change);
/* text: of the checkpoint, NULL: the defaults. */
fz_status fz_ckpt_config_diff(const char *text, const char *file, fz_ckpt_config_say *say,
                              void *context);

#endif
