/* Bad samples: each is one flag and one text, and is replaced alike by whoever is asked to. */
#include "fixtures.h"

#include <fcntl.h>

#include "core/rng.h"
#include "data/loader.h"

enum { G = 16 };

static fz_index *index_of(const char *pattern)
{
    fz_index *index = NULL;
    assert_ok(fz_index_build_skip(in_folder(pattern), &index));
    return index;
}

static fz_loader_config config_of(const fz_index *index)
{
    return (fz_loader_config){.index = index,
                              .seed = 4,
                              .window = 2,
                              .global_batch = G,
                              .micro_batch = 4,
                              .n_micro = 4,
                              .n_shards = 1,
                              .n_local_shards = 1,
                              .pixels = true,
                              .image_size = 8,
                              .image_tokens = 2,
                              .max_prompt = 16,
                              .max_output = 16,
                              .enc_vocab = 200,
                              .dec_vocab = 200,
                              .dec_start_id = 1,
                              .n_threads = 2,
                              .n_ahead = 1};
}

static fz_loader *make_loader(const fz_loader_config *config)
{
    fz_loader *loader = NULL;
    assert_ok(fz_loader_create(config, &loader));
    return loader;
}

static int n_bad(fz_loader *loader)
{
    int n = 0;
    for (int p = 0; p < G; p++)
        n += fz_loader_bad(loader)[p];
    return n;
}

/* A shard of one sample with this JSON; what the loader says about it. */
static void assert_json_is_bad(const char *json, const char *message)
{
    fz_loader *loader = NULL;
    fz_step_batch batch;

    fz_shard_writer *writer = open_shard("one-0001.tar");
    add_jpeg(writer, "000123.jpg", 0);
    add_text(writer, "000123.json", json);
    add_sample(writer, 5, "caption/en"); /* an index needs one good annotation */
    close_shard(writer);
    fz_index *index = index_of("one-0001.tar");
    const fz_loader_config config = config_of(index);
    loader = make_loader(&config);
    assert_ok(fz_loader_prepare(loader, 0));
    assert_int_equal(n_bad(loader), 8);
    if (strstr(fz_loader_bad_text(loader), "one-0001.tar: 000123.json: ") == NULL ||
        strstr(fz_loader_bad_text(loader), message) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", fz_loader_bad_text(loader), message);
    assert_fails(fz_loader_get(loader, &batch), FZ_ERR_FORMAT, message);
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);
}

#define TAIL ",\"type\":\"caption\",\"lang\":\"en\"}]"

static void every_kind_of_bad_json_is_described(void **state)
{
    static const char *const cases[][2] = {
        {"[{\"output_ids\":[2,1]" TAIL, "annotation 0: has neither prompt_ids nor prompt"},
        {"[{\"prompt_ids\":[0,2]" TAIL, "annotation 0: has neither output_ids nor output"},
        {"[{\"prompt_ids\":[0,2],\"output_ids\":[]" TAIL, "output_ids is empty"},
        {"[{\"prompt_ids\":7,\"output_ids\":[2,1]" TAIL, "prompt_ids is not a list"},
        {"[{\"prompt_ids\":[0,\"x\",2],\"output_ids\":[2,1]" TAIL,
         "prompt_ids[1] is not a whole number"},
        {"[{\"prompt_ids\":[0,2],\"output_ids\":[2,1.5]" TAIL, "output_ids[1] is not a whole"},
        {"[{\"prompt_ids\":[0,200],\"output_ids\":[2,1]" TAIL,
         "prompt_ids[1]: id 200 is beyond the encoder's vocabulary of 200"},
        {"[{\"prompt_ids\":[0,2],\"output_ids\":[2,9999999999,1]" TAIL,
         "output_ids[1]: id 9999999999 is beyond the decoder's vocabulary of 200"},
        {"[{\"prompt_ids\":[-1,2],\"output_ids\":[2,1]" TAIL, "prompt_ids[0]: id -1 is negative"},
        /* Beyond the cut as well: good or bad does not depend on the limits. */
        {"[{\"prompt_ids\":[0,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,900],\"output_ids\":[2,1]" TAIL,
         "prompt_ids[18]: id 900"},
        {"[{\"prompt\":\"hello\",\"output_ids\":[2,1]" TAIL, "no encoder tokenizer"},
        {"[{\"prompt\":5,\"output_ids\":[2,1]" TAIL, "prompt is not a text"},
        {"[{\"prompt_ids\":[0,2],\"output\":\"hello\"" TAIL, "no decoder tokenizer"},
        /* Those the index has found already. */
        {"[[1,2]]", "no annotation that can be used"},
        {"[{\"prompt_ids\": [0,", "not JSON: line 1"},
        {"[]", "the list of annotations is empty"},
        {"{}", "not a list of annotations"},
        {"", "not JSON"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_json_is_bad(cases[i][0], cases[i][1]);
}

/* n samples of which those with bit i of bad set have a broken picture. */
static void make_broken(const char *name, int n, uint64_t bad)
{
    fz_shard_writer *writer = open_shard(name);

    for (int i = 0; i < n; i++) {
        char key[32], jpg[48];
        if ((bad >> i & 1) == 0) {
            add_sample(writer, i, "caption/en translate/de");
            continue;
        }
        snprintf(key, sizeof key, "%06d", i);
        snprintf(jpg, sizeof jpg, "%s.jpg", key);
        fz_image image = make_picture(32, 32, i);
        void *bytes = NULL;
        size_t n_bytes = 0;
        assert_ok(fz_image_encode_jpeg(&image, 90, &bytes, &n_bytes));
        assert_ok(fz_shard_writer_add(writer, jpg, bytes, n_bytes / 2));
        add_sample_json(writer, key, i, "caption/en translate/de");
        fz_free(&bytes);
        fz_image_reset(&image);
    }
    close_shard(writer);
}

static int number_of(const fz_microbatch *micro, int i)
{
    return micro->enc_ids[micro->enc_start[i] + 3] - 10;
}

static void a_replaced_sample_keeps_position_and_class(void **state)
{
    const uint64_t broken = 0x0421;
    int32_t classes[G];
    int numbers[G], n_replaced = 0;
    fz_step_batch batch;

    (void)state;
    make_broken("half-00.tar", 16, 0);
    fz_index *index = index_of("half-00.tar");
    const fz_loader_config config = config_of(index);
    fz_loader *loader = make_loader(&config);
    assert_ok(fz_loader_prepare(loader, 1));
    assert_ok(fz_loader_get(loader, &batch));
    for (int p = 0; p < G; p++) {
        classes[p] = batch.class_of[p];
        numbers[p] = number_of(&batch.micro[p / 4], p % 4);
    }
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);

    /* The same data with three broken pictures: all else stays where it was. */
    make_broken("half-00.tar", 16, broken);
    index = index_of("half-00.tar");
    const fz_loader_config second = config_of(index);
    loader = make_loader(&second);
    assert_ok(fz_loader_prepare(loader, 1));
    while (n_bad(loader) > 0) {
        assert_non_null(strstr(fz_loader_bad_text(loader), ".jpg: JPEG"));
        assert_ok(fz_loader_replace(loader, fz_loader_bad(loader)));
        assert_string_equal(fz_loader_bad_text(loader), "");
        assert_ok(fz_loader_prepare(loader, 1));
    }
    assert_ok(fz_loader_get(loader, &batch));
    for (int p = 0; p < G; p++) {
        const int number = number_of(&batch.micro[p / 4], p % 4);
        assert_int_equal(batch.micro[p / 4].sample_n[p % 4], G + p);
        assert_int_equal(batch.class_of[p], classes[p]);
        assert_int_equal(broken >> number & 1, 0);
        n_replaced += number != numbers[p];
        assert_true(number == numbers[p] || (broken >> numbers[p] & 1) != 0);
    }
    assert_int_equal(n_replaced, 3);
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);
}

/* The protocol of the header's comment, with two processes that see different halves of a
 * micro-batch's pictures. */
static void two_processes_replace_alike(void **state)
{
    fz_loader *loaders[2];
    fz_step_batch batch[2];
    int n_rounds = 0;

    (void)state;
    make_broken("pair-00.tar", 40, 0xf0a5a0c3f1);
    fz_index *index = index_of("pair-00.tar");
    fz_loader_config config = config_of(index);
    config.n_shards = 2;
    for (int r = 0; r < 2; r++) {
        config.first_shard = r;
        config.n_threads = 1 + r;
        config.n_ahead = 2 * r;
        loaders[r] = make_loader(&config);
    }
    for (int64_t step = 0; step < 12; step++) {
        for (int round = 0;; round++) {
            uint8_t bad[G];
            bool any = false;
            for (int r = 0; r < 2; r++)
                assert_ok(fz_loader_prepare(loaders[r], step));
            for (int p = 0; p < G; p++) {
                bad[p] = (uint8_t)(fz_loader_bad(loaders[0])[p] | fz_loader_bad(loaders[1])[p]);
                any = any || bad[p];
            }
            if (!any) break;
            n_rounds++;
            assert_true(round < 16);
            for (int r = 0; r < 2; r++)
                assert_ok(fz_loader_replace(loaders[r], bad));
        }
        for (int r = 0; r < 2; r++)
            assert_ok(fz_loader_get(loaders[r], &batch[r]));
        for (int m = 0; m < 4; m++) {
            assert_int_equal(batch[0].micro[m].sizes.n_enc, batch[1].micro[m].sizes.n_enc);
            assert_memory_equal(batch[0].micro[m].enc_ids, batch[1].micro[m].enc_ids,
                                (size_t)batch[0].micro[m].sizes.n_enc * 4);
            assert_memory_equal(batch[0].micro[m].labels, batch[1].micro[m].labels,
                                (size_t)batch[0].micro[m].sizes.n_dec * 4);
        }
    }
    assert_true(n_rounds > 12);
    for (int r = 0; r < 2; r++)
        fz_loader_destroy(&loaders[r]);
    fz_index_destroy(&index);
}

static void a_position_bad_elsewhere_only_is_not_handed_out(void **state)
{
    fz_step_batch batch;

    (void)state;
    make_broken("else-00.tar", 8, 0);
    fz_index *index = index_of("else-00.tar");
    const fz_loader_config config = config_of(index);
    fz_loader *loader = make_loader(&config);
    assert_ok(fz_loader_prepare(loader, 0));
    assert_int_equal(n_bad(loader), 0);
    fz_loader_bad(loader)[3] = 1; /* the caller's maximum over the ranks */
    assert_fails(fz_loader_get(loader, &batch), FZ_ERR_FORMAT, "another rank");
    assert_ok(fz_loader_replace(loader, fz_loader_bad(loader)));
    assert_ok(fz_loader_prepare(loader, 0));
    assert_ok(fz_loader_get(loader, &batch));
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);
}

static void sixteen_attempts_are_enough(void **state)
{
    (void)state;
    make_broken("lost-00.tar", 8, 0xff);
    fz_index *index = index_of("lost-00.tar");
    const fz_loader_config config = config_of(index);
    fz_loader *loader = make_loader(&config);
    assert_ok(fz_loader_prepare(loader, 0));
    for (int attempt = 0; attempt < 16; attempt++) {
        assert_int_equal(n_bad(loader), G);
        assert_ok(fz_loader_replace(loader, fz_loader_bad(loader)));
        assert_ok(fz_loader_prepare(loader, 0));
    }
    assert_fails(fz_loader_replace(loader, fz_loader_bad(loader)), FZ_ERR_FORMAT,
                 "after 16 attempts; first: ");
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);
}

static void the_text_is_of_the_lowest_position(void **state)
{
    char text[600];

    (void)state;
    make_broken("text-00.tar", 32, 0x5a5a5a5a);
    fz_index *index = index_of("text-00.tar");
    fz_loader_config config = config_of(index);
    config.n_threads = 0;
    fz_loader *plain = make_loader(&config);
    assert_ok(fz_loader_prepare(plain, 3));
    snprintf(text, sizeof text, "%s", fz_loader_bad_text(plain));
    config.n_threads = 4;
    for (int i = 0; i < 10; i++) {
        fz_loader *loader = make_loader(&config);
        assert_ok(fz_loader_prepare(loader, 3));
        assert_string_equal(fz_loader_bad_text(loader), text);
        fz_loader_destroy(&loader);
    }
    fz_loader_destroy(&plain);
    fz_index_destroy(&index);
}

static void a_shard_that_shrinks_or_vanishes_gives_bad_samples(void **state)
{
    (void)state;
    make_broken("gone-00.tar", 8, 0);
    fz_index *index = index_of("gone-00.tar");
    const fz_loader_config config = config_of(index);
    fz_loader *loader = make_loader(&config);
    assert_int_equal(truncate(in_folder("gone-00.tar"), index->images[4].image_offset), 0);
    assert_ok(fz_loader_prepare(loader, 0));
    assert_int_equal(n_bad(loader), 8); /* images 4 to 7, twice in 16 positions */
    assert_non_null(strstr(fz_loader_bad_text(loader), "past the end of the tar"));
    fz_loader_destroy(&loader);
    assert_int_equal(unlink(in_folder("gone-00.tar")), 0);
    loader = make_loader(&config);
    assert_ok(fz_loader_prepare(loader, 0));
    assert_int_equal(n_bad(loader), G);
    assert_non_null(strstr(fz_loader_bad_text(loader), "open: No such file"));
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);
}

static void eval_keeps_the_place_of_a_bad_sample_without_labels(void **state)
{
    fz_step_batch batch;

    (void)state;
    make_broken("ebad-00.tar", 16, 0x24); /* images 2 and 5: pairs 4, 5, 10, 11 */
    fz_index *index = index_of("ebad-00.tar");
    fz_loader_config config = config_of(index);
    config.eval = true;
    config.n_ahead = 0; /* one slot: pictures of step 1 lie where the blank ones will be */
    fz_loader *loader = make_loader(&config);
    assert_ok(fz_loader_prepare(loader, 1));
    assert_ok(fz_loader_prepare(loader, 0));
    assert_int_equal(n_bad(loader), 4);
    assert_ok(fz_loader_replace(loader, fz_loader_bad(loader)));
    assert_ok(fz_loader_prepare(loader, 0));
    assert_int_equal(n_bad(loader), 0);
    assert_ok(fz_loader_get(loader, &batch));
    const fz_microbatch *micro = &batch.micro[1];
    assert_int_equal(micro->sizes.n_samples, 4);
    assert_int_equal(micro->n_labels, 8);
    assert_int_equal(batch.class_of[4], -1);
    assert_int_equal(batch.class_of[6], 0);
    assert_int_equal(micro->enc_start[1], 2 + 2);
    assert_int_equal(micro->dec_start[1], 1);
    assert_int_equal(micro->dec_ids[0], 1);
    assert_int_equal(micro->labels[0], FZ_NO_LABEL);
    for (int i = 0; i < 2 * 8 * 8 * 3; i++)
        assert_float_equal(micro->pixels[i], 0.0f, 0.0f);
    assert_true(micro->pixels[2 * 8 * 8 * 3] < -0.5f || micro->pixels[2 * 8 * 8 * 3] > 0.5f);
    assert_int_equal(number_of(micro, 2), 3);
    fz_loader_destroy(&loader);
    fz_index_destroy(&index);
}

/* Random bytes over a whole shard after it was indexed: flags and texts, no crash. */
static void random_damage_never_crashes(void **state)
{
    const fz_philox zero = {{0}};
    int n_seen = 0;

    (void)state;
    make_broken("rand-00.tar", 24, 0);
    fz_index *index = index_of("rand-00.tar");
    const fz_loader_config config = config_of(index);
    const int fd = open(in_folder("rand-00.tar"), O_WRONLY);
    const off_t bytes = lseek(fd, 0, SEEK_END);
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t k = 0; k < 25; k++) {
            const fz_philox x = fz_philox4x32(zero, round, k);
            const char byte = (char)x.v[0];
            assert_int_equal(pwrite(fd, &byte, 1, (off_t)fz_rng_below(x.v[1], (uint32_t)bytes)), 1);
        }
        fz_loader *loader = make_loader(&config);
        for (int64_t step = 0; step < 3; step++) {
            assert_ok(fz_loader_prepare(loader, step));
            assert_int_equal(n_bad(loader) > 0, fz_loader_bad_text(loader)[0] != '\0');
            n_seen += n_bad(loader);
        }
        fz_loader_destroy(&loader);
    }
    assert_true(n_seen > 50);
    close(fd);
    fz_index_destroy(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_bad_json_is_described),
        cmocka_unit_test(a_replaced_sample_keeps_position_and_class),
        cmocka_unit_test(two_processes_replace_alike),
        cmocka_unit_test(a_position_bad_elsewhere_only_is_not_handed_out),
        cmocka_unit_test(sixteen_attempts_are_enough),
        cmocka_unit_test(the_text_is_of_the_lowest_position),
        cmocka_unit_test(a_shard_that_shrinks_or_vanishes_gives_bad_samples),
        cmocka_unit_test(eval_keeps_the_place_of_a_bad_sample_without_labels),
        cmocka_unit_test(random_damage_never_crashes),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
