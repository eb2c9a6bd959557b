/* USR1, TERM and INT mean: finish the step, save, leave with 75. Local. */
#ifndef FZ_LAUNCH_SIGNALS_H
#define FZ_LAUNCH_SIGNALS_H

#include "core/status.h"

/* From now on the signals only set a flag. A second INT ends the process at once. */
fz_status fz_signals_start(void);
/* The first signal that came, or 0. */
int fz_signals_got(void);
const char *fz_signal_name(int number);

#endif
