/* A tiny model, its plan, trainer and synthetic batches, for tests. */
#ifndef FZ_TESTS_PARALLEL_RIG_H
#define FZ_TESTS_PARALLEL_RIG_H

#include <string.h>

#include "dist/mesh.h"
#include "model/ops/ops.h"
#include "parallel/synthetic.h"
#include "parallel/trainer.h"

enum { SHARDS = 4 };

typedef struct row {
    const char *variant;
    fz_schedule_kind schedule;
    bool freeze, dropout;
    int64_t micro_batch, n_micro, loss_micro; /* loss batch in micro-batches */
    void (*adjust)(fz_train_config *train);   /* may be NULL, as may what follows */
    const char *pattern;                      /* freezes what it matches */
    int64_t shards;                           /* 0: SHARDS */
    const int *cut;                           /* stages begin there instead of balanced */
    int64_t cross_every;                      /* 0: the variant's */
    bool forward_only;
} row;

/* A trainer with all it stands on. */
typedef struct rig {
    fz_program *program;
    fz_plan *plan;
    fz_mesh mesh;
    fz_trainer *trainer;
    fz_synthetic *synthetic;
    fz_rank_plan rank_plan;
    fz_train_config train;
} rig;

static fz_status configure(const row *r, fz_program **program_p, fz_train_config *train)
{
    fz_model_config c;
    FZ_TRY(fz_model_variant(r->variant, &c));
    c.image_size = 36;
    c.max_prompt = 9;
    c.max_output = 11;
    c.freeze_recipe = r->freeze;
    c.forward_only = r->forward_only;
    if (r->cross_every) c.cross_every = r->cross_every;
    if (r->pattern) strcpy(c.freeze[c.n_freeze++], r->pattern);
    if (!r->dropout) c.dropout = c.attn_dropout = c.act_dropout = c.drop_path = 0;
    *train = (fz_train_config){.seed = 7,
                               .steps = 10,
                               .global_batch = r->micro_batch * r->n_micro,
                               .loss_batch = r->micro_batch * r->loss_micro,
                               .micro_batch = r->micro_batch,
                               .clip = 0.5,
                               .lr = 3e-3,
                               .weight_decay = 0.01,
                               .beta1 = 0.9,
                               .beta2 = 0.999,
                               .eps = 1e-8,
                               .warmup = 2,
                               .lr_kind = FZ_LR_COSINE};
    return fz_program_create(&c, r->shards ? r->shards : SHARDS, program_p);
}

static fz_status rig_start(rig *g, const fz_world *where, fz_mesh_shape shape, const row *r)
{
    const fz_layout_config layout = {.shape = shape,
                                     .schedule = r->schedule,
                                     .n_shards = r->shards ? r->shards : SHARDS,
                                     .n_lanes = 8};

    memset(g, 0, sizeof *g);
    FZ_TRY(configure(r, &g->program, &g->train));
    if (r->adjust) r->adjust(&g->train);
    FZ_TRY(fz_plan_create(g->program, &g->train, &layout, &g->plan));
    for (int i = 0; r->cut && i < shape.pp; i++)
        g->plan->cut[i] = r->cut[i];
    FZ_TRY(fz_plan_rank(g->plan, where->rank, &g->rank_plan));
    FZ_TRY(fz_mesh_create(where, shape, &g->mesh));
    FZ_TRY(fz_trainer_create(g->plan, &g->mesh, &fz_ops_cpu, &g->trainer));
    const fz_trainer_needs needs = fz_trainer_get_needs(g->trainer);
    FZ_TRY(fz_synthetic_create(g->program, &g->train, &needs, 0, 1, &g->synthetic));
    fz_trainer_init(g->trainer);
    return FZ_OK;
}

static void rig_stop(rig *g)
{
    fz_synthetic_destroy(&g->synthetic);
    fz_trainer_destroy(&g->trainer);
    fz_mesh_reset(&g->mesh);
    fz_plan_destroy(&g->plan);
    fz_program_destroy(&g->program);
}

#endif
