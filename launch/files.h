/* Small files, whole and durable. Local. */
#ifndef FZ_LAUNCH_FILES_H
#define FZ_LAUNCH_FILES_H

#include "core/status.h"

/* mkdir -p. */
fz_status fz_make_dirs(const char *path);
/* The whole file, with a zero byte behind it; memory is the caller's (fz_free). A file that is not
 * there is no error: *bytes_p NULL, *n_p 0. */
fz_status fz_file_read(const char *path, char **bytes_p, size_t *n_p);
/* Takes the place of path at once or not at all: written beside it, fsync, rename, fsync of the
 * directory. */
fz_status fz_file_replace(const char *path, const void *bytes, size_t n);

#endif
