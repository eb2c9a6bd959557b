/* florenz bench: the training step against the matrix rate of the same machine in the same run.
 *
 *   sgemm     best of several 1024^3 products: the rate everything is held against
 *   one rank  median seconds of a step, FLOPs of its products, share of the sgemm rate, and a table of
 *             time per op (another pass, with the clock around every op)
 *   dp N      the same global batch on all N ranks of this run, and the ratio
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/memory.h"
#include "dist/mesh.h"
#include "launch/commands.h"
#include "launch/timed_ops.h"
#include "parallel/synthetic.h"
#include "parallel/trainer.h"

typedef struct bench {
    int64_t width, micro_batch, n_micro, steps, image_size;
    const char *family;
    fz_world world;
    fz_program *program;
    fz_train_config train;
} bench;

typedef struct timing {
    double median_s, flops;
} timing;

static const char usage[] =
    "usage: florenz bench [--width 512] [--family gemma|bart] [--micro-batch 8] [--micro-batches 4]\n"
    "                     [--image-size 96] [--steps 5]\n"
    "\n"
    "Random batches, no data. Alone: one rank. Under mpirun -n N also dp N on the same global batch.\n"
    "Prints Markdown; docs/benchmarks/ keeps what was measured.\n";

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* FLOP/s of the best of several square products, as the blocks call them. */
static fz_status sgemm_rate(double *rate_p)
{
    const int64_t n = 1024;
    float *abc = NULL;
    double best = 0;
    FZ_TRY(FZ_NEW(&abc, 3 * n * n));
    for (int64_t i = 0; i < 2 * n * n; i++) abc[i] = (float)(i % 17) * 0.01f;
    const fz_gemm_args args = {.c = abc + 2 * n * n, .a = abc, .b = abc + n * n, .trans_b = true,
                               .m = n, .n = n, .k = n, .lda = n, .ldb = n, .ldc = n, .alpha = 1};
    for (int i = 0; i < 12; i++) {
        const double since = fz_clock_s();
        const fz_status status = fz_ops_cpu.gemm(&args, NULL);
        const double s = fz_clock_s() - since;
        if (status != FZ_OK) {
            fz_free(&abc);
            return status;
        }
        if (i > 1 && 2.0 * (double)(n * n * n) / s > best) best = 2.0 * (double)(n * n * n) / s;
    }
    fz_free(&abc);
    *rate_p = best;
    return FZ_OK;
}

/* tiny-gemma or tiny-bart with all widths scaled up; text of 16 to 64 tokens. */
static fz_status configure(bench *b)
{
    fz_model_config c;
    char variant[32];
    snprintf(variant, sizeof variant, "tiny-%s", b->family);
    FZ_TRY(fz_model_variant(variant, &c));
    c.image_size = b->image_size;
    for (int s = 0; s < FZ_VISION_STAGES; s++) c.vision_dims[s] = b->width / 8 << s;
    c.enc_width = c.dec_width = b->width;
    c.enc_ffn = c.dec_ffn = 4 * b->width;
    c.enc_heads = c.dec_heads = 8;
    c.dec_kv_heads = c.family == FZ_DECODER_BART ? 8 : 4;
    c.dec_head_dim = b->width / 8;
    c.query_scalar = (double)c.dec_head_dim;
    c.sliding_window = 4096;
    c.enc_vocab = 4099;
    c.dec_vocab = 8191;
    c.max_prompt = c.max_output = 64;
    c.enc_positions = c.dec_positions = fz_image_tokens(&c) + 70;
    b->train = (fz_train_config){.seed = 1, .steps = 1000,
                                 .global_batch = b->micro_batch * b->n_micro,
                                 .loss_batch = b->micro_batch * b->n_micro,
                                 .micro_batch = b->micro_batch, .clip = 1, .lr = 1e-4,
                                 .weight_decay = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8,
                                 .warmup = 10};
    return fz_program_create(&c, fz_model_auto_shards(&c), &b->program);
}

/* Two warm-up steps, then `steps` timed ones. */
static fz_status run_steps(const bench *b, fz_trainer *trainer, timing *t)
{
    const fz_trainer_needs needs = fz_trainer_get_needs(trainer);
    fz_synthetic *synthetic = NULL;
    double *seconds = NULL;
    fz_status status = fz_synthetic_create(b->program, &b->train, &needs, 16, 16, &synthetic);
    if (status == FZ_OK) status = FZ_NEW(&seconds, b->steps);
    t->flops = 0;
    for (int64_t s = -2; s < b->steps && status == FZ_OK; s++) {
        fz_step_batch batch;
        fz_step_result result;
        fz_synthetic_step(synthetic, s + 2, &batch);
        if (s == 0) fz_timed_ops_reset();
        const double since = fz_clock_s();
        status = fz_trainer_step(trainer, &batch, &result);
        if (s < 0) continue;
        seconds[s] = fz_clock_s() - since;
        t->flops += result.flops / (double)b->steps;
    }
    if (status == FZ_OK) {
        qsort(seconds, (size_t)b->steps, sizeof *seconds, by_value);
        t->median_s = seconds[b->steps / 2];
    }
    fz_free(&seconds);
    fz_synthetic_destroy(&synthetic);
    return status;
}

static fz_status time_layout(const bench *b, const fz_world *world, const fz_ops *ops, timing *t)
{
    const fz_layout_config layout = {.shape = {.pp = 1, .dp = world->size, .tp = 1},
                                     .n_shards = b->program->n_shards, .n_lanes = 8};
    fz_plan *plan = NULL;
    fz_mesh mesh = {0};
    fz_trainer *trainer = NULL;
    fz_status status = fz_plan_create(b->program, &b->train, &layout, &plan);
    if (status == FZ_OK) status = fz_mesh_create(world, layout.shape, &mesh);
    if (status == FZ_OK) status = fz_trainer_create(plan, &mesh, ops, &trainer);
    if (status == FZ_OK) {
        fz_trainer_init(trainer);
        status = run_steps(b, trainer, t);
    }
    fz_trainer_destroy(&trainer);
    fz_mesh_reset(&mesh);
    fz_plan_destroy(&plan);
    return status;
}

/* Attention holds products of its own; its element-wise part cannot be told apart from outside, so
 * it has its own row and counts as neither. */
static void print_ops(double step_s, int64_t steps)
{
    const fz_op_time *times;
    const int n = fz_timed_ops_get(&times);
    double product = 0, attention = 0, all = 0;
    bool done[FZ_TIMED_OPS] = {false};
    for (int i = 0; i < n; i++) {
        all += times[i].seconds;
        if (strcmp(times[i].name, "gemm") == 0) product += times[i].seconds;
        if (strstr(times[i].name, "attention") != NULL) attention += times[i].seconds;
    }
    printf("\n| op | calls a step | ms a step | share of the step |\n| --- | ---: | ---: | ---: |\n");
    for (int k = 0; k < n; k++) {
        int most = -1;
        for (int i = 0; i < n; i++)
            if (!done[i] && (most < 0 || times[i].seconds > times[most].seconds)) most = i;
        done[most] = true;
        if (times[most].calls == 0) break;
        printf("| %s | %lld | %.3f | %.1f %% |\n", times[most].name,
               (long long)(times[most].calls / steps),
               1e3 * times[most].seconds / (double)steps,
               100 * times[most].seconds / (step_s * (double)steps));
    }
    const double total = step_s * (double)steps;
    printf("\nproducts %.1f %%, attention (products and softmax) %.1f %%, other ops %.1f %%, outside "
           "ops %.1f %%\n",
           100 * product / total, 100 * attention / total, 100 * (all - product - attention) / total,
           100 * (total - all) / total);
}

static fz_status bench_one_rank(const bench *b, double rate, timing *one)
{
    fz_group *self = NULL;
    timing timed = {0};
    FZ_TRY(fz_group_split(b->world.group, b->world.rank, 0, &self));
    const fz_world alone = {.rank = 0, .size = 1, .group = self, .places = b->world.places};
    fz_status status = FZ_OK;
    if (b->world.rank == 0) {
        status = time_layout(b, &alone, &fz_ops_cpu, one);
        if (status == FZ_OK) status = time_layout(b, &alone, fz_timed_ops(&fz_ops_cpu), &timed);
    }
    if (status == FZ_OK && b->world.rank == 0) {
        printf("one rank: %.1f ms a step (median of %lld), %.2f GFLOP in products, %.1f GFLOP/s = "
               "**%.1f %%** of the sgemm rate\n",
               1e3 * one->median_s, (long long)b->steps, 1e-9 * one->flops,
               1e-9 * one->flops / one->median_s, 100 * one->flops / one->median_s / rate);
        print_ops(timed.median_s, b->steps);
    }
    fz_group_destroy(&self);
    return fz_agree(b->world.group, status);
}

static fz_status bench_all(bench *b)
{
    timing one = {0}, all = {0};
    double rate = 0;
    FZ_TRY(configure(b));
    if (b->world.rank == 0) {
        FZ_TRY(sgemm_rate(&rate));
        printf("model: tiny-%s, width %lld, image %lld px, %lld parameters, %lld shards; "
               "micro-batch %lld, %lld micro-batches, text 16 to 64 tokens\n"
               "arithmetic: %s\n\nsgemm 1024^3: %.1f GFLOP/s, one thread\n",
               b->family, (long long)b->width, (long long)b->image_size,
               (long long)b->program->n_elements, (long long)b->program->n_shards,
               (long long)b->micro_batch, (long long)b->n_micro, fz_ops_cpu_arithmetic_id(),
               1e-9 * rate);
    }
    FZ_TRY(bench_one_rank(b, rate, &one));
    if (b->world.size == 1) return FZ_OK;
    FZ_TRY(time_layout(b, &b->world, &fz_ops_cpu, &all));
    if (b->world.rank == 0)
        printf("\ndp %d: %.1f ms a step on the same global batch: **%.2fx** one rank of this run\n",
               b->world.size, 1e3 * all.median_s, one.median_s / all.median_s);
    return FZ_OK;
}

static fz_status parse(int argc, char **argv, bench *b, bool *help)
{
    static const struct option options[] = {
        {"width", required_argument, NULL, 'w'},      {"family", required_argument, NULL, 'f'},
        {"micro-batch", required_argument, NULL, 'b'}, {"micro-batches", required_argument, NULL, 'm'},
        {"image-size", required_argument, NULL, 'i'}, {"steps", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},             {NULL, 0, NULL, 0}};
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        int64_t *number = option == 'w'   ? &b->width
                          : option == 'b' ? &b->micro_batch
                          : option == 'm' ? &b->n_micro
                          : option == 'i' ? &b->image_size
                          : option == 's' ? &b->steps
                                          : NULL;
        if (number != NULL) *number = strtoll(optarg, NULL, 10);
        if (option == 'f') b->family = optarg;
        if (option == 'h') *help = true;
        FZ_CHECK(option != '?', FZ_ERR_USAGE, "bench: see florenz bench --help");
        FZ_CHECK(number == NULL || *number >= 1, FZ_ERR_USAGE, "bench: '%s' is not a count", optarg);
    }
    FZ_CHECK(b->width % 256 == 0, FZ_ERR_USAGE,
             "bench: --width %lld is not a multiple of 256 (vision heads of 32 at width/8)",
             (long long)b->width);
    FZ_CHECK(strcmp(b->family, "gemma") == 0 || strcmp(b->family, "bart") == 0, FZ_ERR_USAGE,
             "bench: --family %s: use gemma or bart", b->family);
    return FZ_OK;
}

fz_status fz_cmd_bench(int argc, char **argv)
{
    bench b = {.width = 512, .micro_batch = 8, .n_micro = 4, .steps = 5, .image_size = 96,
               .family = "gemma"};
    bool help = false;
    FZ_TRY(parse(argc, argv, &b, &help));
    if (help) {
        fputs(usage, stdout);
        return FZ_OK;
    }
    fz_ops_cpu_start();
    FZ_TRY(fz_world_start(0, NULL, &b.world));
    const fz_status status = bench_all(&b);
    fz_program_destroy(&b.program);
    fz_world_stop(&b.world);
    return status;
}
