/* The matrix product against its definition. */
#include "model/ops/gemm.h"

#include "op_table.h"

static void reference_agrees_with_a_product_by_hand(void **state)
{
    (void)state;
    const double a[] = {1, 2, 3, 4, 5, 6}, b[] = {1, 0, 2, 1, 0, 3};
    double c[] = {100, 100, 100, 100};
    const fz_gemm_args args = {
        .m = 2, .n = 2, .k = 3, .lda = 3, .ldb = 2, .ldc = 2, .alpha = 2.0f, .beta = 0.5f};
    fz_gemm_ref(c, a, b, &args); /* a b = 5 11; 14 23 */
    op_assert_close(c, (const double[]){60, 72, 78, 96}, 4, 1e-12);
}

static void check_product(fz_gemm_args args, int64_t pad)
{
    const int64_t rows_a = args.trans_a ? args.k : args.m, cols_a = args.trans_a ? args.m : args.k;
    const int64_t rows_b = args.trans_b ? args.n : args.k, cols_b = args.trans_b ? args.k : args.n;
    double *expected[3];
    args.lda = cols_a + pad;
    args.ldb = cols_b + pad;
    args.ldc = args.n + pad;
    const int64_t n[3] = {rows_a * args.lda, rows_b * args.ldb, args.m * args.ldc};
    op_buffer buffer[3];
    for (int i = 0; i < 3; i++) {
        const op_array array = {.name = i == 0 ? "a" : i == 1 ? "b" : "c"};
        buffer[i] = op_buffer_new(n[i]);
        assert_ok(FZ_NEW(&expected[i], n[i]));
        for (int64_t j = 0; j < n[i]; j++) {
            const bool poisoned = i == 2 && args.beta == 0.0f && j % args.ldc < args.n;
            if (!poisoned) buffer[i].at[j] = (float)op_random(&array, j);
            expected[i][j] = (double)buffer[i].at[j];
        }
    }
    args.a = buffer[0].at;
    args.b = buffer[1].at;
    args.c = buffer[2].at;
    fz_gemm_ref(expected[2], expected[0], expected[1], &args);
    assert_ok(fz_ops_cpu.gemm(&args, NULL));
    for (int64_t j = 0; j < n[2]; j++)
        if (!(fabs(expected[2][j] - (double)buffer[2].at[j]) <= 2e-5))
            fail_msg("m %lld n %lld k %lld: c[%lld] is %g, not %g", (long long)args.m,
                     (long long)args.n, (long long)args.k, (long long)j, (double)buffer[2].at[j],
                     expected[2][j]);
    for (int i = 0; i < 3; i++) {
        op_buffer_check_guards(&buffer[i], "gemm", "an array");
        fz_free(&buffer[i].block);
        fz_free(&expected[i]);
    }
}

static void products_of_all_shapes_agree_with_the_reference(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 3, 5, 16, 96};
    static const float factors[][2] = {{1.0f, 0.0f}, {0.25f, 1.0f}, {-1.0f, 0.5f}};
    for (int i = 0; i < 6 * 6 * 6 * 4; i++)
        for (int f = 0; f < 3; f++)
            check_product((fz_gemm_args){.m = sizes[i % 6],
                                         .n = sizes[i / 6 % 6],
                                         .k = sizes[i / 36 % 6],
                                         .trans_a = i / 216 % 2,
                                         .trans_b = i / 432,
                                         .alpha = factors[f][0],
                                         .beta = factors[f][1]},
                          f == 1 ? 3 : 0);
}

static void sizes_beyond_an_int_are_refused(void **state)
{
    (void)state;
    float x[1] = {0};
    const fz_gemm_args args = {.a = x,
                               .b = x,
                               .c = x,
                               .m = 1,
                               .n = 1,
                               .k = 1,
                               .alpha = 1.0f,
                               .lda = INT64_C(3000000000),
                               .ldb = 1,
                               .ldc = 1};
    assert_fails(fz_ops_cpu.gemm(&args, NULL), FZ_ERR_ARG, "beyond the BLAS's int");
}

static void start_and_arithmetic_id_name_the_library(void **state)
{
    (void)state;
    fz_ops_cpu_start();
    const char *id = fz_ops_cpu_arithmetic_id();
    print_message("%s\n", id);
    assert_non_null(strstr(id, ";"));
    assert_ptr_equal(id, fz_ops_cpu_arithmetic_id());
}

static void table_has_no_empty_entry(void **state)
{
    (void)state;
    void (*entry)(void);
    for (size_t at = offsetof(fz_ops, gemm); at < sizeof(fz_ops); at += sizeof entry) {
        memcpy(&entry, (const char *)&fz_ops_cpu + at, sizeof entry);
        assert_true(entry != NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_agrees_with_a_product_by_hand),
        cmocka_unit_test(products_of_all_shapes_agree_with_the_reference),
        cmocka_unit_test(sizes_beyond_an_int_are_refused),
        cmocka_unit_test(start_and_arithmetic_id_name_the_library),
        cmocka_unit_test(table_has_no_empty_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
