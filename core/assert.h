/* Assertions for our own bugs: on in every build, host side. Bad input is never an assertion. */
#ifndef FZ_CORE_ASSERT_H
#define FZ_CORE_ASSERT_H

/* Called after the message is printed; must not return. Default: abort(). dist/ points it at
 * MPI_Abort with exit code 70. */
typedef void (*fz_abort_hook)(void);
void fz_assert_set_hook(fz_abort_hook hook);
/* The rank printed by a failed assertion; -1 (not printed) until set. */
void fz_assert_set_rank(int rank);

_Noreturn void fz_assert_failed(const char *cond, const char *file, int line, const char *func);

#define FZ_ASSERT(cond) ((cond) ? (void)0 : fz_assert_failed(#cond, __FILE__, __LINE__, __func__))

#endif
