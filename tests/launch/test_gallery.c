#include "tests/support/unit.h"

#include <unistd.h>

#include "core/memory.h"
#include "launch/files.h"
#include "launch/gallery.h"

/* A "shard" that holds the bytes of two pictures, and captions of them. */
static char shard[] = "test_gallery.tar";
static char *shards[] = {shard};
static fz_index_image images[] = {{.image_offset = 0, .image_bytes = 5},
                                  {.image_offset = 5, .image_bytes = 4, .key_offset = 6}};
static char keys[] = "first\0second";
static const fz_index index_of_two = {
    .n_shards = 1, .shards = shards, .n_images = 2, .images = images, .keys = keys};
static char bold[] = "a <b>", no[] = "\xd0\xbd\xd0\xb5\xd1\x82", yes[] = "\xd0\xb4\xd0\xb0",
            question[] = "What is it?", it[] = "it";
static int32_t two_ids[] = {17, 1};
static const fz_caption captions[] = {
    {.image = 0,
     .class_name = "caption/en",
     .has_reference = true,
     .is_seen = true,
     .is_right = true,
     .text = bold,
     .reference = bold},
    {.image = 0, .class_name = "caption/ru", .has_reference = true, .text = no, .reference = yes},
    {.image = 1,
     .prompt = question,
     .text = it,
     .ids = two_ids,
     .n_ids = 2,
     .log_prob = -1.5,
     .score = -0.75},
};

static char *page, *lines;

static int start(void **state)
{
    size_t n;
    (void)state;
    FILE *file = fopen(shards[0], "w");
    fputs("helloabc\n", file);
    fclose(file);
    if (fz_gallery_write("test_gallery.html", &index_of_two, captions, 3, "t & t") != FZ_OK)
        return -1;
    if (fz_file_read("test_gallery.html", &page, &n) != FZ_OK) return -1;
    return fz_file_read("test_gallery.jsonl", &lines, &n) == FZ_OK ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    fz_free(&page);
    fz_free(&lines);
    unlink("test_gallery.html");
    unlink("test_gallery.jsonl");
    unlink(shards[0]);
    return 0;
}

static void pictures_are_inside_the_page(void **state)
{
    (void)state;
    assert_non_null(strstr(page, "base64,aGVsbG8=\"")); /* hello */
    assert_non_null(strstr(page, "base64,YWJjCg==\"")); /* abc and a newline */
}

static void texts_are_escaped_and_wrong_ones_show_the_reference(void **state)
{
    (void)state;
    assert_non_null(strstr(page, "a &lt;b&gt;"));
    assert_non_null(strstr(page, "t &amp; t"));
    assert_non_null(strstr(page, "нет"));
    assert_non_null(strstr(page, "да"));
    assert_non_null(strstr(page, "(unseen)"));
}

static void lines_are_json_with_the_mark(void **state)
{
    json_t *objects[3];
    char *rest = lines;
    (void)state;
    for (int i = 0; i < 3; i++) {
        objects[i] = json_loads(rest, JSON_DISABLE_EOF_CHECK, NULL);
        assert_non_null(objects[i]);
        rest = strchr(rest, '\n') + 1;
    }
    assert_true(json_is_true(json_object_get(objects[0], "right")));
    assert_true(json_is_false(json_object_get(objects[1], "right")));
    assert_true(json_is_false(json_object_get(objects[1], "seen")));
    assert_string_equal(json_string_value(json_object_get(objects[1], "reference")), "да");
    assert_string_equal(json_string_value(json_object_get(objects[2], "image")), "second");
    assert_null(json_object_get(objects[2], "right"));
    assert_true(json_is_null(json_object_get(objects[2], "class")));
    assert_string_equal(json_string_value(json_object_get(objects[2], "prompt")), question);
    assert_int_equal(json_array_size(json_object_get(objects[2], "ids")), 2);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(objects[2], "ids"), 0)), 17);
    assert_true(json_real_value(json_object_get(objects[2], "score")) < -0.74);
    for (int i = 0; i < 3; i++)
        json_decref(objects[i]);
}

/* Without an index: the file is the picture, its name says which. */
static void a_file_of_its_own_is_shown_and_named(void **state)
{
    const fz_caption own = {.file = shard, .class_name = "caption/de", .text = it};
    char *text;
    size_t n;
    (void)state;
    assert_ok(fz_gallery_write("test_gallery_own.html", NULL, &own, 1, "own"));
    assert_ok(fz_file_read("test_gallery_own.html", &text, &n));
    assert_non_null(strstr(text, "base64,aGVsbG9hYmMK\""));
    assert_null(strstr(text, "unseen)"));
    fz_free(&text);
    assert_ok(fz_file_read("test_gallery_own.jsonl", &text, &n));
    assert_non_null(strstr(text, "{\"image\":\"test_gallery.tar\",\"class\":\"caption/de\""));
    fz_free(&text);
    unlink("test_gallery_own.html");
    unlink("test_gallery_own.jsonl");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_inside_the_page),
        cmocka_unit_test(texts_are_escaped_and_wrong_ones_show_the_reference),
        cmocka_unit_test(lines_are_json_with_the_mark),
        cmocka_unit_test(a_file_of_its_own_is_shown_and_named),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
