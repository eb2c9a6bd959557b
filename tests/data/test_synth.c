#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "core/memory.h"
#include "data/image.h"
#include "data/shard.h"
#include "data/synth.h"
#include "data/synth_render.h"
#include "data/synth_text.h"

enum { N_SCENES = 4000, N_IMAGES = 40, PER_SHARD = 16, SIDE = 64 };

static char root[64];

static void path_in(const char *folder, const char *name, char path[300])
{
    snprintf(path, 300, "%s/%s/%s", root, folder, name);
}

static fz_synth_config config_for(const char *folder, char out[300], int n_threads)
{
    snprintf(out, 300, "%s/%s", root, folder);
    return (fz_synth_config){.out = out,
                             .n_images = N_IMAGES,
                             .seed = 11,
                             .image_size = SIDE,
                             .images_per_shard = PER_SHARD,
                             .n_threads = n_threads};
}

static void empty_folder(const char *folder)
{
    char path[600];
    DIR *list = opendir(folder);

    for (struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        unlink(path);
    }
    if (list != NULL) closedir(list);
    rmdir(folder);
}

/* Two data sets that must be equal: one by one thread, one by three over the rest of another. */
static int make_data(void **state)
{
    char out[300], path[300];
    fz_synth_config config;

    (void)state;
    snprintf(root, sizeof root, "/tmp/fz-synth-XXXXXX");
    if (mkdtemp(root) == NULL) return -1;
    config = config_for("a", out, 1);
    if (fz_synth_run(&config) != FZ_OK) return -1;

    config = config_for("b", out, 3);
    if (mkdir(out, 0777) != 0) return -1;
    for (int i = 0; i < 2; i++) {
        path_in("b", i == 0 ? "train-00099.tar" : "mine.txt", path);
        FILE *file = fopen(path, "wb");
        if (file == NULL || fclose(file) != 0) return -1;
    }
    config.force = true;
    return fz_synth_run(&config) == FZ_OK ? 0 : -1;
}

static int remove_data(void **state)
{
    char path[300];

    (void)state;
    snprintf(path, sizeof path, "%s/a", root);
    empty_folder(path);
    snprintf(path, sizeof path, "%s/b", root);
    empty_folder(path);
    return rmdir(root);
}

static float gap(const fz_object *a, const fz_object *b)
{
    return hypotf(a->x - b->x, a->y - b->y) - a->radius - b->radius;
}

static void objects_lie_inside_and_apart(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < N_SCENES; n++) {
        const fz_scene scene = fz_scene_draw(5, FZ_SPLIT_TRAIN, n);
        int count = 0;

        for (int e = 0; e < scene.n_entities; e++)
            count += scene.entity[e].count;
        assert_int_equal(count, scene.n_objects);
        assert_in_range(count, 1, FZ_MAX_OBJECTS);
        for (int i = 0; i < scene.n_objects; i++) {
            const fz_object *o = &scene.object[i];

            assert_true(o->x - o->radius > 0.0F && o->x + o->radius < 1.0F);
            assert_true(o->y - o->radius > 0.0F && o->y + o->radius < 1.0F);
            for (int j = 0; j < i; j++)
                assert_true(gap(o, &scene.object[j]) > 0.0F);
        }
    }
}

static bool holds(const fz_scene *scene, const fz_object *a, const fz_object *b)
{
    switch (scene->relation) {
    case FZ_LEFT_OF:
        return a->x + a->radius < b->x - b->radius;
    case FZ_RIGHT_OF:
        return a->x - a->radius > b->x + b->radius;
    case FZ_ABOVE:
        return a->y + a->radius < b->y - b->radius;
    case FZ_BELOW:
        return a->y - a->radius > b->y + b->radius;
    default:
        return gap(a, b) < 0.15F;
    }
}

static void relations_hold_between_the_objects(void **state)
{
    int seen[FZ_N_RELATIONS] = {0}, between = 0;

    (void)state;
    for (uint64_t n = 0; n < N_SCENES; n++) {
        const fz_scene scene = fz_scene_draw(5, FZ_SPLIT_TRAIN, n);
        const fz_object *o = scene.object;

        if (scene.kind == FZ_SCENE_BETWEEN) {
            between++;
            assert_true(
                (o[0].x > o[1].x && o[0].x < o[2].x) || (o[0].x < o[1].x && o[0].x > o[2].x) ||
                (o[0].y > o[1].y && o[0].y < o[2].y) || (o[0].y < o[1].y && o[0].y > o[2].y));
        }
        if (scene.kind != FZ_SCENE_RELATED) continue;
        seen[scene.relation]++;
        for (int i = 0; i < scene.n_objects; i++)
            for (int j = 0; j < scene.n_objects; j++)
                if (o[i].entity == 0 && o[j].entity == 1) assert_true(holds(&scene, &o[i], &o[j]));
    }
    for (int r = 0; r < FZ_N_RELATIONS; r++)
        assert_true(seen[r] > 100);
    assert_true(between > 100);
}

static void sizes_shapes_colours_and_positions_are_what_was_said(void **state)
{
    int shapes[FZ_N_SHAPES] = {0}, colours[FZ_N_COLOURS] = {0}, positions[FZ_N_POSITIONS] = {0};
    int backgrounds[FZ_N_BACKGROUNDS] = {0};

    (void)state;
    for (uint64_t n = 0; n < N_SCENES; n++) {
        const fz_scene scene = fz_scene_draw(5, FZ_SPLIT_TRAIN, n);

        backgrounds[scene.background]++;
        for (int e = 0; e < scene.n_entities; e++) {
            shapes[scene.entity[e].shape]++;
            colours[scene.entity[e].colour]++;
            assert_int_not_equal(scene.entity[e].colour, scene.background_colour);
            for (int f = 0; f < e; f++) {
                assert_int_not_equal(scene.entity[e].shape, scene.entity[f].shape);
                assert_int_not_equal(scene.entity[e].colour, scene.entity[f].colour);
            }
        }
        for (int i = 0; i < scene.n_objects; i++) {
            const bool big = scene.entity[scene.object[i].entity].size == FZ_BIG;
            assert_true(big ? scene.object[i].radius > 0.11F : scene.object[i].radius < 0.09F);
        }
        if (scene.kind == FZ_SCENE_ONE) {
            positions[scene.position]++;
            assert_int_equal(scene.entity[0].count > 1, scene.position >= FZ_ROW);
            const int column = (int)(scene.object[0].x * 3.0F),
                      row = (int)(scene.object[0].y * 3.0F);
            if (scene.position < FZ_ROW) assert_int_equal(scene.position, 3 * row + column);
        }
    }
    for (int i = 0; i < FZ_N_SHAPES; i++)
        assert_true(shapes[i] > 200);
    for (int i = 0; i < FZ_N_COLOURS; i++)
        assert_true(colours[i] > 200);
    for (int i = 0; i < FZ_N_POSITIONS; i++)
        assert_true(positions[i] > 20);
    for (int i = 0; i < FZ_N_BACKGROUNDS; i++)
        assert_true(backgrounds[i] > 200);
}

static bool near(const uint8_t *pixel, const uint8_t *rgb, int reach)
{
    for (int i = 0; i < 3; i++)
        if (abs(pixel[i] - rgb[i]) > reach) return false;
    return true;
}

static void shapes_are_drawn_where_and_in_the_colour_that_was_said(void **state)
{
    uint8_t rgb[SIDE * SIDE * 3];

    (void)state;
    for (uint64_t n = 0; n < 300; n++) {
        const fz_scene scene = fz_scene_draw(5, FZ_SPLIT_TRAIN, n);

        fz_scene_render(&scene, SIDE, rgb);
        for (int i = 0; i < scene.n_objects; i++) {
            const fz_object *o = &scene.object[i];
            const int shape = scene.entity[o->entity].shape;
            /* Rings and crescents are hollow in the middle. */
            const float aside = shape == FZ_RING || shape == FZ_CRESCENT ? 0.78F * o->radius : 0.0F;
            const int x = (int)((o->x - aside) * SIDE), y = (int)(o->y * SIDE);

            if (aside == 0.0F || scene.entity[o->entity].size == FZ_BIG)
                assert_true(near(rgb + 3 * (y * SIDE + x), o->rgb, 8));
        }
        assert_true(near(rgb, scene.background_rgb, 60)); /* nothing reaches the corner */
    }
}

static char *slurp(const char *folder, const char *name, size_t *n)
{
    char path[300], *bytes = NULL;

    path_in(folder, name, path);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *n = (size_t)ftell(file);
    rewind(file);
    assert_int_equal(fz_alloc((void **)&bytes, *n + 1, "file"), FZ_OK);
    assert_int_equal(fread(bytes, 1, *n, file), *n);
    fclose(file);
    return bytes;
}

static void the_same_seed_gives_the_same_bytes_with_any_number_of_threads(void **state)
{
    char path[300];
    int n_files = 0, n_indices = 0;

    (void)state;
    snprintf(path, sizeof path, "%s/a", root);
    DIR *list = opendir(path);
    assert_non_null(list);
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        size_t n = 0, m = 0;

        if (entry->d_name[0] == '.') continue;
        if (strstr(entry->d_name, ".idx") != NULL) { /* holds the time of its tar */
            n_indices++;
            continue;
        }
        char *a = slurp("a", entry->d_name, &n), *b = slurp("b", entry->d_name, &m);
        assert_int_equal(n, m);
        assert_memory_equal(a, b, n);
        fz_free(&a);
        fz_free(&b);
        n_files++;
    }
    closedir(list);
    assert_int_equal(n_files, 3 + 2 + 4); /* train, eval, and what lies beside them */
    assert_int_equal(n_indices, 3 + 2);
}

static void force_removes_an_earlier_data_set_and_nothing_else(void **state)
{
    char path[300];

    (void)state;
    path_in("b", "train-00099.tar", path);
    assert_int_not_equal(access(path, F_OK), 0);
    path_in("b", "mine.txt", path);
    assert_int_equal(access(path, F_OK), 0);
}

static void a_folder_with_files_is_refused(void **state)
{
    char out[300];
    fz_synth_config config = config_for("a", out, 1);

    (void)state;
    assert_int_equal(fz_synth_run(&config), FZ_ERR_USAGE);
    assert_non_null(strstr(fz_last_error()->text, "--force"));
}

static void settings_out_of_range_are_named(void **state)
{
    char out[300];
    fz_synth_config config = config_for("c", out, 1);

    (void)state;
    config.n_images = 0;
    assert_int_equal(fz_synth_run(&config), FZ_ERR_USAGE);
    assert_non_null(strstr(fz_last_error()->text, "--images 0"));
    config = config_for("c", out, 1);
    config.image_size = 8;
    assert_int_equal(fz_synth_run(&config), FZ_ERR_USAGE);
    assert_non_null(strstr(fz_last_error()->text, "--image-size 8"));
    config = config_for("c", out, 1);
    config.out = "/proc/nothing/here";
    assert_int_equal(fz_synth_run(&config), FZ_ERR_IO);
    assert_non_null(strstr(fz_last_error()->text, "/proc/nothing/here"));
}

/* Captions and translations by language, from the annotations of one picture. */
typedef struct tally {
    int captions[FZ_N_LANGUAGES], translations[FZ_N_LANGUAGES];
} tally;

static int language_of(const char *code)
{
    for (int i = 0; i < FZ_N_LANGUAGES; i++)
        if (strcmp(fz_language_get((fz_language_id)i)->code, code) == 0) return i;
    fail_msg("unknown language %s", code);
    return -1;
}

static void check_ids(const json_t *ids, int first, int last, const fz_tokenizer *tokenizer,
                      const char *text)
{
    const size_t n = json_array_size(ids);
    int32_t list[256];
    char back[FZ_PROMPT_BYTES];

    assert_in_range(n, 3, 256);
    for (size_t i = 0; i < n; i++)
        list[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    assert_int_equal(list[0], first);
    assert_int_equal(list[n - 1], last);
    assert_int_equal(fz_tokenizer_decode(tokenizer, list + 1, (int64_t)n - 2, back, sizeof back),
                     FZ_OK);
    assert_string_equal(back, text);
}

static void check_annotation(const json_t *entry, const fz_tokenizer *enc, const fz_tokenizer *dec,
                             tally *counts)
{
    const char *lang = NULL, *type = NULL, *prompt = NULL, *output = NULL;
    char start[96];
    json_t *prompt_ids = NULL, *output_ids = NULL, *copy = json_deep_copy(entry);

    assert_int_equal(json_unpack(copy, "{s:s, s:s, s:s, s:s, s:o, s:o}", "lang", &lang, "type",
                                 &type, "prompt", &prompt, "output", &output, "prompt_ids",
                                 &prompt_ids, "output_ids", &output_ids),
                     0);
    const int language = language_of(lang);
    const bool is_caption = strcmp(type, "caption") == 0;
    if (!is_caption) assert_string_equal(type, "translation");
    (is_caption ? counts->captions : counts->translations)[language]++;
    snprintf(start, sizeof start, "The target language is %s. %s",
             fz_language_get((fz_language_id)language)->name,
             is_caption ? "What does the image describe?" : "Translate the following text: ");
    assert_memory_equal(prompt, start, strlen(start));
    check_ids(prompt_ids, 0, 2, enc, prompt);
    check_ids(output_ids, 2, 1, dec, output);
    json_decref(copy);
}

static void check_shard(const char *name, const fz_tokenizer *enc, const fz_tokenizer *dec,
                        tally *counts, int *n_pictures)
{
    fz_shard_listing listing;
    char path[300];
    size_t n = 0;

    path_in("a", name, path);
    assert_int_equal(fz_shard_list(path, &listing), FZ_OK);
    assert_string_equal(listing.damage, "");
    char *tar = slurp("a", name, &n);
    for (int64_t m = 0; m < listing.n_members; m++) {
        const fz_shard_member *member = &listing.members[m];
        const char *member_name = listing.names + member->name;

        assert_true((size_t)(member->offset + member->bytes) <= n);
        if (strstr(member_name, ".jpg") != NULL) {
            fz_image image;
            assert_int_equal(fz_image_decode(tar + member->offset, (size_t)member->bytes, &image),
                             FZ_OK);
            assert_int_equal(image.width, SIDE);
            assert_int_equal(image.height, SIDE);
            fz_image_reset(&image);
            ++*n_pictures;
            continue;
        }
        json_t *list = json_loadb(tar + member->offset, (size_t)member->bytes, 0, NULL);
        assert_true(json_is_array(list));
        for (size_t i = 0; i < json_array_size(list); i++)
            check_annotation(json_array_get(list, i), enc, dec, counts);
        json_decref(list);
    }
    fz_free(&tar);
    fz_shard_listing_reset(&listing);
}

static void load_tokenizers(fz_tokenizer **enc, fz_tokenizer **dec)
{
    const bool models = fz_tokenizer_has_sentencepiece();
    char path[300];

    path_in("a", models ? "enc.model" : "enc.words", path);
    assert_int_equal(fz_tokenizer_load(path, enc), FZ_OK);
    path_in("a", models ? "dec.model" : "dec.words", path);
    assert_int_equal(fz_tokenizer_load(path, dec), FZ_OK);
}

static void training_shards_have_captions_in_english_and_german_only(void **state)
{
    fz_tokenizer *enc = NULL, *dec = NULL;
    tally counts = {{0}, {0}};
    int n_pictures = 0;

    (void)state;
    load_tokenizers(&enc, &dec);
    check_shard("train-00000.tar", enc, dec, &counts, &n_pictures);
    check_shard("train-00001.tar", enc, dec, &counts, &n_pictures);
    check_shard("train-00002.tar", enc, dec, &counts, &n_pictures);
    assert_int_equal(n_pictures, N_IMAGES);
    for (int i = 0; i < FZ_N_LANGUAGES; i++) {
        assert_int_equal(counts.captions[i], i <= FZ_DE ? FZ_CAPTIONS_EACH * N_IMAGES : 0);
        assert_int_equal(counts.translations[i], i == FZ_EN ? 0 : N_IMAGES);
    }
    fz_tokenizer_destroy(&enc);
    fz_tokenizer_destroy(&dec);
}

static void held_out_shards_have_captions_in_all_six(void **state)
{
    fz_tokenizer *enc = NULL, *dec = NULL;
    tally counts = {{0}, {0}};
    int n_pictures = 0;

    (void)state;
    load_tokenizers(&enc, &dec);
    check_shard("eval-00000.tar", enc, dec, &counts, &n_pictures);
    check_shard("eval-00001.tar", enc, dec, &counts, &n_pictures);
    assert_int_equal(n_pictures, 32);
    for (int i = 0; i < FZ_N_LANGUAGES; i++) {
        assert_int_equal(counts.captions[i], 32);
        assert_int_equal(counts.translations[i], i == FZ_EN ? 0 : 32);
    }
    fz_tokenizer_destroy(&enc);
    fz_tokenizer_destroy(&dec);
}

static void held_out_scenes_are_not_training_scenes(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 32; n++)
        assert_true(fz_scene_draw(11, FZ_SPLIT_EVAL, n).noise_key !=
                    fz_scene_draw(11, FZ_SPLIT_TRAIN, n).noise_key);
}

static void nothing_is_left_in_memory(void **state)
{
    (void)state;
    assert_int_equal(fz_memory_get().n_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_lie_inside_and_apart),
        cmocka_unit_test(relations_hold_between_the_objects),
        cmocka_unit_test(sizes_shapes_colours_and_positions_are_what_was_said),
        cmocka_unit_test(shapes_are_drawn_where_and_in_the_colour_that_was_said),
        cmocka_unit_test(the_same_seed_gives_the_same_bytes_with_any_number_of_threads),
        cmocka_unit_test(force_removes_an_earlier_data_set_and_nothing_else),
        cmocka_unit_test(a_folder_with_files_is_refused),
        cmocka_unit_test(settings_out_of_range_are_named),
        cmocka_unit_test(training_shards_have_captions_in_english_and_german_only),
        cmocka_unit_test(held_out_shards_have_captions_in_all_six),
        cmocka_unit_test(held_out_scenes_are_not_training_scenes),
        cmocka_unit_test(nothing_is_left_in_memory),
    };
    return cmocka_run_group_tests(tests, make_data, remove_data);
}
