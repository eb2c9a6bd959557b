/* What is right is read, what lies is refused with its reason. */
#include "tests/checkpoint/scratch.h"

#include "checkpoint/safetensors.h"
#include "core/memory.h"

/* by hand */

/* length < 0: the true one. */
static void put_file(const char *path, const char *json, int64_t length, const void *data, size_t n)
{
    FILE *file = fopen(path, "wb");
    unsigned char bytes[8];

    assert_non_null(file);
    if (length < 0) length = (int64_t)strlen(json);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(length >> 8 * i & 0xff);
    assert_int_equal(fwrite(bytes, 1, 8, file), 8);
    assert_int_equal(fwrite(json, 1, strlen(json), file), strlen(json));
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void put_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* headers */

static const char *const GOOD_HEADERS[] = {
    "{}",
    "{\"__metadata__\":{}}   ",
    "{\"__metadata__\":{\"format\":\"pt\",\"\":\"\"},"
    "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}",
    "{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[2,5]},"
    "\"none\":{\"dtype\":\"F64\",\"shape\":[0,9223372036854775807],\"data_offsets\":[2,2]},"
    "\"a\":{\"shape\":[1],\"data_offsets\":[0,2],\"dtype\":\"BF16\"}}\n\t ",
};
static const int64_t GOOD_BYTES[] = {0, 0, 4, 5};

static void headers_of_every_allowed_form_are_read(void **state)
{
    fz_safetensors_header h;
    (void)state;

    for (size_t i = 0; i < sizeof GOOD_HEADERS / sizeof *GOOD_HEADERS; i++) {
        assert_ok(
            fz_safetensors_parse(GOOD_HEADERS[i], strlen(GOOD_HEADERS[i]), GOOD_BYTES[i], &h));
        if (i == 2) {
            assert_int_equal(h.n_metadata, 2);
            assert_int_equal(h.tensors[0].elements, 1);
            assert_int_equal(h.tensors[0].ndim, 0);
        }
        if (i == 3) {
            assert_int_equal(h.n_tensors, 3);
            assert_string_equal(h.tensors[0].name, "a");
            assert_string_equal(h.tensors[1].name, "b");
            assert_int_equal(h.tensors[1].offset, 2);
            assert_int_equal(h.tensors[1].bytes, 3);
            assert_int_equal(h.tensors[1].dtype, FZ_DTYPE_U8);
            assert_int_equal(h.tensors[2].elements, 0);
        }
        fz_safetensors_header_reset(&h);
    }
}

static const struct {
    const char *json;
    int64_t data_bytes;
    const char *text; /* that the error must contain */
} BAD_HEADERS[] = {
    {"", 0, "does not begin with {"},
    {" {}", 0, "does not begin with {"},
    {"[]", 0, "does not begin with {"},
    {"{", 0, "not json"},
    {"{}}", 0, "not json"},
    {"{\"a\":1}", 0, "tensor a is not described"},
    {"{\"a\":null}", 0, "tensor a is not described"},
    {"{\"a\\u0000b\":{}}", 0, "not json"},
    {"{\"\xff\":{}}", 0, "not json"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
     2, "duplicate"},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "duplicate"},
    {"{\"__metadata__\":3}", 0, "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"k\":3}}", 0, "the value of k"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "tensor a has no dtype"},
    {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "tensor a has no dtype"},
    {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "tensor a is of dtype F8_E4M3"},
    {"{\"a\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype f32"},
    {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "tensor a has no shape"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}", 1, "tensor a has no shape"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, "size of axis 0"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,-1],\"data_offsets\":[0,1]}}", 1, "size of axis 1"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[\"1\"],\"data_offsets\":[0,1]}}", 1, "size of axis 0"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
     "has 9 axes"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
     "more elements than can be counted"},
    {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0,
     "more elements than can be counted"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[18446744073709551617],\"data_offsets\":[0,1]}}", 1,
     "not json"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "its data_offsets"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "its data_offsets"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]}}", 1, "its data_offsets"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,\"1\"]}}", 1, "its data_offsets"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,2]}}", 1, "bytes 0 to 2"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, "bytes 1 to 0"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]}}", 1, "bytes -1 to 0"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4,
     "tensor a has 4 bytes, its shape and dtype F32 make 8"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"extra\":0}}", 1,
     "unknown key extra"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
     3, "tensors a and b overlap"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
     2, "overlap"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"none\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}",
     2, "overlap"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "bytes 0 to 1"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
     3, "bytes 1 to 2 of the data, before tensor b"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 2, "end at byte 1"},
    {"{}", 1, "end at byte 0"},
};

static void every_lying_header_is_refused_with_its_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof BAD_HEADERS / sizeof *BAD_HEADERS; i++) {
        fz_safetensors_header h;
        assert_fails(fz_safetensors_parse(BAD_HEADERS[i].json, strlen(BAD_HEADERS[i].json),
                                          BAD_HEADERS[i].data_bytes, &h),
                     FZ_ERR_FORMAT, BAD_HEADERS[i].text);
        assert_int_equal(h.n_tensors, 0);
        assert_null(h.tensors);
    }
    assert_int_equal(fz_memory_get().n_live, 0);
}

/* files */

static void numbers_of_every_dtype_are_read(void **state)
{
    static const char JSON[] =
        "{\"f64\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]},"
        "\"i64\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[8,16]},"
        "\"f32\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[16,20]},"
        "\"i32\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[20,24]},"
        "\"f16\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[24,26]},"
        "\"bf16\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[26,28]},"
        "\"i16\":{\"dtype\":\"I16\",\"shape\":[1],\"data_offsets\":[28,30]},"
        "\"i8\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[30,31]},"
        "\"u8\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[31,32]},"
        "\"bool\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[32,33]}}";
    static const char *const NAMES[FZ_N_DTYPES] = {"f64", "f32", "f16", "bf16", "i64",
                                                   "i32", "i16", "i8",  "u8",   "bool"};
    static const float FLOATS[4] = {1.1f, -2.5f, 0.0625f, 3.0f};
    char folder[FZ_PATH_BYTES];
    unsigned char data[33], one[8];
    const double f64 = 1.1;
    const float f32 = -2.5f;
    fz_safetensors *st = NULL;
    (void)state;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7 + 1);
    memcpy(data, &f64, 8);
    memcpy(data + 16, &f32, 4);
    memcpy(data + 24, (unsigned char[]){0x00, 0x2c}, 2);
    memcpy(data + 26, (unsigned char[]){0x40, 0x40}, 2);
    make_folder(folder);
    put_file(in_folder(folder, "any name"), JSON, -1, data, sizeof data);
    assert_ok(fz_safetensors_open(in_folder(folder, "any name"), &st));
    assert_int_equal(fz_safetensors_count(st), FZ_N_DTYPES);
    for (int d = 0; d < FZ_N_DTYPES; d++) {
        const fz_safetensor *t = fz_safetensors_find(st, NAMES[d]);
        float x = 0;
        assert_non_null(t);
        assert_int_equal(t->dtype, d);
        assert_int_equal(t->bytes, fz_dtype_bytes((fz_dtype)d));
        assert_ok(fz_safetensors_read(st, t, 0, 1, one));
        assert_memory_equal(one, data + t->offset - 8 - (int64_t)strlen(JSON), (size_t)t->bytes);
        if (d <= FZ_DTYPE_BF16) {
            assert_ok(fz_safetensors_read_float(st, t, 0, 1, &x));
            assert_memory_equal(&x, &FLOATS[d], sizeof x);
        } else {
            assert_fails(fz_safetensors_read_float(st, t, 0, 1, &x), FZ_ERR_FORMAT,
                         "not floating-point");
        }
        assert_fails(fz_safetensors_read(st, t, 0, 2, one), FZ_ERR_ARG, "1 elements");
        assert_fails(fz_safetensors_read(st, t, 2, 0, one), FZ_ERR_ARG, "1 elements");
    }
    assert_null(fz_safetensors_find(st, "f6"));
    fz_safetensors_close(&st);
    fz_disk_remove_tree(folder);
}

static void a_file_cut_off_anywhere_is_refused(void **state)
{
    static const char JSON[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]}}";
    const int64_t whole = 8 + (int64_t)strlen(JSON) + 5;
    char folder[FZ_PATH_BYTES], path[FZ_PATH_BYTES];
    fz_safetensors *st = NULL;
    (void)state;

    make_folder(folder);
    strcpy(path, in_folder(folder, "x.safetensors"));
    for (int64_t n = 0; n < whole + 3; n++) {
        put_file(path, JSON, -1, "12345678", 8);
        assert_int_equal(truncate(path, n), 0);
        if (n == whole) {
            assert_ok(fz_safetensors_open(path, &st));
            fz_safetensors_close(&st);
        } else {
            assert_fails(fz_safetensors_open(path, &st), FZ_ERR_FORMAT, "x.safetensors");
        }
    }
    const int64_t lengths[] = {0, 1, 1000, 100000001, INT64_MAX, INT64_MIN, -1 - INT32_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        put_file(path, JSON, 0, "12345", 5);
        FILE *file = fopen(path, "r+b");
        assert_int_equal(fwrite(&lengths[i], 1, 8, file), 8);
        fclose(file);
        assert_fails(fz_safetensors_open(path, &st), FZ_ERR_FORMAT, "x.safetensors");
    }
    assert_null(st);
    fz_disk_remove_tree(folder);
}

/* folders */

static const struct {
    const char *index;
    fz_status status;
    const char *text;
} INDICES[] = {
    {"{\"metadata\":{},\"weight_map\":{\"a\":\"one\",\"b\":\"two\"}}", FZ_OK, NULL},
    {"{", FZ_ERR_FORMAT, "not json"},
    {"{}", FZ_ERR_FORMAT, "weight_map is missing"},
    {"{\"weight_map\":[]}", FZ_ERR_FORMAT, "weight_map is missing"},
    {"{\"weight_map\":{\"a\":1,\"b\":\"two\"}}", FZ_ERR_FORMAT, "no file for tensor a"},
    {"{\"weight_map\":{\"a\":\"one\",\"b\":\"../two\"}}", FZ_ERR_FORMAT, "not the name of a file"},
    {"{\"weight_map\":{\"a\":\"one\",\"b\":\"..\"}}", FZ_ERR_FORMAT, "not the name of a file"},
    {"{\"weight_map\":{\"a\":\"one\",\"b\":\"/etc/passwd\"}}", FZ_ERR_FORMAT,
     "not the name of a file"},
    {"{\"weight_map\":{\"a\":\"one\",\"b\":\"\"}}", FZ_ERR_FORMAT, "not the name of a file"},
    {"{\"weight_map\":{\"a\":\"one\",\"b\":\"three\"}}", FZ_ERR_FORMAT, "three: no such file"},
    {"{\"weight_map\":{\"a\":\"one\",\"b\":\"folder\"}}", FZ_ERR_FORMAT, "folder is not a file"},
    {"{\"weight_map\":{\"a\":\"one\",\"b\":\"two\",\"c\":\"two\"}}", FZ_ERR_FORMAT,
     "tensor c is in two, it is not"},
    {"{\"weight_map\":{\"a\":\"two\",\"b\":\"two\"}}", FZ_ERR_FORMAT,
     "tensor a is in two, it is not"},
    {"{\"weight_map\":{\"a\":\"one\",\"c\":\"two\"}}", FZ_ERR_FORMAT, "two holds tensor b"},
    {"{\"weight_map\":{\"a\":\"one\",\"b\":\"two\",\"x\":\"again\"}}", FZ_ERR_FORMAT,
     "again holds tensor a, weight_map says one does"},
    {"{\"weight_map\":{\"a\":\"one\",\"a\":\"one\",\"b\":\"two\"}}", FZ_ERR_FORMAT, "duplicate"},
};

static void an_index_that_lies_is_refused_with_its_reason(void **state)
{
    char folder[FZ_PATH_BYTES];
    fz_safetensors *st = NULL;
    unsigned char byte = 0;
    (void)state;

    make_folder(folder);
    assert_ok(fz_disk_make_directory(in_folder(folder, "folder")));
    put_file(in_folder(folder, "one"),
             "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", -1, "A", 1);
    put_file(in_folder(folder, "two"),
             "{\"__metadata__\":{\"k\":\"v\"},"
             "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
             -1, "B", 1);
    put_file(in_folder(folder, "again"),
             "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", -1, "A", 1);
    assert_fails(fz_safetensors_open(folder, &st), FZ_ERR_USAGE, "holds neither");
    for (size_t i = 0; i < sizeof INDICES / sizeof *INDICES; i++) {
        put_text(in_folder(folder, "model.safetensors.index.json"), INDICES[i].index);
        if (INDICES[i].status != FZ_OK) {
            assert_fails(fz_safetensors_open(folder, &st), INDICES[i].status, INDICES[i].text);
            assert_non_null(strstr(fz_last_error()->text, folder));
            continue;
        }
        assert_ok(fz_safetensors_open(folder, &st));
        assert_int_equal(fz_safetensors_count(st), 2);
        const fz_safetensor *b = fz_safetensors_find(st, "b");
        assert_ok(fz_safetensors_read(st, b, 0, 1, &byte));
        assert_int_equal(byte, 'B');
        assert_non_null(strstr(fz_safetensors_file(st, b->file), "/two"));
        assert_string_equal(fz_safetensors_metadata(st, "k"), "v");
        assert_null(fz_safetensors_metadata(st, "v"));
        fz_safetensors_close(&st);
    }
    assert_fails(fz_safetensors_open(in_folder(folder, "nothing"), &st), FZ_ERR_USAGE,
                 "No such file");
    assert_int_equal(fz_memory_get().n_live, 0);
    fz_disk_remove_tree(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_of_every_allowed_form_are_read),
        cmocka_unit_test(every_lying_header_is_refused_with_its_reason),
        cmocka_unit_test(numbers_of_every_dtype_are_read),
        cmocka_unit_test(a_file_cut_off_anywhere_is_refused),
        cmocka_unit_test(an_index_that_lies_is_refused_with_its_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
