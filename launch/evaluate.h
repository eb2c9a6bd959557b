/* Held-out loss by class, in training and for florenz eval. */
#ifndef FZ_LAUNCH_EVALUATE_H
#define FZ_LAUNCH_EVALUATE_H

#include "data/index.h"
#include "launch/feed.h"
#include "parallel/trainer.h"

typedef struct fz_class_loss {
    char name[FZ_CLASS_BYTES]; /* "caption/de" */
    double loss;               /* mean over the labels of all its samples */
    double loss_sum, n_labels;
    int64_t n_samples;
    bool is_seen; /* the class occurs in the training data */
} fz_class_loss;

typedef struct fz_evaluation {
    int n_classes;
    fz_class_loss classes[FZ_MAX_CLASSES];
    double loss; /* over all labels */
    int64_t n_samples;
} fz_evaluation;

typedef struct fz_evaluator {
    const fz_index *index; /* borrowed */
    int64_t n_samples;     /* of the first pairs in index order */
    fz_feed feed;          /* owned */
    double *loss, *labels; /* owned (global_batch) */
    int64_t global_batch;
    bool is_seen[FZ_MAX_CLASSES];
} fz_evaluator;

/* All memory is taken here. loader: what the training loader gets, without its index; most: 0 all
 * samples. train_index NULL: nothing is known to be seen. Local. */
fz_status fz_evaluator_create(const fz_loader_config *loader, const fz_index *index,
                              const fz_index *train_index, int64_t most, bool skip,
                              const fz_group *group, fz_evaluator *evaluator);
void fz_evaluator_reset(fz_evaluator *evaluator);
/* Collective over the world; the same result on every rank and layout. */
fz_status fz_evaluator_run(fz_evaluator *evaluator, fz_trainer *trainer, fz_evaluation *evaluation);

#endif
