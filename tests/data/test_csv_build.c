#include "fixtures.h"

#include <sys/stat.h>

#include "data/csv.h"
#include "data/csv_build.h"
#include "data/index.h"

static void fields_may_hold_commas_quotes_and_lines(void **state)
{
    char text[] = "\xef\xbb\xbf"
                  "a,b,c\r\n\r\n\"x, y\",\"say \"\"hi\"\"\",\"two\nlines\"\n,,\n\"\",z,last";
    fz_csv csv;
    fz_csv_row row;

    (void)state;
    fz_csv_init(&csv, text, strlen(text), "t.csv");
    assert_ok(fz_csv_next(&csv, &row));
    assert_int_equal(row.n, 3);
    assert_string_equal(row.field[0], "a");
    assert_string_equal(row.field[2], "c");
    assert_ok(fz_csv_next(&csv, &row));
    assert_int_equal(row.line, 3);
    assert_string_equal(row.field[0], "x, y");
    assert_string_equal(row.field[1], "say \"hi\"");
    assert_string_equal(row.field[2], "two\nlines");
    assert_ok(fz_csv_next(&csv, &row));
    assert_int_equal(row.line, 5);
    assert_int_equal(row.n, 3);
    assert_string_equal(row.field[2], "");
    assert_ok(fz_csv_next(&csv, &row));
    assert_string_equal(row.field[0], "");
    assert_string_equal(row.field[2], "last");
    assert_ok(fz_csv_next(&csv, &row));
    assert_int_equal(row.n, 0);
}

static void write_image(const char *name, int number)
{
    fz_image image = make_picture(20, 16, number);
    void *bytes = NULL;
    size_t n = 0;

    assert_ok(fz_image_encode_jpeg(&image, 90, &bytes, &n));
    write_file(name, bytes, n);
    fz_free(&bytes);
    fz_image_reset(&image);
}

static fz_status build(const char *csv, fz_csv_build_totals *totals)
{
    static char images[PATH_MAX], file[PATH_MAX], out[PATH_MAX];

    snprintf(images, sizeof images, "%s", in_folder("images"));
    snprintf(file, sizeof file, "%s", in_folder("c.csv"));
    snprintf(out, sizeof out, "%s", in_folder("out"));
    write_text("c.csv", csv);
    const fz_csv_build_config config = {.images = images,
                                        .csv = file,
                                        .out = out,
                                        .images_per_shard = 2,
                                        .eval_every = 3,
                                        .force = true};
    return fz_data_build(&config, totals);
}

static void make_images(void)
{
    char name[64];

    mkdir(in_folder("images"), 0777);
    mkdir(in_folder("images/sub"), 0777);
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, i == 5 ? "images/sub/%d.jpg" : "images/%d.jpg", i);
        write_image(name, i);
    }
}

#define HEADER "image,lang,type,prompt,output\n"

static void a_folder_and_a_csv_become_shards(void **state)
{
    fz_csv_build_totals totals;
    fz_index *index = NULL;
    struct stat st;

    (void)state;
    make_images();
    assert_ok(build("output,type,lang,image,prompt\n"
                    "\"A cube, red.\",caption,en,0.jpg,What is it?\n"
                    "Kugel,caption,de,1.jpg,Was?\n"
                    "Ein W\xc3\xbcrfel.,caption,de,0.jpg,Was?\n"
                    "a,caption,en,2.jpg,\n"
                    "b,caption,en,3.jpg,\n"
                    "c,caption,en,4.jpg,\n"
                    "\"say \"\"d\"\"\",caption,en,sub/5.jpg,\n",
                    &totals));
    assert_int_equal(totals.n_images, 4);
    assert_int_equal(totals.n_eval_images, 2);
    assert_int_equal(totals.n_annotations, 7);
    assert_int_equal(totals.n_shards, 2);
    assert_int_equal(totals.n_eval_shards, 1);
    assert_ok(fz_index_build(in_folder("out/train-*.tar"), &index));
    assert_int_equal(index->n_images, 4);
    assert_int_equal(index->images[0].n_annotations, 2); /* rows of an image lie together */
    assert_int_equal(index->images[1].n_annotations, 1);
    assert_string_equal(index->class_name[0], "caption/de");

    /* Pictures are taken over byte for byte, text arrives as it was. */
    char json[1024] = "", picture[4096], original[4096];
    fz_shard_reader reader;
    fz_shard_reader_init(&reader, index->shards);
    assert_ok(
        fz_shard_read(&reader, 0, index->images[0].json_offset, index->images[0].json_bytes, json));
    assert_non_null(strstr(json, "\"output\":\"A cube, red.\""));
    assert_non_null(strstr(json, "Ein W\xc3\xbcrfel."));
    assert_non_null(strstr(json, "\"file\":\"0.jpg\""));
    assert_ok(fz_shard_read(&reader, 0, index->images[0].image_offset, index->images[0].image_bytes,
                            picture));
    fz_shard_reader_reset(&reader);
    FILE *file = fopen(in_folder("images/0.jpg"), "rb");
    const size_t n = fread(original, 1, sizeof original, file);
    fclose(file);
    assert_int_equal(n, index->images[0].image_bytes);
    assert_memory_equal(picture, original, n);
    fz_index_destroy(&index);
    assert_ok(fz_index_build(in_folder("out/eval-*.tar"), &index));
    assert_int_equal(index->n_images, 2);
    fz_index_destroy(&index);

    /* A smaller build leaves nothing of this one behind. */
    assert_ok(build(HEADER "0.jpg,en,caption,p,o\n", &totals));
    assert_int_equal(stat(in_folder("out/train-00000.tar"), &st), 0);
    assert_int_not_equal(stat(in_folder("out/train-00001.tar"), &st), 0);
    assert_int_not_equal(stat(in_folder("out/eval-00000.tar"), &st), 0);
}

static void old_shards_are_kept_without_force(void **state)
{
    fz_csv_build_totals totals;

    (void)state;
    make_images();
    assert_ok(build(HEADER "0.jpg,en,caption,p,o\n", &totals));
    const fz_csv_build_config config = {.images = in_folder("images"),
                                        .csv = in_folder("c.csv"),
                                        .out = in_folder("out"),
                                        .images_per_shard = 2};
    assert_fails(fz_data_build(&config, &totals), FZ_ERR_USAGE, "train-00000.tar is there");
}

static void errors_name_the_line(void **state)
{
    static const struct {
        const char *csv;
        fz_status status;
        const char *message;
    } cases[] = {
        {"", FZ_ERR_FORMAT, "c.csv: the file is empty"},
        {"image,lang,type,prompt\n", FZ_ERR_FORMAT, "c.csv:1: column \"output\" is missing"},
        {"image,lang,type,prompt,output,lang\n", FZ_ERR_FORMAT, "c.csv:1: column \"lang\" is"},
        {"image,lang,type,prompt,outputs\n", FZ_ERR_FORMAT,
         "c.csv:1: unknown column \"outputs\"; the columns are image,lang"},
        {HEADER, FZ_ERR_FORMAT, "no rows after the header"},
        {HEADER "0.jpg,en,caption,p,o\n0.jpg,en,caption,o\n", FZ_ERR_FORMAT,
         "c.csv:3: 4 fields, the header has 5"},
        {HEADER "0.jpg,en,caption,p,a, b\n", FZ_ERR_FORMAT, "c.csv:2: 6 fields"},
        {HEADER "0.jpg,en,caption,\"two\nlines\",o\n0.jpg,en,caption,p,\n", FZ_ERR_FORMAT,
         "c.csv:4: output is empty"},
        {HEADER "0.jpg,,caption,p,o\n", FZ_ERR_FORMAT, "c.csv:2: lang is empty"},
        {HEADER "0.jpg,en,caption,p,\"o\n\n", FZ_ERR_FORMAT, "c.csv:2: a quoted field does not"},
        {HEADER "0.jpg,en,caption,p,\"o\"x\n", FZ_ERR_FORMAT, "c.csv:2: text follows"},
        {HEADER "0.jpg,en,caption,p,o\"x\n", FZ_ERR_FORMAT, "c.csv:2: a quote inside"},
        {HEADER "0.jpg,en,caption,p,\xff\n", FZ_ERR_FORMAT, "c.csv:2: output is not UTF-8"},
        {HEADER "/0.jpg,en,caption,p,o\n", FZ_ERR_FORMAT, "c.csv:2: /0.jpg: write image paths"},
        {HEADER "0.jpg,en,a-type-with-far-too-long-a-name-to-be-useful-here,p,o\n", FZ_ERR_FORMAT,
         "c.csv:2: type and lang have more than 46 bytes"},
        {HEADER "0.jpg,en,caption,p,o\n9.jpg,en,caption,p,o\n", FZ_ERR_FORMAT,
         "images/9.jpg: No such file"},
        {HEADER "0.jpg,en,caption,p,o\nsub,en,caption,p,o\n", FZ_ERR_FORMAT,
         "sub: not a regular file"},
        {HEADER "0.jpg,en,caption,p,o\nbroken.jpg,en,caption,p,o\n", FZ_ERR_FORMAT,
         "images/broken.jpg: not a JPEG"},
    };
    fz_csv_build_totals totals;
    struct stat st;

    (void)state;
    make_images();
    write_text("images/broken.jpg", "not a picture at all");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_fails(build(cases[i].csv, &totals), cases[i].status, cases[i].message);
        if (strstr(cases[i].message, "images/") != NULL) {
            assert_non_null(strstr(fz_last_error()->text, "c.csv:3: "));
            /* The first image was good, and still no shard is left. */
            assert_int_not_equal(stat(in_folder("out/train-00000.tar"), &st), 0);
            assert_int_not_equal(stat(in_folder("out/train-00000.tar.tmp"), &st), 0);
        }
    }
}

static void a_full_disk_leaves_no_shard(void **state)
{
    fz_csv_build_totals totals;
    struct stat st;

    (void)state;
    make_images();
    for (int n = 1; n <= 8; n++) {
        char fault[32];
        snprintf(fault, sizeof fault, "write:%d", n);
        assert_ok(fz_fault_set(fault));
        const fz_status status = build(HEADER "0.jpg,en,c,p,o\n1.jpg,en,c,p,o\n2.jpg,en,c,p,o\n"
                                              "3.jpg,en,c,p,o\n",
                                       &totals);
        assert_ok(fz_fault_set(NULL));
        assert_int_equal(status, FZ_ERR_IO);
        assert_non_null(strstr(fz_last_error()->text, "No space left"));
        assert_int_not_equal(stat(in_folder("out/train-00000.tar"), &st), 0);
        assert_int_not_equal(stat(in_folder("out/train-00001.tar.tmp"), &st), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_may_hold_commas_quotes_and_lines),
        cmocka_unit_test(a_folder_and_a_csv_become_shards),
        cmocka_unit_test(old_shards_are_kept_without_force),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(a_full_disk_leaves_no_shard),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
