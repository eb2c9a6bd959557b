/* NVTX ranges around the spans of core/clock.h, for a profiler that is attached (nsys). Local. */
#ifndef FZ_LAUNCH_NVTX_H
#define FZ_LAUNCH_NVTX_H

#include <stdbool.h>

/* Opens a range with every span from now on, or no longer. Without the header at build time: false,
 * nothing happens. */
bool fz_nvtx_attach(bool on);

#endif
