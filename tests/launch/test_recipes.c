/* recipes/ against the published numbers: schedule, batches, sizes, what is trained. */
#include <math.h>

#include "tests/support/unit.h"

#include "data/sampler.h"
#include "launch/config_yaml.h"
#include "parallel/optimizer.h"

typedef struct recipe {
    const char *name; /* of the model */
    int64_t total, trained;
    fz_decoder_family family;
} recipe;

/* Totals and trained parameters of the published models (docs/reference.md). */
static const recipe recipes[] = {
    {"0.4b", 428838400, 337631232, FZ_DECODER_BART},
    {"1.0b", 1039697920, 676864000, FZ_DECODER_BART},
    {"3.5b", 3485001498, 1097649690, FZ_DECODER_GEMMA},
    {"11.2b", 11221849642, 2534813738, FZ_DECODER_GEMMA},
};
enum { N_RECIPES = sizeof recipes / sizeof *recipes };

typedef struct loaded {
    fz_config config;
    fz_model_config model;
    fz_train_config train;
    fz_program *program;
} loaded;
static loaded l;

static void load(const recipe *r, const char *kind, const char *set)
{
    char path[512];
    int64_t n_shards = 0, n_lanes = 0;

    snprintf(path, sizeof path, FZ_SOURCE_DIR "/recipes/%s-%s.yaml", r->name, kind);
    assert_ok(fz_config_load(&l.config, path, &set, set != NULL, NULL));
    assert_ok(fz_config_model(&l.config, &l.model));
    fz_config_train(&l.config, &l.train);
    assert_ok(fz_config_numerics(&l.config, &l.model, &n_shards, &n_lanes));
    assert_ok(fz_program_create(&l.model, n_shards, &l.program));
}

static int unload(void **state)
{
    (void)state;
    fz_program_destroy(&l.program);
    return 0;
}

static bool is_trained(const char *name)
{
    for (int i = 0; i < l.program->n_params; i++)
        if (strcmp(l.program->params[i].name, name) == 0) return l.program->params[i].trainable;
    fail_msg("no tensor %s", name);
    return false;
}

#define DECODER "language_model.model.decoder."

/* The same in pre-training and fine-tuning. */
static void check_model(const recipe *r)
{
    const bool is_bart = r->family == FZ_DECODER_BART;

    assert_string_equal(l.config.model.variant, r->name);
    assert_int_equal(l.model.family, r->family);
    assert_int_equal(l.program->n_elements, r->total);
    assert_int_equal(l.program->n_trainable, r->trained);
    assert_false(is_trained("image_projection"));
    assert_false(is_trained("image_pos_embed.row_embeddings.weight"));
    assert_false(is_trained("vision_tower.convs.0.proj.weight"));
    assert_true(is_trained("language_model.model.encoder.embed_tokens.weight"));
    assert_true(is_trained(DECODER "embed_tokens.weight"));
    assert_true(is_trained(DECODER "layers.0.encoder_attn.q_proj.weight"));
    assert_int_equal(is_trained(DECODER "layers.0.self_attn.q_proj.weight"), is_bart);
    assert_true(l.model.frozen_dropout);
    assert_int_equal(l.model.max_prompt, 128);
    assert_int_equal(l.model.max_output, 128);
    assert_true(l.train.global_batch % l.train.loss_batch == 0);
    assert_int_equal(l.train.loss_batch, 32);
    assert_true(l.train.loss_batch % l.train.micro_batch == 0);
    assert_true(l.train.clip == 1.0 && l.train.beta1 == 0.9 && l.train.beta2 == 0.999);
    assert_true(l.train.eps == 1e-8);
    assert_int_equal(l.model.decay, FZ_DECAY_RECIPE);
    assert_int_equal(l.config.run.seed, 44595);
    assert_int_equal(l.config.layout.tp, FZ_AUTO);
    assert_int_equal(l.config.layout.pp, FZ_AUTO);
    assert_int_equal(l.config.layout.dp, FZ_AUTO);
    assert_true(l.config.data.train.n > 0 && l.config.data.eval.n > 0);
    assert_int_equal(l.config.data.balance, FZ_BALANCE_TASK_LANG);
    assert_true(l.config.checkpoint.init_from[0] != '\0');
}

static bool is_near(double a, double b)
{
    return fabs(a - b) <= 1e-12 * b;
}

/* Up over 100 steps, then the cosine: half way down in the middle, nearly 0 at the end. */
static void check_schedule(double lr, int64_t steps)
{
    assert_int_equal(l.train.steps, steps);
    assert_int_equal(l.train.warmup, 100);
    assert_true(is_near(fz_learning_rate(&l.train, 0), lr / 100));
    assert_true(is_near(fz_learning_rate(&l.train, 100), lr));
    assert_true(is_near(fz_learning_rate(&l.train, 100 + (steps - 100) / 2), lr / 2));
    assert_true(fz_learning_rate(&l.train, steps - 1) > 0);
    assert_true(fz_learning_rate(&l.train, steps - 1) < lr * 1e-6);
}

static void pretraining_has_the_published_numbers(void **state)
{
    (void)state;
    for (int i = 0; i < N_RECIPES; i++) {
        load(&recipes[i], "pretrain", NULL);
        check_model(&recipes[i]);
        check_schedule(1e-4, 10000);
        assert_int_equal(l.train.global_batch, 1024);
        assert_int_equal(l.model.image_size, 224);
        assert_true(l.train.weight_decay == 0.01);
        unload(NULL);
    }
}

static void finetuning_has_the_published_numbers(void **state)
{
    (void)state;
    for (int i = 0; i < N_RECIPES; i++) {
        load(&recipes[i], "finetune", NULL);
        check_model(&recipes[i]);
        check_schedule(5e-5, 5000);
        assert_int_equal(l.train.global_batch, 256);
        assert_int_equal(l.model.image_size, 768);
        assert_true(l.train.weight_decay == 0.05);
        /* It starts where the other recipe ends. */
        char from[FZ_TEXT_BYTES];
        snprintf(from, sizeof from, "runs/%s-pretrain/checkpoints/step-000010000", recipes[i].name);
        assert_string_equal(l.config.checkpoint.init_from, from);
        unload(NULL);
        load(&recipes[i], "pretrain", NULL);
        from[strlen("runs/") + strlen(recipes[i].name) + strlen("-pretrain")] = '\0';
        assert_string_equal(l.config.run.dir, from);
        unload(NULL);
    }
}

/* No weight knows the image's side, so that one checkpoint serves both. */
static void both_have_the_same_tensors(void **state)
{
    (void)state;
    for (int i = 0; i < N_RECIPES; i++) {
        load(&recipes[i], "pretrain", NULL);
        fz_program *before = l.program;
        load(&recipes[i], "finetune", NULL);
        assert_int_equal(l.program->n_params, before->n_params);
        for (int p = 0; p < before->n_params; p++) {
            const fz_param *a = &before->params[p], *b = &l.program->params[p];
            assert_string_equal(a->name, b->name);
            assert_int_equal(a->ndim, b->ndim);
            assert_memory_equal(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape);
            assert_int_equal(a->trainable, b->trainable);
        }
        fz_program_destroy(&before);
        unload(NULL);
    }
}

static void a_broken_recipe_is_refused(void **state)
{
    static const char *const broken[][2] = {
        {"train.micro_batch=5", "micro_batch"},   {"train.loss_batch=48", "loss_batch"},
        {"optimizer.lr=-1", "optimizer.lr"},      {"model.freeze=recip*", "model.freeze"},
        {"optimizer.schedule=cosinus", "cosine"}, {"train.global_batches=8", "train.global_batch"},
        {"numerics.fp16=on", "numerics"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        const char *path = FZ_SOURCE_DIR "/recipes/0.4b-pretrain.yaml";
        fz_layout_config layout;
        fz_status status = fz_config_load(&l.config, path, &broken[i][0], 1, NULL);
        if (status == FZ_OK) status = fz_config_model(&l.config, &l.model);
        if (status == FZ_OK) status = fz_program_create(&l.model, 4, &l.program);
        if (status == FZ_OK) status = fz_config_layout(&l.config, l.program, 8, &layout);
        if (status == FZ_OK) print_error("taken: %s\n", broken[i][0]);
        assert_int_equal(status, FZ_ERR_USAGE);
        assert_non_null(strstr(fz_last_error()->text, broken[i][1]));
        unload(NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(pretraining_has_the_published_numbers, unload),
        cmocka_unit_test_teardown(finetuning_has_the_published_numbers, unload),
        cmocka_unit_test_teardown(both_have_the_same_tensors, unload),
        cmocka_unit_test_teardown(a_broken_recipe_is_refused, unload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
