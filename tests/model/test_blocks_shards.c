/* One process with all shards against several with some: the same bits everywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/model/text_runner.h"

static const text_sample SAMPLES[] = {{3, 4}, {0, 1}, {5, 9}, {2, 2}, {1, 6}};

static void assert_same(const void *a, const void *b, int64_t n, size_t size)
{
    if (n > 0) assert_memory_equal(a, b, (size_t)n * size);
}

/* All of rank's results against those of the process that holds every shard. */
static void compare(const text_rank *all, const text_rank *rank, bool training)
{
    const text_model *m = rank->model;
    const fz_program *p = m->program;
    const fz_sizes sizes = text_sizes(m, rank->shards);
    const int64_t image = fz_image_tokens(&p->config) * p->config.enc_width;
    const int64_t first = fz_image_first(sizes.n_samples, rank->shards.n, rank->shards.first);

    assert_same(&all->loss_sum, &rank->loss_sum, 1, sizeof(double));
    assert_same(all->token_loss, rank->token_loss, sizes.n_dec, sizeof(float));
    assert_same(all->next_token, rank->next_token, sizes.n_samples, sizeof(int32_t));
    if (!training) return;
    assert_same(all->d_enc, rank->d_enc, sizes.n_enc * p->config.enc_width, sizeof(float));
    assert_same(all->d_vision + first * image, rank->d_vision, sizes.n_local_images * image,
                sizeof(float));
    for (int u = 0; u < p->n_uses; u++) {
        const int param = p->uses[u].param;
        const int64_t n = text_piece(m, param);
        const bool cut = text_pieces(m, param) > 1;
        if (!all->grads[u]) continue;
        assert_same(all->grads[u] + (cut ? rank->shards.first * n : 0), rank->grads[u],
                    cut ? rank->shards.count * n : n, sizeof(float));
    }
}

static void check_layouts(const fz_model_config *config, int64_t S, int64_t B)
{
    text_model *m = text_model_create(config, S, SAMPLES, B, 21);
    text_rank all, ranks[8];

    text_rank_init(&all, m, (fz_shards){S, 0, S}, &fz_hooks_local);
    text_rank_run(&all, true, false);
    for (int64_t count = 1; count <= S; count *= 2) {
        const int n = (int)(S / count);
        for (int r = 0; r < n; r++)
            text_rank_init(&ranks[r], m, (fz_shards){S, r * count, count}, &fz_hooks_local);
        text_ranks_run(ranks, n, true);
        for (int r = 0; r < n; r++) {
            compare(&all, &ranks[r], true);
            assert_int_equal(ranks[r].n_wrong_bytes, 0);
        }
        for (int r = 0; r < n; r++)
            text_rank_reset(&ranks[r]);
    }
    text_rank_run(&all, false, false);
    for (int64_t count = 1; count <= S; count *= 2) {
        const int n = (int)(S / count);
        for (int r = 0; r < n; r++)
            text_rank_init(&ranks[r], m, (fz_shards){S, r * count, count}, &fz_hooks_local);
        text_ranks_run(ranks, n, false);
        for (int r = 0; r < n; r++)
            compare(&all, &ranks[r], false);
        for (int r = 0; r < n; r++)
            text_rank_reset(&ranks[r]);
    }
    text_rank_reset(&all);
    text_model_destroy(&m);
}

static fz_model_config tiny(const char *variant)
{
    fz_model_config c;
    assert_int_equal(fz_model_variant(variant, &c), FZ_OK);
    c.image_size = 32;
    return c;
}

static void the_bart_family_has_the_same_bits_on_any_number_of_processes(void **state)
{
    (void)state;
    const fz_model_config c = tiny("tiny-bart");
    check_layouts(&c, 4, 5);
}

static void the_gemma_family_has_the_same_bits_on_any_number_of_processes(void **state)
{
    (void)state;
    const fz_model_config c = tiny("tiny-gemma");
    check_layouts(&c, 4, 5);
}

static void fewer_samples_than_shards_keep_the_bits(void **state)
{
    (void)state;
    const fz_model_config bart = tiny("tiny-bart"), gemma = tiny("tiny-gemma");
    check_layouts(&bart, 4, 2);
    check_layouts(&gemma, 2, 1);
    check_layouts(&gemma, 4, 0);
}

static void frozen_parts_keep_the_bits(void **state)
{
    (void)state;
    fz_model_config c = tiny("tiny-gemma");
    c.freeze_recipe = true;
    c.cross_every = 2;
    check_layouts(&c, 4, 3);
    c.frozen_dropout = false;
    check_layouts(&c, 2, 3);
}

/* A piece that is nothing but padding: 5 ids over 4 shards are pieces of 2, 2, 1 and 0. */
static void a_piece_of_padding_alone_keeps_the_bits(void **state)
{
    (void)state;
    fz_model_config c = tiny("tiny-bart");
    c.dec_vocab = 5;
    check_layouts(&c, 4, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bart_family_has_the_same_bits_on_any_number_of_processes),
        cmocka_unit_test(the_gemma_family_has_the_same_bits_on_any_number_of_processes),
        cmocka_unit_test(fewer_samples_than_shards_keep_the_bits),
        cmocka_unit_test(frozen_parts_keep_the_bits),
        cmocka_unit_test(a_piece_of_padding_alone_keeps_the_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
