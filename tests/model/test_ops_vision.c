/* Vision's operators: the reference against finite differences in double precision, the CPU's
 * against the reference, nothing written beyond the outputs, and an image's bits do not depend on
 * the images it is computed with. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"
#include "model/ops/channel_attention.h"
#include "model/ops/cpu.h"
#include "model/ops/depthwise.h"
#include "model/ops/im2col.h"
#include "model/ops/image_tokens.h"
#include "model/ops/row_sums.h"
#include "model/ops/window.h"

/* ---- arrays: a double one for the reference, a guarded float one with the same values ---- */

enum { GUARD = 16, MAX_ARRAYS = 32 };
static const float guard_value = -77.25f;

typedef struct array {
    int64_t n;
    double *d;
    float *f, *block;
} array;

static array pool[MAX_ARRAYS];
static int n_pool;

static array *take(int64_t n)
{
    assert_true(n_pool < MAX_ARRAYS);
    array *a = &pool[n_pool++];
    a->n = n;
    a->d = calloc((size_t)n + 1, sizeof *a->d);
    a->block = calloc((size_t)n + 2 * GUARD, sizeof *a->block);
    a->f = a->block + GUARD;
    for (int64_t i = 0; i < n + 2 * GUARD; i++)
        a->block[i] = guard_value;
    return a;
}

/* Normal numbers, the same in both types. */
static array *take_random(int64_t n, uint64_t key)
{
    array *a = take(n);
    fz_rng_normal(a->f, fz_mix64(key), 0, n);
    for (int64_t i = 0; i < n; i++)
        a->d[i] = (double)a->f[i];
    return a;
}

static int free_arrays(void **state)
{
    (void)state;
    for (int i = 0; i < n_pool; i++) {
        free(pool[i].d);
        free(pool[i].block);
    }
    n_pool = 0;
    return 0;
}

/* The CPU's values are the reference's, to a bound relative to the largest; guards are whole. */
static void assert_close(const array *a, double bound)
{
    double most = 1e-30, worst = 0.0;
    for (int64_t i = 0; i < a->n; i++) {
        most = fmax(most, fabs(a->d[i]));
        worst = fmax(worst, fabs(a->d[i] - (double)a->f[i]));
    }
    if (!(worst <= bound * most)) print_error("worst %g of %g\n", worst, most);
    assert_true(worst <= bound * most);
    for (int i = 0; i < GUARD; i++) {
        assert_true(a->block[i] == guard_value);
        assert_true(a->f[a->n + i] == guard_value);
    }
}

typedef void (*evaluate_fn)(void *context); /* reference forward: fills context's out->d */

/* dx is the gradient of sum(out * seed) in x. */
static void assert_gradient(evaluate_fn evaluate, void *context, array *x, const array *out,
                            const array *seed, const array *dx)
{
    const double h = 1e-5;
    for (int64_t i = 0; i < x->n; i += 1 + x->n / 150) {
        const double at = x->d[i];
        double loss[2] = {0.0, 0.0};
        for (int side = 0; side < 2; side++) {
            x->d[i] = side ? at + h : at - h;
            evaluate(context);
            for (int64_t o = 0; o < out->n; o++)
                loss[side] += out->d[o] * seed->d[o];
        }
        x->d[i] = at;
        const double slope = (loss[1] - loss[0]) / (2.0 * h);
        if (!(fabs(slope - dx->d[i]) <= 2e-6 * (1.0 + fabs(slope))))
            print_error("element %lld: slope %.9g, gradient %.9g\n", (long long)i, slope, dx->d[i]);
        assert_true(fabs(slope - dx->d[i]) <= 2e-6 * (1.0 + fabs(slope)));
    }
    evaluate(context);
}

/* ---- im2col ---- */

typedef struct patch_case {
    int64_t B, H, W, C, k, stride, pad;
    array *x, *out;
} patch_case;

static void evaluate_im2col(void *context)
{
    const patch_case *p = context;
    fz_im2col_ref(p->out->d, p->x->d, p->B, p->H, p->W, p->C, p->k, p->stride, p->pad);
}

static void patches_and_their_transpose(void **state)
{
    static const patch_case cases[] = {
        {2, 13, 9, 3, 7, 4, 3, NULL, NULL}, {3, 5, 8, 33, 3, 2, 1, NULL, NULL},
        {1, 1, 1, 4, 3, 2, 1, NULL, NULL},  {0, 4, 4, 4, 3, 2, 1, NULL, NULL},
        {2, 4, 4, 1, 3, 1, 1, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        patch_case p = cases[i];
        const int64_t Ho = fz_im2col_side(p.H, p.k, p.stride, p.pad);
        const int64_t Wo = fz_im2col_side(p.W, p.k, p.stride, p.pad);
        const int64_t n = p.B * Ho * Wo * p.C * p.k * p.k;
        p.x = take_random(p.B * p.H * p.W * p.C, 1);
        p.out = take(n);
        array *seed = take_random(n, 2), *dx = take(p.x->n);

        evaluate_im2col(&p);
        assert_int_equal(
            fz_cpu_im2col(p.out->f, p.x->f, p.B, p.H, p.W, p.C, p.k, p.stride, p.pad, NULL), FZ_OK);
        assert_close(p.out, 0.0);
        fz_col2im_ref(dx->d, seed->d, p.B, p.H, p.W, p.C, p.k, p.stride, p.pad);
        assert_int_equal(
            fz_cpu_col2im(dx->f, seed->f, p.B, p.H, p.W, p.C, p.k, p.stride, p.pad, NULL), FZ_OK);
        assert_close(dx, 1e-6);
        assert_gradient(evaluate_im2col, &p, p.x, p.out, seed, dx);
        free_arrays(state);
    }
}

static void patches_have_the_order_of_a_stored_convolution_weight(void **state)
{
    const double x[] = {1, 10, 2, 20, 3, 30, 4, 40}; /* 2 x 2, two channels */
    double col[4 * 18];
    (void)state;
    fz_im2col_ref(col, x, 1, 2, 2, 2, 3, 1, 1);
    /* the patch around the first pixel: channel 0, then channel 1, each row by row */
    const double first[18] = {0, 0, 0, 0, 1, 2, 0, 3, 4, 0, 0, 0, 0, 10, 20, 0, 30, 40};
    assert_memory_equal(col, first, sizeof first);
}

/* ---- depthwise ---- */

typedef struct depthwise_case {
    int64_t B, H, W, C;
    array *x, *w, *b, *out;
} depthwise_case;

static void evaluate_depthwise(void *context)
{
    const depthwise_case *p = context;
    fz_depthwise_residual_forward_ref(p->out->d, p->x->d, p->w->d, p->b->d, p->B, p->H, p->W, p->C);
}

static void depthwise_convolution_and_its_gradients(void **state)
{
    static const int64_t cases[][4] = {
        {2, 5, 4, 70}, {1, 1, 1, 3}, {1, 3, 1, 64}, {3, 1, 4, 65}, {2, 2, 2, 5}, {0, 3, 3, 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        depthwise_case p = {cases[i][0], cases[i][1], cases[i][2], cases[i][3], 0, 0, 0, 0};
        const int64_t n = p.B * p.H * p.W * p.C;
        p.x = take_random(n, 1);
        p.w = take_random(p.C * 9, 2);
        p.b = take_random(p.C, 3);
        p.out = take(n);
        array *seed = take_random(n, 4), *dx = take(n), *dw = take(p.C * 9), *db = take(p.C);

        evaluate_depthwise(&p);
        assert_int_equal(fz_cpu_depthwise_residual_forward(p.out->f, p.x->f, p.w->f, p.b->f, p.B,
                                                           p.H, p.W, p.C, NULL),
                         FZ_OK);
        assert_close(p.out, 1e-6);
        fz_depthwise_residual_backward_input_ref(dx->d, seed->d, p.w->d, p.B, p.H, p.W, p.C);
        assert_int_equal(fz_cpu_depthwise_residual_backward_input(dx->f, seed->f, p.w->f, p.B, p.H,
                                                                  p.W, p.C, NULL),
                         FZ_OK);
        assert_close(dx, 1e-6);
        fz_depthwise_backward_weight_ref(dw->d, db->d, seed->d, p.x->d, p.B, p.H, p.W, p.C);
        assert_int_equal(fz_cpu_depthwise_backward_weight(dw->f, db->f, seed->f, p.x->f, p.B, p.H,
                                                          p.W, p.C, NULL),
                         FZ_OK);
        assert_close(dw, 2e-6);
        assert_close(db, 2e-6);
        assert_gradient(evaluate_depthwise, &p, p.x, p.out, seed, dx);
        assert_gradient(evaluate_depthwise, &p, p.w, p.out, seed, dw);
        assert_gradient(evaluate_depthwise, &p, p.b, p.out, seed, db);
        free_arrays(state);
    }
}

/* ---- windows ---- */

static void windows_are_padded_right_and_bottom_and_merge_crops(void **state)
{
    static const int64_t cases[][5] = {
        {2, 7, 14, 5, 12}, {1, 12, 24, 3, 12}, {3, 2, 2, 32, 12}, {1, 5, 3, 2, 2}, {0, 3, 3, 8, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int64_t B = cases[i][0], H = cases[i][1], W = cases[i][2], C = cases[i][3];
        const int64_t w = cases[i][4], windows = ((H + w - 1) / w) * ((W + w - 1) / w);
        array *x = take_random(B * H * W * C, 1), *out = take(B * windows * w * w * C);
        array *back = take(x->n), *r = take_random(out->n, 2), *merged = take(x->n);
        double split = 0.0, merge = 0.0;

        fz_window_split_ref(out->d, x->d, B, H, W, C, w);
        assert_int_equal(fz_cpu_window_split(out->f, x->f, B, H, W, C, w, NULL), FZ_OK);
        assert_close(out, 0.0);
        fz_window_merge_ref(back->d, out->d, B, H, W, C, w);
        assert_int_equal(fz_cpu_window_merge(back->f, out->f, B, H, W, C, w, NULL), FZ_OK);
        assert_close(back, 0.0);
        for (int64_t e = 0; e < x->n; e++)
            assert_true(back->d[e] == x->d[e]);
        /* transposes of each other: <split x, r> = <x, merge r> */
        fz_window_merge_ref(merged->d, r->d, B, H, W, C, w);
        for (int64_t e = 0; e < out->n; e++)
            split += out->d[e] * r->d[e];
        for (int64_t e = 0; e < x->n; e++)
            merge += x->d[e] * merged->d[e];
        assert_true(fabs(split - merge) <= 1e-9 * (1.0 + fabs(split)));
        free_arrays(state);
    }
}

static void a_window_holds_its_pixels_row_by_row(void **state)
{
    double x[3 * 3], out[4 * 4];
    (void)state;
    for (int i = 0; i < 9; i++)
        x[i] = i + 1;
    fz_window_split_ref(out, x, 1, 3, 3, 1, 2);
    const double want[16] = {1, 2, 4, 5, 3, 0, 6, 0, 7, 8, 0, 0, 9, 0, 0, 0};
    assert_memory_equal(out, want, sizeof want);
}

/* ---- channel attention ---- */

typedef struct channel_case {
    int64_t images, n, C;
    array *qkv, *o, *a;
} channel_case;

static void evaluate_channel(void *context)
{
    const channel_case *p = context;
    fz_channel_attention_forward_ref(p->o->d, p->a->d, p->qkv->d, p->images, p->n, p->C);
}

static void channel_attention_and_its_gradient(void **state)
{
    static const int64_t cases[][3] = {{2, 9, 64}, {1, 1, 32}, {3, 50, 32}, {0, 4, 32}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        channel_case p = {cases[i][0], cases[i][1], cases[i][2], 0, 0, 0};
        const int64_t T = p.images * p.n;
        p.qkv = take_random(T * 3 * p.C, 1);
        p.o = take(T * p.C);
        p.a = take(p.images * p.C * 32);
        array *seed = take_random(T * p.C, 2), *dqkv = take(T * 3 * p.C);
        array *work = take((int64_t)(fz_cpu_channel_attention_work(p.C) / sizeof(float)));
        const fz_channel_attention_args args = {.qkv = p.qkv->f,
                                                .o = p.o->f,
                                                .a = p.a->f,
                                                .dout = seed->f,
                                                .dqkv = dqkv->f,
                                                .n_images = p.images,
                                                .n_tokens = p.n,
                                                .C = p.C,
                                                .work = work->f};

        evaluate_channel(&p);
        assert_int_equal(fz_cpu_channel_attention_forward(&args, NULL), FZ_OK);
        assert_close(p.o, 3e-6);
        assert_close(p.a, 3e-6);
        fz_channel_attention_backward_ref(dqkv->d, seed->d, p.qkv->d, p.a->d, p.images, p.n, p.C);
        assert_int_equal(fz_cpu_channel_attention_backward(&args, NULL), FZ_OK);
        assert_close(dqkv, 5e-6);
        assert_gradient(evaluate_channel, &p, p.qkv, p.o, seed, dqkv);
        for (int64_t e = 0; e < work->n; e++)
            work->d[e] = (double)work->f[e];
        assert_close(work, 0.0);
        free_arrays(state);
    }
}

/* One token: the scale is 1, so A is the softmax of plain products q_i k_j. */
static void channel_attention_scales_by_the_token_count(void **state)
{
    double qkv[4 * 96] = {0.0}, o[4 * 32], a[32 * 32];
    (void)state;
    for (int t = 0; t < 4; t++) {
        qkv[t * 96 + 0] = 1.0;      /* q of channel 0 */
        qkv[t * 96 + 32 + 5] = 1.0; /* k of channel 5 */
    }
    fz_channel_attention_forward_ref(o, a, qkv, 1, 4, 32);
    const double e = exp(4.0 / 2.0); /* four tokens, scale 4^-0.5 */
    assert_true(fabs(a[5] - e / (e + 31.0)) < 1e-12);
    assert_true(fabs(a[32 + 5] - 1.0 / 32.0) < 1e-12);
}

/* ---- the projector's tokens ---- */

typedef struct token_case {
    int64_t B, side, C;
    array *x, *row, *col, *y;
} token_case;

static void evaluate_tokens(void *context)
{
    const token_case *p = context;
    fz_image_tokens_forward_ref(p->y->d, p->x->d, p->row->d, p->col->d, p->B, p->side, p->C);
}

static void image_tokens_and_their_gradients(void **state)
{
    static const int64_t cases[][3] = {{2, 3, 6}, {1, 1, 4}, {3, 7, 34}, {0, 2, 8}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        token_case p = {cases[i][0], cases[i][1], cases[i][2], 0, 0, 0, 0};
        const int64_t n = p.side * p.side;
        p.x = take_random(p.B * n * p.C, 1);
        p.row = take_random(FZ_IMAGE_POSITIONS * p.C / 2, 2);
        p.col = take_random(FZ_IMAGE_POSITIONS * p.C / 2, 3);
        p.y = take(p.B * (1 + n) * p.C);
        array *seed = take_random(p.y->n, 4), *dx = take(p.x->n), *drow = take(p.row->n);
        array *dcol = take(p.col->n), *in = take_random(p.x->n, 5);

        evaluate_tokens(&p);
        assert_int_equal(
            fz_cpu_image_tokens_forward(p.y->f, p.x->f, p.row->f, p.col->f, p.B, p.side, p.C, NULL),
            FZ_OK);
        assert_close(p.y, 1e-6);
        fz_image_tokens_backward_ref(dx->d, seed->d, p.B, p.side, p.C);
        assert_int_equal(fz_cpu_image_tokens_backward(dx->f, seed->f, p.B, p.side, p.C, NULL),
                         FZ_OK);
        assert_close(dx, 1e-6);
        assert_gradient(evaluate_tokens, &p, p.x, p.y, seed, dx);
        fz_image_positions_backward_ref(drow->d, dcol->d, dx->d, p.B, p.side, p.C);
        assert_gradient(evaluate_tokens, &p, p.row, p.y, seed, drow);
        assert_gradient(evaluate_tokens, &p, p.col, p.y, seed, dcol);
        fz_image_positions_backward_ref(drow->d, dcol->d, in->d, p.B, p.side, p.C);
        assert_int_equal(
            fz_cpu_image_positions_backward(drow->f, dcol->f, in->f, p.B, p.side, p.C, NULL),
            FZ_OK);
        assert_close(drow, 1e-6);
        assert_close(dcol, 1e-6);
        free_arrays(state);
    }
}

static void the_first_token_is_the_mean_and_columns_come_first(void **state)
{
    const double x[8] = {0}; /* 2 x 2 map, C = 2 */
    double row[50] = {10, 20}, col[50] = {1, 2}, y[10];
    (void)state;
    fz_image_tokens_forward_ref(y, x, row, col, 1, 2, 2);
    const double want[10] = {1.5, 16, 1, 11, 2, 11, 1, 21, 2, 21}; /* odd channels + 1 */
    assert_memory_equal(y, want, sizeof want);
}

/* ---- sums over rows ---- */

static void sums_over_rows_match_the_reference(void **state)
{
    static const int64_t cases[][2] = {{300, 300}, {1, 5}, {129, 257}, {0, 7}, {128, 256}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int64_t N = cases[i][0], C = cases[i][1];
        array *dy = take_random(N * C, 1), *x = take_random(N * C, 2), *mean = take_random(N, 3);
        array *rstd = take_random(N, 4), *dw = take(C), *db = take(C), *sums = take(C);

        fz_column_sums_ref(sums->d, dy->d, N, C);
        assert_int_equal(fz_cpu_column_sums(sums->f, dy->f, N, C, NULL), FZ_OK);
        assert_close(sums, 1e-6);
        fz_layernorm_weight_sums_ref(dw->d, db->d, dy->d, x->d, mean->d, rstd->d, N, C);
        assert_int_equal(
            fz_cpu_layernorm_weight_sums(dw->f, db->f, dy->f, x->f, mean->f, rstd->f, N, C, NULL),
            FZ_OK);
        assert_close(dw, 1e-6);
        assert_close(db, 1e-6);
        assert_memory_equal(db->f, sums->f, (size_t)C * sizeof(float));
        free_arrays(state);
    }
}

/* Sums of 0.1 over many rows keep their digits: blocks of rows, not one long chain. */
static void long_sums_keep_their_digits(void **state)
{
    const int64_t N = 200000;
    array *dy = take(N);
    float sum;
    for (int64_t r = 0; r < N; r++)
        dy->f[r] = 0.1f;
    assert_int_equal(fz_cpu_column_sums(&sum, dy->f, N, 1, NULL), FZ_OK);
    assert_true(fabs((double)sum / ((double)0.1f * (double)N) - 1.0) < 3e-5);
    free_arrays(state);
}

/* ---- cutting ---- */

enum { B = 3, H = 5, W = 7, C = 64, N = H * W, SIDE = 5, POSITIONS = 25 };

/* out (B, per_out) in one call and image by image. */
typedef void (*image_fn)(float *out, const float *in, int64_t images, const array *a,
                         const array *b);

static void run_im2col(float *out, const float *in, int64_t images, const array *a, const array *b)
{
    (void)a;
    (void)b;
    fz_cpu_im2col(out, in, images, H, W, C, 3, 2, 1, NULL);
}
static void run_col2im(float *out, const float *in, int64_t images, const array *a, const array *b)
{
    (void)a;
    (void)b;
    fz_cpu_col2im(out, in, images, H, W, C, 3, 2, 1, NULL);
}
static void run_depthwise(float *out, const float *in, int64_t images, const array *a,
                          const array *b)
{
    fz_cpu_depthwise_residual_forward(out, in, a->f, b->f, images, H, W, C, NULL);
}
static void run_depthwise_back(float *out, const float *in, int64_t images, const array *a,
                               const array *b)
{
    (void)b;
    fz_cpu_depthwise_residual_backward_input(out, in, a->f, images, H, W, C, NULL);
}
static void run_channel(float *out, const float *in, int64_t images, const array *a, const array *b)
{
    float matrix[B * C * 32];
    (void)a;
    (void)b;
    fz_cpu_channel_attention_forward(
        &(fz_channel_attention_args){
            .qkv = in, .o = out, .a = matrix, .n_images = images, .n_tokens = N, .C = C},
        NULL);
}
static void run_tokens(float *out, const float *in, int64_t images, const array *a, const array *b)
{
    fz_cpu_image_tokens_forward(out, in, a->f, b->f, images, SIDE, C, NULL);
}
static void run_tokens_back(float *out, const float *in, int64_t images, const array *a,
                            const array *b)
{
    (void)a;
    (void)b;
    fz_cpu_image_tokens_backward(out, in, images, SIDE, C, NULL);
}

static void an_image_has_the_same_bits_in_any_company(void **state)
{
    static const struct {
        image_fn run;
        int64_t in, out;
    } ops[] = {
        {run_im2col, N * C, 3 * 4 * C * 9},
        {run_col2im, 3 * 4 * C * 9, N * C},
        {run_depthwise, N * C, N * C},
        {run_depthwise_back, N * C, N * C},
        {run_channel, N * 3 * C, N * C},
        {run_tokens, POSITIONS * C, (1 + POSITIONS) * C},
        {run_tokens_back, (1 + POSITIONS) * C, POSITIONS * C},
    };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        array *in = take_random(B * ops[i].in, 1), *a = take_random(C * 50, 2);
        array *b = take_random(C * 50, 3), *all = take(B * ops[i].out), *one = take(all->n);
        ops[i].run(all->f, in->f, B, a, b);
        for (int64_t n = 0; n < B; n++)
            ops[i].run(one->f + n * ops[i].out, in->f + n * ops[i].in, 1, a, b);
        assert_memory_equal(all->f, one->f, (size_t)all->n * sizeof(float));
        free_arrays(state);
    }
}

/* A channel's bits do not depend on where it lies in a vector: body and tail are one formula. */
static void a_channel_has_the_same_bits_at_any_width(void **state)
{
    enum { WIDE = 96, NARROW = 7 };
    array *x = take_random(N * WIDE, 1), *w = take_random(WIDE * 9, 2), *b = take_random(WIDE, 3);
    array *y = take(N * WIDE), *xs = take(N * NARROW), *ys = take(N * NARROW);
    array *dw = take(WIDE * 9), *db = take(WIDE), *dws = take(NARROW * 9), *dbs = take(NARROW);

    for (int64_t first = 0; first + NARROW <= WIDE; first += 13) {
        for (int64_t i = 0; i < N * NARROW; i++)
            xs->f[i] = x->f[i / NARROW * WIDE + first + i % NARROW];
        fz_cpu_depthwise_residual_forward(y->f, x->f, w->f, b->f, 1, H, W, WIDE, NULL);
        fz_cpu_depthwise_residual_forward(ys->f, xs->f, w->f + first * 9, b->f + first, 1, H, W,
                                          NARROW, NULL);
        fz_cpu_depthwise_backward_weight(dw->f, db->f, x->f, x->f, 1, H, W, WIDE, NULL);
        fz_cpu_depthwise_backward_weight(dws->f, dbs->f, xs->f, xs->f, 1, H, W, NARROW, NULL);
        for (int64_t i = 0; i < N * NARROW; i++)
            assert_true(ys->f[i] == y->f[i / NARROW * WIDE + first + i % NARROW]);
        assert_memory_equal(dws->f, dw->f + first * 9, NARROW * 9 * sizeof(float));
        assert_memory_equal(dbs->f, db->f + first, NARROW * sizeof(float));
    }
    free_arrays(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(patches_and_their_transpose, free_arrays),
        cmocka_unit_test(patches_have_the_order_of_a_stored_convolution_weight),
        cmocka_unit_test_teardown(depthwise_convolution_and_its_gradients, free_arrays),
        cmocka_unit_test_teardown(windows_are_padded_right_and_bottom_and_merge_crops, free_arrays),
        cmocka_unit_test(a_window_holds_its_pixels_row_by_row),
        cmocka_unit_test_teardown(channel_attention_and_its_gradient, free_arrays),
        cmocka_unit_test(channel_attention_scales_by_the_token_count),
        cmocka_unit_test_teardown(image_tokens_and_their_gradients, free_arrays),
        cmocka_unit_test(the_first_token_is_the_mean_and_columns_come_first),
        cmocka_unit_test_teardown(sums_over_rows_match_the_reference, free_arrays),
        cmocka_unit_test_teardown(long_sums_keep_their_digits, free_arrays),
        cmocka_unit_test_teardown(an_image_has_the_same_bits_in_any_company, free_arrays),
        cmocka_unit_test_teardown(a_channel_has_the_same_bits_at_any_width, free_arrays),
    };
    fz_ops_cpu_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
