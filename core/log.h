/* The log: plain lines to standard error and, on the rank that owns it, to a file. Local.
 *
 * Info lines are written only by the rank that called fz_log_set_writer(true) (rank 0); warnings
 * and errors by every rank, with "rank N:" before the text once a rank is set.
 */
#ifndef FZ_CORE_LOG_H
#define FZ_CORE_LOG_H

#include "core/status.h"

typedef enum fz_log_level { FZ_LOG_DEBUG, FZ_LOG_INFO, FZ_LOG_WARN, FZ_LOG_ERROR } fz_log_level;

void fz_log(fz_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fz_log_set_rank(int rank);
void fz_log_set_writer(bool writes_info);
/* Whether this process writes info lines: the one that speaks for all. */
bool fz_log_is_writer(void);
void fz_log_set_level(fz_log_level least);
/* Also append to path from now on; NULL closes. FZ_ERR_IO if it cannot be opened. */
fz_status fz_log_open(const char *path);

/* Info for the file alone, where a terminal shows a progress line instead. */
void fz_log_to_file(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line on the terminal that the next one, of any kind, takes the place of. NULL: clears it. */
void fz_log_progress(const char *text);

#define fz_info(...) fz_log(FZ_LOG_INFO, __VA_ARGS__)
#define fz_warn(...) fz_log(FZ_LOG_WARN, __VA_ARGS__)

#endif
