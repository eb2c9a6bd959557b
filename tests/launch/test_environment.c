#include "tests/support/unit.h"

#include "launch/environment.h"

static const char *const ours[] = {"OMPI_COMM_WORLD_SIZE",
                                   "OMPI_COMM_WORLD_LOCAL_SIZE",
                                   "OMPI_COMM_WORLD_RANK",
                                   "OMPI_MCA_pml",
                                   "PMI_SIZE",
                                   "PMI_RANK",
                                   "PMIX_RANK",
                                   "SLURM_STEP_ID",
                                   "SLURM_NTASKS",
                                   "SLURM_PROCID",
                                   "SLURM_STEP_NUM_TASKS",
                                   "SLURM_JOB_ID"};

static int forget(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        unsetenv(ours[i]);
    return 0;
}

static void set(const char *name, const char *value)
{
    assert_int_equal(setenv(name, value, 1), 0);
}

static void the_launcher_says_how_many_ranks_there_are(void **state)
{
    fz_environment environment;
    (void)state;
    assert_ok(fz_environment_read(&environment));
    assert_int_equal(environment.n_ranks, 0);
    assert_int_equal(fz_environment_rank(), 0);
    set("OMPI_COMM_WORLD_SIZE", "4");
    set("OMPI_COMM_WORLD_RANK", "3");
    assert_ok(fz_environment_read(&environment));
    assert_int_equal(environment.n_ranks, 4);
    assert_string_equal(environment.n_ranks_from, "OMPI_COMM_WORLD_SIZE");
    assert_int_equal(fz_environment_rank(), 3);
}

static void a_batch_script_is_no_step(void **state)
{
    fz_environment environment;
    (void)state;
    set("SLURM_NTASKS", "8");
    set("SLURM_JOB_ID", "17");
    assert_ok(fz_environment_read(&environment));
    assert_int_equal(environment.n_ranks, 0);
    assert_string_equal(environment.job, "17");
    set("SLURM_STEP_ID", "0");
    assert_ok(fz_environment_read(&environment));
    assert_int_equal(environment.n_ranks, 8);
}

static void ranks_of_one_host_need_no_network(void **state)
{
    (void)state;
    fz_environment_prepare_mpi();
    assert_string_equal(getenv("OMPI_MCA_pml"), "ob1");
    unsetenv("OMPI_MCA_pml");
    set("OMPI_COMM_WORLD_SIZE", "4");
    set("OMPI_COMM_WORLD_LOCAL_SIZE", "4");
    set("PMIX_RANK", "0");
    fz_environment_prepare_mpi();
    assert_string_equal(getenv("OMPI_MCA_pml"), "ob1");
}

static void ranks_of_several_hosts_take_what_mpi_finds(void **state)
{
    (void)state;
    set("OMPI_COMM_WORLD_SIZE", "4");
    set("OMPI_COMM_WORLD_LOCAL_SIZE", "2");
    fz_environment_prepare_mpi();
    assert_null(getenv("OMPI_MCA_pml"));
    unsetenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    fz_environment_prepare_mpi();
    assert_null(getenv("OMPI_MCA_pml"));
    unsetenv("OMPI_COMM_WORLD_SIZE");
    set("SLURM_STEP_ID", "0");
    fz_environment_prepare_mpi();
    assert_null(getenv("OMPI_MCA_pml"));
}

static void what_the_user_chose_is_kept(void **state)
{
    (void)state;
    set("OMPI_MCA_pml", "ucx");
    fz_environment_prepare_mpi();
    assert_string_equal(getenv("OMPI_MCA_pml"), "ucx");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_launcher_says_how_many_ranks_there_are, forget),
        cmocka_unit_test_setup(a_batch_script_is_no_step, forget),
        cmocka_unit_test_setup(ranks_of_one_host_need_no_network, forget),
        cmocka_unit_test_setup(ranks_of_several_hosts_take_what_mpi_finds, forget),
        cmocka_unit_test_setup(what_the_user_chose_is_kept, forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
