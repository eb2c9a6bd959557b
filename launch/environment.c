#include "launch/environment.h"

#include <stdlib.h>

#include "core/fault.h"

fz_status fz_environment_read(fz_environment *environment)
{
    /* SLURM_NTASKS is also set in a batch script, where nothing was started yet: only inside a step
     * (SLURM_STEP_ID) does it count ranks. */
    static const struct {
        const char *name, *only_with;
    } counts[] = {
        {"OMPI_COMM_WORLD_SIZE", NULL},
        {"PMI_SIZE", NULL},
        {"SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID"},
        {"SLURM_NTASKS", "SLURM_STEP_ID"},
    };
    *environment = (fz_environment){.job = getenv("SLURM_JOB_ID")};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        const char *value = getenv(counts[i].name);
        if (!value || (counts[i].only_with && !getenv(counts[i].only_with))) continue;
        const long n = strtol(value, NULL, 10);
        if (n < 1 || n > 1 << 24) continue;
        environment->n_ranks = (int)n;
        environment->n_ranks_from = counts[i].name;
        break;
    }
    return fz_fault_set(getenv("FLORENZ_FAULT"));
}
