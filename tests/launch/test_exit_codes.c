/* Every status leaves with the code that docs/exit-codes.md promises for it. */
#include "tests/support/unit.h"

#include "launch/exit_codes.h"

static void every_status_has_its_code(void **state)
{
    static const struct {
        fz_status status;
        int alone, with_checkpoint;
    } cases[] = {
        {FZ_OK, 0, 0},           {FZ_ERR_ARG, 70, 70},  {FZ_ERR_USAGE, 64, 64},
        {FZ_ERR_FORMAT, 65, 65}, {FZ_ERR_IO, 71, 75},   {FZ_ERR_MEMORY, 71, 75},
        {FZ_ERR_DEVICE, 71, 75}, {FZ_ERR_COMM, 71, 75},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(fz_exit_code(cases[i].status, false), cases[i].alone);
        assert_int_equal(fz_exit_code(cases[i].status, true), cases[i].with_checkpoint);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
