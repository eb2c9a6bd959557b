#include "fixtures.h"

#include <sys/stat.h>

#include "data/check.h"

static char report[16384];

/* Runs the check; the printed lines are in report. */
static fz_status check(const char *pattern, fz_check_totals *totals)
{
    FILE *out = fopen(in_folder("report.txt"), "w+");
    const fz_check_config config = {.pattern = in_folder(pattern),
                                    .rules = {.max_prompt = 8,
                                              .max_output = 3,
                                              .enc_vocab = 100,
                                              .dec_vocab = 100,
                                              .dec_eos = 1},
                                    .out = out};

    const fz_status status = fz_data_check(&config, totals);
    rewind(out);
    report[fread(report, 1, sizeof report - 1, out)] = '\0';
    fclose(out);
    return status;
}

static int n_lines(void)
{
    int n = 0;
    for (const char *at = report; *at; at++)
        n += *at == '\n';
    return n;
}

static void assert_reported(const char *part)
{
    if (strstr(report, part) == NULL) fail_msg("no \"%s\" in:\n%s", part, report);
}

static void good_shards_pass_with_their_totals(void **state)
{
    fz_check_totals totals;

    (void)state;
    make_shards("good", 2, 5, "caption/en translate/de");
    assert_ok(check("good-*.tar", &totals));
    assert_int_equal(totals.n_shards, 2);
    assert_int_equal(totals.n_images, 10);
    assert_int_equal(totals.n_annotations, 20);
    assert_int_equal(totals.n_problems, 0);
    assert_int_equal(totals.n_too_long, 20); /* outputs have 4 ids, 3 are allowed */
    assert_int_equal(n_lines(), 1);
    assert_reported("10 images, 20 annotations in 2 classes (20 longer");
}

static void every_problem_gets_its_line(void **state)
{
    fz_check_totals totals;
    struct stat st;

    (void)state;
    fz_shard_writer *writer = open_shard("bad-00.tar");
    add_sample(writer, 0, "caption/en");
    add_text(writer, "000001.jpg", "rubbish that is no image");
    add_sample_json(writer, "000001", 1, "caption/en");
    add_jpeg(writer, "000002.jpg", 2);
    add_text(writer, "000003.json", "[]");
    add_jpeg(writer, "000004.jpg", 4);
    add_text(writer, "000004.json",
             "[{\"prompt_ids\":[0,2],\"output_ids\":[2,100,1],\"type\":\"t\",\"lang\":\"en\"},"
             "{\"prompt_ids\":[0,2],\"output_ids\":[2,1],\"type\":\"t\"},"
             "{\"prompt\":\"a\",\"output\":\"b\",\"type\":\"t\",\"lang\":\"en\"}]");
    close_shard(writer);
    write_text("bad-01.tar", "not a tar");
    make_shards("bad-02", 1, 3, "caption/en");
    assert_int_equal(stat(in_folder("bad-02-00.tar"), &st), 0);
    assert_int_equal(truncate(in_folder("bad-02-00.tar"), st.st_size - 2100), 0);
    assert_fails(check("bad-*.tar", &totals), FZ_ERR_FORMAT, "9 problems in ");
    assert_non_null(strstr(fz_last_error()->text, "000001.jpg: not a JPEG"));
    assert_reported("bad-00.tar: 000001.jpg: not a JPEG");
    assert_reported("bad-00.tar: 000002.jpg: no JSON of this name");
    assert_reported("bad-00.tar: 000003.json: the list of annotations is empty");
    assert_reported("bad-00.tar: 000003.json: no image of this name");
    assert_reported("000004.json: annotation 0: output_ids[1]: id 100 is beyond");
    assert_reported("000004.json: annotation 1: has no text \"lang\"");
    assert_reported("bad-01.tar: not a tar");
    assert_reported("runcated");
    assert_reported(": 9 problems\n");
    assert_int_equal(n_lines(), 10); /* the cut shard lost a JSON with its end: two lines */
}

static void no_shards_is_an_error_and_no_problem(void **state)
{
    fz_check_totals totals;

    (void)state;
    assert_fails(check("none-*.tar", &totals), FZ_ERR_IO, "none-*.tar");
    assert_int_equal(n_lines(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_shards_pass_with_their_totals),
        cmocka_unit_test(every_problem_gets_its_line),
        cmocka_unit_test(no_shards_is_an_error_and_no_problem),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
