#include "launch/evaluate.h"

#include <string.h>

#include "core/memory.h"

fz_status fz_evaluator_create(const fz_loader_config *loader, const fz_index *index,
                              const fz_index *train_index, int64_t most, bool skip,
                              const fz_group *group, fz_evaluator *evaluator)
{
    fz_loader_config config = *loader;
    config.index = index;
    config.eval = true;
    *evaluator = (fz_evaluator){
        .index = index, .n_samples = index->n_annotations, .global_batch = config.global_batch};
    if (most > 0 && most < evaluator->n_samples) evaluator->n_samples = most;
    for (int c = 0; c < index->n_classes; c++)
        for (int t = 0; train_index && t < train_index->n_classes; t++)
            if (strcmp(index->class_name[c], train_index->class_name[t]) == 0)
                evaluator->is_seen[c] = true;
    fz_status status = fz_feed_create(&config, group, skip, &evaluator->feed);
    if (status == FZ_OK) status = FZ_NEW(&evaluator->loss, config.global_batch);
    if (status == FZ_OK) status = FZ_NEW(&evaluator->labels, config.global_batch);
    if (status != FZ_OK) fz_evaluator_reset(evaluator);
    return status;
}

void fz_evaluator_reset(fz_evaluator *evaluator)
{
    if (evaluator->feed.flags) fz_feed_reset(&evaluator->feed);
    fz_free(&evaluator->loss);
    fz_free(&evaluator->labels);
}

/* Adds in index order, so that the sums do not follow the layout. */
static void add_step(const fz_evaluator *e, int64_t step, fz_evaluation *evaluation)
{
    for (int64_t p = 0; p < e->global_batch; p++) {
        const int64_t pair = step * e->global_batch + p;
        if (pair >= e->n_samples) return;
        fz_class_loss *to = &evaluation->classes[e->index->annotation_class[pair]];
        to->loss_sum += e->loss[p];
        to->n_labels += e->labels[p];
        to->n_samples++;
    }
}

static void finish(const fz_evaluator *e, fz_evaluation *evaluation)
{
    double sum = 0.0, labels = 0.0;
    evaluation->n_classes = e->index->n_classes;
    for (int c = 0; c < evaluation->n_classes; c++) {
        fz_class_loss *class = &evaluation->classes[c];
        memcpy(class->name, e->index->class_name[c], sizeof class->name);
        class->is_seen = e->is_seen[c];
        class->loss = class->n_labels > 0 ? class->loss_sum / class->n_labels : 0.0;
        sum += class->loss_sum;
        labels += class->n_labels;
        evaluation->n_samples += class->n_samples;
    }
    evaluation->loss = labels > 0 ? sum / labels : 0.0;
}

fz_status fz_evaluator_run(fz_evaluator *e, fz_trainer *trainer, fz_evaluation *evaluation)
{
    memset(evaluation, 0, sizeof *evaluation);
    for (int64_t step = 0; step * e->global_batch < e->n_samples; step++) {
        fz_step_batch batch;
        uint8_t wish = 0;
        FZ_TRY(fz_feed_next(&e->feed, step, FZ_OK, &wish, &batch));
        FZ_TRY(fz_trainer_eval(trainer, &batch, e->loss, e->labels));
        add_step(e, step, evaluation);
    }
    finish(e, evaluation);
    return FZ_OK;
}
