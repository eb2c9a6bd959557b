/* Set-up of the CPU backend and the name of its arithmetic (design.md 5). */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "model/ops/ops.h"

/* OpenBLAS's own; weak, so that any CBLAS links. */
void openblas_set_num_threads(int n) __attribute__((weak));
char *openblas_get_config(void) __attribute__((weak));
char *openblas_get_corename(void) __attribute__((weak));

static char arithmetic[256];

/* "OpenBLAS 0.3.21": the first two words of the configuration. */
static void blas_name(char *text, size_t size)
{
    if (!openblas_get_config) {
        snprintf(text, size, "CBLAS (not OpenBLAS)");
        return;
    }
    const char *config = openblas_get_config();
    size_t length = strcspn(config, " ");
    if (config[length]) length += 1 + strcspn(config + length + 1, " ");
    snprintf(text, size, "%.*s %s single-thread", (int)length, config,
             openblas_get_corename ? openblas_get_corename() : "unknown-core");
}

static const char *compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown compiler";
#endif
}

static const char *instructions(void)
{
#if defined(__AVX512F__)
    return "x86-64 avx512f";
#elif defined(__AVX2__)
    return "x86-64 avx2";
#elif defined(__AVX__)
    return "x86-64 avx";
#elif defined(__x86_64__)
    return "x86-64 sse2";
#elif defined(__ARM_FEATURE_SVE)
    return "aarch64 sve";
#elif defined(__aarch64__)
    return "aarch64 neon";
#elif defined(__powerpc64__)
    return "ppc64";
#elif defined(__riscv)
    return "riscv";
#else
    return "unknown processor";
#endif
}

static const char *optimisation(void)
{
#if defined(__OPTIMIZE__)
    return "optimised";
#else
    return "unoptimised";
#endif
}

static void write_arithmetic(void)
{
    char blas[128];
    blas_name(blas, sizeof blas);
    snprintf(arithmetic, sizeof arithmetic, "%s; %.60s %s %s", blas, compiler(), optimisation(),
             instructions());
}

void fz_ops_cpu_start(void)
{
    if (openblas_set_num_threads) openblas_set_num_threads(1);
}

const char *fz_ops_cpu_arithmetic_id(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, write_arithmetic);
    return arithmetic;
}
