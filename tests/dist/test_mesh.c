#include <string.h>

#include "tests/support/ranks.h"

#include "dist/mesh.h"

static void rank_and_coordinates_are_inverse_and_tensor_is_fastest(void **state)
{
    (void)state;
    for (int pp = 1; pp <= 5; pp++)
        for (int dp = 1; dp <= 5; dp++)
            for (int tp = 1; tp <= 5; tp++) {
                const fz_mesh_shape shape = {pp, dp, tp};
                int rank = 0;
                for (int p = 0; p < pp; p++)
                    for (int d = 0; d < dp; d++)
                        for (int t = 0; t < tp; t++, rank++) {
                            const fz_mesh_coord c = fz_mesh_coord_of(shape, rank);
                            assert_true(c.pp == p && c.dp == d && c.tp == t);
                            assert_int_equal(fz_mesh_rank(shape, c), rank);
                        }
                assert_int_equal(fz_mesh_size(shape), rank);
            }
}

static void check_axis(const fz_group *axis, int size, int rank, int64_t world_rank_of_first)
{
    int64_t first = fz_group_rank(axis) == 0 ? world.rank : -1;

    assert_all_ranks(fz_group_size(axis) == size && fz_group_rank(axis) == rank);
    assert_all_ranks(fz_allreduce_max_int(axis, &first, 1) == FZ_OK);
    assert_all_ranks(first == world_rank_of_first);
}

static void every_layout_has_its_three_groups(void **state)
{
    (void)state;
    for (int pp = 1; pp <= world.size; pp++)
        for (int dp = 1; pp * dp <= world.size; dp++) {
            const int tp = world.size / (pp * dp);
            fz_mesh mesh = {0};
            if (pp * dp * tp != world.size) continue;
            assert_all_ranks(fz_mesh_create(&world, (fz_mesh_shape){pp, dp, tp}, &mesh) == FZ_OK);
            assert_all_ranks(fz_mesh_rank(mesh.shape, mesh.me) == world.rank);
            const fz_mesh_coord me = mesh.me;
            check_axis(mesh.pipeline, pp, me.pp, me.dp * tp + me.tp);
            check_axis(mesh.data, dp, me.dp, me.pp * dp * tp + me.tp);
            check_axis(mesh.tensor, tp, me.tp, (me.pp * dp + me.dp) * tp);
            assert_all_ranks(mesh.world == world.group);
            fz_mesh_reset(&mesh);
            fz_mesh_reset(&mesh);
        }
}

static void a_layout_of_another_size_is_refused(void **state)
{
    fz_mesh mesh = {0};

    (void)state;
    assert_all_ranks(fz_mesh_create(&world, (fz_mesh_shape){2, 3, world.size}, &mesh) ==
                     FZ_ERR_USAGE);
    assert_all_ranks(strstr(fz_last_error()->text, "pp 2 x dp 3") != NULL);
    assert_all_ranks(fz_mesh_create(&world, (fz_mesh_shape){-1, -1, world.size}, &mesh) ==
                     FZ_ERR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rank_and_coordinates_are_inverse_and_tensor_is_fastest),
        cmocka_unit_test(every_layout_has_its_three_groups),
        cmocka_unit_test(a_layout_of_another_size_is_refused),
    };
    run_on_all_ranks(tests);
}
