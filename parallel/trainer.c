#include "parallel/trainer.h"

#include <math.h>
#include <string.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/memory.h"
#include "parallel/loss.h"
#include "parallel/optimizer.h"
#include "parallel/state.h"
#include "parallel/trainer_parts.h"

/* ---- create ---- */

static void fill_exec(fz_trainer *t)
{
    t->pipeline.exec = (fz_exec){.program = t->plan->program,
                                 .ops = t->ops,
                                 .hooks = &t->tensor.hooks,
                                 .shards = t->rp.shards,
                                 .seed = t->plan->train.seed,
                                 .weights = t->memory.weights,
                                 .grads = t->data.use_grads,
                                 .keep = &t->memory.keep,
                                 .work = &t->memory.work};
}

/* What a rank does alone: may fail here and succeed elsewhere. */
static fz_status create_local(fz_trainer *t)
{
    const fz_plan *plan = t->plan;
    const fz_mesh *mesh = t->mesh;

    FZ_TRY(fz_plan_rank(plan, fz_mesh_rank(mesh->shape, mesh->me), &t->rp));
    FZ_TRY(fz_rank_memory_create(plan, &t->rp, &t->memory));
    FZ_TRY(
        fz_tensor_parallel_init(&t->tensor, mesh->tensor, plan->layout.n_shards, t->memory.comm));
    FZ_TRY(fz_pipeline_init(&t->pipeline, plan, &t->rp, &t->memory, mesh->pipeline));
    FZ_TRY(fz_data_parallel_init(&t->data, plan, &t->rp, &t->memory, mesh->data, t->ops));
    FZ_TRY(fz_state_create(plan, &t->rp, &t->memory, &t->state));
    FZ_TRY(FZ_NEW(&t->list, 2 * t->rp.n_micro));
    fz_schedule_list(plan->layout.schedule, t->rp.coord.pp, plan->n_stages, t->rp.n_micro, t->list);
    fill_exec(t);
    return FZ_OK;
}

fz_status fz_trainer_create(const fz_plan *plan, const fz_mesh *mesh, const fz_ops *ops,
                            fz_trainer **trainer_p)
{
    fz_trainer *t = NULL;

    FZ_CHECK(memcmp(&plan->layout.shape, &mesh->shape, sizeof mesh->shape) == 0, FZ_ERR_ARG,
             "plan for pp %d dp %d tp %d on a mesh of %d x %d x %d", plan->layout.shape.pp,
             plan->layout.shape.dp, plan->layout.shape.tp, mesh->shape.pp, mesh->shape.dp,
             mesh->shape.tp);
    fz_status status = FZ_NEW(&t, 1);
    if (status == FZ_OK) {
        t->plan = plan;
        t->mesh = mesh;
        t->ops = ops;
        status = create_local(t);
    }
    status = fz_agree(mesh->world, status);
    if (status == FZ_OK)
        status = fz_agree(mesh->world, fz_copies_init(&t->copies, plan, &t->memory, mesh, ops));
    if (status != FZ_OK)
        fz_trainer_destroy(&t);
    else
        *trainer_p = t;
    return status;
}

void fz_trainer_destroy(fz_trainer **trainer)
{
    fz_trainer *t = *trainer;
    if (!t) return;
    fz_copies_reset(&t->copies);
    fz_data_parallel_reset(&t->data);
    fz_pipeline_reset(&t->pipeline);
    fz_tensor_parallel_reset(&t->tensor);
    fz_state_destroy(&t->state);
    fz_rank_memory_destroy(&t->memory);
    fz_free(&t->list);
    fz_free(trainer);
}

/* ---- small questions ---- */

size_t fz_trainer_bytes(const fz_trainer *trainer)
{
    return trainer->memory.used;
}

void fz_trainer_init(fz_trainer *trainer)
{
    const fz_program *program = trainer->plan->program;

    for (int i = 0; i < trainer->memory.n_held; i++) {
        const fz_held *held = &trainer->memory.held[i];
        const fz_param *param = &program->params[held->param];
        const size_t bytes = (size_t)(held->n_pieces * held->piece_elements) * sizeof(float);
        for (int64_t j = 0; j < held->n_pieces; j++)
            fz_param_init_piece(param, program->n_shards, held->first_shard + j,
                                trainer->plan->train.seed, held->w + j * held->piece_elements);
        if (!param->trainable) continue;
        memset(held->m, 0, bytes);
        memset(held->v, 0, bytes);
    }
    trainer->step = trainer->moments_start = 0;
}

const fz_state *fz_trainer_state(const fz_trainer *trainer)
{
    return &trainer->state;
}

void *fz_trainer_snapshot(const fz_trainer *trainer, size_t *bytes)
{
    *bytes = trainer->memory.snapshot_bytes;
    return trainer->memory.snapshot;
}

void fz_trainer_set_before_update(fz_trainer *trainer, void (*call)(void *context), void *context)
{
    trainer->before_update = call;
    trainer->before_update_context = context;
}

int64_t fz_trainer_step_count(const fz_trainer *trainer)
{
    return trainer->step;
}

void fz_trainer_set_step_count(fz_trainer *trainer, int64_t step)
{
    trainer->step = step;
}

void fz_trainer_set_moments_start(fz_trainer *trainer, int64_t step)
{
    trainer->moments_start = step;
}

fz_trainer_needs fz_trainer_get_needs(const fz_trainer *trainer)
{
    const fz_rank_plan *rp = &trainer->rp;
    return (fz_trainer_needs){.first_micro = rp->first_micro,
                              .n_micro = rp->n_micro,
                              .first_shard = rp->shards.first,
                              .n_local_shards = rp->shards.count,
                              .n_shards = rp->shards.n,
                              .pixels = rp->first_block == 0};
}

fz_status fz_trainer_digest(const fz_trainer *trainer, uint64_t *digest)
{
    return fz_state_digest(&trainer->state, trainer->mesh->world, trainer->memory.digests, digest);
}

/* The loader kept to the plan; a mistake here would hang or overflow somewhere else. */
static void check_batch(const fz_trainer *t, const fz_microbatch *micro, int64_t n_micro)
{
    const fz_sizes most =
        fz_program_max_sizes(t->plan->program, t->plan->train.micro_batch, t->rp.shards);

    for (int64_t m = 0; m < n_micro; m++) {
        const fz_sizes *sizes = &micro[m].sizes;
        FZ_ASSERT(sizes->n_samples <= most.n_samples);
        FZ_ASSERT(sizes->n_local_images <= most.n_local_images);
        FZ_ASSERT(sizes->n_enc <= most.n_enc && sizes->n_dec <= most.n_dec);
        FZ_ASSERT(sizes->max_enc_len <= most.max_enc_len && sizes->max_dec_len <= most.max_dec_len);
        FZ_ASSERT(t->rp.first_block > 0 || sizes->n_local_images == 0 || micro[m].pixels);
    }
}

/* ---- the step ---- */

static fz_status before_backward(void *context, int64_t micro)
{
    fz_trainer *t = context;
    return t->memory.grad_floats > 0 ? fz_data_parallel_before(&t->data, micro) : FZ_OK;
}

static fz_status after_backward(void *context, int64_t micro)
{
    fz_trainer *t = context;
    return t->memory.grad_floats > 0 ? fz_data_parallel_after(&t->data, micro) : FZ_OK;
}

/* All micro-batches forward and backward; losses of mine into sums[first_micro ...]. */
static fz_status run_micro_batches(fz_trainer *t, const fz_step_batch *batch)
{
    const bool reports = t->rp.last_block == t->plan->program->n_blocks;
    const fz_pipeline_run run = {.micro = batch->micro,
                                 .n_micro = batch->n_micro,
                                 .training = true,
                                 .list = t->list,
                                 .loss_sum = reports ? t->memory.sums + t->rp.first_micro : NULL,
                                 .context = t,
                                 .before_backward = before_backward,
                                 .after_backward = after_backward};

    t->pipeline.exec.token_loss = NULL;
    t->pipeline.exec.next_token = NULL;
    fz_data_parallel_begin(&t->data);
    FZ_TRY(fz_pipeline_play(&t->pipeline, &run));
    /* Every tensor rank of the last stage has the loss; one brings it. */
    if (reports && t->rp.coord.tp > 0)
        memset(t->memory.sums + t->rp.first_micro, 0, (size_t)t->rp.n_micro * sizeof(double));
    return FZ_OK;
}

/* Gradients summed over lanes and copies, and their norm; the losses travel with it. */
static fz_status finish_gradients(fz_trainer *t, float **grads, double *norm)
{
    const fz_plan *plan = t->plan;
    double *parts = t->memory.sums + plan->n_micro;
    const int64_t n_parts = plan->norm_first[plan->program->n_params];

    *grads = t->memory.grads[0];
    if (t->memory.grad_floats > 0) {
        FZ_TRY(fz_data_parallel_finish(&t->data, grads));
        FZ_TRY(fz_copies_sum(&t->copies, *grads));
    }
    fz_span_begin("optimizer.norm", FZ_SHARE_OPTIM);
    const fz_status status = fz_norm_parts(plan, &t->rp, &t->memory, t->ops, *grads, parts);
    fz_span_end();
    FZ_TRY(status);
    fz_span_begin("world.sums", FZ_SHARE_COMM);
    const fz_status exchanged =
        fz_allreduce_sum_double(t->mesh->world, t->memory.sums, plan->n_micro + n_parts);
    fz_span_end();
    *norm = fz_norm_total(plan, parts);
    return exchanged;
}

static fz_status update(fz_trainer *t, const float *grads, double norm, fz_step_result *result)
{
    const fz_train_config *train = &t->plan->train;
    const long long step = (long long)t->step + 1;

    result->grad_norm = (float)norm;
    FZ_CHECK(isfinite(result->loss), FZ_ERR_FORMAT,
             "step %lld: loss is not finite; lower optimizer.lr or warm up longer", step);
    FZ_CHECK(isfinite(result->grad_norm), FZ_ERR_FORMAT,
             "step %lld: gradient norm is not finite; lower optimizer.lr or warm up longer", step);
    result->lr = (float)fz_learning_rate(train, t->step);
    if (t->before_update) t->before_update(t->before_update_context);
    fz_span_begin("optimizer.adamw", FZ_SHARE_OPTIM);
    const fz_status status =
        fz_optimizer_update(t->plan, &t->memory, t->ops, grads, t->step - t->moments_start,
                            result->lr, fz_clip_factor(train, norm));
    fz_span_end();
    FZ_TRY(status);
    result->step = ++t->step;
    return FZ_OK;
}

fz_status fz_trainer_step(fz_trainer *trainer, fz_step_batch *batch, fz_step_result *result)
{
    fz_trainer *t = trainer;
    const fz_plan *plan = t->plan;
    const double start = fz_clock_s();
    fz_step_result r = {0};
    float *grads = NULL;
    double norm = 0;

    FZ_ASSERT(!plan->program->config.forward_only);
    FZ_ASSERT(batch->first_micro == t->rp.first_micro && batch->n_micro == t->rp.n_micro);
    check_batch(t, batch->micro, batch->n_micro);
    fz_span_begin("data.labels", FZ_SHARE_COMM);
    const fz_status counted =
        fz_loss_exchange_counts(plan, batch, t->mesh->data, t->memory.counts, &r);
    fz_span_end();
    FZ_TRY(counted);
    fz_loss_set_scales(plan, t->memory.counts, batch);
    memset(t->memory.sums, 0,
           (size_t)(plan->n_micro + plan->norm_first[plan->program->n_params]) * sizeof(double));

    FZ_TRY(run_micro_batches(t, batch));
    FZ_TRY(finish_gradients(t, &grads, &norm));
    r.loss = fz_loss_mean(plan, t->memory.counts, t->memory.sums);
    FZ_TRY(update(t, grads, norm, &r));
    r.seconds = fz_clock_s() - start;
    *result = r;
    return FZ_OK;
}

/* ---- without gradients ---- */

typedef struct eval_run {
    fz_trainer *trainer;
    const fz_step_batch *batch;
    double *sample_loss, *sample_labels;
} eval_run;

/* Token losses of the micro-batch that just ran, summed by sample in token order. */
static fz_status collect_losses(void *context, int64_t m)
{
    const eval_run *eval = context;
    const fz_trainer *t = eval->trainer;
    const fz_microbatch *micro = &eval->batch->micro[m];
    const int64_t first = (t->rp.first_micro + m) * t->plan->train.micro_batch;

    for (int64_t i = 0; i < micro->sizes.n_samples; i++) {
        double loss = 0, labels = 0;
        for (int32_t token = micro->dec_start[i]; token < micro->dec_start[i + 1]; token++) {
            if (micro->labels[token] == FZ_NO_LABEL) continue;
            loss += (double)t->memory.token_loss[token];
            labels += 1;
        }
        eval->sample_loss[first + i] = loss;
        eval->sample_labels[first + i] = labels;
    }
    return FZ_OK;
}

fz_status fz_trainer_eval(fz_trainer *trainer, fz_step_batch *batch, double *sample_loss,
                          double *sample_labels)
{
    fz_trainer *t = trainer;
    const int64_t n = t->plan->train.global_batch;
    const bool has_head = t->rp.last_block == t->plan->program->n_blocks;
    eval_run eval = {t, batch, sample_loss, sample_labels};
    /* One tensor rank of the last stage brings the losses. */
    const fz_pipeline_run run = {.micro = batch->micro,
                                 .n_micro = batch->n_micro,
                                 .context = &eval,
                                 .loss_sum = has_head ? t->memory.sums + t->rp.first_micro : NULL,
                                 .after_forward =
                                     has_head && t->rp.coord.tp == 0 ? collect_losses : NULL};

    FZ_ASSERT(batch->first_micro == t->rp.first_micro && batch->n_micro == t->rp.n_micro);
    check_batch(t, batch->micro, batch->n_micro);
    memset(sample_loss, 0, (size_t)n * sizeof *sample_loss);
    memset(sample_labels, 0, (size_t)n * sizeof *sample_labels);
    t->pipeline.exec.token_loss = has_head ? t->memory.token_loss : NULL;
    t->pipeline.exec.next_token = NULL;
    FZ_TRY(fz_pipeline_play(&t->pipeline, &run));
    FZ_TRY(fz_allreduce_sum_double(t->mesh->world, sample_loss, n));
    return fz_allreduce_sum_double(t->mesh->world, sample_labels, n);
}

fz_status fz_trainer_next_tokens(fz_trainer *trainer, fz_microbatch *batch, int32_t *next)
{
    fz_trainer *t = trainer;
    const bool has_head = t->rp.last_block == t->plan->program->n_blocks;
    const fz_pipeline_run run = {.micro = batch, .n_micro = 1};

    FZ_CHECK(t->mesh->shape.dp == 1, FZ_ERR_USAGE,
             "layout.dp: %d; next tokens are made by one data rank, use dp 1", t->mesh->shape.dp);
    check_batch(t, batch, 1);
    t->pipeline.exec.token_loss = has_head ? t->memory.token_loss : NULL;
    t->pipeline.exec.next_token = has_head ? next : NULL;
    FZ_TRY(fz_pipeline_play(&t->pipeline, &run));
    t->pipeline.exec.next_token = NULL;
    return fz_broadcast(t->mesh->pipeline, next, (size_t)batch->sizes.n_samples * sizeof *next,
                        t->mesh->shape.pp - 1);
}
