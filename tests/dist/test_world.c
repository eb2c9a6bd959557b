/* MPI starts once in a process, so every case here is a process of its own: this program again,
 * alone or under mpirun, with the case as its argument. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "core/assert.h"
#include "core/memory.h"
#include "dist/group.h"
#include "dist/world.h"

static const char *program;

/* Exit code of the command; its output in text. */
static int run(const char *launcher, const char *mode, char *text, size_t text_bytes)
{
    char command[1024];

    snprintf(command, sizeof command, "%s '%s' %s 2>&1", launcher, program, mode);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    text[fread(text, 1, text_bytes - 1, pipe)] = 0;
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void a_process_without_a_launcher_is_a_world_of_one(void **state)
{
    char text[4096];
    (void)state;
    assert_int_equal(run("", "print 0", text, sizeof text), 0);
    assert_non_null(strstr(text, "size 1 launched 0"));
}

static void ranks_know_each_others_places(void **state)
{
    char text[4096];
    (void)state;
    assert_int_equal(run("mpirun -n 2", "print 2", text, sizeof text), 0);
    assert_non_null(strstr(text, "size 2 launched 1"));
    assert_non_null(strstr(text, " 0 of 2"));
    assert_non_null(strstr(text, " 1 of 2"));
}

static void a_launcher_that_mpi_does_not_know_is_refused(void **state)
{
    char text[4096];
    (void)state;
    assert_int_equal(run("", "print 4", text, sizeof text), 64);
    assert_non_null(strstr(text, "every rank is 0 of 1: NUMBER_OF_TASKS says 4"));
}

static void a_failed_assertion_ends_all_ranks_with_70(void **state)
{
    char text[4096];
    (void)state;
    assert_int_equal(run("mpirun -n 2", "assert 2", text, sizeof text), 70);
    assert_non_null(strstr(text, "rank 1"));
}

static void an_abort_ends_all_ranks_with_its_code(void **state)
{
    char text[4096];
    (void)state;
    assert_int_equal(run("mpirun -n 2", "abort 2", text, sizeof text), 75);
}

static int child(const char *mode, int expected)
{
    fz_world world;

    if (fz_world_start(expected, "NUMBER_OF_TASKS", &world) != FZ_OK) {
        fprintf(stderr, "%s\n", fz_last_error()->text);
        fz_world_stop(&world);
        return fz_last_error()->status == FZ_ERR_USAGE ? 64 : 71;
    }
    if (strcmp(mode, "assert") == 0) {
        FZ_ASSERT(world.rank != 1);
        fz_barrier(world.group); /* left alone: only the abort ends it */
    }
    if (strcmp(mode, "abort") == 0) {
        if (world.rank == 1) fz_world_abort(75);
        fz_barrier(world.group);
    }
    if (world.rank == 0) {
        printf("size %d launched %d\n", world.size, world.has_mpi);
        for (int r = 0; r < world.size; r++)
            printf("%s %d of %d\n", world.places[r].host, world.places[r].local_rank,
                   world.places[r].n_local);
    }
    for (int r = 0; r < world.size; r++)
        FZ_ASSERT(world.places[r].n_cores >= 1 && world.places[r].pid > 0);
    fz_world_stop(&world);
    return fz_memory_get().n_live == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_without_a_launcher_is_a_world_of_one),
        cmocka_unit_test(ranks_know_each_others_places),
        cmocka_unit_test(a_launcher_that_mpi_does_not_know_is_refused),
        cmocka_unit_test(a_failed_assertion_ends_all_ranks_with_70),
        cmocka_unit_test(an_abort_ends_all_ranks_with_its_code),
    };

    program = argv[0];
    if (argc == 3) return child(argv[1], atoi(argv[2]));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
