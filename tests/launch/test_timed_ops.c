#include "tests/support/unit.h"

#include <math.h>

#include "launch/timed_ops.h"

enum { N = 48 };
static float a[N * N], b[N * N], c[N * N];

static const fz_op_time *find_op(const char *name)
{
    const fz_op_time *ops;
    const int n = fz_timed_ops_get(&ops);
    for (int i = 0; i < n; i++)
        if (strcmp(ops[i].name, name) == 0) return &ops[i];
    return NULL;
}

static double all_products(int64_t *calls)
{
    const fz_product_time *products;
    const int n = fz_timed_products_get(&products);
    double flops = 0;
    *calls = 0;
    for (int i = 0; i < n; i++) {
        *calls += products[i].calls;
        flops += products[i].flops;
        if (i > 0) assert_true(products[i - 1].seconds >= products[i].seconds);
    }
    return flops;
}

static fz_gemm_args product(int64_t m)
{
    return (fz_gemm_args){.c = c,
                          .a = a,
                          .b = b,
                          .m = m,
                          .n = N,
                          .k = N,
                          .lda = N,
                          .ldb = N,
                          .ldc = N,
                          .alpha = 1.0f};
}

static void an_op_gives_what_it_gives_without_a_clock_and_is_counted(void **state)
{
    float plain[N * N];
    const fz_gemm_args args = product(N);
    int64_t calls;

    (void)state;
    for (int i = 0; i < N * N; i++) {
        a[i] = (float)(i % 7);
        b[i] = (float)(i % 5) - 2.0f;
    }
    assert_ok(fz_ops_cpu.gemm(&args, NULL));
    memcpy(plain, c, sizeof c);
    const fz_ops *ops = fz_timed_ops_start(&fz_ops_cpu);
    memset(c, 0, sizeof c);
    assert_ok(ops->gemm(&args, NULL));
    assert_ok(ops->gemm(&args, NULL));
    assert_ok(ops->scale(a, 1.0f, N, NULL));
    fz_timed_ops_stop();

    assert_memory_equal(c, plain, sizeof c);
    assert_int_equal(find_op("gemm")->calls, 2);
    assert_int_equal(find_op("scale")->calls, 1);
    assert_null(find_op("adamw"));
    assert_true(find_op("gemm")->product_seconds > 0);
    assert_true(find_op("gemm")->product_seconds <= find_op("gemm")->seconds);
    assert_true(find_op("scale")->product_seconds <= 0);
    assert_true(fabs(all_products(&calls) - 2 * 2.0 * N * N * N) < 1);
    assert_int_equal(calls, 2);
}

static void products_inside_attention_count_as_products(void **state)
{
    enum { T = 24, HD = 16 };
    const int32_t start[] = {0, T};
    const int64_t sample[] = {0};
    float lse[T], work[4096];
    fz_attention_args args = {.q = a,
                              .k = a,
                              .v = a,
                              .o = c,
                              .lse = lse,
                              .n_seq = 1,
                              .q_start = start,
                              .kv_start = start,
                              .max_q_len = T,
                              .max_kv_len = T,
                              .n_heads = 1,
                              .n_kv_heads = 1,
                              .head_dim = HD,
                              .q_stride = HD,
                              .kv_stride = HD,
                              .o_stride = HD,
                              .scale = 0.25f,
                              .sample_n = sample,
                              .work = work};
    int64_t calls;

    (void)state;
    assert_true(fz_ops_cpu.attention_work(T, T, HD) <= sizeof work);
    const fz_ops *ops = fz_timed_ops_start(&fz_ops_cpu);
    assert_ok(ops->attention_forward(&args, NULL));
    fz_timed_ops_stop();

    assert_true(fabs(all_products(&calls) - 4.0 * T * T * HD) < 1);
    assert_int_equal(calls, 2);
    assert_true(find_op("attention_forward")->product_seconds > 0);
    assert_true(find_op("attention_forward")->product_seconds <
                find_op("attention_forward")->seconds);
}

static void shapes_that_find_no_place_are_still_counted(void **state)
{
    int64_t calls;

    (void)state;
    const fz_ops *ops = fz_timed_ops_start(&fz_ops_cpu);
    double flops = 0;
    for (int64_t round = 0; round < 6; round++)
        for (int64_t m = 1; m <= N; m++)
            for (int64_t n = 1; n <= N / 2; n++) {
                fz_gemm_args args = product(m);
                args.n = n;
                args.k = 1 + round;
                flops += 2.0 * (double)(m * n * args.k);
                assert_ok(ops->gemm(&args, NULL));
            }
    fz_timed_ops_stop();
    assert_int_equal((6 * N * N / 2) > FZ_TIMED_PRODUCTS, 1);
    assert_true(fabs(all_products(&calls) - flops) < 1);
    assert_int_equal(calls, 6 * N * N / 2);
}

static void a_reset_forgets_and_a_stop_ends_the_counting(void **state)
{
    const fz_gemm_args args = product(N);
    int64_t calls;

    (void)state;
    const fz_ops *ops = fz_timed_ops_start(&fz_ops_cpu);
    assert_ok(ops->gemm(&args, NULL));
    fz_timed_ops_reset();
    assert_null(find_op("gemm"));
    fz_timed_ops_stop();
    assert_ok(fz_ops_cpu.gemm(&args, NULL));
    all_products(&calls);
    assert_int_equal(calls, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_op_gives_what_it_gives_without_a_clock_and_is_counted),
        cmocka_unit_test(products_inside_attention_count_as_products),
        cmocka_unit_test(shapes_that_find_no_place_are_still_counted),
        cmocka_unit_test(a_reset_forgets_and_a_stop_ends_the_counting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
