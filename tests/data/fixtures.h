/* Small shards in a throw-away folder, for the tests of data/. */
#ifndef FZ_TESTS_DATA_FIXTURES_H
#define FZ_TESTS_DATA_FIXTURES_H

#include "../support/unit.h"

#include <limits.h>
#include <unistd.h>

#include "core/fault.h"
#include "core/memory.h"
#include "data/image.h"
#include "data/shard.h"

static char test_folder[64];

static inline int make_folder(void **state)
{
    (void)state;
    strcpy(test_folder, "/tmp/fz-data-XXXXXX");
    return mkdtemp(test_folder) != NULL ? 0 : -1;
}

/* Also the place where a leak of any test shows. */
static inline int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", test_folder);
    if (system(command) != 0) return -1;
    if (fz_memory_get().n_live == 0) return 0;
    fprintf(stderr, "%lld blocks of memory are left\n", (long long)fz_memory_get().n_live);
    return -1;
}

/* One of four buffers, so that several paths can be arguments of one call. */
static inline const char *in_folder(const char *name)
{
    static char path[4][PATH_MAX];
    static int next;
    char *out = path[next++ % 4];

    snprintf(out, sizeof path[0], "%s/%s", test_folder, name);
    return out;
}

static inline void write_file(const char *name, const void *bytes, size_t n)
{
    FILE *file = fopen(in_folder(name), "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static inline void write_text(const char *name, const char *text)
{
    write_file(name, text, strlen(text));
}

/* A picture whose colours say which one it is: red 40 + 3 number, a gradient in blue. */
static inline fz_image make_picture(int width, int height, int number)
{
    fz_image image = {.width = width, .height = height};

    assert_ok(fz_alloc((void **)&image.rgb, (size_t)width * (size_t)height * 3, "test"));
    for (int i = 0; i < width * height; i++) {
        image.rgb[3 * i] = (uint8_t)(40 + 3 * number);
        image.rgb[3 * i + 1] = (uint8_t)(i / width * 255 / height);
        image.rgb[3 * i + 2] = (uint8_t)(i % width * 255 / width);
    }
    return image;
}

static inline void add_jpeg(fz_shard_writer *writer, const char *name, int number)
{
    fz_image image = make_picture(24 + number % 5, 20, number);
    void *bytes = NULL;
    size_t n = 0;

    assert_ok(fz_image_encode_jpeg(&image, 90, &bytes, &n));
    assert_ok(fz_shard_writer_add(writer, name, bytes, n));
    fz_free(&bytes);
    fz_image_reset(&image);
}

static inline void add_text(fz_shard_writer *writer, const char *name, const char *text)
{
    assert_ok(fz_shard_writer_add(writer, name, text, strlen(text)));
}

/* Sample number of the whole data set: prompt [0, 10+number, 2]; output [2, 10+number, 20+a, 1] for
 * annotation a. classes: for example "caption/en translate/de". */
static inline void add_sample_json(fz_shard_writer *writer, const char *key, int number,
                                   const char *classes)
{
    char text[4096] = "[", name[64], copy[256];
    int a = 0;

    snprintf(copy, sizeof copy, "%s", classes);
    for (char *one = strtok(copy, " "); one != NULL; one = strtok(NULL, " "), a++) {
        char *slash = strchr(one, '/');
        *slash = '\0';
        const size_t at = strlen(text);
        snprintf(text + at, sizeof text - at,
                 "%s{\"prompt_ids\":[0,%d,2],\"output_ids\":[2,%d,%d,1],\"type\":\"%s\","
                 "\"lang\":\"%s\"}",
                 a > 0 ? "," : "", 10 + number, 10 + number, 20 + a, one, slash + 1);
    }
    strcat(text, "]");
    snprintf(name, sizeof name, "%s.json", key);
    add_text(writer, name, text);
}

static inline void add_sample(fz_shard_writer *writer, int number, const char *classes)
{
    char key[32], name[48];

    snprintf(key, sizeof key, "%06d", number);
    snprintf(name, sizeof name, "%s.jpg", key);
    add_jpeg(writer, name, number);
    add_sample_json(writer, key, number, classes);
}

static inline fz_shard_writer *open_shard(const char *name)
{
    fz_shard_writer *writer = NULL;

    assert_ok(fz_shard_writer_create(in_folder(name), &writer));
    return writer;
}

static inline void close_shard(fz_shard_writer *writer)
{
    assert_ok(fz_shard_writer_finish(writer));
    fz_shard_writer_destroy(&writer);
}

/* n_shards shards PREFIX-%02d.tar of per_shard samples each, numbered through. */
static inline void make_shards(const char *prefix, int n_shards, int per_shard, const char *classes)
{
    char name[64];

    for (int s = 0; s < n_shards; s++) {
        snprintf(name, sizeof name, "%s-%02d.tar", prefix, s);
        fz_shard_writer *writer = open_shard(name);
        for (int i = 0; i < per_shard; i++)
            add_sample(writer, s * per_shard + i, classes);
        close_shard(writer);
    }
}

#endif
