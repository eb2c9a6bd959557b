#include <fcntl.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>

#include "fixtures.h"

#include "data/index.h"
#include "data/index_part.h"

static void members_are_found_where_they_lie(void **state)
{
    char path[PATH_MAX], buffer[64] = "";
    char *const paths[1] = {path};
    fz_shard_listing list;
    fz_shard_reader reader;

    (void)state;
    fz_shard_writer *writer = open_shard("lie.tar");
    add_text(writer, "a.txt", "first");
    add_text(writer, "empty.txt", "");
    add_text(writer, "sub/b.txt", "the second member");
    close_shard(writer);
    snprintf(path, sizeof path, "%s", in_folder("lie.tar"));
    assert_ok(fz_shard_list(path, &list));
    assert_int_equal(list.n_members, 3);
    assert_string_equal(list.names + list.members[2].name, "sub/b.txt");
    assert_int_equal(list.members[0].offset, 512);
    assert_int_equal(list.members[2].bytes, 17);
    fz_shard_reader_init(&reader, paths);
    assert_ok(fz_shard_read(&reader, 0, list.members[2].offset, 17, buffer));
    assert_string_equal(buffer, "the second member");
    assert_fails(fz_shard_read(&reader, 0, list.tar_bytes - 3, 10, buffer), FZ_ERR_FORMAT,
                 "past the end");
    fz_shard_reader_reset(&reader);
    fz_shard_listing_reset(&list);
}

/* Writes members of 10 bytes ("contents" + digit) with libarchive in another format. */
static void write_other_tar(const char *name, int (*set_format)(struct archive *),
                            const char *const *members, int n)
{
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    char text[32];

    assert_int_equal(set_format(a), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(a, in_folder(name)), ARCHIVE_OK);
    for (int i = 0; i < n; i++) {
        archive_entry_clear(entry);
        archive_entry_set_pathname(entry, members[i]);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_mtime(entry, 1700000000, 123456789); /* pax: a header of its own */
        snprintf(text, sizeof text, "contents %d", i);
        archive_entry_set_size(entry, 10);
        assert_true(archive_write_header(a, entry) >= ARCHIVE_WARN);
        assert_int_equal(archive_write_data(a, text, 10), 10);
    }
    archive_entry_free(entry);
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
}

static void every_tar_dialect_gives_the_right_offsets(void **state)
{
    static const char long_name[] =
        "a-folder-with-a-rather-long-name-that-alone-is-not-enough/another-folder-with-a-long-name/"
        "and-then-a-file-whose-name-makes-the-whole-path-longer-than-one-hundred-bytes/0001.txt";
    static const char *const members[] = {"plain.txt", long_name,
                                          "gr\xc3\xbc\xc3\x9f"
                                          "e.txt"};
    int (*const formats[])(struct archive *) = {
        archive_write_set_format_ustar, archive_write_set_format_pax,
        archive_write_set_format_pax_restricted, archive_write_set_format_gnutar};

    (void)state;
    for (size_t f = 0; f < sizeof formats / sizeof formats[0]; f++) {
        char path[PATH_MAX];
        char *const paths[1] = {path};
        fz_shard_listing list;
        fz_shard_reader reader;
        write_other_tar("dialect.tar", formats[f], members, 3);
        snprintf(path, sizeof path, "%s", in_folder("dialect.tar"));
        assert_ok(fz_shard_list(path, &list));
        assert_int_equal(list.n_members, 3);
        assert_string_equal(list.damage, "");
        fz_shard_reader_init(&reader, paths);
        for (int i = 0; i < 3; i++) {
            char text[32] = "", want[32];
            snprintf(want, sizeof want, "contents %d", i);
            assert_string_equal(list.names + list.members[i].name, members[i]);
            assert_ok(fz_shard_read(&reader, 0, list.members[i].offset, 10, text));
            assert_string_equal(text, want);
        }
        fz_shard_reader_reset(&reader);
        fz_shard_listing_reset(&list);
    }
}

static void an_index_knows_images_and_classes(void **state)
{
    fz_index *index = NULL;

    (void)state;
    make_shards("know", 3, 4, "caption/en translate/de caption/en");
    assert_ok(fz_index_build(in_folder("know-*.tar"), &index));
    assert_int_equal(index->n_shards, 3);
    assert_int_equal(index->n_images, 12);
    assert_int_equal(index->n_annotations, 36);
    assert_int_equal(index->n_classes, 2);
    assert_string_equal(index->class_name[0], "caption/en");
    assert_string_equal(index->class_name[1], "translate/de");
    assert_int_equal(index->shard_first[2], 8);
    assert_int_equal(index->images[9].shard, 2);
    assert_int_equal(index->images[9].class_set, 3);
    assert_int_equal(index->images[9].first_annotation, 27);
    assert_int_equal(index->annotation_class[28], 1);
    assert_string_equal(index->keys + index->images[9].key_offset, "000009.jpg");
    fz_index_destroy(&index);
}

static void members_may_come_in_any_order(void **state)
{
    fz_index *index = NULL;

    (void)state;
    fz_shard_writer *writer = open_shard("order.tar");
    add_sample_json(writer, "b", 1, "translate/fr caption/en");
    add_text(writer, "README.md", "not a sample");
    add_jpeg(writer, "a.JPG", 0);
    add_jpeg(writer, "b.jpeg", 1);
    add_sample_json(writer, "a", 0, "caption/de");
    add_text(writer, "._a.jpg", "what macOS adds");
    close_shard(writer);
    assert_ok(fz_index_build(in_folder("order.tar"), &index));
    assert_int_equal(index->n_images, 2);
    assert_string_equal(index->keys + index->images[0].key_offset, "a.JPG");
    /* Classes are numbered by name: caption/de, caption/en, translate/fr. */
    assert_int_equal(index->images[0].class_set, 1);
    assert_int_equal(index->images[1].class_set, 6);
    assert_int_equal(index->annotation_class[1], 2);
    fz_index_destroy(&index);
}

static void a_comma_list_joins_globs_without_doubling(void **state)
{
    char pattern[3 * PATH_MAX];
    fz_index *index = NULL;

    (void)state;
    make_shards("join", 3, 1, "caption/en");
    snprintf(pattern, sizeof pattern, "%s, %s", in_folder("join-0[12].tar"),
             in_folder("join-0[01].tar"));
    assert_ok(fz_index_build(pattern, &index));
    assert_int_equal(index->n_shards, 3);
    assert_non_null(strstr(index->shards[0], "join-00.tar"));
    fz_index_destroy(&index);
}

static void a_packed_index_is_the_same_index(void **state)
{
    fz_index *index = NULL, *copy = NULL;
    void *bytes = NULL;
    size_t n = 0;

    (void)state;
    make_shards("pack", 2, 3, "caption/en translate/de");
    assert_ok(fz_index_build(in_folder("pack-*.tar"), &index));
    assert_ok(fz_index_pack(index, &bytes, &n));
    assert_ok(fz_index_unpack(bytes, n, &copy));
    assert_int_equal(copy->fingerprint, index->fingerprint);
    assert_memory_equal(copy->images, index->images,
                        (size_t)index->n_images * sizeof *index->images);
    assert_string_equal(copy->shards[1], index->shards[1]);
    assert_string_equal(copy->class_name[1], index->class_name[1]);
    fz_index_destroy(&copy);
    assert_fails(fz_index_unpack(bytes, n - 1, &copy), FZ_ERR_FORMAT, "packed index");
    assert_fails(fz_index_unpack(bytes, 5, &copy), FZ_ERR_FORMAT, "packed index");
    fz_free(&bytes);
    fz_index_destroy(&index);
}

static void the_fingerprint_ignores_folders_and_sees_contents(void **state)
{
    fz_index *one = NULL, *two = NULL, *three = NULL;

    (void)state;
    make_shards("print", 1, 3, "caption/en");
    assert_ok(fz_index_build(in_folder("print-00.tar"), &one));
    assert_int_equal(mkdir(in_folder("elsewhere"), 0777), 0);
    assert_int_equal(rename(in_folder("print-00.tar"), in_folder("elsewhere/print-00.tar")), 0);
    assert_ok(fz_index_build(in_folder("elsewhere/*.tar"), &two));
    assert_true(one->fingerprint == two->fingerprint);
    make_shards("print", 1, 3, "caption/de");
    assert_ok(fz_index_build(in_folder("print-00.tar"), &three));
    assert_true(one->fingerprint != three->fingerprint);
    fz_index_destroy(&one);
    fz_index_destroy(&two);
    fz_index_destroy(&three);
}

/* ---- the cache ---- */

static void set_times(const char *path, long seconds)
{
    const struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Turns the tar's contents into rubbish without changing its size. */
static void spoil_tar(const char *path)
{
    const int fd = open(path, O_WRONLY);
    static const char rubbish[1024] = "rubbish";

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, rubbish, sizeof rubbish, 0), sizeof rubbish);
    close(fd);
}

static void a_valid_cache_is_used_and_a_stale_one_is_not(void **state)
{
    fz_index *index = NULL, *cached = NULL;

    (void)state;
    make_shards("cache", 1, 4, "caption/en translate/de");
    set_times(in_folder("cache-00.tar"), 1000000);
    assert_ok(fz_index_build(in_folder("cache-00.tar"), &index));
    assert_ok(fz_index_write(in_folder("cache-00.tar")));
    /* With the tar unreadable, only the cache can give the index. */
    spoil_tar(in_folder("cache-00.tar"));
    set_times(in_folder("cache-00.tar"), 1000000);
    assert_ok(fz_index_build(in_folder("cache-00.tar"), &cached));
    assert_true(cached->fingerprint == index->fingerprint);
    fz_index_destroy(&cached);
    set_times(in_folder("cache-00.tar"), 1000001);
    assert_fails(fz_index_build(in_folder("cache-00.tar"), &cached), FZ_ERR_FORMAT, "not a tar");
    fz_index_destroy(&index);
}

static void a_damaged_cache_is_not_believed(void **state)
{
    fz_index *index = NULL, *again = NULL;
    struct stat st;

    (void)state;
    make_shards("hurt", 1, 4, "caption/en translate/de");
    assert_ok(fz_index_build(in_folder("hurt-00.tar"), &index));
    assert_ok(fz_index_write(in_folder("hurt-00.tar")));
    assert_int_equal(stat(in_folder("hurt-00.tar.idx"), &st), 0);
    for (off_t at = 0; at < st.st_size; at += 37) {
        const int fd = open(in_folder("hurt-00.tar.idx"), O_RDWR);
        unsigned char byte = 0;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        fz_index_part part = {0};
        assert_false(fz_index_part_load(in_folder("hurt-00.tar"), &part));
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
    }
    assert_int_equal(truncate(in_folder("hurt-00.tar.idx"), st.st_size - 1), 0);
    assert_ok(fz_index_build(in_folder("hurt-00.tar"), &again));
    assert_true(again->fingerprint == index->fingerprint);
    fz_index_destroy(&index);
    fz_index_destroy(&again);
}

/* ---- bad input ---- */

static void shard_of_one(const char *name, const char *json)
{
    fz_shard_writer *writer = open_shard(name);

    add_sample(writer, 0, "caption/en");
    add_jpeg(writer, "000001.jpg", 1);
    if (json != NULL) add_text(writer, "000001.json", json);
    close_shard(writer);
}

static void bad_shards_are_named(void **state)
{
    fz_index *index = NULL;
    struct stat st;

    (void)state;
    assert_fails(fz_index_build(in_folder("nothing-*.tar"), &index), FZ_ERR_IO, "nothing-*.tar");
    assert_fails(fz_index_build("", &index), FZ_ERR_IO, "empty name");
    write_text("text.tar", "this is not a tar, however long it may be made to look");
    assert_fails(fz_index_build(in_folder("text.tar"), &index), FZ_ERR_FORMAT, "not a tar");
    write_text("void.tar", "");
    assert_fails(fz_index_build(in_folder("void.tar"), &index), FZ_ERR_FORMAT, "empty");
    write_file("zipped.tar", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", 10);
    assert_fails(fz_index_build(in_folder("zipped.tar"), &index), FZ_ERR_FORMAT, "gzip");
    make_shards("cut", 1, 3, "caption/en");
    assert_int_equal(stat(in_folder("cut-00.tar"), &st), 0);
    assert_int_equal(truncate(in_folder("cut-00.tar"), st.st_size - 1600), 0);
    assert_fails(fz_index_build(in_folder("cut-00.tar"), &index), FZ_ERR_FORMAT, "cut-00.tar: ");
    assert_fails(fz_index_build(in_folder("cut-00.tar"), &index), FZ_ERR_FORMAT, "runcated");
    /* Inside the contents of the last member, where no header is missing. */
    make_shards("cut", 1, 3, "caption/en");
    assert_int_equal(truncate(in_folder("cut-00.tar"), st.st_size - 1024 - 512 + 10), 0);
    assert_fails(fz_index_build(in_folder("cut-00.tar"), &index), FZ_ERR_FORMAT,
                 "000002.json: ends at byte");
    fz_shard_writer *writer = open_shard("bare.tar");
    add_text(writer, "readme.txt", "no samples");
    close_shard(writer);
    assert_fails(fz_index_build(in_folder("bare.tar"), &index), FZ_ERR_FORMAT, "no images");
    assert_null(index);
}

static void bad_samples_are_named(void **state)
{
    static const struct {
        const char *json, *message;
    } cases[] = {
        {NULL, "000001.jpg: no JSON"},
        {"{\"a\": 1}", "000001.json: not a list"},
        {"[]", "000001.json: the list of annotations is empty"},
        {"[{\"type\": \"caption\"", "000001.json: not JSON: line 1"},
        {"[3]", "annotation 0 is not an object"},
        {"[{\"type\": \"caption\"}]", "no text \"lang\""},
        {"[{\"type\": 3, \"lang\": \"en\"}]", "no text \"type\""},
        {"[{\"type\": \"a-type-whose-name-is-far-too-long-to-be-one\", \"lang\": \"en-GB\"}]",
         "longer than 47 bytes"},
        {"\xff\xfe[]", "not JSON"},
        {"", "not JSON"},
    };
    fz_index *index = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        shard_of_one("bad.tar", cases[i].json);
        assert_fails(fz_index_build(in_folder("bad.tar"), &index), FZ_ERR_FORMAT, "bad.tar: ");
        assert_fails(fz_index_build(in_folder("bad.tar"), &index), FZ_ERR_FORMAT, cases[i].message);
        if (cases[i].json == NULL) continue;
        assert_ok(fz_index_build_skip(in_folder("bad.tar"), &index));
        assert_int_equal(index->n_images, 2);
        assert_int_equal(index->n_bad, 1);
        assert_int_equal(index->images[1].n_annotations, 0);
        assert_int_equal(index->images[1].class_set, 0);
        assert_int_equal(index->n_classes, 1);
        fz_index_destroy(&index);
    }
    fz_shard_writer *writer = open_shard("twice.tar");
    add_sample(writer, 0, "caption/en");
    add_jpeg(writer, "000000.jpeg", 0);
    close_shard(writer);
    assert_fails(fz_index_build(in_folder("twice.tar"), &index), FZ_ERR_FORMAT, "second image");
    writer = open_shard("orphan.tar");
    add_sample(writer, 0, "caption/en");
    add_sample_json(writer, "000001", 1, "caption/en");
    close_shard(writer);
    assert_fails(fz_index_build(in_folder("orphan.tar"), &index), FZ_ERR_FORMAT,
                 "000001.json: no image");
}

static void a_65th_class_is_too_many(void **state)
{
    char classes[64];
    fz_index *index = NULL;

    (void)state;
    fz_shard_writer *writer = open_shard("many.tar");
    for (int i = 0; i < FZ_MAX_CLASSES + 1; i++) {
        snprintf(classes, sizeof classes, "type%d/en", i);
        add_sample(writer, i, classes);
    }
    close_shard(writer);
    assert_fails(fz_index_build(in_folder("many.tar"), &index), FZ_ERR_FORMAT, "65th");
}

static void every_failed_allocation_leaves_nothing_behind(void **state)
{
    char fault[32];
    int n_failed = 0;

    (void)state;
    make_shards("alloc", 2, 3, "caption/en translate/de");
    const int64_t before = fz_memory_get().n_live;
    for (int n = 1; n < 200; n++) {
        fz_index *index = NULL;
        snprintf(fault, sizeof fault, "alloc:%d", n);
        assert_ok(fz_fault_set(fault));
        const fz_status status = fz_index_build(in_folder("alloc-*.tar"), &index);
        assert_ok(fz_fault_set(NULL));
        fz_index_destroy(&index);
        assert_int_equal(fz_memory_get().n_live, before);
        if (status == FZ_OK) break;
        assert_int_equal(status, FZ_ERR_MEMORY);
        n_failed++;
    }
    assert_in_range(n_failed, 10, 150);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_found_where_they_lie),
        cmocka_unit_test(every_tar_dialect_gives_the_right_offsets),
        cmocka_unit_test(an_index_knows_images_and_classes),
        cmocka_unit_test(members_may_come_in_any_order),
        cmocka_unit_test(a_comma_list_joins_globs_without_doubling),
        cmocka_unit_test(a_packed_index_is_the_same_index),
        cmocka_unit_test(the_fingerprint_ignores_folders_and_sees_contents),
        cmocka_unit_test(a_valid_cache_is_used_and_a_stale_one_is_not),
        cmocka_unit_test(a_damaged_cache_is_not_believed),
        cmocka_unit_test(bad_shards_are_named),
        cmocka_unit_test(bad_samples_are_named),
        cmocka_unit_test(a_65th_class_is_too_many),
        cmocka_unit_test(every_failed_allocation_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
