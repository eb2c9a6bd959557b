/* config.json of an exported model, as the authors' own code and transformers read it. Local. */
#ifndef FZ_LAUNCH_EXPORT_CONFIG_H
#define FZ_LAUNCH_EXPORT_CONFIG_H

#include "checkpoint/safetensors.h"
#include "model/config.h"

/* The text; the caller frees (fz_free). What their configuration has no key for goes into an
 * object "florenz"; where their code cannot follow, one warning says so. */
fz_status fz_export_config(const fz_model_config *model, fz_dtype dtype, char **json_p);

#endif
