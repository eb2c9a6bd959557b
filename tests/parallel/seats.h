/* Many layouts under one launch: worlds of 1 to 8 of its ranks, as many at a time as there is
 * room. Include after tests/support/ranks.h. */
#ifndef FZ_TESTS_PARALLEL_SEATS_H
#define FZ_TESTS_PARALLEL_SEATS_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/disk.h"
#include "core/rng.h"
#include "dist/mesh_index.h"

enum { N_RANKS = 8 };

/* Seats layouts that are not done yet, in their order; seats[rank] is a layout or -1. Returns how
 * many were seated: 0 when all are done. */
static int take_seats(const fz_mesh_shape *shapes, int n, bool *is_done, int seats[N_RANKS])
{
    int next = 0, n_seated = 0;

    for (int l = 0; l < n; l++) {
        const int size = fz_mesh_size(shapes[l]);
        if (is_done[l] || next + size > N_RANKS) continue;
        for (int i = 0; i < size; i++)
            seats[next++] = l;
        is_done[l] = true;
        n_seated++;
    }
    while (next < N_RANKS)
        seats[next++] = -1;
    return n_seated;
}

/* The world of this rank's layout; group NULL where it has no seat. Collective over the launch. */
static fz_world sit_down(const int seats[N_RANKS])
{
    const int mine = seats[world.rank];
    fz_world sub = {.places = world.places, .has_mpi = true};

    assert_int_equal(fz_group_split(world.group, mine + 1, world.rank, &sub.group), FZ_OK);
    sub.rank = fz_group_rank(sub.group);
    sub.size = fz_group_size(sub.group);
    if (mine < 0) fz_group_destroy(&sub.group);
    return sub;
}

/* A number below n that every rank draws alike. */
static int draw(uint64_t *state, int n)
{
    *state += UINT64_C(0x9E3779B97F4A7C15);
    return (int)(fz_mix64(*state) >> 33) % n;
}

/* A new directory, the same name on every rank. */
static void make_scratch(char path[FZ_PATH_BYTES])
{
    if (world.rank == 0) {
        snprintf(path, FZ_PATH_BYTES, "%s/layouts-test-XXXXXX", FZ_BINARY_DIR);
        assert_non_null(mkdtemp(path));
    }
    assert_int_equal(fz_broadcast(world.group, path, FZ_PATH_BYTES, 0), FZ_OK);
}

static void remove_scratch(const char *path)
{
    assert_int_equal(fz_barrier(world.group), FZ_OK);
    if (world.rank == 0) fz_disk_remove_tree(path);
}

#endif
