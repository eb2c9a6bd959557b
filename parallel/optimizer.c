#include "parallel/optimizer.h"

#include <math.h>

double fz_learning_rate(const fz_train_config *train, int64_t step)
{
    static const double PI = 3.14159265358979323846;

    if (step < train->warmup) return train->lr * (double)(step + 1) / (double)train->warmup;
    if (train->lr_kind == FZ_LR_CONSTANT) return train->lr;
    if (step >= train->steps) return 0.0;
    const double x = (double)(step - train->warmup) / (double)(train->steps - train->warmup);
    if (train->lr_kind == FZ_LR_LINEAR) return train->lr * (1.0 - x);
    return train->lr * 0.5 * (1.0 + cos(PI * x));
}

/* Sums of chunks, added one after the other. */
static fz_status piece_sumsq(const fz_ops *ops, double *chunk_sums, const float *x, int64_t n,
                             double *sum_p)
{
    const int64_t slab = (int64_t)FZ_SUMSQ_SLAB * FZ_SUMSQ_CHUNK;
    double sum = 0;

    for (int64_t at = 0; at < n; at += slab) {
        const int64_t part = n - at < slab ? n - at : slab;
        FZ_TRY(ops->sumsq_chunks(chunk_sums, x + at, part, NULL));
        const int64_t n_chunks = (part + FZ_SUMSQ_CHUNK - 1) / FZ_SUMSQ_CHUNK;
        for (int64_t i = 0; i < n_chunks; i++)
            sum += chunk_sums[i];
    }
    *sum_p = sum;
    return FZ_OK;
}

fz_status fz_norm_parts(const fz_plan *plan, const fz_rank_plan *rank_plan,
                        const fz_rank_memory *memory, const fz_ops *ops, const float *grads,
                        double *parts)
{
    for (int i = 0; i < memory->n_held; i++) {
        const fz_held *held = &memory->held[i];
        const fz_param *param = &plan->program->params[held->param];
        if (!param->trainable) continue;
        const float *grad = grads + memory->grad_offset[held->use[0]];
        const int64_t copies = param->cut == FZ_CUT_HEADS ? param->replicas : 1;
        for (int64_t j = 0; j < held->n_pieces; j++) {
            const int64_t shard = held->first_shard + j;
            if (!fz_plan_owns(plan, rank_plan->coord, held->param, shard)) continue;
            FZ_TRY(piece_sumsq(ops, memory->chunk_sums, grad + j * held->piece_elements,
                               held->piece_elements,
                               &parts[plan->norm_first[held->param] + shard / copies]));
        }
    }
    return FZ_OK;
}

double fz_norm_total(const fz_plan *plan, const double *parts)
{
    const int64_t n = plan->norm_first[plan->program->n_params];
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += parts[i];
    return sqrt(sum);
}

float fz_clip_factor(const fz_train_config *train, double norm)
{
    const double factor = train->clip > 0 ? train->clip / (norm + 1e-6) : 1.0;
    return factor < 1.0 ? (float)factor : 1.0f;
}

fz_status fz_optimizer_update(const fz_plan *plan, const fz_rank_memory *memory, const fz_ops *ops,
                              const float *grads, int64_t step, float lr, float grad_scale)
{
    const fz_train_config *train = &plan->train;
    const double t = (double)(step + 1);
    fz_adamw_args args = {.lr = lr,
                          .beta1 = (float)train->beta1,
                          .beta2 = (float)train->beta2,
                          .eps = (float)train->eps,
                          .correction1 = (float)(1.0 - pow(train->beta1, t)),
                          .correction2 = (float)(1.0 - pow(train->beta2, t)),
                          .grad_scale = grad_scale};

    for (int i = 0; i < memory->n_held; i++) {
        const fz_held *held = &memory->held[i];
        const fz_param *param = &plan->program->params[held->param];
        if (!param->trainable) continue;
        args.w = held->w;
        args.m = held->m;
        args.v = held->v;
        args.g = grads + memory->grad_offset[held->use[0]];
        args.n = held->n_pieces * held->piece_elements;
        args.weight_decay = param->decay ? (float)train->weight_decay : 0.0f;
        FZ_TRY(ops->adamw(&args, NULL));
    }
    return FZ_OK;
}
