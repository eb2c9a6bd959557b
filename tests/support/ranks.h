/* For tests that run on several ranks: one world, and checks in which all ranks fail together, so
 * that nobody is left waiting. Include after <cmocka.h>'s headers. */
#ifndef FZ_TESTS_RANKS_H
#define FZ_TESTS_RANKS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/memory.h"
#include "dist/group.h"
#include "dist/world.h"

static fz_world world;

#define assert_all_ranks(cond)                                                                     \
    do {                                                                                           \
        int64_t broken_ = (cond) ? 0 : 1;                                                          \
        if (broken_) fprintf(stderr, "%s:%d: !(%s)\n", __FILE__, __LINE__, #cond);                 \
        fz_allreduce_max_int(world.group, &broken_, 1);                                            \
        assert_int_equal(broken_, 0);                                                              \
    } while (0)

/* The main of such a test. Everything taken from the heap must have been given back. */
#define run_on_all_ranks(tests) run_on_all_ranks_with(tests, NULL, NULL)
#define run_on_all_ranks_with(tests, start, stop)                                                  \
    do {                                                                                           \
        if (fz_world_start(0, NULL, &world) != FZ_OK) {                                            \
            fprintf(stderr, "%s\n", fz_last_error()->text);                                        \
            return 1;                                                                              \
        }                                                                                          \
        int failed_ = cmocka_run_group_tests(tests, start, stop);                                  \
        fz_world_stop(&world);                                                                     \
        if (fz_memory_get().n_live != 0) {                                                         \
            fprintf(stderr, "%lld blocks left\n", (long long)fz_memory_get().n_live);              \
            failed_++;                                                                             \
        }                                                                                          \
        return failed_ != 0;                                                                       \
    } while (0)

#endif
