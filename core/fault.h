/* Planned failures for tests. Off (one load and a compare) unless FLORENZ_FAULT is parsed by
 * launch/ or a test calls fz_fault_set. Local.
 *
 *   spec  "alloc:100" the 100th allocation fails; "write:3", "read:2" likewise; "step:7:kill",
 * "save:2:kill"
 */
#ifndef FZ_CORE_FAULT_H
#define FZ_CORE_FAULT_H

#include "core/status.h"

typedef enum fz_fault_site {
    FZ_FAULT_ALLOC,
    FZ_FAULT_WRITE, /* checkpoint and metrics writes: behaves as ENOSPC */
    FZ_FAULT_READ,
    FZ_FAULT_KILL_STEP, /* SIGKILL of this process in step n */
    FZ_FAULT_KILL_SAVE, /* SIGKILL at the n-th point inside a save */
    FZ_N_FAULT_SITES
} fz_fault_site;

fz_status fz_fault_set(const char *spec); /* comma-separated; FZ_ERR_USAGE on nonsense; NULL: off */
/* True exactly at the n-th call for the site. KILL sites raise SIGKILL themselves. */
bool fz_fault_now(fz_fault_site site);

#endif
