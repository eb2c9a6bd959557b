#include "launch/environment.h"

#include <stdbool.h>
#include <stdlib.h>

#include "core/fault.h"

typedef struct variable {
    const char *name, *only_with; /* counts only where the second is set too */
} variable;

/* The number in the first of these that says one; -1: none does. */
static long first_number(const variable *variables, size_t n, long least, const char **from)
{
    for (size_t i = 0; i < n; i++) {
        const char *value = getenv(variables[i].name);
        if (!value || (variables[i].only_with && !getenv(variables[i].only_with))) continue;
        const long number = strtol(value, NULL, 10);
        if (number < least || number > 1 << 24) continue;
        *from = variables[i].name;
        return number;
    }
    return -1;
}

int fz_environment_rank(void)
{
    static const variable ranks[] = {
        {"OMPI_COMM_WORLD_RANK", NULL}, {"PMI_RANK", NULL}, {"SLURM_PROCID", "SLURM_STEP_ID"}};
    const char *from = NULL;
    const long rank = first_number(ranks, sizeof ranks / sizeof *ranks, 0, &from);
    return rank > 0 ? (int)rank : 0;
}

/* Whether the launcher, or the lack of one, says that all ranks run on this host. */
static bool is_one_host(void)
{
    static const variable all[] = {{"OMPI_COMM_WORLD_SIZE", NULL}};
    static const variable local[] = {{"OMPI_COMM_WORLD_LOCAL_SIZE", NULL}};
    const char *from = NULL;
    const long n = first_number(all, 1, 1, &from);
    if (n > 0) return n == first_number(local, 1, 1, &from);
    return !getenv("PMI_SIZE") && !getenv("PMIX_RANK") && !getenv("SLURM_STEP_ID");
}

void fz_environment_prepare_mpi(void)
{
    if (is_one_host()) setenv("OMPI_MCA_pml", "ob1", 0);
}

fz_status fz_environment_read(fz_environment *environment)
{
    /* SLURM_NTASKS is also set in a batch script, where nothing was started yet: only inside a step
     * (SLURM_STEP_ID) does it count ranks. */
    static const variable counts[] = {
        {"OMPI_COMM_WORLD_SIZE", NULL},
        {"PMI_SIZE", NULL},
        {"SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID"},
        {"SLURM_NTASKS", "SLURM_STEP_ID"},
    };
    *environment = (fz_environment){.job = getenv("SLURM_JOB_ID")};
    const long n =
        first_number(counts, sizeof counts / sizeof *counts, 1, &environment->n_ranks_from);
    if (n > 0) environment->n_ranks = (int)n;
    return fz_fault_set(getenv("FLORENZ_FAULT"));
}
