/* The text blocks in one process: gradients against finite differences, plans against what is
 * taken, gates, freezing, odd batches. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/memory.h"
#include "model/blocks/bart.h"
#include "model/blocks/gemma.h"
#include "model/blocks/head.h"
#include "tests/model/text_runner.h"

static const text_sample SAMPLES[] = {{3, 4}, {0, 1}, {5, 9}};
enum { N_SAMPLES = 3 };

static fz_model_config tiny(const char *variant, bool dropout)
{
    fz_model_config c;
    assert_int_equal(fz_model_variant(variant, &c), FZ_OK);
    c.image_size = 32; /* 2 image tokens */
    if (!dropout) c.dropout = c.attn_dropout = c.act_dropout = 0.0;
    return c;
}

static fz_shards whole(const text_model *m)
{
    return (fz_shards){.n = m->program->n_shards, .first = 0, .count = m->program->n_shards};
}

static double loss_of(const text_model *m)
{
    text_rank rank;
    text_rank_init(&rank, m, whole(m), &fz_hooks_local);
    text_rank_run(&rank, true, true);
    const double loss = rank.loss_sum;
    text_rank_reset(&rank);
    return loss;
}

/* Adds step * (+-1) to a parameter's elements; replicas move together, padding stays zero. */
static void move(text_model *m, int param, uint64_t seed, float step)
{
    const fz_param *p = &m->program->params[param];
    const int64_t n = text_piece(m, param);
    for (int64_t s = 0; s < text_pieces(m, param); s++) {
        int64_t lo[FZ_MAX_AXES], hi[FZ_MAX_AXES], held = 1;
        fz_param_piece_box(p, m->program->n_shards, s, lo, hi);
        for (int a = 0; a < p->ndim; a++)
            held *= hi[a] - lo[a];
        for (int64_t e = 0; e < held; e++)
            m->weights[param][s * n + e] +=
                text_random(seed, (uint64_t)(s / p->replicas * n + e)) < 0 ? -step : step;
    }
}

/* Gradient along the same direction, and its length. */
static void project(const text_rank *rank, int param, uint64_t seed, double *along, double *length)
{
    const text_model *m = rank->model;
    const fz_param *p = &m->program->params[param];
    const int64_t n = text_piece(m, param), pieces = text_pieces(m, param);
    *along = *length = 0.0;
    for (int64_t i = 0; i < pieces * n; i++) {
        double g = 0.0;
        for (int u = 0; u < m->program->n_uses; u++)
            if (m->program->uses[u].param == param && rank->grads[u])
                g += (double)rank->grads[u][i];
        const int64_t logical = i / n / p->replicas * n + i % n;
        *along += text_random(seed, (uint64_t)logical) < 0 ? -g : g;
        *length += g * g;
    }
    *length = sqrt(*length);
}

/* Central differences of two steps, extrapolated: the error is of fourth order. */
static double slope(text_model *m, int param, uint64_t seed, float step)
{
    double d[2];
    const int64_t n = text_piece(m, param) * text_pieces(m, param);
    float *kept = NULL;
    assert_int_equal(fz_alloc((void **)&kept, (size_t)n * sizeof(float), "copy"), FZ_OK);
    memcpy(kept, m->weights[param], (size_t)n * sizeof(float));
    for (int k = 0; k < 2; k++) {
        const float h = step * (float)(k + 1);
        move(m, param, seed, h);
        const double up = loss_of(m);
        memcpy(m->weights[param], kept, (size_t)n * sizeof(float));
        move(m, param, seed, -h);
        const double down = loss_of(m);
        memcpy(m->weights[param], kept, (size_t)n * sizeof(float));
        d[k] = (up - down) / (2.0 * (double)h);
    }
    fz_free(&kept);
    return (4.0 * d[0] - d[1]) / 3.0;
}

static void check_gradients(const char *variant, bool dropout)
{
    const fz_model_config config = tiny(variant, dropout);
    text_model *m = text_model_create(&config, 4, SAMPLES, N_SAMPLES, 3);
    text_rank rank;
    int n_wrong = 0, n_checked = 0;

    text_rank_init(&rank, m, whole(m), &fz_hooks_local);
    text_rank_run(&rank, true, false);
    assert_true(rank.loss_sum > 1.0);
    for (int i = 0; i < m->program->n_params; i++) {
        double along, length;
        bool used = false;
        for (int u = 0; u < m->program->n_uses; u++)
            used = used || (m->program->uses[u].param == i && rank.grads[u] != NULL);
        if (!used) continue; /* vision */
        project(&rank, i, 17, &along, &length);
        const double fd = slope(m, i, 17, 1e-3f);
        n_checked++;
        if (fabs(fd - along) > 0.02 * length + 0.02) {
            print_message("%s: differences %g, gradient %g, length %g\n",
                          m->program->params[i].name, fd, along, length);
            n_wrong++;
        }
    }
    assert_true(n_checked > 50);
    assert_int_equal(n_wrong, 0);
    text_rank_reset(&rank);
    text_model_destroy(&m);
}

static void gradients_of_the_bart_family_match_differences(void **state)
{
    (void)state;
    check_gradients("tiny-bart", false);
}

static void gradients_of_the_bart_family_match_differences_under_dropout(void **state)
{
    (void)state;
    check_gradients("tiny-bart", true);
}

static void gradients_of_the_gemma_family_match_differences(void **state)
{
    (void)state;
    check_gradients("tiny-gemma", false);
}

static void gradients_of_the_gemma_family_match_differences_under_dropout(void **state)
{
    (void)state;
    check_gradients("tiny-gemma", true);
}

static void check_vision_gradient(const char *variant)
{
    const fz_model_config config = tiny(variant, false);
    text_model *m = text_model_create(&config, 2, SAMPLES, N_SAMPLES, 4);
    const int64_t n = N_SAMPLES * fz_image_tokens(&config) * config.enc_width;
    text_rank rank;
    double along = 0.0, length = 0.0, d[2];

    text_rank_init(&rank, m, whole(m), &fz_hooks_local);
    text_rank_run(&rank, true, false);
    for (int64_t i = 0; i < n; i++) {
        along += (double)rank.d_vision[i] * (double)text_random(9, (uint64_t)i);
        length += (double)rank.d_vision[i] * (double)rank.d_vision[i];
    }
    for (int k = 0; k < 2; k++) {
        const float h = k == 0 ? 1e-3f : -1e-3f;
        for (int64_t i = 0; i < n; i++)
            m->vision[i] += h * text_random(9, (uint64_t)i);
        d[k] = loss_of(m);
        for (int64_t i = 0; i < n; i++)
            m->vision[i] -= h * text_random(9, (uint64_t)i);
    }
    assert_true(length > 0.0);
    assert_true(fabs((d[0] - d[1]) / 2e-3 - along) < 0.02 * sqrt(length) + 0.02);
    text_rank_reset(&rank);
    text_model_destroy(&m);
}

static void the_images_gradient_matches_differences(void **state)
{
    (void)state;
    check_vision_gradient("tiny-bart");
    check_vision_gradient("tiny-gemma");
}

/* Training runs and an eval run together take exactly what bytes() says. */
static void check_bytes(const fz_model_config *config, const text_sample *samples, int64_t B)
{
    text_model *m = text_model_create(config, 4, samples, B, 5);
    for (int64_t count = 1; count <= 4; count *= 2) {
        const fz_shards shards = {.n = 4, .first = 4 - count, .count = count};
        const fz_sizes sizes = text_sizes(m, shards);
        text_rank ranks[4];
        for (int64_t r = 0; r < 4 / count; r++)
            text_rank_init(&ranks[r], m, (fz_shards){4, r * count, count}, &fz_hooks_local);
        text_ranks_run(ranks, (int)(4 / count), true);
        text_ranks_run(ranks, (int)(4 / count), false);
        const text_rank *last = &ranks[4 / count - 1];
        assert_int_equal(last->n_wrong_bytes, 0);
        for (int b = m->first; b < m->program->n_blocks; b++) {
            fz_block_bytes bytes;
            const fz_block *block = &m->program->blocks[b];
            block->kind->bytes(block, m->program, &sizes, shards, &bytes);
            assert_int_equal(bytes.work, last->work_seen[b]);
        }
        for (int64_t r = 0; r < 4 / count; r++)
            text_rank_reset(&ranks[r]);
    }
    text_model_destroy(&m);
}

static void passes_take_what_the_plan_says_to_the_byte(void **state)
{
    (void)state;
    fz_model_config config = tiny("tiny-bart", true);
    check_bytes(&config, SAMPLES, N_SAMPLES);
    check_bytes(&config, SAMPLES, 0);
    config = tiny("tiny-gemma", true);
    check_bytes(&config, SAMPLES, N_SAMPLES);
    config.cross_every = 2;
    config.freeze_recipe = true;
    check_bytes(&config, SAMPLES, N_SAMPLES);
}

static float *grad_of(const text_rank *rank, int block, int use)
{
    return rank->grads[rank->model->program->blocks[block].first_use + use];
}

static bool all_zero(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (x[i] != 0.0f) return false;
    return true;
}

static void a_closed_gate_hides_the_image_and_moves_alone(void **state)
{
    (void)state;
    fz_model_config config = tiny("tiny-gemma", false);
    text_model *m = text_model_create(&config, 4, SAMPLES, N_SAMPLES, 6);
    const fz_program *p = m->program;
    text_rank rank;
    int n_gates = 0;

    for (int i = 0; i < p->n_params; i++)
        if (p->params[i].ndim == 1 && p->params[i].shape[0] == 1)
            m->weights[i][0] = 0.0f, n_gates++;
    assert_int_equal(n_gates, config.dec_layers);
    const double loss = loss_of(m);
    m->vision[3] += 10.0f;
    assert_true(loss_of(m) == loss);
    m->vision[3] -= 10.0f;

    text_rank_init(&rank, m, whole(m), &fz_hooks_local);
    text_rank_run(&rank, true, false);
    for (int b = m->first; b < p->n_blocks; b++) {
        if (p->blocks[b].kind != &fz_block_gemma_decoder_layer) continue;
        for (int use = FZ_GEMMA_CROSS_Q; use <= FZ_GEMMA_CROSS_O; use++) {
            const int param = p->uses[p->blocks[b].first_use + use].param;
            assert_true(
                all_zero(grad_of(&rank, b, use), text_piece(m, param) * text_pieces(m, param)));
        }
        assert_true(grad_of(&rank, b, FZ_GEMMA_CROSS_GATE)[0] != 0.0f);
        assert_true(all_zero(grad_of(&rank, b, FZ_GEMMA_CROSS_NORM), config.dec_width));
    }
    text_rank_reset(&rank);
    text_model_destroy(&m);
}

/* 509 ids over 4 pieces of 128 rows: three rows are padding. */
static void padding_of_the_vocabulary_is_neither_scored_nor_trained(void **state)
{
    (void)state;
    const fz_model_config config = tiny("tiny-bart", false);
    text_model *m = text_model_create(&config, 4, SAMPLES, N_SAMPLES, 7);
    const fz_program *p = m->program;
    const int head = p->n_blocks - 1, param = p->uses[p->blocks[head].first_use].param;
    const int64_t C = config.dec_width, pad = 509 * C, n_pad = 3 * C;
    text_rank rank;

    assert_int_equal(text_piece(m, param) * text_pieces(m, param), 512 * C);
    const double loss = loss_of(m);
    for (int64_t i = 0; i < n_pad; i++)
        m->weights[param][pad + i] = 5.0f; /* would win every row */
    assert_true(loss_of(m) == loss);
    text_rank_init(&rank, m, whole(m), &fz_hooks_local);
    text_rank_run(&rank, true, false);
    assert_true(all_zero(grad_of(&rank, head, FZ_HEAD_TABLE) + pad, n_pad));
    assert_false(all_zero(grad_of(&rank, head, FZ_HEAD_TABLE) + pad - C, C));
    text_rank_run(&rank, false, false);
    for (int b = 0; b < N_SAMPLES; b++) {
        assert_true(rank.next_token[b] >= 0);
        assert_true(rank.next_token[b] < 509);
    }
    text_rank_reset(&rank);
    text_model_destroy(&m);
}

static void the_pad_row_learns_from_the_head_alone(void **state)
{
    (void)state;
    const fz_model_config config = tiny("tiny-bart", false);
    text_model *m = text_model_create(&config, 2, SAMPLES, N_SAMPLES, 8);
    const fz_program *p = m->program;
    int32_t ids[14];
    text_rank rank;
    int embed = p->n_blocks - 1;

    while (p->blocks[embed].kind != &fz_block_bart_decoder_embed)
        embed--;
    assert_int_equal(m->batch.sizes.n_dec, 14);
    const int32_t *before = m->batch.dec_ids;
    memcpy(ids, before, sizeof ids);
    ids[2] = 0; /* the decoder's tokenizer is Gemma's: pad is 0 in both families */
    m->batch.dec_ids = ids;
    text_rank_init(&rank, m, whole(m), &fz_hooks_local);
    text_rank_run(&rank, true, false);
    assert_true(all_zero(grad_of(&rank, embed, FZ_EMBED_TABLE), config.dec_width));
    assert_false(all_zero(grad_of(&rank, embed, FZ_EMBED_TABLE) + ids[3] * config.dec_width,
                          config.dec_width));
    assert_false(all_zero(grad_of(&rank, p->n_blocks - 1, FZ_HEAD_TABLE), config.dec_width));
    text_rank_reset(&rank);
    m->batch.dec_ids = before;
    text_model_destroy(&m);
}

/* patterns: separated by blanks. */
static void freeze(fz_model_config *config, const char *patterns)
{
    char text[512], *rest = text;
    snprintf(text, sizeof text, "%s", patterns);
    config->n_freeze = 0;
    for (char *one = strtok_r(text, " ", &rest); one; one = strtok_r(NULL, " ", &rest))
        snprintf(config->freeze[config->n_freeze++], sizeof config->freeze[0], "%s", one);
}

/* Frozen parts leave the gradients of the others as they are, bit for bit. */
static void check_freezing(const text_rank *all, const char *patterns)
{
    const fz_program *p = all->model->program;
    fz_model_config config = p->config;
    text_rank rank;
    int n_frozen = 0;

    freeze(&config, patterns);
    text_model *m = text_model_create(&config, p->n_shards, SAMPLES, N_SAMPLES, all->model->seed);
    text_rank_init(&rank, m, whole(m), &fz_hooks_local);
    text_rank_run(&rank, true, false);
    assert_int_equal(rank.n_wrong_bytes, 0);
    for (int u = 0; u < p->n_uses; u++) {
        const int param = p->uses[u].param;
        const size_t n = (size_t)(text_piece(m, param) * text_pieces(m, param)) * sizeof(float);
        n_frozen += all->grads[u] && !rank.grads[u];
        if (!rank.grads[u]) continue;
        if (memcmp(all->grads[u], rank.grads[u], n) != 0)
            print_message("%s changed when %s froze\n", p->params[param].name, patterns);
        assert_memory_equal(all->grads[u], rank.grads[u], n);
    }
    assert_true(n_frozen > 0);
    text_rank_reset(&rank);
    text_model_destroy(&m);
}

static void check_freezings(const char *variant, const char *const *patterns, size_t n)
{
    const fz_model_config config = tiny(variant, false);
    text_model *m = text_model_create(&config, 2, SAMPLES, N_SAMPLES, 9);
    text_rank all;
    text_rank_init(&all, m, whole(m), &fz_hooks_local);
    text_rank_run(&all, true, false);
    for (size_t i = 0; i < n; i++)
        check_freezing(&all, patterns[i]);
    text_rank_reset(&all);
    text_model_destroy(&m);
}

#define N_OF(list) (sizeof(list) / sizeof(list)[0])
#define NO_ENCODER "vision_tower* image_* *.encoder.* "
#define NO_DECODER_EMBED "*decoder.embed* *decoder.layernorm_embedding* "
#define LAYER_0 "*.decoder.layers.0."

static void freezing_bart_parts_changes_no_other_gradient(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "*.fc2.weight",
        "*.layers.1.*",
        "*layer_norm.bias",
        "*.k_proj.*",
        "*norm*",
        NO_ENCODER,
        "*.decoder.*",
        /* the lowest part that trains is, from below, a sub-layer of the first layer */
        "vision_tower* image_* *.encoder.embed* *.encoder.layernorm_embedding*",
        "vision_tower* image_* *.encoder.embed* *.encoder.layernorm_embedding* "
        "*.encoder.layers.0.self_attn*",
        NO_DECODER_EMBED,
        NO_DECODER_EMBED LAYER_0 "self_attn*",
        NO_DECODER_EMBED NO_ENCODER,
        NO_DECODER_EMBED NO_ENCODER LAYER_0 "self_attn*",
        NO_DECODER_EMBED NO_ENCODER LAYER_0 "self_attn* " LAYER_0 "encoder_attn*",
        NO_DECODER_EMBED NO_ENCODER LAYER_0 "*attn*"
                                            " " LAYER_0 "fc1*",
        NO_DECODER_EMBED NO_ENCODER LAYER_0 "*proj*",
    };
    check_freezings("tiny-bart", patterns, N_OF(patterns));
}

static void freezing_gemma_parts_changes_no_other_gradient(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "*gate",
        "*post_encoder_attention_layernorm*",
        "*.down_proj*",
        "*.up_proj* *.q_proj*",
        "*layernorm*",
        NO_ENCODER,
        "*.decoder.embed*",
        "*.decoder.embed* " LAYER_0 "input_layernorm*",
        "*.decoder.embed* " LAYER_0 "input_layernorm* " LAYER_0 "self_attn*",
        "*.decoder.embed* " LAYER_0 "*attention_layernorm* " LAYER_0 "input_layernorm* " LAYER_0
        "self_attn*",
        "*.decoder.embed* " NO_ENCODER LAYER_0 "*layernorm* " LAYER_0 "self_attn*",
        "*.decoder.embed* " NO_ENCODER LAYER_0 "*layernorm* " LAYER_0 "*attn*",
        "*.decoder.embed* " NO_ENCODER LAYER_0 "*layernorm* " LAYER_0 "*attn* " LAYER_0 "mlp.gate*",
        "*.decoder.embed* " LAYER_0 "*attention_layernorm* " LAYER_0 "input* " LAYER_0 "*attn*",
        "*.decoder.embed* " NO_ENCODER LAYER_0 "*attention_layernorm* " LAYER_0 "input* " LAYER_0
        "*attn*",
        "*.decoder.layers.* *.encoder.*",
    };
    check_freezings("tiny-gemma", patterns, N_OF(patterns));
}

static void check_odd_batch(const char *variant, const text_sample *samples, int64_t B)
{
    const fz_model_config config = tiny(variant, true);
    text_model *m = text_model_create(&config, 4, samples, B, 10);
    text_rank rank;
    text_rank_init(&rank, m, whole(m), &fz_hooks_local);
    text_rank_run(&rank, true, false);
    assert_true(isfinite(rank.loss_sum));
    for (int u = 0; u < m->program->n_uses; u++) {
        const int param = m->program->uses[u].param;
        for (int64_t i = 0; rank.grads[u] && i < text_piece(m, param) * text_pieces(m, param); i++)
            assert_true(isfinite(rank.grads[u][i]));
    }
    text_rank_run(&rank, false, false);
    for (int64_t b = 0; b < B; b++)
        assert_true(samples[b].n_output == 0 ? rank.next_token[b] == -1 : rank.next_token[b] >= 0);
    text_rank_reset(&rank);
    text_model_destroy(&m);
}

static void empty_prompts_single_tokens_and_no_samples_are_legal(void **state)
{
    (void)state;
    const text_sample empty_prompt[] = {{0, 1}}, empty_output[] = {{2, 0}, {1, 3}};
    const char *const variants[] = {"tiny-bart", "tiny-gemma"};
    for (int v = 0; v < 2; v++) {
        check_odd_batch(variants[v], empty_prompt, 1);
        check_odd_batch(variants[v], empty_output, 2);
        check_odd_batch(variants[v], empty_output, 1);
        check_odd_batch(variants[v], empty_prompt, 0);
    }
}

/* 300 tokens are two chunks of the head. */
static void chunks_of_the_head_add_up(void **state)
{
    (void)state;
    fz_model_config config = tiny("tiny-gemma", false);
    text_sample samples[10];
    for (int i = 0; i < 10; i++)
        samples[i] = (text_sample){1, 30};
    text_model *m = text_model_create(&config, 2, samples, 10, 11);
    text_rank rank;
    double along, length;
    const int head = m->program->n_blocks - 1;
    const int table = m->program->uses[m->program->blocks[head].first_use].param;

    text_rank_init(&rank, m, whole(m), &fz_hooks_local);
    text_rank_run(&rank, true, false);
    project(&rank, table, 23, &along, &length);
    assert_true(fabs(slope(m, table, 23, 1e-3f) - along) < 0.02 * length);
    double sum = 0.0;
    for (int64_t i = 0; i < 300; i++)
        sum += (double)rank.token_loss[i];
    assert_true(sum == rank.loss_sum);
    const double trained = rank.loss_sum;
    text_rank_run(&rank, false, false);
    assert_true(rank.loss_sum == trained); /* no dropout: eval is the same */
    text_rank_reset(&rank);
    text_model_destroy(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_the_bart_family_match_differences),
        cmocka_unit_test(gradients_of_the_bart_family_match_differences_under_dropout),
        cmocka_unit_test(gradients_of_the_gemma_family_match_differences),
        cmocka_unit_test(gradients_of_the_gemma_family_match_differences_under_dropout),
        cmocka_unit_test(the_images_gradient_matches_differences),
        cmocka_unit_test(passes_take_what_the_plan_says_to_the_byte),
        cmocka_unit_test(a_closed_gate_hides_the_image_and_moves_alone),
        cmocka_unit_test(padding_of_the_vocabulary_is_neither_scored_nor_trained),
        cmocka_unit_test(the_pad_row_learns_from_the_head_alone),
        cmocka_unit_test(freezing_bart_parts_changes_no_other_gradient),
        cmocka_unit_test(freezing_gemma_parts_changes_no_other_gradient),
        cmocka_unit_test(empty_prompts_single_tokens_and_no_samples_are_legal),
        cmocka_unit_test(chunks_of_the_head_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
