/* The config file: YAML of two levels, section and key, values scalars or lists of scalars. */
#ifndef FZ_LAUNCH_CONFIG_YAML_H
#define FZ_LAUNCH_CONFIG_YAML_H

#include "dist/group.h"
#include "launch/config.h"

/* Applies the text on top of config. Every error has file and line. lenient: unknown keys are told
 * in a warning and left out (a checkpoint of another version). Local. */
fz_status fz_config_parse(fz_config *config, const char *bytes, size_t n, bool lenient);

/* What every command does with CONFIG and --set: rank 0 reads the file, all receive the bytes and
 * parse them; resolved (launch/config.h) and agreed to be the same. group NULL: one process, Local;
 * else Collective over group. */
fz_status fz_config_load(fz_config *config, const char *path, const char *const *set, int n_set,
                         const fz_group *group);

#endif
