/* Settings of training and layout, as plain numbers. launch/ fills them from the config. */
#ifndef FZ_PARALLEL_CONFIG_H
#define FZ_PARALLEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "dist/mesh_index.h"

typedef enum fz_schedule_kind { FZ_SCHEDULE_AFAB, FZ_SCHEDULE_1F1B } fz_schedule_kind;
typedef enum fz_lr_kind { FZ_LR_COSINE, FZ_LR_LINEAR, FZ_LR_CONSTANT } fz_lr_kind;

typedef struct fz_train_config {
    uint64_t seed;
    int64_t steps;                                 /* length of the learning-rate schedule */
    int64_t global_batch, loss_batch, micro_batch; /* samples; each divides the one before */
    double clip;                                   /* global norm; 0: off */
    double lr, weight_decay, beta1, beta2, eps;
    int64_t warmup;
    fz_lr_kind lr_kind;
} fz_train_config;

typedef struct fz_layout_config {
    fz_mesh_shape shape;
    fz_schedule_kind schedule;
    int64_t n_shards, n_lanes; /* S, K: powers of two */
    bool has_snapshot;         /* room for a copy of what a rank writes into checkpoints */
} fz_layout_config;

#endif
