/* florenz bench: the training step against the matrix rate of the same machine in the same run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/memory.h"
#include "dist/mesh.h"
#include "launch/bench.h"
#include "launch/commands.h"
#include "launch/environment.h"
#include "launch/json.h"
#include "launch/options.h"
#include "launch/timed_ops.h"
#include "parallel/synthetic.h"
#include "parallel/trainer.h"

static const fz_option options_table[] = {
    {"--family", "gemma|bart", "decoder; default gemma", false},
    {"--width", "N", "of encoder and decoder, a multiple of 256; default 256", false},
    {"--micro-batch", "N", "samples of a micro-batch; default 8", false},
    {"--micro-batches", "N", "of a step; default 4", false},
    {"--image-size", "N", "pixels of a side; default 96", false},
    {"--steps", "N", "timed steps, after two that are not; default 5", false},
    {"--shapes", "N", "also the N product shapes that take the longest; default 0", false},
    {"--generate", NULL, "speed of generation instead, with and without its cache", false},
    {"--json", NULL, "one object on standard output", false},
};
static const fz_command command = {
    .usage = "florenz bench [OPTION]...",
    .about =
        "Speed of the training step on this machine, on random batches. Alone: one rank. Under\n"
        "mpirun -n N also data parallel over N ranks, on the same global batch.\n"
        "\n"
        "The model is tiny-gemma or tiny-bart with all widths scaled up. A 1024^3 sgemm is timed\n"
        "after every step; the step's share of its rate is the result. Seconds are medians, by\n"
        "the wall clock and as processor time of the rank's thread: where the two differ, others\n"
        "had the processor. A second pass, with the clock around every operation and every\n"
        "matrix product, gives the tables. Prints Markdown.\n"
        "\n"
        "JSON keys: family, width, image_size, shards, parameters, micro_batch, micro_batches,\n"
        "arithmetic; one (the rank alone) and all (N ranks) with ranks, step_s, step_cpu_s,\n"
        "planned_flops, sgemm_flops_per_s, sgemm_cpu_flops_per_s, share, cpu_share; flops (of the\n"
        "products that ran, a step); speedup and cpu_speedup (all over one, null alone); ops:\n"
        "name, calls, s, product_s a step; products: below, calls, s, flops a step, by m*n*k.\n"
        "\n"
        "--generate, on one rank: 128 tokens of micro-batch texts, greedy with the cache and by "
        "the\n"
        "whole text for every token, and by four beams with it; --steps rounds in turn, medians "
        "of\n"
        "tokens/s. JSON keys: family, width, parameters, texts, tokens, cache, whole, beams,\n"
        "speedup (cache over whole).",
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

typedef struct bench {
    long long width, micro_batch, n_micro, steps, image_size, n_shapes;
    const char *family;
    bool json, generates;
    fz_world world;
    fz_program *program;
    fz_train_config train;
} bench;

/* Medians of a step and of the sgemm beside it, by both clocks. */
typedef struct timing {
    int ranks;
    double step_s, step_cpu_s, planned_flops;
    double sgemm_s, sgemm_cpu_s;
} timing;

/* Sums over the timed steps of the pass with the clocks. */
typedef struct detail {
    const fz_op_time *ops;
    const fz_product_time *products;
    int n_ops, n_products;
    double total_s; /* of the steps */
} detail;

enum { SGEMM_SIDE = 1024, GENERATED = 128 };
static const double SGEMM_FLOPS = 2.0 * SGEMM_SIDE * SGEMM_SIDE * SGEMM_SIDE;

/* ---- measuring ---- */

typedef struct sgemm {
    float *abc; /* owned */
    fz_gemm_args args;
} sgemm;

static fz_status sgemm_create(sgemm *g)
{
    const int64_t n = SGEMM_SIDE;
    FZ_TRY(FZ_NEW(&g->abc, 3 * n * n));
    for (int64_t i = 0; i < 2 * n * n; i++)
        g->abc[i] = (float)(i % 17) * 0.01f;
    g->args = (fz_gemm_args){.c = g->abc + 2 * n * n,
                             .a = g->abc,
                             .b = g->abc + n * n,
                             .trans_b = true, /* as the blocks' forward calls it */
                             .m = n,
                             .n = n,
                             .k = n,
                             .lda = n,
                             .ldb = n,
                             .ldc = n,
                             .alpha = 1.0f};
    return fz_ops_cpu.gemm(&g->args, NULL);
}

typedef struct samples {
    double *step, *step_cpu, *sgemm, *sgemm_cpu; /* owned; one a timed step */
} samples;

static fz_status samples_create(samples *s, int64_t n)
{
    FZ_TRY(FZ_NEW(&s->step, n));
    FZ_TRY(FZ_NEW(&s->step_cpu, n));
    FZ_TRY(FZ_NEW(&s->sgemm, n));
    return FZ_NEW(&s->sgemm_cpu, n);
}

static void samples_reset(samples *s)
{
    fz_free(&s->step);
    fz_free(&s->step_cpu);
    fz_free(&s->sgemm);
    fz_free(&s->sgemm_cpu);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double fz_bench_median(double *x, int64_t n)
{
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

/* Seconds of the sgemm, on all ranks at the same time. */
static fz_status time_sgemm(const sgemm *g, double *wall_s, double *cpu_s)
{
    const double wall = fz_clock_s(), cpu = fz_clock_cpu_s();
    FZ_TRY(fz_ops_cpu.gemm(&g->args, NULL));
    *wall_s = fz_clock_s() - wall;
    *cpu_s = fz_clock_cpu_s() - cpu;
    return FZ_OK;
}

/* Two steps to warm up, then the timed ones; total_s: processor seconds of all timed ones. */
static fz_status run_steps(const bench *b, fz_trainer *trainer, const sgemm *g, samples *s,
                           timing *t, double *total_s)
{
    const fz_trainer_needs needs = fz_trainer_get_needs(trainer);
    fz_synthetic *synthetic = NULL;
    fz_status status = fz_synthetic_create(b->program, &b->train, &needs, 16, 16, &synthetic);

    *total_s = t->planned_flops = 0;
    for (int64_t i = -2; i < b->steps && status == FZ_OK; i++) {
        const int64_t at = i < 0 ? 0 : i;
        fz_step_batch batch;
        fz_step_result result = {0};
        fz_synthetic_step(synthetic, i + 2, &batch);
        if (i == 0) fz_timed_ops_reset();
        const double wall = fz_clock_s(), cpu = fz_clock_cpu_s();
        status = fz_trainer_step(trainer, &batch, &result);
        s->step[at] = fz_clock_s() - wall;
        s->step_cpu[at] = fz_clock_cpu_s() - cpu;
        if (i < 0) continue;
        *total_s += s->step_cpu[at];
        t->planned_flops += result.flops / (double)b->steps;
        if (status == FZ_OK && g) status = time_sgemm(g, &s->sgemm[at], &s->sgemm_cpu[at]);
    }
    fz_synthetic_destroy(&synthetic);
    return status;
}

/* g NULL: no sgemm between the steps. */
static fz_status time_layout(const bench *b, const fz_world *world, const fz_ops *ops,
                             const sgemm *g, timing *t, double *total_s)
{
    const fz_layout_config layout = {.shape = {.pp = 1, .dp = world->size, .tp = 1},
                                     .n_shards = b->program->n_shards,
                                     .n_lanes = 8};
    fz_plan *plan = NULL;
    fz_mesh mesh = {0};
    fz_trainer *trainer = NULL;
    samples s = {0};

    fz_status status = samples_create(&s, b->steps);
    if (status == FZ_OK) status = fz_plan_create(b->program, &b->train, &layout, &plan);
    if (status == FZ_OK) status = fz_mesh_create(world, layout.shape, &mesh);
    if (status == FZ_OK) status = fz_trainer_create(plan, &mesh, ops, &trainer);
    if (status == FZ_OK) {
        fz_trainer_init(trainer);
        status = run_steps(b, trainer, g, &s, t, total_s);
    }
    if (status == FZ_OK) {
        t->ranks = world->size;
        t->step_s = fz_bench_median(s.step, b->steps);
        t->step_cpu_s = fz_bench_median(s.step_cpu, b->steps);
        t->sgemm_s = fz_bench_median(s.sgemm, b->steps);
        t->sgemm_cpu_s = fz_bench_median(s.sgemm_cpu, b->steps);
    }
    samples_reset(&s);
    fz_trainer_destroy(&trainer);
    fz_mesh_reset(&mesh);
    fz_plan_destroy(&plan);
    return status;
}

/* Ranks that wait for rank 0 sleep: one that polls takes memory bandwidth, and on two threads of
 * one core half of the core. */
static fz_status sleep_until_done(const bench *b)
{
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    enum { TAG_DONE = 7 };
    fz_request request = {{NULL}};
    char done = 0;

    if (b->world.rank == 0) {
        for (int r = 1; r < b->world.size; r++) {
            FZ_TRY(fz_send_start(b->world.group, &done, 1, r, TAG_DONE, &request));
            FZ_TRY(fz_request_wait(&request));
        }
        return FZ_OK;
    }
    FZ_TRY(fz_recv_start(b->world.group, &done, 1, 0, TAG_DONE, &request));
    for (int arrived = 0; !arrived;) {
        FZ_TRY(fz_request_test(&request, &arrived));
        if (!arrived) nanosleep(&pause, NULL);
    }
    return FZ_OK;
}

static fz_status measure_one(const bench *b, const sgemm *g, timing *one, detail *d)
{
    fz_group *self = NULL;
    timing unused = {0};
    fz_status status = FZ_OK;

    FZ_TRY(fz_group_split(b->world.group, b->world.rank, 0, &self));
    const fz_world alone = {.rank = 0, .size = 1, .group = self, .places = b->world.places};
    if (b->world.rank == 0) {
        double ignored;
        status = time_layout(b, &alone, &fz_ops_cpu, g, one, &ignored);
        if (status == FZ_OK)
            status =
                time_layout(b, &alone, fz_timed_ops_start(&fz_ops_cpu), NULL, &unused, &d->total_s);
        fz_timed_ops_stop();
        d->n_ops = fz_timed_ops_get(&d->ops);
        d->n_products = fz_timed_products_get(&d->products);
    }
    fz_group_destroy(&self);
    const fz_status waited = sleep_until_done(b);
    return fz_agree(b->world.group, status != FZ_OK ? status : waited);
}

/* ---- reporting ---- */

/* Products by size: OpenBLAS has other kernels below m*n*k = 10^6. */
enum { SIZES = 5 };
static const double size_limit[SIZES] = {1e5, 1e6, 1e7, 1e8, 0}; /* 0: none */

typedef struct size_class {
    double seconds, flops, calls; /* a step */
} size_class;

static double sum_products(const bench *b, const detail *d, size_class class[SIZES])
{
    double flops = 0;
    for (int i = 0; i < d->n_products; i++) {
        const fz_product_time *p = &d->products[i];
        int c = 0;
        while (c < SIZES - 1 && (double)(p->m * p->n * p->k) >= size_limit[c])
            c++;
        class[c].seconds += p->seconds / (double)b->steps;
        class[c].flops += p->flops / (double)b->steps;
        class[c].calls += (double)p->calls / (double)b->steps;
        flops += p->flops / (double)b->steps;
    }
    return flops;
}

static void print_rate(const timing *t, const char *name)
{
    const double rate = SGEMM_FLOPS / t->sgemm_s, cpu_rate = SGEMM_FLOPS / t->sgemm_cpu_s;
    const double flops = t->planned_flops / t->ranks;
    printf("| %s, wall | %.1f | %.1f | %.1f | %.1f %% |\n", name, 1e3 * t->step_s,
           1e-9 * flops / t->step_s, 1e-9 * rate, 100 * flops / t->step_s / rate);
    printf("| %s, processor | %.1f | %.1f | %.1f | **%.1f %%** |\n", name, 1e3 * t->step_cpu_s,
           1e-9 * flops / t->step_cpu_s, 1e-9 * cpu_rate, 100 * flops / t->step_cpu_s / cpu_rate);
}

static void print_ops(const bench *b, const detail *d)
{
    const double steps = (double)b->steps, total = d->total_s;
    double products = 0, inside = 0;

    printf("\n| op | calls a step | ms a step | share | of it products |\n"
           "| --- | ---: | ---: | ---: | ---: |\n");
    for (int i = 0; i < d->n_ops; i++) {
        const fz_op_time *op = &d->ops[i];
        printf("| %s | %.0f | %.3f | %.2f %% | %.0f %% |\n", op->name, (double)op->calls / steps,
               1e3 * op->seconds / steps, 100 * op->seconds / total,
               100 * op->product_seconds / op->seconds);
        products += op->product_seconds;
        inside += op->seconds;
    }
    printf("\nproducts %.1f %%, other ops (softmax included) **%.1f %%**, outside ops %.1f %%\n",
           100 * products / total, 100 * (inside - products) / total,
           100 * (total - inside) / total);
}

static void print_products(const bench *b, const timing *one, const detail *d)
{
    size_class class[SIZES] = {{0}};
    const double flops = sum_products(b, d, class), rate = SGEMM_FLOPS / one->sgemm_cpu_s;

    printf("\n| products, m n k | calls a step | ms a step | share of FLOPs | of the sgemm rate |\n"
           "| --- | ---: | ---: | ---: | ---: |\n");
    for (int c = 0; c < SIZES; c++) {
        if (class[c].calls <= 0) continue;
        const double limit = size_limit[c < SIZES - 1 ? c : c - 1];
        printf("| %s %.0e | %.0f | %.1f | %.1f %% | %.1f %% |\n", c < SIZES - 1 ? "<" : ">=", limit,
               class[c].calls, 1e3 * class[c].seconds, 100 * class[c].flops / flops,
               100 * class[c].flops / class[c].seconds / rate);
    }
    printf("\nproducts that ran: %.2f GFLOP a step; the plan counts %.2f\n", 1e-9 * flops,
           1e-9 * one->planned_flops);
    if (b->n_shapes == 0) return;
    printf("\n| m | n | k | calls a step | ms a step | of the sgemm rate |\n"
           "| ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for (int i = 0; i < d->n_products && i < b->n_shapes; i++) {
        const fz_product_time *p = &d->products[i];
        printf("| %lld | %lld | %lld | %.1f | %.2f | %.1f %% |\n", (long long)p->m, (long long)p->n,
               (long long)p->k, (double)p->calls / (double)b->steps,
               1e3 * p->seconds / (double)b->steps, 100 * p->flops / p->seconds / rate);
    }
}

static void print_markdown(const bench *b, const timing *one, const timing *all, const detail *d)
{
    char name[32];
    printf(
        "tiny-%s, width %lld, images of %lld px, %lld parameters, %lld shards; micro-batch %lld, "
        "%lld micro-batches, texts of 16 to 64 tokens; %lld steps\n%s\n\n"
        "| | ms a step | GFLOP/s a rank | sgemm 1024^3, GFLOP/s | share |\n"
        "| --- | ---: | ---: | ---: | ---: |\n",
        b->family, b->width, b->image_size, (long long)b->program->n_elements,
        (long long)b->program->n_shards, b->micro_batch, b->n_micro, b->steps,
        fz_ops_cpu_arithmetic_id());
    print_rate(one, "one rank");
    snprintf(name, sizeof name, "dp %d", all->ranks);
    if (all->ranks > 1) {
        print_rate(all, name);
        printf("\ndp %d: **%.2fx** one rank by the wall, %.2fx by processor time\n", all->ranks,
               one->step_s / all->step_s, one->step_cpu_s / all->step_cpu_s);
    }
    print_ops(b, d);
    print_products(b, one, d);
}

static json_t *timing_json(const timing *t)
{
    const double flops = t->planned_flops / (t->ranks > 0 ? t->ranks : 1);
    if (t->ranks == 0) return json_null();
    return json_pack("{s:i,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "ranks", t->ranks, "step_s",
                     fz_json_real(t->step_s), "step_cpu_s", fz_json_real(t->step_cpu_s),
                     "planned_flops", fz_json_real(t->planned_flops), "sgemm_flops_per_s",
                     fz_json_real(SGEMM_FLOPS / t->sgemm_s), "sgemm_cpu_flops_per_s",
                     fz_json_real(SGEMM_FLOPS / t->sgemm_cpu_s), "share",
                     fz_json_real(flops / t->step_s * t->sgemm_s / SGEMM_FLOPS), "cpu_share",
                     fz_json_real(flops / t->step_cpu_s * t->sgemm_cpu_s / SGEMM_FLOPS));
}

static void print_json(const bench *b, const timing *one, const timing *all, const detail *d)
{
    size_class class[SIZES] = {{0}};
    const double flops = sum_products(b, d, class), steps = (double)b->steps;
    json_t *ops = json_array(), *products = json_array();

    for (int i = 0; i < d->n_ops; i++)
        json_array_append_new(ops, json_pack("{s:s,s:o,s:o,s:o}", "name", d->ops[i].name, "calls",
                                             fz_json_real((double)d->ops[i].calls / steps), "s",
                                             fz_json_real(d->ops[i].seconds / steps), "product_s",
                                             fz_json_real(d->ops[i].product_seconds / steps)));
    for (int c = 0; c < SIZES; c++)
        json_array_append_new(
            products, json_pack("{s:o,s:o,s:o,s:o}", "below",
                                size_limit[c] > 0 ? json_real(size_limit[c]) : json_null(), "calls",
                                fz_json_real(class[c].calls), "s", fz_json_real(class[c].seconds),
                                "flops", fz_json_real(class[c].flops)));
    fz_json_print(json_pack(
        "{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "family", b->family,
        "width", (json_int_t)b->width, "image_size", (json_int_t)b->image_size, "shards",
        (json_int_t)b->program->n_shards, "parameters", (json_int_t)b->program->n_elements,
        "micro_batch", (json_int_t)b->micro_batch, "micro_batches", (json_int_t)b->n_micro,
        "arithmetic", fz_ops_cpu_arithmetic_id(), "one", timing_json(one), "all", timing_json(all),
        "flops", fz_json_real(flops), "speedup",
        all->ranks > 0 ? fz_json_real(one->step_s / all->step_s) : json_null(), "cpu_speedup",
        all->ranks > 0 ? fz_json_real(one->step_cpu_s / all->step_cpu_s) : json_null(), "ops", ops,
        "products", products));
}

/* ---- the command ---- */

/* tiny-gemma or tiny-bart with all widths scaled up. */
static fz_status configure(bench *b)
{
    fz_model_config c;
    char variant[32];

    snprintf(variant, sizeof variant, "tiny-%s", b->family);
    FZ_TRY(fz_model_variant(variant, &c));
    c.image_size = b->image_size;
    for (int s = 0; s < FZ_VISION_STAGES; s++)
        c.vision_dims[s] = b->width / 8 << s;
    c.enc_width = c.dec_width = b->width;
    c.enc_ffn = c.dec_ffn = 4 * b->width;
    c.enc_heads = c.dec_heads = 8;
    c.dec_kv_heads = c.family == FZ_DECODER_BART ? 8 : 4;
    c.dec_head_dim = b->width / 8;
    c.query_scalar = (double)c.dec_head_dim;
    c.sliding_window = 4096;
    c.enc_vocab = 4099;
    c.dec_vocab = 8191;
    c.max_prompt = 64;
    c.max_output = b->generates ? GENERATED : 64;
    c.enc_positions = c.dec_positions = fz_image_tokens(&c) + 6 + c.max_output;
    b->train = (fz_train_config){.seed = 1,
                                 .steps = 1000,
                                 .global_batch = b->micro_batch * b->n_micro,
                                 .loss_batch = b->micro_batch * b->n_micro,
                                 .micro_batch = b->micro_batch,
                                 .clip = 1,
                                 .lr = 1e-4,
                                 .weight_decay = 0.01,
                                 .beta1 = 0.9,
                                 .beta2 = 0.999,
                                 .eps = 1e-8,
                                 .warmup = 10};
    return fz_program_create(&c, fz_model_auto_shards(&c), &b->program);
}

static fz_status bench_generation(bench *b)
{
    FZ_TRY(configure(b));
    const fz_bench_generation generation = {.world = &b->world,
                                            .program = b->program,
                                            .train = &b->train,
                                            .family = b->family,
                                            .width = b->width,
                                            .n_tokens = GENERATED,
                                            .rounds = b->steps,
                                            .json = b->json};
    return fz_bench_generate(&generation);
}

static fz_status bench_all(bench *b)
{
    timing one = {0}, all = {0};
    detail d = {0};
    sgemm g = {0};
    double unused;

    fz_status status = configure(b);
    if (status == FZ_OK) status = sgemm_create(&g);
    status = fz_agree(b->world.group, status);
    if (status == FZ_OK) status = measure_one(b, &g, &one, &d);
    if (status == FZ_OK && b->world.size > 1)
        status = time_layout(b, &b->world, &fz_ops_cpu, &g, &all, &unused);
    if (status == FZ_OK && b->world.rank == 0) {
        if (b->json)
            print_json(b, &one, &all, &d);
        else
            print_markdown(b, &one, &all, &d);
    }
    fz_free(&g.abc);
    return status;
}

static fz_status read_options(const fz_options *options, bench *b)
{
    const char *family = fz_options_get(options, "--family");
    FZ_TRY(fz_options_int(options, "--width", 256, &b->width));
    FZ_TRY(fz_options_int(options, "--micro-batch", 1, &b->micro_batch));
    FZ_TRY(fz_options_int(options, "--micro-batches", 1, &b->n_micro));
    FZ_TRY(fz_options_int(options, "--image-size", 32, &b->image_size));
    FZ_TRY(fz_options_int(options, "--steps", 1, &b->steps));
    FZ_TRY(fz_options_int(options, "--shapes", 0, &b->n_shapes));
    if (family) b->family = family;
    b->json = fz_options_get(options, "--json") != NULL;
    b->generates = fz_options_get(options, "--generate") != NULL;
    FZ_CHECK(!b->generates || !(fz_options_get(options, "--micro-batches") ||
                                fz_options_get(options, "--shapes")),
             FZ_ERR_USAGE,
             "--generate: one micro-batch and no products; leave out --micro-batches "
             "and --shapes");
    if (b->generates) b->n_micro = 1;
    FZ_CHECK(b->width % 256 == 0, FZ_ERR_USAGE,
             "--width: %lld is not a multiple of 256 (vision heads of 32 at an eighth of it)",
             b->width);
    FZ_CHECK(strcmp(b->family, "gemma") == 0 || strcmp(b->family, "bart") == 0, FZ_ERR_USAGE,
             "--family: %s; use gemma or bart", b->family);
    return FZ_OK;
}

fz_status fz_cmd_bench(int argc, char **argv)
{
    bench b = {.width = 256,
               .micro_batch = 8,
               .n_micro = 4,
               .steps = 5,
               .image_size = 96,
               .family = "gemma"};
    fz_options options;
    fz_environment environment;

    FZ_TRY(fz_options_parse(&command, argc, argv, &options));
    if (options.wants_help) {
        fz_command_help(&command, stdout);
        return FZ_OK;
    }
    FZ_TRY(read_options(&options, &b));
    fz_ops_cpu_start();
    FZ_TRY(fz_environment_read(&environment));
    fz_environment_prepare_mpi();
    FZ_TRY(fz_world_start(environment.n_ranks, environment.n_ranks_from, &b.world));
    const fz_status status = b.generates ? bench_generation(&b) : bench_all(&b);
    fz_program_destroy(&b.program);
    fz_world_stop(&b.world);
    return status;
}
