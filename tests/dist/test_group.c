#include <stdlib.h>
#include <string.h>

#include "tests/support/ranks.h"

#include "dist/group_mpi.h"

static void one_failing_rank_fails_every_rank_with_its_text(void **state)
{
    (void)state;
    for (int failing = 0; failing < world.size; failing++) {
        fz_status mine = FZ_OK;
        char expected[32];
        if (world.rank == failing) mine = FZ_FAIL(FZ_ERR_IO, "disk %d full", failing);
        assert_all_ranks(fz_agree(world.group, mine) == FZ_ERR_IO);
        snprintf(expected, sizeof expected, "disk %d full", failing);
        assert_all_ranks(strstr(fz_last_error()->text, expected) != NULL);
        snprintf(expected, sizeof expected, "rank %d: ", failing);
        assert_all_ranks(world.size == 1 || strstr(fz_last_error()->text, expected) != NULL);
    }
    assert_all_ranks(fz_agree(world.group, FZ_OK) == FZ_OK);
}

static void agreement_takes_the_worst_and_names_its_lowest_rank(void **state)
{
    const int last = world.size - 1;
    fz_status mine = FZ_OK;

    (void)state;
    if (world.size < 3) return;
    if (world.rank == 0) mine = FZ_FAIL(FZ_ERR_USAGE, "small");
    if (world.rank == 1 || world.rank == last) mine = FZ_FAIL(FZ_ERR_MEMORY, "on %d", world.rank);
    assert_all_ranks(fz_agree(world.group, mine) == FZ_ERR_MEMORY);
    assert_all_ranks(strcmp(fz_last_error()->text, "rank 1: on 1") == 0);
    /* Agreed on again, as an outer caller does: the rank that failed stays named. */
    assert_all_ranks(fz_agree(world.group, FZ_ERR_MEMORY) == FZ_ERR_MEMORY);
    assert_all_ranks(strcmp(fz_last_error()->text, "rank 1: on 1") == 0);
}

static void same_accepts_equal_bytes_and_names_what_differs(void **state)
{
    static char data[40000];

    (void)state;
    memset(data, 7, sizeof data);
    assert_all_ranks(fz_same(world.group, data, sizeof data, "config") == FZ_OK);
    assert_all_ranks(fz_same(world.group, data, 0, "nothing") == FZ_OK);
    if (world.size == 1) return;
    if (world.rank >= world.size - 1) data[33333] = 8;
    assert_all_ranks(fz_same(world.group, data, sizeof data, "config") == FZ_ERR_ARG);
    assert_all_ranks(strstr(fz_last_error()->text, "config: rank ") != NULL);
    data[33333] = 7;
    const size_t bytes = world.rank == 0 ? 10 : 11;
    assert_all_ranks(fz_same(world.group, data, bytes, "seed") == FZ_ERR_ARG);
    assert_all_ranks(strstr(fz_last_error()->text, "seed: between 10 and 11") != NULL);
}

/* Tests run on one host: all name its lowest rank, that of the group and not of the world. */
static void hosts_are_named_by_their_lowest_rank(void **state)
{
    fz_group *upper;
    int64_t host[64] = {0};

    (void)state;
    assert_all_ranks(fz_group_hosts(world.group, host) == FZ_OK);
    for (int r = 0; r < world.size; r++)
        assert_all_ranks(host[r] == 0);
    assert_all_ranks(fz_group_split(world.group, world.rank > 0, -world.rank, &upper) == FZ_OK);
    memset(host, 1, sizeof host);
    assert_all_ranks(fz_group_hosts(upper, host) == FZ_OK);
    for (int r = 0; r < fz_group_size(upper); r++)
        assert_int_equal(host[r], 0);
    fz_group_destroy(&upper);
}

static void reductions_cover_every_element(void **state)
{
    enum { N = 1000 };
    double d[N];
    int64_t s[N], m[N];
    uint64_t u[N];
    float f[N];
    uint8_t b[N];
    int wrong = 0;

    (void)state;
    for (int i = 0; i < N; i++) {
        d[i] = i % world.size == world.rank ? i + 0.5 : 0.0;
        s[i] = i + world.rank;
        m[i] = (i + world.rank) % world.size;
        u[i] = UINT64_MAX / 2 + (uint64_t)i;
        f[i] = (float)((i + world.rank) % world.size) - 2.5f;
        b[i] = (uint8_t)(i % world.size == world.rank);
    }
    assert_all_ranks(fz_allreduce_sum_double(world.group, d, N) == FZ_OK);
    assert_all_ranks(fz_allreduce_sum_int(world.group, s, N) == FZ_OK);
    assert_all_ranks(fz_allreduce_max_int(world.group, m, N) == FZ_OK);
    assert_all_ranks(fz_allreduce_sum_uint(world.group, u, N) == FZ_OK);
    assert_all_ranks(fz_allreduce_max_float(world.group, f, N) == FZ_OK);
    assert_all_ranks(fz_allreduce_max_bytes(world.group, b, N) == FZ_OK);
    for (int i = 0; i < N; i++)
        wrong |= d[i] != i + 0.5 || s[i] != world.size * i + world.size * (world.size - 1) / 2 ||
                 m[i] != world.size - 1 ||
                 u[i] != (UINT64_MAX / 2 + (uint64_t)i) * (uint64_t)world.size ||
                 f[i] != (float)world.size - 3.5f || b[i] != 1;
    assert_all_ranks(!wrong);
}

static void gathers_put_every_rank_at_its_place(void **state)
{
    enum { N = 300 };
    const int size = world.size;
    float *all = test_calloc((size_t)(size * N), sizeof *all);
    float *mine = test_calloc(N, sizeof *mine);
    int64_t *counts = test_calloc((size_t)size, sizeof *counts);
    int wrong = 0;

    (void)state;
    for (int i = 0; i < N; i++)
        mine[i] = (float)(world.rank * 1000 + i);
    assert_all_ranks(fz_allgather(world.group, mine, N * sizeof *mine, all) == FZ_OK);
    for (int i = 0; i < size * N; i++)
        wrong |= all[i] != (float)(i / N * 1000 + i % N);
    assert_all_ranks(!wrong);

    int64_t total = 0, before = 0;
    for (int r = 0; r < size; r++) {
        counts[r] = r == 1 ? 0 : N - 7 * r;
        if (r < world.rank) before += counts[r];
        total += counts[r];
    }
    memset(all, 0, (size_t)(size * N) * sizeof *all);
    if (world.rank % 2 == 0) memcpy(all + before, mine, (size_t)counts[world.rank] * sizeof *mine);
    const float *from = world.rank % 2 == 0 ? all + before : mine;
    assert_all_ranks(fz_allgatherv_float(world.group, from, counts, all) == FZ_OK);
    for (int64_t r = 0, at = 0; r < size; r++)
        for (int64_t i = 0; i < counts[r]; i++)
            wrong |= all[at++] != (float)(r * 1000 + i);
    assert_all_ranks(!wrong);

    char *bytes = world.rank == size - 1 ? test_calloc((size_t)total, 1) : NULL;
    char *own = test_malloc(N);
    memset(own, 'a' + world.rank, N);
    assert_all_ranks(fz_gatherv_bytes(world.group, own, counts[world.rank], bytes,
                                      bytes ? counts : NULL, size - 1) == FZ_OK);
    for (int64_t r = 0, at = 0; bytes && r < size; r++)
        for (int64_t i = 0; i < counts[r]; i++)
            wrong |= bytes[at++] != (char)('a' + r);
    assert_all_ranks(!wrong);
    if (bytes) test_free(bytes);
    test_free(own);
    test_free(counts);
    test_free(mine);
    test_free(all);
}

static void messages_of_any_length_arrive_in_order(void **state)
{
    enum { N = 5003 };
    static unsigned char out[2][N], in[2][N];
    const int to = (world.rank + 1) % world.size;
    const int from = (world.rank + world.size - 1) % world.size;
    fz_request send[2] = {0}, recv[2] = {0};
    int wrong = 0, done = 0;

    (void)state;
    assert_all_ranks(fz_request_wait(&send[0]) == FZ_OK); /* never started */
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < N; i++)
            out[k][i] = (unsigned char)(i * 7 + world.rank + 100 * k);
        assert_all_ranks(fz_recv_start(world.group, in[k], N, from, 5, &recv[k]) == FZ_OK);
    }
    for (int k = 0; k < 2; k++)
        assert_all_ranks(fz_send_start(world.group, out[k], N, to, 5, &send[k]) == FZ_OK);
    while (!done)
        assert_int_equal(fz_request_test(&recv[1], &done), FZ_OK);
    for (int k = 0; k < 2; k++) {
        assert_all_ranks(fz_request_wait(&recv[k]) == FZ_OK);
        assert_all_ranks(fz_request_wait(&send[k]) == FZ_OK);
        assert_all_ranks(fz_request_wait(&send[k]) == FZ_OK); /* finished: at once */
        for (int i = 0; i < N; i++)
            wrong |= in[k][i] != (unsigned char)(i * 7 + from + 100 * k);
    }
    assert_all_ranks(!wrong);
}

static void broadcast_reaches_everyone_from_any_root(void **state)
{
    static char data[3001];

    (void)state;
    for (int root = 0; root < world.size; root++) {
        memset(data, world.rank == root ? 'x' + root : 0, sizeof data);
        assert_all_ranks(fz_broadcast(world.group, data, sizeof data, root) == FZ_OK);
        assert_all_ranks(data[0] == (char)('x' + root) && data[3000] == (char)('x' + root));
    }
    assert_all_ranks(fz_barrier(world.group) == FZ_OK);
}

static void groups_split_by_color_and_order_by_key(void **state)
{
    fz_group *half = NULL;

    (void)state;
    assert_all_ranks(fz_group_split(world.group, world.rank % 2, -world.rank, &half) == FZ_OK);
    assert_all_ranks(fz_group_size(half) == (world.size + 1 - world.rank % 2) / 2);
    assert_all_ranks(fz_group_rank(half) == (world.size - 1 - world.rank) / 2);
    int64_t same_color = world.rank % 2;
    assert_all_ranks(fz_allreduce_max_int(half, &same_color, 1) == FZ_OK);
    assert_all_ranks(same_color == world.rank % 2);
    fz_group_destroy(&half);
    assert_all_ranks(half == NULL);
    fz_group_destroy(&half);
}

static int cut_small(void **state)
{
    (void)state;
    fz_mpi_set_cut_bytes(104);
    return 0;
}

static int cut_normal(void **state)
{
    (void)state;
    fz_mpi_set_cut_bytes(INT64_C(1) << 30);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_failing_rank_fails_every_rank_with_its_text),
        cmocka_unit_test(agreement_takes_the_worst_and_names_its_lowest_rank),
        cmocka_unit_test(same_accepts_equal_bytes_and_names_what_differs),
        cmocka_unit_test(reductions_cover_every_element),
        cmocka_unit_test(gathers_put_every_rank_at_its_place),
        cmocka_unit_test(messages_of_any_length_arrive_in_order),
        cmocka_unit_test(broadcast_reaches_everyone_from_any_root),
        cmocka_unit_test(groups_split_by_color_and_order_by_key),
        /* The same with calls that carry at most 104 bytes: how counts above INT_MAX are cut. */
        cmocka_unit_test_setup_teardown(same_accepts_equal_bytes_and_names_what_differs, cut_small,
                                        cut_normal),
        cmocka_unit_test(hosts_are_named_by_their_lowest_rank),
        cmocka_unit_test_setup_teardown(reductions_cover_every_element, cut_small, cut_normal),
        cmocka_unit_test_setup_teardown(gathers_put_every_rank_at_its_place, cut_small, cut_normal),
        cmocka_unit_test_setup_teardown(messages_of_any_length_arrive_in_order, cut_small,
                                        cut_normal),
        cmocka_unit_test_setup_teardown(broadcast_reaches_everyone_from_any_root, cut_small,
                                        cut_normal),
    };
    run_on_all_ranks(tests);
}
