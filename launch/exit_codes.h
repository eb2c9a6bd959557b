/* Exit codes of the program: docs/exit-codes.md. Local. */
#ifndef FZ_LAUNCH_EXIT_CODES_H
#define FZ_LAUNCH_EXIT_CODES_H

#include <stdbool.h>

#include "core/status.h"

enum {
    FZ_EXIT_DONE = 0,
    FZ_EXIT_USAGE = 64,
    FZ_EXIT_DATA = 65,
    FZ_EXIT_BUG = 70,
    FZ_EXIT_SYSTEM = 71,
    FZ_EXIT_AGAIN = 75
};

/* can_continue: a committed checkpoint exists, so a failing system is worth another start. */
int fz_exit_code(fz_status status, bool can_continue);
/* Prints the calling thread's last error as one line, "florenz: error: ...", to standard error and
 * the log, if this is the process that speaks for all (core/log.h). Returns the exit code. */
int fz_exit_with(fz_status status, bool can_continue);

#endif
