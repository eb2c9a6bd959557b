#include "tests/support/ranks.h"

#include <string.h>

#include "core/fault.h"
#include "launch/share.h"

static void the_bytes_of_rank_0_reach_everybody(void **state)
{
    void *bytes = NULL;
    size_t n = 0;
    (void)state;
    if (world.rank == 0) {
        n = 6;
        assert_int_equal(fz_alloc(&bytes, n, "bytes"), FZ_OK);
        memcpy(bytes, "hello", 6);
    }
    const fz_status status = fz_share_bytes(world.group, FZ_OK, &bytes, &n, "bytes");
    assert_all_ranks(status == FZ_OK && n == 6 && strcmp(bytes, "hello") == 0);
    fz_free(&bytes);
}

static void rank_0s_error_becomes_everybodys_with_its_text(void **state)
{
    void *bytes = NULL;
    size_t n = 0;
    fz_status status = FZ_OK;
    (void)state;
    if (world.rank == 0) status = FZ_FAIL(FZ_ERR_USAGE, "config.yaml:3 run.sed: unknown key");
    status = fz_share_bytes(world.group, status, &bytes, &n, "bytes");
    assert_all_ranks(status == FZ_ERR_USAGE);
    assert_all_ranks(strcmp(fz_last_error()->text, "config.yaml:3 run.sed: unknown key") == 0);
    assert_all_ranks(bytes == NULL);
}

static void an_error_that_all_have_keeps_its_own_text(void **state)
{
    (void)state;
    const fz_status mine = FZ_FAIL(FZ_ERR_USAGE, "layout.tp: 3 does not divide");
    const fz_status status = fz_share_status(world.group, mine);
    assert_all_ranks(status == FZ_ERR_USAGE);
    assert_all_ranks(strcmp(fz_last_error()->text, "layout.tp: 3 does not divide") == 0);
}

static void an_error_of_one_rank_names_it(void **state)
{
    fz_status mine = FZ_OK;
    (void)state;
    if (world.rank == world.size - 1) mine = FZ_FAIL(FZ_ERR_IO, "disk full");
    const fz_status status = fz_share_status(world.group, mine);
    assert_all_ranks(status == FZ_ERR_IO);
    assert_all_ranks(strstr(fz_last_error()->text, "disk full") != NULL);
    if (world.size > 1) assert_all_ranks(strstr(fz_last_error()->text, "rank 2") != NULL);
}

static void nobodys_error_is_none(void **state)
{
    (void)state;
    assert_all_ranks(fz_share_status(world.group, FZ_OK) == FZ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_of_rank_0_reach_everybody),
        cmocka_unit_test(rank_0s_error_becomes_everybodys_with_its_text),
        cmocka_unit_test(an_error_that_all_have_keeps_its_own_text),
        cmocka_unit_test(an_error_of_one_rank_names_it),
        cmocka_unit_test(nobodys_error_is_none),
    };
    run_on_all_ranks(tests);
}
