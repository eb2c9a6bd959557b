/* DaViT's blocks and the projector: bits over any number of local shards, freezing, drop-path, and
 * the plan's bytes and FLOPs. */
#include "tests/model/vision_rig.h"

/* ---- shards ---- */

/* Runs with count shards at a time; outputs and input gradients concatenated, and per use the
 * S/count roots (rows), folded along the tree into grads. */
static void run_in_parts(rig *r, int64_t B, int64_t count, const float *in, const float *dout,
                         float *out, float *din, float **grads)
{
    const int64_t parts = S / count;
    float *roots[FZ_BLOCK_USES];
    for (int i = 0; i < r->block->n_uses; i++)
        roots[i] = malloc((size_t)(parts * use_elements(r, i)) * sizeof(float));
    for (int64_t p = 0; p < parts; p++) {
        const int64_t image = fz_image_first(B, S, p * count);
        const int64_t n = fz_image_first(B, S, (p + 1) * count) - image;
        for (int i = 0; i < r->block->n_uses; i++)
            memset(r->grads[i], 0, (size_t)use_elements(r, i) * sizeof(float));
        outcome result = run(r, B, p * count, count, in, dout);
        assert_int_equal(result.n_sums, 1);
        memcpy(out + image * r->out_image, result.out, (size_t)(n * r->out_image) * sizeof(float));
        if (r->block->wants_input_grad)
            memcpy(din + image * r->in_image, result.din,
                   (size_t)(n * r->in_image) * sizeof(float));
        for (int i = 0; i < r->block->n_uses; i++)
            memcpy(roots[i] + p * use_elements(r, i), r->grads[i],
                   (size_t)use_elements(r, i) * sizeof(float));
        outcome_free(&result);
    }
    for (int i = 0; i < r->block->n_uses; i++) {
        fz_tree_sum_rows(roots[i], parts, use_elements(r, i));
        grads[i] = roots[i];
    }
}

/* Any number of local shards gives the same bits: also with fewer images than shards, and with
 * pieces of unequal size. */
static void bits_do_not_depend_on_how_many_shards_are_local(void **state)
{
    static const int64_t batches[] = {2, 6, 7};
    fz_program *program = make_program(0.3, NULL);
    (void)state;
    for (int block = 0; block <= PROJECTOR; block++) {
        if (block > SPATIAL1 && block < PROJECTOR) continue;
        rig r;
        rig_start(&r, program, block);
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
            const int64_t B = batches[b];
            float *in = random_floats(B * r.in_image, 3), *dout = random_floats(B * r.out_image, 4);
            float *out[3], *din[3], *grads[3][FZ_BLOCK_USES];
            for (int c = 0; c < 3; c++) {
                out[c] = calloc((size_t)(B * r.out_image), sizeof(float));
                din[c] = calloc((size_t)(B * r.in_image), sizeof(float));
                run_in_parts(&r, B, 1 << c, in, dout, out[c], din[c], grads[c]);
            }
            for (int c = 0; c < 2; c++) {
                assert_memory_equal(out[c], out[2], (size_t)(B * r.out_image) * sizeof(float));
                assert_memory_equal(din[c], din[2], (size_t)(B * r.in_image) * sizeof(float));
                for (int i = 0; i < r.block->n_uses; i++)
                    assert_memory_equal(grads[c][i], grads[2][i],
                                        (size_t)use_elements(&r, i) * sizeof(float));
            }
            for (int c = 0; c < 3; c++) {
                free(out[c]);
                free(din[c]);
                for (int i = 0; i < r.block->n_uses; i++)
                    free(grads[c][i]);
            }
            free(in);
            free(dout);
        }
        rig_stop(&r);
    }
    fz_program_destroy(&program);
}

static void a_process_without_images_still_takes_part_in_the_sum(void **state)
{
    fz_program *program = make_program(0.3, NULL);
    (void)state;
    for (int block = 0; block <= PROJECTOR; block++) {
        rig r;
        rig_start(&r, program, block);
        float *in = random_floats(2 * r.in_image, 3), *dout = random_floats(2 * r.out_image, 4);
        outcome none = run(&r, 2, 0, 1, in, dout), some = run(&r, 2, 1, 1, in, dout);
        assert_int_equal(sizes_of(2, shards_of(0, 1)).n_local_images, 0);
        assert_int_equal(none.n_sums, 1);
        assert_int_equal(some.n_sums, 1);
        assert_int_equal(none.summed, some.summed);
        outcome_free(&none);
        outcome_free(&some);
        free(in);
        free(dout);
        rig_stop(&r);
    }
    fz_program_destroy(&program);
}

/* ---- freezing ---- */

static void frozen_weights_get_no_gradient_and_change_no_other(void **state)
{
    enum { B = 3 };
    fz_program *all = make_program(0.3, NULL), *part = make_program(0.3, "*.qkv.*");
    rig a, p;
    (void)state;
    rig_start(&a, all, SPATIAL0);
    rig_start(&p, part, SPATIAL0);
    float *in = random_floats(B * a.in_image, 3), *dout = random_floats(B * a.out_image, 4);
    outcome ra = run(&a, B, 0, S, in, dout), rp = run(&p, B, 0, S, in, dout);
    for (int i = 0; i < FZ_SUB_USES; i++) {
        const bool frozen = i == FZ_SUB_QKV_W || i == FZ_SUB_QKV_B;
        assert_true((p.grad_list[p.block->first_use + i] == NULL) == frozen);
        for (int64_t e = 0; e < use_elements(&a, i); e++)
            assert_true(p.grads[i][e] == (frozen ? 0.0f : a.grads[i][e]));
    }
    assert_memory_equal(ra.din, rp.din, (size_t)(B * a.in_image) * sizeof(float));
    outcome_free(&ra);
    outcome_free(&rp);
    free(in);
    free(dout);
    rig_stop(&a);
    rig_stop(&p);
    fz_program_destroy(&all);
    fz_program_destroy(&part);
}

/* Frozen, with something trained below: no weight work, nothing kept, the same stream gradient. */
static void a_frozen_block_in_the_middle_passes_the_gradient(void **state)
{
    enum { B = 3 };
    fz_program *all = make_program(0.3, NULL), *part = make_program(0.3, "vision_tower.blocks.0.*");
    (void)state;
    for (int block = SPATIAL0; block <= CHANNEL0; block++) {
        rig a, p;
        rig_start(&a, all, block);
        rig_start(&p, part, block);
        assert_true(!p.block->trains && p.block->wants_input_grad);
        float *in = random_floats(B * a.in_image, 3), *dout = random_floats(B * a.out_image, 4);
        outcome ra = run(&a, B, 0, S, in, dout), rp = run(&p, B, 0, S, in, dout);
        fz_block_bytes bytes;
        const fz_sizes sizes = sizes_of(B, shards_of(0, S));
        p.block->kind->bytes(p.block, part, &sizes, shards_of(0, S), &bytes);
        assert_int_equal(bytes.keep, 0);
        assert_memory_equal(ra.din, rp.din, (size_t)(B * a.in_image) * sizeof(float));
        assert_int_equal(rp.n_sums, 0);
        outcome_free(&ra);
        outcome_free(&rp);
        free(in);
        free(dout);
        rig_stop(&a);
        rig_stop(&p);
    }
    fz_program_destroy(&all);
    fz_program_destroy(&part);
}

static void without_a_backward_only_the_output_is_saved(void **state)
{
    enum { B = 5 };
    fz_program *all = make_program(0.3, NULL), *none = make_program(0.3, "vision_tower.*");
    (void)state;
    for (int block = 0; block < PROJECTOR; block++) {
        rig a, f;
        rig_start(&a, all, block);
        rig_start(&f, none, block);
        assert_false(fz_block_keeps(f.block));
        float *in = random_floats(B * a.in_image, 3);
        outcome ra = run(&a, B, 0, S, in, NULL), rf = run(&f, B, 0, S, in, NULL);
        fz_block_bytes bytes;
        const fz_sizes sizes = sizes_of(B, shards_of(0, S));
        f.block->kind->bytes(f.block, none, &sizes, shards_of(0, S), &bytes);
        assert_int_equal(bytes.save, fz_align_up((size_t)(B * f.out_image) * sizeof(float)));
        assert_int_equal(bytes.keep, 0);
        assert_memory_equal(ra.out, rf.out, (size_t)(B * a.out_image) * sizeof(float));
        outcome_free(&ra);
        outcome_free(&rf);
        free(in);
        rig_stop(&a);
        rig_stop(&f);
    }
    fz_program_destroy(&all);
    fz_program_destroy(&none);
}

/* ---- drop-path ---- */

enum { DROP_SUBS = 8, DROP_B = 64 }; /* block 11: channel of stage 3, k = 7 of 7 */

/* A block that adds 1 (attention branch) and 4 (FFN branch) to an input of zeros, each times its
 * drop-path factor: what the branches drew can be read off the output. */
static void make_readable(rig *r)
{
    static const int zero[] = {FZ_SUB_DW1_W, FZ_SUB_DW1_B,  FZ_SUB_DW2_W,
                               FZ_SUB_DW2_B, FZ_SUB_PROJ_W, FZ_SUB_FC2_W};
    for (size_t i = 0; i < sizeof zero / sizeof zero[0]; i++)
        memset(r->weights[zero[i]], 0, (size_t)use_elements(r, zero[i]) * sizeof(float));
    for (int64_t c = 0; c < r->block->out_width; c++) {
        r->weights[FZ_SUB_PROJ_B][c] = 1.0f;
        r->weights[FZ_SUB_FC2_B][c] = 4.0f;
    }
}

/* Per image: the sum of what was added; all elements of an image must agree. */
static void read_draws(rig *r, int64_t first, int64_t count, float draws[DROP_B])
{
    float *in = calloc((size_t)(DROP_B * r->in_image), sizeof(float));
    outcome result = run(r, DROP_B, first, count, in, NULL);
    const int64_t image = fz_image_first(DROP_B, S, first);
    for (int64_t i = 0; i < fz_image_first(DROP_B, S, first + count) - image; i++) {
        draws[image + i] = result.out[i * r->out_image];
        for (int64_t e = 0; e < r->out_image; e++)
            assert_true(result.out[i * r->out_image + e] == draws[image + i]);
    }
    outcome_free(&result);
    free(in);
}

static void drop_path_drops_whole_branches_at_the_blocks_rate(void **state)
{
    fz_program *program = make_program(0.5, NULL);
    int seen[4] = {0};
    rig r;
    (void)state;
    rig_start(&r, program, LAST_SUB);
    make_readable(&r);
    assert_int_equal(r.block->sub_global, DROP_SUBS - 1);
    for (int turn = 0; turn < 16; turn++) {
        float draws[DROP_B];
        for (int i = 0; i < DROP_B; i++)
            r.sample_n[i] = turn * DROP_B + i;
        read_draws(&r, 0, S, draws);
        for (int i = 0; i < DROP_B; i++) { /* kept ones count twice */
            assert_true(draws[i] == 0.0f || draws[i] == 2.0f || draws[i] == 8.0f ||
                        draws[i] == 10.0f);
            seen[(draws[i] == 2.0f || draws[i] == 10.0f) + 2 * (draws[i] >= 8.0f)]++;
        }
    }
    /* 1,024 samples, two independent draws: 256 of each outcome, deviation 13.9 */
    for (int i = 0; i < 4; i++)
        assert_in_range(seen[i], 256 - 70, 256 + 70);
    rig_stop(&r);
    fz_program_destroy(&program);
}

static void drop_path_follows_the_sample_not_its_place(void **state)
{
    fz_program *program = make_program(0.5, NULL);
    float draws[DROP_B], parts[DROP_B], turned[DROP_B], other[DROP_B];
    rig r;
    (void)state;
    rig_start(&r, program, LAST_SUB);
    make_readable(&r);
    read_draws(&r, 0, S, draws);
    for (int64_t s = 0; s < S; s++)
        read_draws(&r, s, 1, parts);
    assert_memory_equal(draws, parts, sizeof draws);
    for (int i = 0; i < DROP_B; i++)
        r.sample_n[i] = 1000 + 7 * (DROP_B - 1 - i);
    read_draws(&r, 0, S, turned);
    for (int i = 0; i < DROP_B; i++)
        assert_true(turned[i] == draws[DROP_B - 1 - i]);
    r.seed++;
    read_draws(&r, 0, S, other);
    assert_memory_not_equal(other, turned, sizeof other);
    rig_stop(&r);
    fz_program_destroy(&program);
}

static void
drop_path_is_off_in_the_first_sub_block_in_eval_and_where_frozen_without_dropout(void **state)
{
    fz_program *program = make_program(0.5, NULL), *frozen;
    fz_model_config config = program->config;
    float draws[DROP_B];
    rig r;
    (void)state;
    config.n_freeze = 1;
    snprintf(config.freeze[0], sizeof config.freeze[0], "vision_tower.*");
    config.frozen_dropout = false;
    assert_int_equal(fz_program_create(&config, S, &frozen), FZ_OK);
    for (int i = 0; i < 3; i++) {
        rig_start(&r, i == 2 ? frozen : program, i == 0 ? SPATIAL0 : LAST_SUB);
        make_readable(&r);
        r.training = i != 1;
        read_draws(&r, 0, S, draws);
        for (int d = 0; d < DROP_B; d++)
            assert_true(draws[d] == 5.0f);
        rig_stop(&r);
    }
    fz_program_destroy(&program);
    fz_program_destroy(&frozen);
}

/* ---- the plan ---- */

static void the_largest_sizes_bound_all_smaller_ones(void **state)
{
    fz_program *program = make_program(0.1, NULL);
    (void)state;
    for (int block = 0; block <= PROJECTOR; block++) {
        const fz_block *b = &program->blocks[block];
        for (int64_t most = 1; most <= 9; most++)
            for (int64_t count = 1; count <= S; count *= 2)
                for (int64_t first = 0; first < S; first += count) {
                    const fz_shards shards = shards_of(first, count);
                    const fz_sizes max = fz_program_max_sizes(program, most, shards);
                    fz_block_bytes bound;
                    b->kind->bytes(b, program, &max, shards, &bound);
                    for (int64_t B = 1; B <= most; B++) {
                        const fz_sizes sizes = sizes_of(B, shards);
                        fz_block_bytes bytes;
                        b->kind->bytes(b, program, &sizes, shards, &bytes);
                        assert_true(bytes.save <= bound.save && bytes.keep <= bound.keep &&
                                    bytes.work <= bound.work);
                    }
                }
    }
    fz_program_destroy(&program);
}

/* A shard of four with one image needs what a process with one image needs, at any batch. */
static void a_shard_pays_for_its_own_images_only(void **state)
{
    fz_program *program = make_program(0.1, NULL);
    const fz_shards whole = {.n = 1, .first = 0, .count = 1}, last = shards_of(S - 1, 1);
    (void)state;
    for (int block = 0; block <= PROJECTOR; block++) {
        const fz_block *b = &program->blocks[block];
        const fz_sizes one = sizes_of(1, whole);
        fz_block_bytes part, alone;
        b->kind->bytes(b, program, &one, whole, &alone);
        for (int64_t B = 1; B <= S; B++) {
            const fz_sizes sizes = sizes_of(B, last);
            b->kind->bytes(b, program, &sizes, last, &part);
            assert_int_equal(sizes.n_local_images, 1);
            assert_memory_equal(&part, &alone, sizeof part);
        }
    }
    fz_program_destroy(&program);
}

/* model.md 9: GFLOP of the tower per image; at 224 pixels without the padded rows of qkv and
 * projection, 8 C^2 (N' - N) a block. At the other two nothing is padded. */
static void flops_are_the_published_ones(void **state)
{
    static const struct {
        const char *variant;
        int64_t side;
        double gflop;
    } rows[] = {{"0.4b", 224, 41.8 - 8.30},   {"0.4b", 384, 94.9},  {"0.4b", 768, 379.8},
                {"1.0b", 224, 162.1 - 33.19}, {"1.0b", 384, 372.0}, {"1.0b", 768, 1488.0}};
    const fz_shards one = {.n = 1, .first = 0, .count = 1};
    const fz_sizes sizes = {.n_samples = 1, .n_local_images = 1};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fz_model_config config;
        fz_program *program = NULL;
        double total = 0.0, input = 0.0, weight = 0.0;
        assert_int_equal(fz_model_variant(rows[i].variant, &config), FZ_OK);
        config.image_size = rows[i].side;
        config.freeze_recipe = false;
        config.enc_positions = 4098;
        assert_int_equal(fz_program_create(&config, 1, &program), FZ_OK);
        for (int b = 0; program->blocks[b].kind != &fz_block_projector; b++) {
            fz_flops flops;
            const fz_block *block = &program->blocks[b];
            block->kind->flops(block, program, &sizes, one, &flops);
            total += flops.forward;
            input += flops.backward_input;
            weight += flops.backward_weight;
        }
        assert_true(fabs(total / 1e9 - rows[i].gflop) < 0.051);
        assert_true(input + weight > 1.95 * total && input + weight < 2.0001 * total);
        fz_program_destroy(&program);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_how_many_shards_are_local),
        cmocka_unit_test(a_process_without_images_still_takes_part_in_the_sum),
        cmocka_unit_test(frozen_weights_get_no_gradient_and_change_no_other),
        cmocka_unit_test(a_frozen_block_in_the_middle_passes_the_gradient),
        cmocka_unit_test(without_a_backward_only_the_output_is_saved),
        cmocka_unit_test(drop_path_drops_whole_branches_at_the_blocks_rate),
        cmocka_unit_test(drop_path_follows_the_sample_not_its_place),
        cmocka_unit_test(
            drop_path_is_off_in_the_first_sub_block_in_eval_and_where_frozen_without_dropout),
        cmocka_unit_test(the_largest_sizes_bound_all_smaller_ones),
        cmocka_unit_test(a_shard_pays_for_its_own_images_only),
        cmocka_unit_test(flops_are_the_published_ones),
    };
    fz_ops_cpu_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
