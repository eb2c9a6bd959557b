#include "parallel/plan.h"

#include <stdio.h>

#include "core/assert.h"
#include "core/memory.h"
#include "parallel/balance.h"
#include "parallel/lanes.h"
#include "parallel/rank_memory.h"
#include "parallel/schedule.h"

/* Work of a block that FLOPs do not show (launches, row operations), in FLOPs. */
static const double BLOCK_OVERHEAD = 1.0e6;

/* Texts of the recipe fill about three eighths of the limits (design.md 4). */
static int64_t average_length(int64_t longest)
{
    const int64_t n = longest * 3 / 8;
    return n > 0 ? n : 1;
}

static fz_sizes average_sizes(const fz_program *program, int64_t micro_batch)
{
    const int64_t enc =
        fz_image_tokens(&program->config) + average_length(program->config.max_prompt);
    const int64_t dec = average_length(program->config.max_output);
    return (fz_sizes){.n_samples = micro_batch,
                      .n_local_images = micro_batch,
                      .n_enc = micro_batch * enc,
                      .n_dec = micro_batch * dec,
                      .max_enc_len = enc,
                      .max_dec_len = dec};
}

/* FLOPs of the passes that really run. */
static fz_flops block_flops(const fz_program *program, const fz_block *block, const fz_sizes *sizes,
                            fz_shards shards)
{
    fz_flops flops = {0};
    block->kind->flops(block, program, sizes, shards, &flops);
    if (!fz_block_keeps(block)) flops.backward_input = 0;
    if (!block->trains) flops.backward_weight = 0;
    return flops;
}

double fz_plan_micro_flops(const fz_plan *plan, const fz_sizes *sizes)
{
    const int64_t S = plan->program->n_shards;
    const fz_shards all = {.n = S, .first = 0, .count = S};
    fz_sizes whole = *sizes;
    double sum = 0;

    whole.n_local_images = sizes->n_samples;
    for (int b = 0; b < plan->program->n_blocks; b++) {
        const fz_flops f = block_flops(plan->program, &plan->program->blocks[b], &whole, all);
        sum += f.forward + f.backward_input + f.backward_weight;
    }
    return sum;
}

/* ---- checks, in the words of the config ---- */

static fz_status check_batches(const fz_train_config *train)
{
    FZ_CHECK(train->micro_batch >= 1 && train->loss_batch >= 1 && train->global_batch >= 1,
             FZ_ERR_USAGE, "train.%s: must be at least 1",
             train->micro_batch < 1 ? "micro_batch"
                                    : (train->loss_batch < 1 ? "loss_batch" : "global_batch"));
    FZ_CHECK(train->global_batch % train->loss_batch == 0, FZ_ERR_USAGE,
             "train.loss_batch: %lld does not divide train.global_batch %lld",
             (long long)train->loss_batch, (long long)train->global_batch);
    FZ_CHECK(train->loss_batch % train->micro_batch == 0, FZ_ERR_USAGE,
             "train.micro_batch: %lld does not divide train.loss_batch %lld",
             (long long)train->micro_batch, (long long)train->loss_batch);
    FZ_CHECK(train->eps > 0, FZ_ERR_USAGE,
             "optimizer.eps: %g; must be above 0, or weights without a gradient become NaN",
             train->eps);
    return FZ_OK;
}

static fz_status check_layout(const fz_program *program, const fz_layout_config *layout)
{
    const fz_mesh_shape shape = layout->shape;
    const long long S = (long long)layout->n_shards, K = (long long)layout->n_lanes;

    FZ_CHECK(fz_is_power_of_two(S), FZ_ERR_USAGE,
             "numerics.shards: %lld is not a power of two; use 1, 2, 4 or 8", S);
    FZ_CHECK(S == program->n_shards, FZ_ERR_ARG, "plan for %lld shards of a program for %lld", S,
             (long long)program->n_shards);
    FZ_CHECK(fz_is_power_of_two(K), FZ_ERR_USAGE,
             "numerics.lanes: %lld is not a power of two; use 1, 2, 4, 8, ...", K);
    if (shape.tp < 1 || S % shape.tp != 0) {
        char legal[96] = "";
        size_t n = 0;
        for (long long t = 1; t <= S && n < sizeof legal - 16; t *= 2)
            n += (size_t)snprintf(legal + n, sizeof legal - n, "%s%lld",
                                  t == 1 ? "" : (t == S ? " or " : ", "), t);
        return FZ_FAIL(FZ_ERR_USAGE, "layout.tp: %d does not divide %lld shards; use %s", shape.tp,
                       S, legal);
    }
    FZ_CHECK(shape.pp >= 1 && shape.pp <= program->n_blocks, FZ_ERR_USAGE,
             "layout.pp: %d stages for %d blocks of %s; use 1 to %d", shape.pp, program->n_blocks,
             program->config.variant, program->n_blocks);
    FZ_CHECK(shape.dp >= 1 && shape.dp <= K, FZ_ERR_USAGE,
             "layout.dp: %d is not between 1 and the %lld lanes; use 1 to %lld or raise "
             "numerics.lanes",
             shape.dp, K, K);
    FZ_CHECK(program->n_trainable > 0 || program->config.forward_only, FZ_ERR_USAGE,
             "model.freeze: all parameters of %s are frozen; nothing is left to train",
             program->config.variant);
    return FZ_OK;
}

/* ---- create ---- */

static fz_status cut_stages(fz_plan *plan)
{
    const fz_program *program = plan->program;
    const fz_shards all = {.n = program->n_shards, .first = 0, .count = program->n_shards};
    const fz_sizes sizes = average_sizes(program, plan->train.micro_batch);
    double *cost = NULL;

    FZ_TRY(FZ_NEW(&cost, program->n_blocks));
    for (int b = 0; b < program->n_blocks; b++) {
        const fz_flops flops = block_flops(program, &program->blocks[b], &sizes, all);
        cost[b] = flops.forward + flops.backward_input + flops.backward_weight + BLOCK_OVERHEAD;
    }
    const fz_status status = fz_balance_cuts(cost, program->n_blocks, plan->n_stages, plan->cut);
    for (int s = 0; s < plan->n_stages && status == FZ_OK; s++)
        for (int b = plan->cut[s]; b < plan->cut[s + 1]; b++)
            plan->cost[s] += cost[b];
    fz_free(&cost);
    return status;
}

static void index_params(fz_plan *plan)
{
    const fz_program *program = plan->program;

    for (int i = 0; i < 2 * program->n_params; i++)
        plan->param_uses[i] = -1;
    for (int u = 0; u < program->n_uses; u++) {
        int *uses = plan->param_uses + 2 * program->uses[u].param;
        if (uses[0] < 0)
            uses[0] = u;
        else {
            FZ_ASSERT(uses[1] < 0);
            uses[1] = u;
        }
    }
    for (int p = 0; p < program->n_params; p++) {
        const int64_t n = program->params[p].trainable ? fz_plan_logical_pieces(plan, p) : 0;
        plan->norm_first[p + 1] = plan->norm_first[p] + n;
    }
}

static fz_status fill_plan(fz_plan *plan)
{
    fz_schedule_report report = {0};
    int64_t most_micro = 0;
    const int64_t d = plan->layout.shape.dp, K = plan->layout.n_lanes;

    FZ_TRY(FZ_NEW(&plan->cut, plan->n_stages + 1));
    FZ_TRY(FZ_NEW(&plan->cost, plan->n_stages));
    FZ_TRY(FZ_NEW(&plan->param_uses, 2 * plan->program->n_params));
    FZ_TRY(FZ_NEW(&plan->norm_first, plan->program->n_params + 1));
    index_params(plan);
    FZ_TRY(cut_stages(plan));
    for (int64_t r = 0; r < d; r++) {
        const int64_t n = fz_lane_first_micro(plan->n_micro, K, fz_rank_first_lane(K, d, r + 1)) -
                          fz_lane_first_micro(plan->n_micro, K, fz_rank_first_lane(K, d, r));
        if (n > most_micro) most_micro = n;
    }
    FZ_TRY(fz_schedule_simulate(plan->layout.schedule, plan->n_stages, most_micro, &report));
    plan->bubble = report.bubble;
    return FZ_OK;
}

fz_status fz_plan_create(const fz_program *program, const fz_train_config *train,
                         const fz_layout_config *layout, fz_plan **plan_p)
{
    fz_plan *plan = NULL;

    FZ_TRY(check_batches(train));
    FZ_TRY(check_layout(program, layout));
    FZ_TRY(FZ_NEW(&plan, 1));
    plan->program = program;
    plan->train = *train;
    plan->layout = *layout;
    plan->n_micro = train->global_batch / train->micro_batch;
    plan->n_stages = layout->shape.pp;
    const fz_status status = fill_plan(plan);
    if (status != FZ_OK)
        fz_plan_destroy(&plan);
    else
        *plan_p = plan;
    return status;
}

void fz_plan_destroy(fz_plan **plan)
{
    if (!*plan) return;
    fz_free(&(*plan)->cut);
    fz_free(&(*plan)->cost);
    fz_free(&(*plan)->param_uses);
    fz_free(&(*plan)->norm_first);
    fz_free(plan);
}

/* ---- questions ---- */

int fz_plan_stage_of(const fz_plan *plan, int block)
{
    int stage = 0;
    while (block >= plan->cut[stage + 1])
        stage++;
    return stage;
}

bool fz_plan_has_backward(const fz_plan *plan, int stage)
{
    fz_live live[FZ_N_STREAMS];

    for (int b = plan->cut[stage]; b < plan->cut[stage + 1]; b++)
        if (fz_block_keeps(&plan->program->blocks[b])) return true;
    const int n = stage > 0 ? fz_program_live(plan->program, plan->cut[stage], live) : 0;
    for (int i = 0; i < n; i++)
        if (live[i].needs_grad) return true;
    return false;
}

int64_t fz_plan_logical_pieces(const fz_plan *plan, int param)
{
    const fz_param *p = &plan->program->params[param];
    const int64_t n = fz_param_pieces(p, plan->program->n_shards);
    return p->cut == FZ_CUT_HEADS ? n / p->replicas : n;
}

bool fz_plan_owns(const fz_plan *plan, fz_mesh_coord coord, int param, int64_t shard)
{
    const fz_program *program = plan->program;
    const fz_param *p = &program->params[param];
    const fz_mesh_shape shape = plan->layout.shape;

    if (coord.pp != fz_plan_stage_of(plan, program->uses[plan->param_uses[2 * param]].block))
        return false; /* the second copy of a tied parameter */
    if (p->cut == FZ_CUT_HEADS && shard % p->replicas != 0) return false;
    if (coord.dp != (param + shard) % shape.dp) return false;
    if (p->cut == FZ_CUT_NONE) return coord.tp == param % shape.tp;
    return coord.tp == shard / (program->n_shards / shape.tp);
}

/* ---- one rank ---- */

static void plan_flops(const fz_plan *plan, fz_rank_plan *rp)
{
    const fz_program *program = plan->program;
    const fz_sizes sizes = fz_program_max_sizes(program, plan->train.micro_batch, rp->shards);

    for (int b = rp->first_block; b < rp->last_block; b++) {
        const fz_flops flops = block_flops(program, &program->blocks[b], &sizes, rp->shards);
        rp->flops_forward += flops.forward * (double)rp->n_micro;
        rp->flops_backward += (flops.backward_input + flops.backward_weight) * (double)rp->n_micro;
    }
}

static void plan_lanes(const fz_plan *plan, fz_rank_plan *rp)
{
    const int64_t M = plan->n_micro, K = plan->layout.n_lanes, d = plan->layout.shape.dp;
    fz_lane_stack stack;

    rp->first_lane = fz_rank_first_lane(K, d, rp->coord.dp);
    rp->n_lanes = fz_rank_first_lane(K, d, rp->coord.dp + 1) - rp->first_lane;
    rp->first_micro = fz_lane_first_micro(M, K, rp->first_lane);
    rp->n_micro = fz_lane_first_micro(M, K, rp->first_lane + rp->n_lanes) - rp->first_micro;
    fz_lane_stack_simulate(&stack, M, K, d, rp->coord.dp);
    /* A rank without any micro-batch still needs a place for the sum over the others. */
    rp->grad_buffers = stack.n_buffers > 0 ? stack.n_buffers : 1;

    const int64_t in_flight =
        fz_schedule_in_flight(plan->layout.schedule, rp->coord.pp, plan->n_stages, rp->n_micro);
    /* Nothing is saved for later where nothing flows back: one slot is filled while the other's
     * streams are still being sent. */
    const bool backward = fz_plan_has_backward(plan, rp->coord.pp);
    rp->in_flight = !backward && in_flight > 2 ? 2 : (in_flight > 0 ? in_flight : 1);
}

fz_status fz_plan_rank(const fz_plan *plan, int rank, fz_rank_plan *rank_plan)
{
    const fz_mesh_shape shape = plan->layout.shape;
    FZ_CHECK(rank >= 0 && rank < fz_mesh_size(shape), FZ_ERR_ARG, "rank %d of %d planned", rank,
             fz_mesh_size(shape));
    const fz_mesh_coord coord = fz_mesh_coord_of(shape, rank);
    const int64_t count = plan->program->n_shards / shape.tp;
    fz_rank_plan rp = {
        .coord = coord,
        .first_block = plan->cut[coord.pp],
        .last_block = plan->cut[coord.pp + 1],
        .shards = {.n = plan->program->n_shards, .first = coord.tp * count, .count = count}};
    fz_arena arena = fz_arena_counting();

    plan_lanes(plan, &rp);
    plan_flops(plan, &rp);
    fz_rank_memory_layout(plan, &rp, &arena, NULL, &rp.bytes);
    fz_rank_memory_count(plan, &rp, &rp.n_weights, &rp.n_trainable);
    *rank_plan = rp;
    return FZ_OK;
}
