#include "fixtures.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "data/image_internal.h"
#include "data/loader.h"
#include "data/sample_reader.h"
#include "data/tokenizer.h"

static fz_index *index_of(const char *pattern)
{
    fz_index *index = NULL;
    assert_ok(fz_index_build_skip(in_folder(pattern), &index));
    return index;
}

/* One process that has everything: 4 micro-batches of 4 samples, 2 shards. */
static fz_loader_config config_of(const fz_index *index)
{
    return (fz_loader_config){.index = index,
                              .seed = 9,
                              .window = 2,
                              .global_batch = 16,
                              .micro_batch = 4,
                              .balance = FZ_BALANCE_TASK_LANG,
                              .n_micro = 4,
                              .n_shards = 2,
                              .n_local_shards = 2,
                              .pixels = true,
                              .image_size = 12,
                              .image_tokens = 5,
                              .max_prompt = 16,
                              .max_output = 16,
                              .enc_vocab = 200,
                              .dec_vocab = 200,
                              .dec_start_id = 1,
                              .n_threads = 2,
                              .n_ahead = 2};
}

static fz_loader *make_loader(const fz_loader_config *config)
{
    fz_loader *loader = NULL;
    assert_ok(fz_loader_create(config, &loader));
    return loader;
}

static fz_step_batch get_step(fz_loader *loader, int64_t step)
{
    fz_step_batch batch;

    assert_ok(fz_loader_prepare(loader, step));
    assert_ok(fz_loader_get(loader, &batch));
    return batch;
}

static int n_bad(fz_loader *loader, int64_t global_batch)
{
    int n = 0;
    for (int64_t p = 0; p < global_batch; p++)
        n += fz_loader_bad(loader)[p];
    return n;
}

/* The fixture's sample number, from its prompt [0, 10+number, 2]. */
static int number_of(const fz_microbatch *micro, int i, int image_tokens)
{
    return micro->enc_ids[micro->enc_start[i] + image_tokens + 1] - 10;
}

static void a_batch_holds_ragged_ids_labels_and_pixels(void **state)
{
    (void)state;
    make_shards("one", 2, 10, "caption/en translate/de");
    fz_index *index = index_of("one-*.tar");
    const fz_loader_config config = config_of(index);
    fz_loader *loader = make_loader(&config);
    const fz_step_batch batch = get_step(loader, 3);

    assert_int_equal(batch.step, 3);
    assert_int_equal(batch.n_micro, 4);
    for (int m = 0; m < 4; m++) {
        const fz_microbatch *micro = &batch.micro[m];
        assert_int_equal(micro->sizes.n_samples, 4);
        assert_int_equal(micro->sizes.n_local_images, 4);
        assert_int_equal(micro->sizes.n_enc, 4 * (5 + 3));
        assert_int_equal(micro->sizes.n_dec, 4 * 4);
        assert_int_equal(micro->sizes.max_enc_len, 8);
        assert_int_equal(micro->sizes.max_dec_len, 4);
        assert_int_equal(micro->n_labels, 16);
        for (int i = 0; i < 4; i++) {
            const int32_t *enc = micro->enc_ids + micro->enc_start[i];
            const int32_t *dec = micro->dec_ids + micro->dec_start[i];
            const int32_t *labels = micro->labels + micro->dec_start[i];
            const int number = number_of(micro, i, 5);
            const int32_t want_enc[8] = {-1, -1, -1, -1, -1, 0, 10 + number, 2};
            const int32_t want_labels[4] = {2, 10 + number, 20 + batch.class_of[4 * m + i], 1};
            const int32_t want_dec[4] = {1, 2, 10 + number, want_labels[2]};
            assert_int_equal(micro->sample_n[i], 3 * 16 + 4 * m + i);
            assert_memory_equal(enc, want_enc, sizeof want_enc);
            assert_memory_equal(labels, want_labels, sizeof want_labels);
            assert_memory_equal(dec, want_dec, sizeof want_dec);
            assert_in_range(number, 0, 19);
            /* Red says which picture it is; a JPEG changes it a little. */
            const float red = micro->pixels[i * 12 * 12 * 3] * 0.229f + 0.485f;
            assert_in_range((int)(red * 255.0f) - (40 + 3 * number) + 10, 0, 20);
        }
    }
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);
}

static void pixels_are_decoded_resized_and_normalised(void **state)
{
    uint8_t small[12 * 12 * 3];
    float want[12 * 12 * 3];

    (void)state;
    make_shards("pix", 1, 1, "caption/en");
    fz_index *index = index_of("pix-*.tar");
    fz_loader_config config = config_of(index);
    fz_loader *loader = make_loader(&config);
    const fz_step_batch batch = get_step(loader, 0);
    fz_image image;
    char bytes[8192];
    fz_shard_reader reader;
    fz_shard_reader_init(&reader, index->shards);
    assert_ok(fz_shard_read(&reader, 0, index->images[0].image_offset, index->images[0].image_bytes,
                            bytes));
    fz_shard_reader_reset(&reader);
    assert_ok(fz_image_decode(bytes, (size_t)index->images[0].image_bytes, &image));
    assert_ok(fz_image_resize(&image, 12, small));
    fz_image_normalise(small, 12, want);
    assert_memory_equal(batch.micro[3].pixels + 3 * 12 * 12 * 3, want, sizeof want);
    fz_image_reset(&image);
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);
}

static void long_samples_are_cut_without_eos(void **state)
{
    (void)state;
    make_shards("long", 1, 4, "caption/en");
    fz_index *index = index_of("long-*.tar");
    fz_loader_config config = config_of(index);
    config.max_prompt = 2;
    config.max_output = 3;
    fz_loader *loader = make_loader(&config);
    const fz_step_batch batch = get_step(loader, 0);
    const fz_microbatch *micro = &batch.micro[1];

    assert_int_equal(micro->enc_start[1], 5 + 2);
    assert_int_equal(micro->dec_start[1], 3);
    assert_int_equal(micro->enc_ids[5], 0);
    assert_int_equal(micro->labels[0], 2);
    assert_int_equal(micro->labels[2], 20);
    assert_int_equal(micro->dec_ids[0], 1);
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);
}

static void text_gets_the_special_ids(void **state)
{
    fz_tokenizer *words = NULL;

    (void)state;
    write_text("enc.words", "<s>\n<pad>\n</s>\n<unk>\n\xe2\x96\x81"
                            "a\n\xe2\x96\x81red\n\xe2\x96\x81"
                            "cube\n");
    assert_ok(fz_tokenizer_load(in_folder("enc.words"), &words));
    fz_shard_writer *writer = open_shard("text.tar");
    add_jpeg(writer, "x.jpg", 0);
    add_text(writer, "x.json",
             "[{\"type\":\"caption\",\"lang\":\"en\",\"prompt\":\"a cube\",\"output\":\"a red "
             "cube\"}]");
    close_shard(writer);
    fz_index *index = index_of("text.tar");
    fz_loader_config config = config_of(index);
    config.enc_tokenizer = config.dec_tokenizer = words;
    config.max_output = 5;
    for (int64_t max_prompt = 4; max_prompt >= 3; max_prompt--) {
        config.max_prompt = max_prompt;
        fz_loader *loader = make_loader(&config);
        const fz_step_batch batch = get_step(loader, 0);
        const int32_t want_enc[4] = {0, 4, 6, 2}, want_labels[5] = {2, 4, 5, 6, 1};
        assert_int_equal(batch.micro[0].enc_start[1], 5 + max_prompt);
        assert_memory_equal(batch.micro[0].enc_ids + 5, want_enc, (size_t)max_prompt * 4);
        assert_int_equal(batch.micro[0].dec_start[1], 5);
        assert_memory_equal(batch.micro[0].labels, want_labels, sizeof want_labels);
        fz_loader_destroy(&loader);
    }
    config.enc_tokenizer = NULL;
    fz_loader *loader = make_loader(&config);
    assert_ok(fz_loader_prepare(loader, 0));
    assert_int_equal(n_bad(loader, 16), 16);
    assert_non_null(strstr(fz_loader_bad_text(loader), "no encoder tokenizer"));
    fz_loader_destroy(&loader);
    fz_tokenizer_destroy(&words);
    fz_index_destroy(&index);
}

/* ---- who loads what ---- */

static void assert_same_micro(const fz_microbatch *a, const fz_microbatch *b)
{
    assert_int_equal(a->sizes.n_enc, b->sizes.n_enc);
    assert_int_equal(a->sizes.n_dec, b->sizes.n_dec);
    assert_int_equal(a->n_labels, b->n_labels);
    assert_memory_equal(a->sample_n, b->sample_n, (size_t)a->sizes.n_samples * 8);
    assert_memory_equal(a->enc_start, b->enc_start, (size_t)(a->sizes.n_samples + 1) * 4);
    assert_memory_equal(a->dec_start, b->dec_start, (size_t)(a->sizes.n_samples + 1) * 4);
    assert_memory_equal(a->enc_ids, b->enc_ids, (size_t)a->sizes.n_enc * 4);
    assert_memory_equal(a->dec_ids, b->dec_ids, (size_t)a->sizes.n_dec * 4);
    assert_memory_equal(a->labels, b->labels, (size_t)a->sizes.n_dec * 4);
}

/* Loaders of every part (lanes x shards) against one that has all. */
static void compare_parts(const fz_loader_config *all, int64_t n_parts, int64_t n_shards)
{
    const int64_t each = 12 * 12 * 3;
    fz_loader_config config = *all;

    config.n_shards = 4;
    config.n_local_shards = 4;
    fz_loader *whole = make_loader(&config);
    for (int64_t part = 0; part < n_parts; part++) {
        for (int64_t s = 0; s < 4; s += n_shards) {
            config.first_micro = part * 4 / n_parts;
            config.n_micro = (part + 1) * 4 / n_parts - config.first_micro;
            config.first_shard = s;
            config.n_local_shards = n_shards;
            fz_loader *loader = make_loader(&config);
            for (int64_t step = 2; step < 6; step++) {
                const fz_step_batch want = get_step(whole, step), got = get_step(loader, step);
                for (int64_t m = 0; m < config.n_micro; m++) {
                    const fz_microbatch *a = &want.micro[config.first_micro + m];
                    const fz_microbatch *b = &got.micro[m];
                    const int64_t B = config.micro_batch;
                    const int64_t first = s * B / 4, end = (s + n_shards) * B / 4;
                    assert_same_micro(a, b);
                    assert_int_equal(b->sizes.n_local_images, end - first);
                    assert_memory_equal(b->pixels, a->pixels + first * each,
                                        (size_t)((end - first) * each) * 4);
                }
            }
            fz_loader_destroy(&loader);
        }
    }
    fz_loader_destroy(&whole);
}

static void loaders_of_parts_give_together_what_one_gives(void **state)
{
    (void)state;
    make_shards("part", 3, 7, "caption/en translate/de caption/de");
    fz_index *index = index_of("part-*.tar");
    fz_loader_config config = config_of(index);
    compare_parts(&config, 2, 4);
    compare_parts(&config, 1, 2);
    compare_parts(&config, 3, 1); /* 4 micro-batches over 3 lanes */
    config.global_batch = 12;
    config.micro_batch = 3; /* fewer samples than shards: shards without an image */
    compare_parts(&config, 2, 1);
    fz_index_destroy(&index);
}

static void only_local_images_are_read(void **state)
{
    (void)state;
    /* All JPEGs are rubbish: whoever does not decode them has no complaint. */
    fz_shard_writer *writer = open_shard("rubbish.tar");
    for (int i = 0; i < 4; i++) {
        char name[32], key[32];
        snprintf(key, sizeof key, "%d", i);
        snprintf(name, sizeof name, "%d.jpg", i);
        add_text(writer, name, "rubbish that is no image");
        add_sample_json(writer, key, i, "caption/en");
    }
    close_shard(writer);
    fz_index *index = index_of("rubbish.tar");
    fz_loader_config config = config_of(index);
    fz_step_batch batch;
    config.pixels = false;
    fz_loader *loader = make_loader(&config);
    batch = get_step(loader, 0);
    assert_null(batch.micro[0].pixels);
    assert_int_equal(batch.micro[0].sizes.n_local_images, 4);
    fz_loader_destroy(&loader);
    config.pixels = true;
    config.n_local_shards = 1;
    loader = make_loader(&config);
    assert_ok(fz_loader_prepare(loader, 0));
    for (int p = 0; p < 16; p++) /* shard 0 of 2 has the first two of each micro-batch of 4 */
        assert_int_equal(fz_loader_bad(loader)[p], p % 4 < 2);
    assert_non_null(strstr(fz_loader_bad_text(loader), "rubbish.tar: "));
    assert_non_null(strstr(fz_loader_bad_text(loader), ".jpg: not a JPEG"));
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);
}

/* ---- order, threads, memory ---- */

static void threads_ring_and_order_change_nothing(void **state)
{
    static const int threads[] = {0, 1, 3}, ahead[] = {0, 1, 5};
    static const int64_t order[] = {0, 1, 2, 3, 2, 9, 10, 10, 0, 4, 5};

    (void)state;
    make_shards("ring", 3, 7, "caption/en translate/de");
    fz_index *index = index_of("ring-*.tar");
    fz_loader_config config = config_of(index);
    config.n_threads = 0;
    config.n_ahead = 0;
    fz_loader *plain = make_loader(&config);
    for (int t = 0; t < 3; t++) {
        config.n_threads = threads[t];
        config.n_ahead = ahead[t];
        fz_loader *loader = make_loader(&config);
        for (size_t k = 0; k < sizeof order / sizeof order[0]; k++) {
            const fz_step_batch want = get_step(plain, order[k]);
            const fz_step_batch got = get_step(loader, order[k]);
            for (int m = 0; m < 4; m++) {
                assert_same_micro(&want.micro[m], &got.micro[m]);
                assert_memory_equal(got.micro[m].pixels, want.micro[m].pixels, 4 * 12 * 12 * 12);
            }
        }
        fz_loader_destroy(&loader); /* with steps ahead still in the making */
    }
    fz_loader_destroy(&plain);
    fz_index_destroy(&index);
}

static void nothing_is_allocated_after_creation(void **state)
{
    (void)state;
    make_shards("quiet", 2, 10, "caption/en translate/de");
    fz_index *index = index_of("quiet-*.tar");
    fz_loader_config config = config_of(index);
    const int64_t before = fz_memory_get().bytes_live;
    fz_loader *loader = make_loader(&config);
    const int64_t taken = fz_memory_get().bytes_live - before;
    const int64_t n_total = fz_memory_get().n_total;
    for (int64_t step = 0; step < 20; step++)
        get_step(loader, step);
    assert_int_equal(fz_memory_get().n_total, n_total);
    assert_int_equal(fz_loader_n_grown(loader), 0);
    /* The plan's number is what was taken, but for a few small structures. */
    assert_in_range(taken - (int64_t)fz_loader_bytes(&config), 0, 16384);
    fz_loader_destroy(&loader);
    assert_int_equal(fz_memory_get().bytes_live, before);
    fz_index_destroy(&index);
}

static void a_huge_image_grows_its_threads_scratch_and_is_counted(void **state)
{
    void *bytes = NULL;
    size_t n = 0;

    (void)state;
    fz_image image = make_picture(2 * FZ_SCRATCH_SIDE + 100, FZ_SCRATCH_SIDE, 3);
    assert_ok(fz_image_encode_jpeg(&image, 50, &bytes, &n));
    fz_shard_writer *writer = open_shard("huge.tar");
    assert_ok(fz_shard_writer_add(writer, "h.jpg", bytes, n));
    add_sample_json(writer, "h", 0, "caption/en");
    close_shard(writer);
    fz_free(&bytes);
    fz_image_reset(&image);
    fz_index *index = index_of("huge.tar");
    fz_loader_config config = config_of(index);
    config.global_batch = config.micro_batch = 1;
    config.n_micro = 1;
    config.n_threads = 1;
    config.n_ahead = 0;
    const int64_t sealed = fz_memory_get().n_sealed;
    fz_loader *loader = make_loader(&config);
    get_step(loader, 0);
    get_step(loader, 1);
    assert_in_range(fz_loader_n_grown(loader), 1, 2); /* pixels, perhaps the resize; once each */
    assert_int_equal(fz_memory_get().n_sealed - sealed, fz_loader_n_grown(loader));
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);
}

static void every_failed_allocation_leaves_nothing_behind(void **state)
{
    char fault[32];
    int n_failed = 0;

    (void)state;
    make_shards("alloc", 1, 3, "caption/en");
    fz_index *index = index_of("alloc-*.tar");
    const fz_loader_config config = config_of(index);
    const int64_t before = fz_memory_get().n_live;
    for (int n = 1; n < 100; n++) {
        fz_loader *loader = NULL;
        snprintf(fault, sizeof fault, "alloc:%d", n);
        assert_ok(fz_fault_set(fault));
        const fz_status status = fz_loader_create(&config, &loader);
        assert_ok(fz_fault_set(NULL));
        fz_loader_destroy(&loader);
        assert_int_equal(fz_memory_get().n_live, before);
        if (status == FZ_OK) break;
        assert_int_equal(status, FZ_ERR_MEMORY);
        n_failed++;
    }
    assert_in_range(n_failed, 10, 50);
    fz_index_destroy(&index);
}

static void a_wrong_config_is_refused(void **state)
{
    fz_loader *loader = NULL;

    (void)state;
    make_shards("conf", 1, 3, "caption/en");
    fz_index *index = index_of("conf-*.tar");
    fz_loader_config config = config_of(index);
    config.micro_batch = 3;
    assert_fails(fz_loader_create(&config, &loader), FZ_ERR_ARG, "3 does not divide");
    config = config_of(index);
    config.first_micro = 1;
    assert_fails(fz_loader_create(&config, &loader), FZ_ERR_ARG, "micro-batches 1 + 4 of 4");
    config = config_of(index);
    config.n_local_shards = 3;
    assert_fails(fz_loader_create(&config, &loader), FZ_ERR_ARG, "shards 0 + 3 of 2");
    config = config_of(index);
    config.image_size = 0;
    assert_fails(fz_loader_create(&config, &loader), FZ_ERR_ARG, "size 0");
    fz_index_destroy(&index);
}

/* ---- eval ---- */

static void eval_goes_through_all_pairs_in_order(void **state)
{
    int64_t pair = 0;

    (void)state;
    make_shards("eval", 2, 5, "caption/en caption/de translate/fr"); /* 30 pairs */
    fz_index *index = index_of("eval-*.tar");
    fz_loader_config config = config_of(index);
    config.eval = true;
    config.global_batch = 16;
    fz_loader *loader = make_loader(&config);
    assert_int_equal(fz_loader_eval_samples(loader), 30);
    assert_int_equal(fz_loader_eval_steps(loader), 2);
    for (int64_t step = 0; step < 2; step++) {
        const fz_step_batch batch = get_step(loader, step);
        for (int m = 0; m < 4; m++) {
            const fz_microbatch *micro = &batch.micro[m];
            const int want = step == 1 && m == 3 ? 2 : 4;
            assert_int_equal(micro->sizes.n_samples, want);
            assert_int_equal(micro->sizes.n_local_images, want);
            assert_int_equal(micro->n_labels, 4 * want);
            for (int i = 0; i < 4; i++) {
                if (i >= want) {
                    assert_int_equal(batch.class_of[4 * m + i], -1);
                    continue;
                }
                assert_int_equal(micro->sample_n[i], pair);
                assert_int_equal(number_of(micro, i, 5), pair / 3);
                assert_int_equal(micro->labels[micro->dec_start[i] + 2], 20 + pair % 3);
                assert_int_equal(batch.class_of[4 * m + i], index->annotation_class[pair]);
                pair++;
            }
        }
    }
    assert_int_equal(pair, 30);
    assert_fails(fz_loader_prepare(loader, 2), FZ_ERR_ARG, "step 2 of 2");
    fz_loader_destroy(&loader);
    config.global_batch = 32; /* more micro-batches than samples: the last has 2, and none */
    config.n_micro = 8;
    config.first_micro = 0;
    loader = make_loader(&config);
    const fz_step_batch batch = get_step(loader, 0);
    assert_int_equal(batch.micro[7].sizes.n_samples, 2);
    fz_loader_destroy(&loader);
    config.global_batch = 64;
    config.n_micro = 16;
    loader = make_loader(&config);
    const fz_step_batch large = get_step(loader, 0);
    assert_int_equal(large.micro[8].sizes.n_samples, 0);
    assert_int_equal(large.micro[8].sizes.n_enc, 0);
    assert_int_equal(large.micro[8].enc_start[0], 0);
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_holds_ragged_ids_labels_and_pixels),
        cmocka_unit_test(pixels_are_decoded_resized_and_normalised),
        cmocka_unit_test(long_samples_are_cut_without_eos),
        cmocka_unit_test(text_gets_the_special_ids),
        cmocka_unit_test(loaders_of_parts_give_together_what_one_gives),
        cmocka_unit_test(only_local_images_are_read),
        cmocka_unit_test(threads_ring_and_order_change_nothing),
        cmocka_unit_test(nothing_is_allocated_after_creation),
        cmocka_unit_test(a_huge_image_grows_its_threads_scratch_and_is_counted),
        cmocka_unit_test(every_failed_allocation_leaves_nothing_behind),
        cmocka_unit_test(a_wrong_config_is_refused),
        cmocka_unit_test(eval_goes_through_all_pairs_in_order),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
