/* Attention over ragged sequences. */
#include "model/ops/attention.h"
#include "op_table.h"

/* One way to attend; the width of the shape is the head dimension up to 40. */
typedef struct kind {
    const char *name;
    int n_heads, n_kv_heads;
    bool self, causal;
    int64_t window;
    float softcap;
    int64_t q_first;
} kind;

static const kind KINDS[] = {
    {"cross", 2, 2, false, false, 0, 0.0f, 0},
    {"cross with groups and a cap", 4, 2, false, false, 0, 2.0f, 0},
    {"causal self", 2, 2, true, true, 0, 0.0f, 0},
    {"causal self with a window, groups and a cap", 6, 2, true, true, 2, 1.5f, 0},
    {"causal cross, longer or shorter than the queries", 2, 1, false, true, 0, 0.0f, 0},
    {"window without a causal mask", 1, 1, true, false, 3, 0.0f, 0},
    {"queries behind others", 2, 1, false, true, 0, 0.0f, 3},
    {"queries behind others with a window and a cap", 2, 2, false, true, 4, 1.5f, 2},
};
static const kind *chosen;

static int64_t head_dim(const op_shape *s)
{
    return s->C > 40 ? 40 : s->C;
}
static int64_t q_stride(const op_shape *s)
{
    return chosen->n_heads * head_dim(s) + 3;
}
static int64_t kv_stride(const op_shape *s)
{
    return chosen->n_kv_heads * head_dim(s) + 2;
}
static int64_t o_stride(const op_shape *s)
{
    return chosen->n_heads * head_dim(s) + 1;
}
static const int32_t *kv_start(const op_shape *s)
{
    return chosen->self ? s->rows.start : s->kv_start;
}
static int64_t longest(const int32_t *start, int64_t n)
{
    int64_t max = 0;
    for (int64_t b = 0; b < n; b++)
        if (start[b + 1] - start[b] > max) max = start[b + 1] - start[b];
    return max;
}

static fz_attention_args settings(const op_shape *s)
{
    return (fz_attention_args){
        .n_seq = s->rows.n_seq,
        .q_start = s->rows.start,
        .kv_start = kv_start(s),
        .max_q_len = longest(s->rows.start, s->rows.n_seq),
        .max_kv_len = longest(kv_start(s), s->rows.n_seq),
        .n_heads = chosen->n_heads,
        .n_kv_heads = chosen->n_kv_heads,
        .head_dim = head_dim(s),
        .q_stride = q_stride(s),
        .kv_stride = kv_stride(s),
        .o_stride = o_stride(s),
        .scale = 0.6f,
        .softcap = chosen->softcap,
        .causal = chosen->causal,
        .window = chosen->window,
        .q_first = chosen->q_first,
        .dropout = s->dropout,
        .sample_n = s->rows.sample_n,
        .first_head = 3,
    };
}

/* q, k, v, then the output side. Outputs are strided: what lies between their rows is compared
 * too and must stay, so they have values before the call. */
static void q_k_v(const op_shape *s, op_array list[OP_ARRAYS])
{
    const int64_t n_kv = kv_start(s)[s->rows.n_seq];
    list[0] = op_make("q", OP_IN, s->N * q_stride(s), q_stride(s));
    list[1] = op_make("k", OP_IN, n_kv * kv_stride(s), kv_stride(s));
    list[2] = op_make("v", OP_IN, n_kv * kv_stride(s), kv_stride(s));
    list[1].by_kv = list[2].by_kv = !chosen->self;
}
static int64_t work_floats(const op_shape *s)
{
    const fz_attention_args x = settings(s);
    const size_t bytes = s->ops->attention_work(x.max_q_len, x.max_kv_len, x.head_dim);
    assert_true(bytes % sizeof(float) == 0);
    return (int64_t)(bytes / sizeof(float));
}
static void forward_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    q_k_v(s, list);
    list[3] = op_make("o", OP_INPLACE, s->N * o_stride(s), o_stride(s));
    list[4] = op_make("lse", OP_OUT, s->N * chosen->n_heads, chosen->n_heads);
    list[5] = op_make("work", OP_SCRATCH, work_floats(s), 0);
}
static void forward(const op_shape *s, float **a)
{
    fz_attention_args x = settings(s);
    x.q = a[0];
    x.k = a[1];
    x.v = a[2];
    x.o = a[3];
    x.lse = a[4];
    x.work = a[5];
    assert_ok(s->ops->attention_forward(&x, NULL));
}
static void forward_ref(const op_shape *s, double **a)
{
    const fz_attention_args x = settings(s);
    const fz_attention_ref arrays = {.q = a[0], .k = a[1], .v = a[2], .o = a[3], .lse = a[4]};
    fz_attention_forward_ref(&arrays, &x);
}

/* The backward pass needs a true o and lse: the call makes them first. */
static void backward_arrays(const op_shape *s, op_array list[OP_ARRAYS])
{
    q_k_v(s, list);
    list[3] = op_make("o", OP_INPLACE, s->N * o_stride(s), o_stride(s));
    list[4] = op_make("lse", OP_OUT, s->N * chosen->n_heads, chosen->n_heads);
    list[5] = op_make("do", OP_IN, s->N * o_stride(s), o_stride(s));
    list[6] = op_make("dq", OP_ADD, s->N * q_stride(s), q_stride(s));
    list[7] = list[1];
    list[7].name = "dk";
    list[7].role = OP_ADD;
    list[8] = list[2];
    list[8].name = "dv";
    list[8].role = OP_ADD;
    list[9] = op_make("work", OP_SCRATCH, work_floats(s), 0);
}
static void backward(const op_shape *s, float **a)
{
    fz_attention_args x = settings(s);
    x.q = a[0];
    x.k = a[1];
    x.v = a[2];
    x.o = a[3];
    x.lse = a[4];
    x.dout = a[5];
    x.dq = a[6];
    x.dk = a[7];
    x.dv = a[8];
    x.work = a[9];
    assert_ok(s->ops->attention_forward(&x, NULL));
    assert_ok(s->ops->attention_backward(&x, NULL));
}
static void backward_ref(const op_shape *s, double **a)
{
    const fz_attention_args x = settings(s);
    const fz_attention_ref arrays = {a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8]};
    fz_attention_forward_ref(&arrays, &x);
    fz_attention_backward_ref(&arrays, &x);
}

static const op_row FORWARD = {
    "attention_forward", forward_arrays, forward, forward_ref, 2e-6, true, {{0}}, 1.0};
static const op_row BACKWARD = {
    "attention_backward", backward_arrays, backward, backward_ref, 5e-6, true, {{0}}, 1.0};

static void backend_agrees_with_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        chosen = &KINDS[i];
        op_check_table(&FORWARD, 1);
        op_check_table(&BACKWARD, 1);
    }
}

static void gradients_are_the_derivatives(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        chosen = &KINDS[i];
        op_check_gradient(&FORWARD, &BACKWARD);
    }
}

static void reference_agrees_with_values_by_hand(void **state)
{
    (void)state;
    const int32_t start[] = {0, 2};
    const int64_t n = 0;
    fz_attention_args args = {.n_seq = 1,
                              .q_start = start,
                              .kv_start = start,
                              .max_q_len = 2,
                              .max_kv_len = 2,
                              .n_heads = 1,
                              .n_kv_heads = 1,
                              .head_dim = 1,
                              .q_stride = 1,
                              .kv_stride = 1,
                              .o_stride = 1,
                              .scale = 0.5f,
                              .causal = true,
                              .sample_n = &n};
    const double q[] = {1, 2}, k[] = {0, 0.6931471805599453},
                 v[] = {3, 9}; /* scores 0 | 0, log 2 */
    double o[2], lse[2];
    const fz_attention_ref arrays = {.q = q, .k = k, .v = v, .o = o, .lse = lse};
    fz_attention_forward_ref(&arrays, &args);
    op_assert_close(o, (const double[]){3, 7}, 2, 1e-14); /* all on the first; 1/3 and 2/3 */
    op_assert_close(lse, (const double[]){0, 1.0986122886681098}, 2, 1e-14);
    args.window = 1; /* each sees itself alone */
    fz_attention_forward_ref(&arrays, &args);
    op_assert_close(o, v, 2, 1e-14);
}

static void queries_without_keys_give_zeros(void **state)
{
    (void)state;
    const int32_t q_start[] = {0, 2}, kv_starts[] = {0, 0};
    const int64_t n = 0;
    float q[4] = {1, 2, 3, 4}, o[4] = {9, 9, 9, 9}, dout[4] = {1, 1, 1, 1}, dq[4] = {9, 9, 9, 9};
    float lse[2], none[1];
    const fz_attention_args args = {.q = q,
                                    .k = none,
                                    .v = none,
                                    .o = o,
                                    .lse = lse,
                                    .dout = dout,
                                    .dq = dq,
                                    .dk = none,
                                    .dv = none,
                                    .n_seq = 1,
                                    .q_start = q_start,
                                    .kv_start = kv_starts,
                                    .max_q_len = 2,
                                    .n_heads = 1,
                                    .n_kv_heads = 1,
                                    .head_dim = 2,
                                    .q_stride = 2,
                                    .kv_stride = 2,
                                    .o_stride = 2,
                                    .scale = 1.0f,
                                    .sample_n = &n,
                                    .work = none};
    assert_ok(fz_ops_cpu.attention_forward(&args, NULL));
    assert_ok(fz_ops_cpu.attention_backward(&args, NULL));
    for (int i = 0; i < 4; i++)
        assert_true(o[i] == 0.0f && dq[i] == 0.0f);
    assert_true(isinf(lse[0]) && lse[0] < 0.0f && isinf(lse[1]));
}

/* A cache with room for more: what lies behind the last query is not read, whatever it is. */
static void keys_behind_the_last_query_are_not_read(void **state)
{
    (void)state;
    enum { ROOM = 5, POSITION = 2 };
    const int32_t q_start[] = {0, 1, 2}, room[] = {0, ROOM, 2 * ROOM};
    const float q[] = {1.0f, -1.0f};
    float k[2 * ROOM], v[2 * ROOM], o[2], lse[2], work[2 * 16];
    fz_attention_args args = {.q = q,
                              .k = k,
                              .v = v,
                              .o = o,
                              .lse = lse,
                              .n_seq = 2,
                              .q_start = q_start,
                              .kv_start = room,
                              .max_q_len = 1,
                              .max_kv_len = ROOM,
                              .n_heads = 1,
                              .n_kv_heads = 1,
                              .head_dim = 1,
                              .q_stride = 1,
                              .kv_stride = 1,
                              .o_stride = 1,
                              .scale = 1.0f,
                              .causal = true,
                              .q_first = POSITION,
                              .work = work};
    op_poison(k, 2 * ROOM);
    op_poison(v, 2 * ROOM);
    for (int r = 0; r < 2; r++)
        for (int j = 0; j <= POSITION; j++) {
            k[r * ROOM + j] = 0.0f;
            v[r * ROOM + j] = (float)(10 * r + j);
        }
    assert_ok(fz_ops_cpu.attention_forward(&args, NULL));
    assert_true(fabsf(o[0] - 1.0f) < 1e-6f && fabsf(o[1] - 11.0f) < 1e-5f); /* means of three */
    args.window = 2;
    assert_ok(fz_ops_cpu.attention_forward(&args, NULL));
    assert_true(fabsf(o[0] - 1.5f) < 1e-6f && fabsf(o[1] - 11.5f) < 1e-5f); /* of the last two */
}

/* Shards of the heads draw what the whole draws, and give the same bits. */
static void shards_of_heads_give_the_same_bits(void **state)
{
    (void)state;
    enum { T = 21, HD = 16 };
    static float q[T * 2 * HD], k[T * 2 * HD], v[T * 2 * HD], o[2][T * 2 * HD], lse[2][T * 2];
    static float work[4 * T * 32];
    const int32_t start[] = {0, T};
    const int64_t n = 4;
    for (int i = 0; i < T * 2 * HD; i++) {
        q[i] = sinf((float)i);
        k[i] = cosf((float)i * 0.7f);
        v[i] = sinf((float)i * 0.3f);
    }
    fz_attention_args args = {.q = q,
                              .k = k,
                              .v = v,
                              .o = o[0],
                              .lse = lse[0],
                              .n_seq = 1,
                              .q_start = start,
                              .kv_start = start,
                              .max_q_len = T,
                              .max_kv_len = T,
                              .n_heads = 2,
                              .n_kv_heads = 2,
                              .head_dim = HD,
                              .q_stride = 2 * HD,
                              .kv_stride = 2 * HD,
                              .o_stride = 2 * HD,
                              .scale = 1.0f,
                              .causal = true,
                              .dropout = {.p = 0.2, .seed = 8, .site = 9},
                              .sample_n = &n,
                              .work = work};
    assert_ok(fz_ops_cpu.attention_forward(&args, NULL));
    for (int head = 0; head < 2; head++) {
        args.q = q + head * HD;
        args.k = k + head * HD;
        args.v = v + head * HD;
        args.o = o[1] + head * HD;
        args.lse = lse[1] + head * T;
        args.n_heads = args.n_kv_heads = 1;
        args.first_head = head;
        assert_ok(fz_ops_cpu.attention_forward(&args, NULL));
    }
    assert_memory_equal(o[0], o[1], sizeof o[0]);
    for (int i = 0; i < T; i++)
        assert_true(lse[0][2 * i] == lse[1][i] && lse[0][2 * i + 1] == lse[1][T + i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_agrees_with_values_by_hand),
        cmocka_unit_test(queries_without_keys_give_zeros),
        cmocka_unit_test(backend_agrees_with_the_reference),
        cmocka_unit_test(keys_behind_the_last_query_are_not_read),
        cmocka_unit_test(shards_of_heads_give_the_same_bits),
        cmocka_unit_test(gradients_are_the_derivatives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
