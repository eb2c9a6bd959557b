/* Rank <-> coordinates: axes pipeline x data x tensor, tensor fastest. Pure arithmetic, no MPI. */
#ifndef FZ_DIST_MESH_INDEX_H
#define FZ_DIST_MESH_INDEX_H

#include <stdint.h>

typedef struct fz_mesh_shape {
    int pp, dp, tp; /* sizes of the axes */
} fz_mesh_shape;

typedef struct fz_mesh_coord {
    int pp, dp, tp; /* ranks on the axes */
} fz_mesh_coord;

static inline int fz_mesh_size(fz_mesh_shape s)
{
    return s.pp * s.dp * s.tp;
}
static inline int fz_mesh_rank(fz_mesh_shape s, fz_mesh_coord c)
{
    return (c.pp * s.dp + c.dp) * s.tp + c.tp;
}
static inline fz_mesh_coord fz_mesh_coord_of(fz_mesh_shape s, int rank)
{
    return (fz_mesh_coord){.pp = rank / (s.dp * s.tp), .dp = rank / s.tp % s.dp, .tp = rank % s.tp};
}

#endif
