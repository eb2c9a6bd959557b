#include "dist/world.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hwloc.h>
#include <mpi.h>

#include "core/assert.h"
#include "core/log.h"
#include "core/memory.h"
#include "dist/group_mpi.h"
#include "dist/wait_mpi.h"

enum { EXIT_OUR_BUG = 70 };

static void abort_on_assert(void)
{
    fz_world_abort(EXIT_OUR_BUG);
}

_Noreturn void fz_world_abort(int exit_code)
{
    int started = 0, stopped = 0;

    MPI_Initialized(&started);
    MPI_Finalized(&stopped);
    if (started && !stopped) MPI_Abort(MPI_COMM_WORLD, exit_code);
    _exit(exit_code);
}

/* Cores and NUMA node of the calling process. A host that hwloc cannot read is not an error: the
 * table then says so. Everything but cores and NUMA nodes is filtered out, and the x86 component,
 * which visits every core to ask it, is left out: this runs at every start. */
static void read_binding(int *numa_p, int *n_cores_p)
{
    hwloc_topology_t topology;
    hwloc_bitmap_t bound = NULL, nodes = NULL;

    *numa_p = -1;
    *n_cores_p = 0;
    if (hwloc_topology_init(&topology) != 0) return;
    hwloc_topology_set_all_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_type_filter(topology, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL);
    hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
    bound = hwloc_bitmap_alloc();
    nodes = hwloc_bitmap_alloc();
    if (bound && nodes && hwloc_topology_load(topology) == 0 &&
        hwloc_get_cpubind(topology, bound, HWLOC_CPUBIND_PROCESS) == 0) {
        const int cores = hwloc_get_nbobjs_inside_cpuset_by_type(topology, bound, HWLOC_OBJ_CORE);
        *n_cores_p = cores > 0 ? cores : hwloc_bitmap_weight(bound);
        hwloc_cpuset_to_nodeset(topology, bound, nodes);
        if (hwloc_bitmap_weight(nodes) == 1) *numa_p = hwloc_bitmap_first(nodes);
    }
    hwloc_bitmap_free(nodes);
    hwloc_bitmap_free(bound);
    hwloc_topology_destroy(topology);
}

static fz_status read_places(fz_world *world)
{
    fz_place mine = {.pid = (int)getpid()};
    MPI_Comm host;

    if (gethostname(mine.host, sizeof mine.host - 1) != 0) strcpy(mine.host, "unknown");
    FZ_TRY(fz_mpi_check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, world->rank,
                                            MPI_INFO_NULL, &host),
                        "split by host"));
    MPI_Comm_rank(host, &mine.local_rank);
    MPI_Comm_size(host, &mine.n_local);
    MPI_Comm_free(&host);
    fz_mpi_set_crowded(mine.n_local > sysconf(_SC_NPROCESSORS_ONLN));
    read_binding(&mine.numa, &mine.n_cores);
    FZ_TRY(FZ_NEW(&world->places, world->size));
    return fz_allgather(world->group, &mine, sizeof mine, world->places);
}

fz_status fz_world_start(int expected, const char *expected_from, fz_world *world)
{
    int provided = 0;

    *world = (fz_world){0};
    /* The default handler of MPI_Init itself still aborts: nothing can be done without it. */
    FZ_TRY(
        fz_mpi_check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "start of MPI"));
    FZ_TRY(fz_mpi_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN),
                        "error handler of MPI"));
    FZ_TRY(fz_mpi_check(MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN),
                        "error handler of MPI"));
    FZ_CHECK(provided >= MPI_THREAD_FUNNELED, FZ_ERR_COMM,
             "this MPI allows no threads beside it: level %d, FUNNELED is %d", provided,
             (int)MPI_THREAD_FUNNELED);
    FZ_TRY(fz_group_over(MPI_COMM_WORLD, false, &world->group));
    world->rank = world->group->rank;
    world->size = world->group->size;
    world->has_mpi = expected > 0 || world->size > 1;
    fz_assert_set_hook(abort_on_assert);
    fz_assert_set_rank(world->rank);
    fz_log_set_rank(world->rank);
    fz_log_set_writer(world->rank == 0);
    FZ_CHECK(expected <= 1 || world->size > 1, FZ_ERR_USAGE,
             "every rank is 0 of 1: %s says %d processes, MPI says 1; start with the mpirun of the "
             "MPI this program is linked with, or srun --mpi=pmix",
             expected_from ? expected_from : "the launcher", expected);
    return read_places(world);
}

void fz_world_stop(fz_world *world)
{
    int started = 0, stopped = 0;

    fz_free(&world->places);
    fz_group_destroy(&world->group);
    MPI_Initialized(&started);
    MPI_Finalized(&stopped);
    if (!started || stopped) return;
    fz_assert_set_hook(NULL);
    MPI_Finalize();
}
