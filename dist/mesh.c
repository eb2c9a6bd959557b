#include "dist/mesh.h"

#include <mpi.h>

#include "dist/group_mpi.h"

/* An axis of size 1 needs no split, which would cost every start a collective. */
static fz_status make_axis(const fz_group *world, int size, int color, int key, fz_group **group_p)
{
    if (size == 1) return fz_group_over(MPI_COMM_SELF, false, group_p);
    return fz_group_split(world, color, key, group_p);
}

fz_status fz_mesh_create(const fz_world *world, fz_mesh_shape shape, fz_mesh *mesh)
{
    FZ_CHECK(shape.pp >= 1 && shape.dp >= 1 && shape.tp >= 1 &&
                 (int64_t)shape.pp * shape.dp * shape.tp == world->size,
             FZ_ERR_USAGE,
             "layout pp %d x dp %d x tp %d does not make %d ranks; start %lld ranks or change it",
             shape.pp, shape.dp, shape.tp, world->size, (long long)shape.pp * shape.dp * shape.tp);

    fz_mesh made = {
        .shape = shape, .me = fz_mesh_coord_of(shape, world->rank), .world = world->group};
    const fz_mesh_coord me = made.me;
    fz_status status =
        make_axis(world->group, shape.pp, me.dp * shape.tp + me.tp, me.pp, &made.pipeline);
    if (status == FZ_OK)
        status = make_axis(world->group, shape.dp, me.pp * shape.tp + me.tp, me.dp, &made.data);
    if (status == FZ_OK)
        status = make_axis(world->group, shape.tp, me.pp * shape.dp + me.dp, me.tp, &made.tensor);
    if (status != FZ_OK) {
        fz_mesh_reset(&made);
        return status;
    }
    *mesh = made;
    return FZ_OK;
}

void fz_mesh_reset(fz_mesh *mesh)
{
    fz_group_destroy(&mesh->pipeline);
    fz_group_destroy(&mesh->data);
    fz_group_destroy(&mesh->tensor);
    *mesh = (fz_mesh){.shape = mesh->shape, .me = mesh->me};
}
