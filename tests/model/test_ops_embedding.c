/* Token and position embeddings. */
#include "model/ops/embedding.h"
#include "op_table.h"

/* The ids of op_for_shapes are -1 .. 9; this shard has 2 .. 7; id 4 is left out of gradients. */
enum { FIRST = 2, ROWS = 6, SKIP = 4, OFFSET = 2, MAX_LEN = 20 };

static void arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_OUT, s->N * s->C, s->C);
    list[1] = op_make("table", OP_IN, ROWS * s->C, 0);
}
static void forward(const op_shape *s, float **a)
{
    assert_ok(s->ops->embedding_forward(a[0], a[1], s->ids, s->N, s->C, FIRST, ROWS, 1.5f, NULL));
}
static void forward_ref(const op_shape *s, double **a)
{
    fz_embedding_forward_ref(a[0], a[1], s->ids, s->N, s->C, FIRST, ROWS, 1.5);
}
static void backward_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("dtable", OP_ADD, ROWS * s->C, 0);
    list[1] = op_make("dy", OP_IN, s->N * s->C, s->C);
}
static void backward(const op_shape *s, float **a)
{
    assert_ok(
        s->ops->embedding_backward(a[0], a[1], s->ids, s->N, s->C, FIRST, ROWS, 1.5f, -9, NULL));
}
static void backward_ref(const op_shape *s, double **a)
{
    fz_embedding_backward_ref(a[0], a[1], s->ids, s->N, s->C, FIRST, ROWS, 1.5, -9);
}
static void backward_skip(const op_shape *s, float **a)
{
    assert_ok(
        s->ops->embedding_backward(a[0], a[1], s->ids, s->N, s->C, FIRST, ROWS, 1.5f, SKIP, NULL));
}
static void backward_skip_ref(const op_shape *s, double **a)
{
    fz_embedding_backward_ref(a[0], a[1], s->ids, s->N, s->C, FIRST, ROWS, 1.5, SKIP);
}

static void position_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("y", OP_INPLACE, s->N * s->C, s->C);
    list[1] = op_make("table", OP_IN, (MAX_LEN + OFFSET) * s->C, 0);
}
static void position(const op_shape *s, float **a)
{
    assert_ok(s->ops->position_forward(a[0], a[1], &s->rows, s->C, OFFSET, NULL));
}
static void position_ref(const op_shape *s, double **a)
{
    fz_position_forward_ref(a[0], a[1], &s->rows, s->C, OFFSET);
}
static void position_backward_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    list[0] = op_make("dtable", OP_ADD, (MAX_LEN + OFFSET) * s->C, 0);
    list[1] = op_make("dy", OP_IN, s->N * s->C, s->C);
    list[2] = op_make("work", OP_SCRATCH, s->S * MAX_LEN * s->C, 0);
}
static void position_backward(const op_shape *s, float **a)
{
    assert_ok(
        s->ops->position_backward(a[0], a[1], &s->rows, s->C, OFFSET, MAX_LEN, s->S, a[2], NULL));
}
static void position_backward_ref(const op_shape *s, double **a)
{
    fz_position_backward_ref(a[0], a[1], &s->rows, s->C, OFFSET);
}

static const op_row TABLE[] = {
    {"embedding_forward", arrays, forward, forward_ref, 1e-7, true, {{0}}, 0.0},
    {"embedding_backward", backward_arrays, backward, backward_ref, 1e-6, false, {{0}}, 0.0},
    {"embedding_backward with a skipped id",
     backward_arrays,
     backward_skip,
     backward_skip_ref,
     1e-6,
     false,
     {{0}},
     0.0},
    {"position_forward", position_arrays, position, position_ref, 1e-7, true, {{0}}, 0.0},
    {"position_backward",
     position_backward_arrays,
     position_backward,
     position_backward_ref,
     1e-6,
     false,
     {{0}},
     0.0},
};

static void backend_agrees_with_the_reference(void **state)
{
    (void)state;
    op_check_table(TABLE, sizeof TABLE / sizeof *TABLE);
}

static void gradients_are_the_derivatives(void **state)
{
    (void)state;
    op_check_gradient(&TABLE[0], &TABLE[1]);
    op_check_gradient(&TABLE[3], &TABLE[4]);
}

static void references_agree_with_values_by_hand(void **state)
{
    (void)state;
    const double table[] = {1, 2, 3, 4};
    const int32_t ids[] = {6, 5, 7, 6}, start[] = {0, 1, 3};
    const int64_t n[] = {0, 1};
    const fz_rows rows = {2, start, n, 0};
    double y[8], d[4] = {0};
    fz_embedding_forward_ref(y, table, ids, 4, 2, 5, 2, 10.0);
    op_assert_close(y, (const double[]){30, 40, 10, 20, 0, 0, 30, 40}, 8, 0.0);
    fz_embedding_backward_ref(d, y, ids, 4, 2, 5, 2, 1.0, 5);
    op_assert_close(d, (const double[]){0, 0, 60, 80}, 4, 0.0);
    double z[] = {0, 0, 0, 0, 0, 0};
    fz_position_forward_ref(z, table, &rows, 2, 0);
    op_assert_close(z, (const double[]){1, 2, 1, 2, 3, 4}, 6, 0.0);
    fz_position_backward_ref(d, z, &rows, 2, 0);
    op_assert_close(d, (const double[]){2, 4, 63, 84}, 4, 0.0);
}

/* The segment of a row is decided by its row number, whatever sequence it belongs to. */
static void position_sums_follow_the_segments_and_the_tree(void **state)
{
    (void)state;
    const float dy[] = {1e8f, 2.0f, -1e8f, 3.0f, 0.5f, 7.0f};
    const int32_t start[] = {0, 2, 3, 6};
    const int64_t n[] = {0, 1, 2};
    const fz_rows rows = {3, start, n, 0};
    float dtable[3] = {0}, work[6];
    /* segments of 6 rows in 2: rows 0-2, 3-5; position 0 is rows 0, 2, 3 */
    assert_ok(fz_ops_cpu.position_backward(dtable, dy, &rows, 1, 0, 3, 2, work, NULL));
    assert_true(dtable[0] == (dy[0] + dy[2]) + dy[3]);
    assert_true(dtable[1] == dy[1] + dy[4] && dtable[2] == dy[5]);
}

static void negative_zeros_of_the_table_become_zeros(void **state)
{
    (void)state;
    const float table[] = {-0.0f};
    const int32_t ids[] = {0};
    float y[1];
    assert_ok(fz_ops_cpu.embedding_forward(y, table, ids, 1, 1, 0, 1, 1.0f, NULL));
    assert_false(signbit(y[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_agree_with_values_by_hand),
        cmocka_unit_test(backend_agrees_with_the_reference),
        cmocka_unit_test(gradients_are_the_derivatives),
        cmocka_unit_test(position_sums_follow_the_segments_and_the_tree),
        cmocka_unit_test(negative_zeros_of_the_table_become_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
