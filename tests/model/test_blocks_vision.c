/* DaViT's blocks and the projector: the forward against a plain double-precision model, gradients
 * against slopes of the forward. */
#include "tests/model/vision_rig.h"

#include "model/ops/channel_attention.h"
#include "model/ops/depthwise.h"
#include "model/ops/im2col.h"
#include "model/ops/image_tokens.h"
#include "model/ops/window.h"

/* ---- the forward in plain double precision ---- */

static double *doubles(const float *x, int64_t n)
{
    double *d = malloc((size_t)n * sizeof *d + 1);
    for (int64_t i = 0; i < n; i++)
        d[i] = x ? (double)x[i] : 0.0;
    return d;
}

/* x becomes LN(x). */
static void norm(double *x, const float *w, const float *b, int64_t N, int64_t C)
{
    for (int64_t r = 0; r < N; r++) {
        double mean = 0.0, var = 0.0;
        for (int64_t c = 0; c < C; c++)
            mean += x[r * C + c] / (double)C;
        for (int64_t c = 0; c < C; c++)
            var += pow(x[r * C + c] - mean, 2.0) / (double)C;
        for (int64_t c = 0; c < C; c++)
            x[r * C + c] = (x[r * C + c] - mean) / sqrt(var + 1e-5) * (double)w[c] + (double)b[c];
    }
}

/* A new y = x W^T + b. */
static double *linear(const double *x, const float *w, const float *b, int64_t N, int64_t C,
                      int64_t out)
{
    double *y = doubles(NULL, N * out);
    for (int64_t r = 0; r < N; r++)
        for (int64_t o = 0; o < out; o++) {
            double sum = (double)b[o];
            for (int64_t c = 0; c < C; c++)
                sum += x[r * C + c] * (double)w[o * C + c];
            y[r * out + o] = sum;
        }
    return y;
}

static void depthwise(double *x, const float *w, const float *b, int64_t B, int64_t side, int64_t C)
{
    double *y = doubles(NULL, B * side * side * C), *wd = doubles(w, C * 9), *bd = doubles(b, C);
    fz_depthwise_residual_forward_ref(y, x, wd, bd, B, side, side, C);
    memcpy(x, y, (size_t)(B * side * side * C) * sizeof *x);
    free(y);
    free(wd);
    free(bd);
}

/* o (n, C) of one window, heads of 32. */
static void window_attention(double *o, const double *qkv, int64_t n, int64_t C)
{
    double p[144];
    for (int64_t h = 0; h < C / 32; h++)
        for (int64_t i = 0; i < n; i++) {
            double sum = 0.0;
            for (int64_t j = 0; j < n; j++) {
                p[j] = 0.0;
                for (int64_t c = h * 32; c < h * 32 + 32; c++)
                    p[j] += qkv[i * 3 * C + c] * qkv[j * 3 * C + C + c];
                sum += p[j] = exp(p[j] / sqrt(32.0));
            }
            for (int64_t c = h * 32; c < h * 32 + 32; c++) {
                o[i * C + c] = 0.0;
                for (int64_t j = 0; j < n; j++)
                    o[i * C + c] += p[j] / sum * qkv[j * 3 * C + 2 * C + c];
            }
        }
}

static void attention(double *y, float *const *w, bool channel, int64_t B, int64_t side, int64_t C)
{
    const int64_t T = B * side * side, per_side = (side + 11) / 12;
    const int64_t rows = channel ? T : B * per_side * per_side * 144;
    double *in = doubles(NULL, rows * C), *o = doubles(NULL, rows * C);
    if (channel)
        memcpy(in, y, (size_t)(T * C) * sizeof *in);
    else
        fz_window_split_ref(in, y, B, side, side, C, 12);
    double *qkv = linear(in, w[FZ_SUB_QKV_W], w[FZ_SUB_QKV_B], rows, C, 3 * C);
    if (channel) {
        double *a = doubles(NULL, B * C * 32);
        fz_channel_attention_forward_ref(o, a, qkv, B, side * side, C);
        free(a);
    } else {
        for (int64_t i = 0; i < rows / 144; i++)
            window_attention(o + i * 144 * C, qkv + i * 144 * 3 * C, 144, C);
    }
    double *p = linear(o, w[FZ_SUB_PROJ_W], w[FZ_SUB_PROJ_B], rows, C, C);
    if (channel)
        memcpy(y, p, (size_t)(T * C) * sizeof *y);
    else
        fz_window_merge_ref(y, p, B, side, side, C, 12);
    free(in);
    free(o);
    free(qkv);
    free(p);
}

static void ffn(double *y, float *const *w, int64_t T, int64_t C)
{
    double *h = linear(y, w[FZ_SUB_FC1_W], w[FZ_SUB_FC1_B], T, C, 4 * C);
    for (int64_t i = 0; i < T * 4 * C; i++)
        h[i] *= 0.5 * (1.0 + erf(h[i] / sqrt(2.0)));
    double *f = linear(h, w[FZ_SUB_FC2_W], w[FZ_SUB_FC2_B], T, 4 * C, C);
    memcpy(y, f, (size_t)(T * C) * sizeof *y);
    free(h);
    free(f);
}

static double *plain_sub(const rig *r, const float *in, int64_t B)
{
    const int64_t C = r->block->out_width, T = B * r->block->out_rows_per_image;
    const int64_t side = fz_vision_side(&r->program->config, r->block->layer);
    double *x = doubles(in, T * C), *y = doubles(NULL, T * C);
    float *const *w = r->weights;
    depthwise(x, w[FZ_SUB_DW1_W], w[FZ_SUB_DW1_B], B, side, C);
    memcpy(y, x, (size_t)(T * C) * sizeof *y);
    norm(y, w[FZ_SUB_NORM1_W], w[FZ_SUB_NORM1_B], T, C);
    attention(y, w, r->block->kind == &fz_block_vision_channel, B, side, C);
    for (int64_t i = 0; i < T * C; i++)
        x[i] += y[i];
    depthwise(x, w[FZ_SUB_DW2_W], w[FZ_SUB_DW2_B], B, side, C);
    memcpy(y, x, (size_t)(T * C) * sizeof *y);
    norm(y, w[FZ_SUB_NORM2_W], w[FZ_SUB_NORM2_B], T, C);
    ffn(y, w, T, C);
    for (int64_t i = 0; i < T * C; i++)
        x[i] += y[i];
    free(y);
    return x;
}

static double *plain_patch(const rig *r, const float *in, int64_t B)
{
    const fz_model_config *config = &r->program->config;
    const int s = r->block->layer;
    const int64_t C = r->block->out_width, C_in = s ? config->vision_dims[s - 1] : 3;
    const int64_t side = s ? fz_vision_side(config, s - 1) : SIDE, k = s ? 3 : 7;
    const int64_t N = B * r->block->out_rows_per_image;
    double *x = doubles(in, B * side * side * C_in), *col = doubles(NULL, N * C_in * k * k);
    float *const *w = r->weights;
    if (s > 0) norm(x, w[FZ_PATCH_NORM_W], w[FZ_PATCH_NORM_B], B * side * side, C_in);
    fz_im2col_ref(col, x, B, side, side, C_in, k, s ? 2 : 4, s ? 1 : 3);
    double *y = linear(col, w[FZ_PATCH_W], w[FZ_PATCH_B], N, C_in * k * k, C);
    if (s == 0) norm(y, w[FZ_PATCH_NORM_W], w[FZ_PATCH_NORM_B], N, C);
    free(x);
    free(col);
    return y;
}

static double *plain_projector(const rig *r, const float *in, int64_t B)
{
    const fz_model_config *config = &r->program->config;
    const int64_t side = fz_vision_side(config, 3), C = config->vision_dims[3];
    const int64_t N = B * (1 + side * side), d = config->enc_width;
    float *const *w = r->weights;
    double *x = doubles(in, B * side * side * C), *u = doubles(NULL, N * C);
    double *row = doubles(w[FZ_PROJ_ROW], 50 * C / 2), *col = doubles(w[FZ_PROJ_COL], 50 * C / 2);
    double *z = doubles(NULL, N * d);
    fz_image_tokens_forward_ref(u, x, row, col, B, side, C);
    for (int64_t i = 0; i < N * d; i++)
        for (int64_t c = 0; c < C; c++)
            z[i] += u[i / d * C + c] * (double)w[FZ_PROJ_W][c * d + i % d];
    norm(z, w[FZ_PROJ_NORM_W], w[FZ_PROJ_NORM_B], N, d);
    free(x);
    free(u);
    free(row);
    free(col);
    return z;
}

static void the_forward_is_that_of_the_plain_model(void **state)
{
    enum { B = 3 };
    fz_program *program = make_program(0.4, NULL);
    (void)state;
    for (int block = 0; block <= PROJECTOR; block++) {
        rig r;
        rig_start(&r, program, block);
        r.training = false; /* no drop-path */
        float *in = random_floats(B * r.in_image, 3);
        outcome got = run(&r, B, 0, S, in, NULL);
        const bool is_patch = r.block->kind == &fz_block_vision_patch;
        double *want = is_patch             ? plain_patch(&r, in, B)
                       : block == PROJECTOR ? plain_projector(&r, in, B)
                                            : plain_sub(&r, in, B);
        double worst = 0.0, most = 0.0;
        for (int64_t i = 0; i < B * r.out_image; i++) {
            worst = fmax(worst, fabs((double)got.out[i] - want[i]));
            most = fmax(most, fabs(want[i]));
        }
        if (!(worst <= 5e-6 * most)) print_error("%s: %g of %g\n", r.block->name, worst, most);
        assert_true(worst <= 5e-6 * most);
        outcome_free(&got);
        free(want);
        free(in);
        rig_stop(&r);
    }
    fz_program_destroy(&program);
}

/* ---- gradients ---- */

static double loss(rig *r, int64_t B, const float *in, const float *dout)
{
    outcome result = run(r, B, 0, S, in, NULL);
    double sum = 0.0;
    for (int64_t i = 0; i < B * r->out_image; i++)
        sum += (double)result.out[i] * (double)dout[i];
    outcome_free(&result);
    return sum;
}

/* The slope along the part of g with index mod 3 == part equals that part's norm. values is what g
 * is the gradient of; the loss is taken anew with changed values. */
static void assert_slope(rig *r, int64_t B, const float *in, const float *dout, float *values,
                         const float *g, int64_t n, int part, const char *what)
{
    float *old = malloc((size_t)n * sizeof(float) + 1);
    double square = 0.0, both[2];
    const double h = 4e-3;
    memcpy(old, values, (size_t)n * sizeof(float));
    for (int64_t i = part; i < n; i += 3)
        square += (double)g[i] * (double)g[i];
    const double length = sqrt(square);
    if (length > 0.0) {
        for (int side = 0; side < 2; side++) {
            for (int64_t i = part; i < n; i += 3)
                values[i] = (float)((double)old[i] + (side ? h : -h) * (double)g[i] / length);
            both[side] = loss(r, B, in, dout);
        }
        memcpy(values, old, (size_t)n * sizeof(float));
        const double slope = (both[1] - both[0]) / (2.0 * h);
        if (!(fabs(slope - length) <= 4e-3 * length + 1e-3))
            print_error("%s %s part %d: slope %g, gradient %g\n", r->block->name, what, part, slope,
                        length);
        assert_true(fabs(slope - length) <= 4e-3 * length + 1e-3);
    }
    free(old);
}

static void gradients_are_the_slopes_of_the_forward(void **state)
{
    /* the last two: every second branch is dropped, the two branches differently */
    static const int blocks[] = {PATCH0,   SPATIAL0,  CHANNEL0,     PATCH1,
                                 SPATIAL1, PROJECTOR, LAST_SUB - 1, LAST_SUB};
    enum { B = 4 };
    fz_program *program = make_program(0.5, NULL);
    (void)state;
    for (size_t b = 0; b < sizeof blocks / sizeof blocks[0]; b++) {
        rig r;
        rig_start(&r, program, blocks[b]);
        float *in = random_floats(B * r.in_image, 3), *dout = random_floats(B * r.out_image, 4);
        outcome result = run(&r, B, 0, S, in, dout);
        for (int i = 0; i < r.block->n_uses; i++) {
            char what[16];
            double any = 0.0;
            snprintf(what, sizeof what, "use %d", i);
            for (int64_t e = 0; e < use_elements(&r, i); e++)
                any += fabs((double)r.grads[i][e]);
            assert_true(any > 0.0);
            for (int part = 0; part < 3; part++)
                assert_slope(&r, B, in, dout, r.weights[i], r.grads[i], use_elements(&r, i), part,
                             what);
        }
        for (int part = 0; part < 3 && r.block->wants_input_grad; part++)
            assert_slope(&r, B, in, dout, in, result.din, B * r.in_image, part, "input");
        assert_true(r.block->wants_input_grad == (blocks[b] != PATCH0));
        outcome_free(&result);
        free(in);
        free(dout);
        rig_stop(&r);
    }
    fz_program_destroy(&program);
}

static void gradients_are_added_to_what_is_there(void **state)
{
    enum { B = 2 };
    fz_program *program = make_program(0.0, NULL);
    rig r;
    (void)state;
    rig_start(&r, program, CHANNEL0);
    float *in = random_floats(B * r.in_image, 3), *dout = random_floats(B * r.out_image, 4);
    outcome one = run(&r, B, 0, S, in, dout);
    float *first = malloc((size_t)use_elements(&r, FZ_SUB_FC1_W) * sizeof(float));
    memcpy(first, r.grads[FZ_SUB_FC1_W], (size_t)use_elements(&r, FZ_SUB_FC1_W) * sizeof(float));
    outcome two = run(&r, B, 0, S, in, dout);
    for (int64_t i = 0; i < use_elements(&r, FZ_SUB_FC1_W); i++)
        assert_true(r.grads[FZ_SUB_FC1_W][i] == 2.0f * first[i]);
    outcome_free(&one);
    outcome_free(&two);
    free(first);
    free(in);
    free(dout);
    rig_stop(&r);
    fz_program_destroy(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_forward_is_that_of_the_plain_model),
        cmocka_unit_test(gradients_are_the_slopes_of_the_forward),
        cmocka_unit_test(gradients_are_added_to_what_is_there),
    };
    fz_ops_cpu_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
