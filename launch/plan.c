/* florenz plan: what a layout needs, without running it. No MPI, no memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/commands.h"
#include "launch/config_yaml.h"
#include "launch/exit_codes.h"
#include "launch/json.h"
#include "launch/layouts.h"
#include "launch/session.h"

static const fz_option options_table[] = {
    {"--ranks", "N", "number of ranks; default: what the config's layout says", false},
    {"--set", "KEY=VALUE", "overrides a key of the config", true},
    {"--device-memory", "SIZE", "memory of a rank, as in 80GiB: marks what does not fit", false},
    {"--json", NULL, "one object on standard output", false},
};
static const fz_command command = {
    .usage = "florenz plan CONFIG|VARIANT [OPTION]...",
    .about = "Parameters, bytes of a rank by purpose, FLOPs and pipeline bubble of the config's\n"
             "layout, and all legal layouts of N ranks, best first (least memory on the fullest\n"
             "rank, then the smallest bubble). A variant (11.2b) instead of a file: its best one.",
    .least_args = 1,
    .most_args = 1,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

typedef struct planned {
    fz_config config;
    fz_model_config model;
    fz_train_config train;
    fz_layout_config layout;
    fz_program *program;
    fz_plan *plan;
    fz_layouts layouts;
    int n_ranks;
    double device_bytes; /* 0: not given */
} planned;

static fz_status read_size(const char *text, double *bytes)
{
    static const char units[] = "KMGT";
    char *end;
    if (!text) return FZ_OK;
    double value = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    for (const char *u = units; unit && u <= unit; u++)
        value *= 1024.0;
    if (unit) end++;
    if (*end == 'i') end++;
    if (*end == 'B') end++;
    FZ_CHECK(end != text && *end == '\0' && value > 0, FZ_ERR_USAGE,
             "--device-memory: %s is not a size like 80GiB", text);
    *bytes = value;
    return FZ_OK;
}

/* A variant's name stands for a config of defaults whose layout is free. */
static fz_status read_config(planned *p, const fz_options *options)
{
    const char *set[FZ_OPTION_ARGS], *name = options->arg[0];
    const int n_set = fz_session_sets(options, set);
    fz_model_config variant;
    if (fz_model_variant(name, &variant) != FZ_OK)
        return fz_config_load(&p->config, name, set, n_set, NULL);

    fz_config_init(&p->config, name);
    snprintf(p->config.model.variant, sizeof p->config.model.variant, "%s", name);
    p->config.layout.tp = p->config.layout.pp = FZ_AUTO;
    for (int i = 0; i < n_set; i++)
        FZ_TRY(fz_config_set(&p->config, set[i]));
    return fz_config_resolve(&p->config);
}

static int ranks_of_config(const fz_config *config)
{
    const int64_t axes[] = {config->layout.tp, config->layout.pp, config->layout.dp};
    int64_t n = 1;
    for (int i = 0; i < 3; i++)
        if (axes[i] != FZ_AUTO) n *= axes[i];
    return (int)(n < 1 << 24 ? n : 1 << 24);
}

static fz_status make(planned *p)
{
    const fz_mesh_shape any = {0, 0, 0};
    FZ_TRY(fz_config_model(&p->config, &p->model));
    fz_config_train(&p->config, &p->train);
    FZ_TRY(fz_config_numerics(&p->config, &p->model, &p->layout.n_shards, &p->layout.n_lanes));
    FZ_TRY(fz_program_create(&p->model, p->layout.n_shards, &p->program));
    FZ_TRY(fz_config_layout(&p->config, p->program, p->n_ranks, &p->layout));
    FZ_TRY(fz_plan_create(p->program, &p->train, &p->layout, &p->plan));
    return fz_layouts_find(p->program, &p->train, &p->layout, any, p->n_ranks, &p->layouts);
}

/* ---- printing ---- */

static double mib(size_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
}

static void print_stage(const planned *p, int stage, const fz_rank_plan *r)
{
    const fz_plan_bytes *b = &r->bytes;
    printf("%5d  %-22s %-22s %10.1f %10.1f %10.1f %10.1f %10.1f %10.1f %10.1f%s\n", stage,
           p->program->blocks[r->first_block].name, p->program->blocks[r->last_block - 1].name,
           mib(b->weights), mib(b->grads), mib(b->moments),
           mib(b->save + b->dstream + b->keep + b->work), mib(b->comm + b->other), mib(b->snapshot),
           mib(b->total),
           p->device_bytes > 0 && (double)b->total > p->device_bytes ? "  too big" : "");
}

static fz_status print_stages(const planned *p)
{
    printf("\nfirst rank of each stage, MiB\n%5s  %-22s %-22s %10s %10s %10s %10s %10s %10s %10s\n",
           "stage", "from", "to", "weights", "gradients", "moments", "activation", "other",
           "snapshot", "total");
    for (int stage = 0; stage < p->layout.shape.pp; stage++) {
        fz_rank_plan rank;
        const fz_mesh_coord at = {.pp = stage};
        FZ_TRY(fz_plan_rank(p->plan, fz_mesh_rank(p->layout.shape, at), &rank));
        print_stage(p, stage, &rank);
    }
    return FZ_OK;
}

static fz_status print_text(const planned *p)
{
    const fz_mesh_shape shape = p->layout.shape;
    fz_layout_choice chosen;
    FZ_TRY(fz_layout_weigh(p->plan, &chosen));
    printf("%s: %lld parameters, %lld trained; %d blocks\n", p->model.variant,
           (long long)p->program->n_elements, (long long)p->program->n_trainable,
           p->program->n_blocks);
    printf("step: %lld samples, %lld micro-batches of %lld; %lld shards, %lld lanes\n",
           (long long)p->train.global_batch, (long long)p->plan->n_micro,
           (long long)p->train.micro_batch, (long long)p->layout.n_shards,
           (long long)p->layout.n_lanes);
    printf("layout of %d ranks: tp %d, pp %d, dp %d, bubble %.1f %%, at most %.2f GiB a rank, "
           "%.3g FLOP a step on the busiest rank (longest texts)\n",
           p->n_ranks, shape.tp, shape.pp, shape.dp, 100.0 * chosen.bubble,
           mib(chosen.bytes) / 1024.0, chosen.flops);
    FZ_TRY(print_stages(p));
    printf("\nlegal layouts of %d ranks, best first\n%4s %4s %4s %14s %10s %16s\n", p->n_ranks,
           "tp", "pp", "dp", "GiB a rank", "bubble %", "FLOP a rank");
    for (int i = 0; i < p->layouts.n; i++) {
        const fz_layout_choice *c = &p->layouts.choice[i];
        printf("%4d %4d %4d %14.2f %10.1f %16.4g%s\n", c->shape.tp, c->shape.pp, c->shape.dp,
               mib(c->bytes) / 1024.0, 100.0 * c->bubble, c->flops,
               p->device_bytes > 0 && (double)c->bytes > p->device_bytes ? "  too big" : "");
    }
    return FZ_OK;
}

static json_t *rank_json(const fz_rank_plan *r, int rank)
{
    const fz_plan_bytes *b = &r->bytes;
    json_t *bytes = json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "weights", (json_int_t)b->weights, "grads",
        (json_int_t)b->grads, "moments", (json_int_t)b->moments, "save", (json_int_t)b->save,
        "dstream", (json_int_t)b->dstream, "keep", (json_int_t)b->keep, "work", (json_int_t)b->work,
        "comm", (json_int_t)b->comm, "other", (json_int_t)b->other, "snapshot",
        (json_int_t)b->snapshot, "total", (json_int_t)b->total);
    return json_pack(
        "{s:i,s:i,s:i,s:i,s:[i,i],s:[I,I],s:I,s:I,s:f,s:f,s:o}", "rank", rank, "pp", r->coord.pp,
        "dp", r->coord.dp, "tp", r->coord.tp, "blocks", r->first_block, r->last_block, "micro",
        (json_int_t)r->first_micro, (json_int_t)(r->first_micro + r->n_micro), "parameters",
        (json_int_t)r->n_weights, "trained", (json_int_t)r->n_trainable, "flops_forward",
        r->flops_forward, "flops_backward", r->flops_backward, "bytes", bytes);
}

static fz_status print_json(const planned *p)
{
    const fz_mesh_shape shape = p->layout.shape;
    json_t *ranks = json_array(), *layouts = json_array();
    for (int r = 0; r < p->n_ranks; r++) {
        fz_rank_plan rank;
        const fz_status status = fz_plan_rank(p->plan, r, &rank);
        if (status != FZ_OK) {
            json_decref(ranks);
            json_decref(layouts);
            return status;
        }
        json_array_append_new(ranks, rank_json(&rank, r));
    }
    for (int i = 0; i < p->layouts.n; i++) {
        const fz_layout_choice *c = &p->layouts.choice[i];
        json_array_append_new(layouts, json_pack("{s:i,s:i,s:i,s:I,s:f,s:f}", "tp", c->shape.tp,
                                                 "pp", c->shape.pp, "dp", c->shape.dp, "bytes",
                                                 (json_int_t)c->bytes, "bubble", c->bubble, "flops",
                                                 c->flops));
    }
    fz_json_print(json_pack(
        "{s:s,s:I,s:I,s:i,s:I,s:I,s:I,s:{s:i,s:i,s:i},s:f,s:o,s:o}", "variant", p->model.variant,
        "parameters", (json_int_t)p->program->n_elements, "trained",
        (json_int_t)p->program->n_trainable, "blocks", p->program->n_blocks, "shards",
        (json_int_t)p->layout.n_shards, "lanes", (json_int_t)p->layout.n_lanes, "micro_batches",
        (json_int_t)p->plan->n_micro, "layout", "tp", shape.tp, "pp", shape.pp, "dp", shape.dp,
        "bubble", p->plan->bubble, "ranks", ranks, "layouts", layouts));
    return FZ_OK;
}

static fz_status plan(planned *p, const fz_options *options)
{
    FZ_TRY(read_size(fz_options_get(options, "--device-memory"), &p->device_bytes));
    FZ_TRY(fz_config_blame(&p->config, read_config(p, options)));
    long long n_ranks = ranks_of_config(&p->config);
    FZ_TRY(fz_options_int(options, "--ranks", 1, &n_ranks));
    FZ_CHECK(n_ranks <= 1 << 20, FZ_ERR_USAGE, "--ranks: at most %d", 1 << 20);
    p->n_ranks = (int)n_ranks;
    FZ_TRY(fz_config_blame(&p->config, make(p)));
    return fz_options_get(options, "--json") ? print_json(p) : print_text(p);
}

int fz_cmd_plan(int argc, char **argv)
{
    static planned p; /* large, and there is one */
    fz_options options;
    int code;
    if (!fz_command_begins(&command, argc, argv, &options, &code)) return code;
    const fz_status status = plan(&p, &options);
    fz_plan_destroy(&p.plan);
    fz_program_destroy(&p.program);
    return fz_exit_with(status, false);
}
