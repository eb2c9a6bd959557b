#include "core/assert.h"

#include <stdio.h>
#include <stdlib.h>

static fz_abort_hook abort_hook;
static int assert_rank = -1;

void fz_assert_set_hook(fz_abort_hook hook)
{
    abort_hook = hook;
}

void fz_assert_set_rank(int rank)
{
    assert_rank = rank;
}

void fz_assert_failed(const char *cond, const char *file, int line, const char *func)
{
    char rank[32] = "";
    if (assert_rank >= 0) snprintf(rank, sizeof rank, "rank %d: ", assert_rank);
    fprintf(stderr, "florenz: bug: %s%s:%d: %s: assertion failed: %s\n", rank, file, line, func,
            cond);
    fflush(stderr);
    if (abort_hook) abort_hook();
    abort();
}
