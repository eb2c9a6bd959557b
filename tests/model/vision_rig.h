/* One vision block on a rig: a small model's weights, memory of exactly the planned size, one run
 * through its passes on any of the shards. For the tests of vision's blocks. */
#ifndef FZ_TESTS_MODEL_VISION_RIG_H
#define FZ_TESTS_MODEL_VISION_RIG_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"
#include "core/tree.h"
#include "model/blocks/davit.h"
#include "model/ops/ops.h"
#include "model/program.h"

/* Side 60 gives maps of 15, 8, 4 and 2: four padded windows in stage 0, one in the others. */
enum {
    SIDE = 60,
    S = 4,
    PATCH0 = 0,
    SPATIAL0,
    CHANNEL0,
    PATCH1,
    SPATIAL1,
    LAST_SUB = 11,
    PROJECTOR
};

static inline fz_program *make_program(double drop_path, const char *freeze)
{
    static const int64_t dims[4] = {32, 64, 32, 96};
    fz_model_config config;
    fz_program *program = NULL;
    assert_int_equal(fz_model_variant("tiny-bart", &config), FZ_OK);
    config.image_size = SIDE;
    for (int s = 0; s < 4; s++) {
        config.vision_dims[s] = dims[s];
        config.vision_depths[s] = 1;
    }
    config.drop_path = drop_path;
    if (freeze) {
        config.n_freeze = 1;
        snprintf(config.freeze[0], sizeof config.freeze[0], "%s", freeze);
    }
    assert_int_equal(fz_program_create(&config, S, &program), FZ_OK);
    assert_true(program->blocks[PROJECTOR].kind == &fz_block_projector);
    return program;
}

/* ---- a rig: one block with its weights, memory of exactly the planned size, and one run ---- */

typedef struct rig {
    fz_program *program;
    const fz_block *block;
    int64_t in_image, out_image; /* floats per image */
    float *weights[FZ_BLOCK_USES], *grads[FZ_BLOCK_USES];
    float **weight_list, **grad_list;
    bool training;
    uint64_t seed;
    int64_t sample_n[64];
} rig;

typedef struct outcome { /* of local images, malloc'ed */
    float *out, *din;
    int n_sums;
    int64_t summed;
} outcome;

static inline int64_t use_elements(const rig *r, int i)
{
    return fz_param_elements(&r->program->params[r->program->uses[r->block->first_use + i].param]);
}

static inline void rig_start(rig *r, fz_program *program, int block)
{
    *r = (rig){.program = program, .block = &program->blocks[block], .training = true, .seed = 5};
    r->weight_list = calloc((size_t)program->n_params, sizeof *r->weight_list);
    r->grad_list = calloc((size_t)program->n_uses, sizeof *r->grad_list);
    r->out_image = r->block->out_rows_per_image * r->block->out_width;
    const fz_block *before = block > 0 ? r->block - 1 : NULL;
    r->in_image = before ? before->out_rows_per_image * before->out_width : SIDE * SIDE * 3;
    for (int i = 0; i < 64; i++)
        r->sample_n[i] = 1000 + 7 * i;
    for (int i = 0; i < r->block->n_uses; i++) {
        const fz_use use = program->uses[r->block->first_use + i];
        const fz_param *param = &program->params[use.param];
        const int64_t n = fz_param_elements(param);
        r->weights[i] = malloc((size_t)n * sizeof(float));
        fz_rng_normal(r->weights[i], fz_mix64(77 + (uint64_t)i), 0, n);
        const int64_t fan_in = n / param->shape[0];
        const float scale = param->ndim == 1 ? 0.2f : (float)(1.0 / sqrt((double)fan_in));
        for (int64_t e = 0; e < n; e++)
            r->weights[i][e] =
                r->weights[i][e] * scale + (param->init == FZ_INIT_ONE ? 1.0f : 0.0f);
        r->weight_list[use.param] = r->weights[i];
        r->grads[i] = calloc((size_t)n, sizeof(float));
        if (param->trainable) r->grad_list[r->block->first_use + i] = r->grads[i];
    }
}

static inline void rig_stop(rig *r)
{
    for (int i = 0; i < r->block->n_uses; i++) {
        free(r->weights[i]);
        free(r->grads[i]);
    }
    free(r->weight_list);
    free(r->grad_list);
}

static inline fz_shards shards_of(int64_t first, int64_t count)
{
    return (fz_shards){.n = S, .first = first, .count = count};
}

static inline fz_sizes sizes_of(int64_t B, fz_shards shards)
{
    const int64_t last = shards.first + shards.count;
    return (fz_sizes){.n_samples = B,
                      .n_local_images = fz_image_first(B, shards.n, last) -
                                        fz_image_first(B, shards.n, shards.first)};
}

/* The other ranks are not there: the root stays what it is, and the call is counted. */
static inline fz_status note_sum(void *context, float *x, int64_t n)
{
    outcome *out = context;
    (void)x;
    out->n_sums++;
    out->summed += n;
    return FZ_OK;
}
static inline fz_status note_wait(void *context)
{
    (void)context;
    return FZ_OK;
}

static inline fz_arena exact_arena(size_t bytes)
{
    void *base = aligned_alloc(FZ_ALIGN, fz_align_up(bytes + FZ_ALIGN));
    memset(base, 0x7f, bytes); /* what nobody wrote must not matter: huge, not zero */
    return fz_arena_over(base, bytes);
}

/* All of in and dout are given; the local images' part is used. dout NULL: forward only. */
static inline outcome run(rig *r, int64_t B, int64_t first, int64_t count, const float *in,
                          const float *dout)
{
    const fz_shards shards = shards_of(first, count);
    const fz_sizes sizes = sizes_of(B, shards);
    const int64_t n = sizes.n_local_images, image = fz_image_first(B, S, first);
    outcome result = {0};
    const fz_hooks hooks = {
        .context = &result, .sum_shards_start = note_sum, .sum_shards_wait = note_wait};
    fz_block_bytes bytes;
    r->block->kind->bytes(r->block, r->program, &sizes, shards, &bytes);
    fz_arena save = exact_arena(bytes.save), keep = exact_arena(bytes.keep);
    fz_arena work = exact_arena(bytes.work);
    const size_t most = (size_t)(n * (r->in_image > r->out_image ? r->in_image : r->out_image));
    const fz_microbatch batch = {.sizes = sizes,
                                 .sample_n = r->sample_n,
                                 .pixels = r->block->index == 0 ? in + image * r->in_image : NULL};
    fz_exec x = {.program = r->program,
                 .ops = &fz_ops_cpu,
                 .hooks = &hooks,
                 .shards = shards,
                 .batch = &batch,
                 .seed = r->seed,
                 .training = r->training,
                 .weights = r->weight_list,
                 .grads = r->grad_list,
                 .save = &save,
                 .keep = &keep,
                 .work = &work};
    result.out = malloc(most * sizeof(float) + 1);
    result.din = malloc(most * sizeof(float) + 1);
    float *copy = malloc(most * sizeof(float) + 1);
    memcpy(copy, in + image * r->in_image, (size_t)(n * r->in_image) * sizeof(float));
    x.stream[FZ_STREAM_VISION] = r->block->index == 0 ? NULL : copy;
    x.dstream[FZ_STREAM_VISION] = result.din;

    assert_int_equal(r->block->kind->forward(r->block, &x), FZ_OK);
    memcpy(result.out, x.stream[FZ_STREAM_VISION], (size_t)(n * r->out_image) * sizeof(float));
    assert_int_equal(save.used, bytes.save);
    if (dout && fz_block_keeps(r->block)) {
        fz_arena_release(&work, 0);
        memcpy(result.din, dout + image * r->out_image, (size_t)(n * r->out_image) * sizeof(float));
        assert_int_equal(r->block->kind->backward_input(r->block, &x), FZ_OK);
        assert_int_equal(keep.used, bytes.keep);
        fz_arena_release(&work, 0);
        if (r->block->trains)
            assert_int_equal(r->block->kind->backward_weight(r->block, &x), FZ_OK);
        assert_int_equal(work.peak, bytes.work);
    }
    free(copy);
    free(save.base);
    free(keep.base);
    free(work.base);
    return result;
}

static inline void outcome_free(outcome *result)
{
    free(result->out);
    free(result->din);
}

static inline float *random_floats(int64_t n, uint64_t key)
{
    float *x = malloc((size_t)n * sizeof(float) + 1);
    fz_rng_normal(x, fz_mix64(key), 0, n);
    return x;
}

#endif
