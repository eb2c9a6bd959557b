#include "parallel/loss.h"

#include <string.h>

#include "parallel/rank_memory.h"

enum { COUNT_TOKENS, COUNT_FLOPS }; /* behind the label counts */

fz_status fz_loss_exchange_counts(const fz_plan *plan, const fz_step_batch *batch,
                                  const fz_group *data, int64_t *counts, fz_step_result *result)
{
    const int64_t M = plan->n_micro;

    memset(counts, 0, (size_t)(M + FZ_EXTRA_COUNTS) * sizeof *counts);
    for (int64_t m = 0; m < batch->n_micro; m++) {
        const fz_microbatch *micro = &batch->micro[m];
        counts[batch->first_micro + m] = micro->n_labels;
        counts[M + COUNT_TOKENS] += micro->sizes.n_enc + micro->sizes.n_dec;
        counts[M + COUNT_FLOPS] += (int64_t)fz_plan_micro_flops(plan, &micro->sizes);
    }
    FZ_TRY(fz_allreduce_sum_int(data, counts, M + FZ_EXTRA_COUNTS));
    for (int64_t m = 0; m < M; m++)
        result->n_labels += counts[m];
    result->n_tokens = counts[M + COUNT_TOKENS];
    result->flops = (double)counts[M + COUNT_FLOPS];
    return FZ_OK;
}

/* Labels of loss batch b, whose micro-batches are [b * per, (b+1) * per). */
static int64_t batch_labels(const int64_t *counts, int64_t b, int64_t per)
{
    int64_t n = 0;
    for (int64_t m = b * per; m < (b + 1) * per; m++)
        n += counts[m];
    return n;
}

void fz_loss_set_scales(const fz_plan *plan, const int64_t *counts, fz_step_batch *batch)
{
    const fz_train_config *train = &plan->train;
    const int64_t per = train->loss_batch / train->micro_batch;
    const double n_batches = (double)(train->global_batch / train->loss_batch);

    for (int64_t m = 0; m < batch->n_micro; m++) {
        const int64_t labels = batch_labels(counts, (batch->first_micro + m) / per, per);
        batch->micro[m].loss_scale =
            labels > 0 ? (float)(1.0 / ((double)labels * n_batches)) : 0.0f;
    }
}

float fz_loss_mean(const fz_plan *plan, const int64_t *counts, const double *sums)
{
    const fz_train_config *train = &plan->train;
    const int64_t per = train->loss_batch / train->micro_batch;
    const int64_t n_batches = train->global_batch / train->loss_batch;
    double mean = 0;

    for (int64_t b = 0; b < n_batches; b++) {
        const int64_t labels = batch_labels(counts, b, per);
        double sum = 0;
        for (int64_t m = b * per; m < (b + 1) * per; m++)
            sum += sums[m];
        if (labels > 0) mean += sum / (double)labels;
    }
    return (float)(mean / (double)n_batches);
}
