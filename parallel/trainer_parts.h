/* What a trainer is made of. Internal to trainer.c and to what runs on a trainer's weights and
 * groups: generator.c. */
#ifndef FZ_PARALLEL_TRAINER_PARTS_H
#define FZ_PARALLEL_TRAINER_PARTS_H

#include "parallel/copies.h"
#include "parallel/data_parallel.h"
#include "parallel/pipeline.h"
#include "parallel/rank_memory.h"
#include "parallel/tensor_parallel.h"
#include "parallel/trainer.h"

struct fz_trainer {
    const fz_plan *plan; /* borrowed */
    const fz_mesh *mesh; /* borrowed */
    const fz_ops *ops;   /* borrowed */
    fz_rank_plan rp;
    fz_rank_memory memory;
    fz_tensor_parallel tensor;
    fz_pipeline pipeline;
    fz_data_parallel data;
    fz_copies copies;
    fz_state state;
    fz_action *list;                      /* owned: this stage's actions of a step */
    int64_t step;                         /* optimizer steps done */
    int64_t moments_start;                /* the moments know the steps after this one */
    void (*before_update)(void *context); /* or NULL */
    void *before_update_context;          /* borrowed */
};

#endif
