/* The mesh of ranks with its groups. */
#ifndef FZ_DIST_MESH_H
#define FZ_DIST_MESH_H

#include "dist/group.h"
#include "dist/mesh_index.h"
#include "dist/world.h"

typedef struct fz_mesh {
    fz_mesh_shape shape;
    fz_mesh_coord me;
    fz_group *world;    /* borrowed                                          */
    fz_group *pipeline; /* owned: same dp, tp; rank in it = pp coordinate    */
    fz_group *data;     /* owned: same pp, tp; rank in it = dp coordinate    */
    fz_group *tensor;   /* owned: same pp, dp; rank in it = tp coordinate    */
} fz_mesh;

/* FZ_ERR_USAGE when pp*dp*tp is not the world's size. Collective over the world. */
fz_status fz_mesh_create(const fz_world *world, fz_mesh_shape shape, fz_mesh *mesh);
void fz_mesh_reset(fz_mesh *mesh);

#endif
