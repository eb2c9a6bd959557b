/* What every cmocka test of this project includes. */
#ifndef FZ_TESTS_SUPPORT_UNIT_H
#define FZ_TESTS_SUPPORT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/status.h"

/* Fails with the error text, not with a number. */
#define assert_ok(call)                                                                            \
    do {                                                                                           \
        const fz_status got_ = (call);                                                             \
        if (got_ != FZ_OK) fail_msg("%s: %s", #call, fz_last_error()->text);                       \
    } while (0)

/* The call fails with this status and its text contains the part. */
#define assert_fails(call, code, part)                                                             \
    do {                                                                                           \
        assert_int_equal((call), (code));                                                          \
        if (!strstr(fz_last_error()->text, (part)))                                                \
            fail_msg("\"%s\" lacks \"%s\"", fz_last_error()->text, (part));                        \
    } while (0)

#endif
