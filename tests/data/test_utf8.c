#include "tests/support/unit.h"

#include "data/utf8.h"

#define R FZ_UTF8_REPLACEMENT

static void every_maximal_subpart_becomes_one_replacement(void **state)
{
    /* As Python's bytes.decode("utf-8", errors="replace"). */
    static const char *const cases[][2] = {
        {"", ""},
        {"a\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80", "a\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80"},
        {"\x80", R},
        {"\xff\xfe", R R},
        {"a\xc3", "a" R},
        {"\xc3(", R "("},
        {"\xe2\x82", R},
        {"\xe2\x82x\xe2x", R "x" R "x"},
        {"\xf0\x9f\x98", R},
        {"\xf0\x9f\x98\xf0\x9f\x98\x80", R "\xf0\x9f\x98\x80"},
        {"\xc0\xaf", R R},
        {"\xe0\x80\x80", R R R},
        {"\xed\xa0\x80", R R R},
        {"\xf4\x90\x80\x80", R R R R},
        {"\xf8\x88\x80\x80\x80", R R R R R},
        {"\xf4\x8f\xbf\xbf\xef\xbf\xbf", "\xf4\x8f\xbf\xbf\xef\xbf\xbf"},
    };
    char out[64];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t n = strlen(cases[i][0]);
        const size_t valid = fz_utf8_valid(cases[i][0], n);
        assert_int_equal(fz_utf8_copy(cases[i][0], n, out, sizeof out), strlen(cases[i][1]));
        assert_string_equal(out, cases[i][1]);
        assert_int_equal(valid == n, strcmp(cases[i][0], cases[i][1]) == 0);
    }
    assert_int_equal(fz_utf8_copy("a\0b", 3, out, sizeof out), 5);
    assert_string_equal(out, "a" R "b");
}

static void a_copy_is_cut_at_a_whole_character(void **state)
{
    static const char text[] = "a\xe4\xb8\xad!";
    char out[8];

    (void)state;
    for (size_t bytes = 1; bytes <= 6; bytes++) {
        memset(out, '?', sizeof out);
        assert_int_equal(fz_utf8_copy(text, 5, out, bytes), 5);
        assert_string_equal(out, bytes == 1  ? ""
                                 : bytes < 5 ? "a"
                                 : bytes < 6 ? "a\xe4\xb8\xad"
                                             : text);
        assert_int_equal(out[bytes], '?');
    }
    assert_int_equal(fz_utf8_copy(text, 5, NULL, 0), 5);
}

static void every_code_point_comes_back(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x110000; code++) {
        char bytes[4];
        uint32_t back = 0;
        const size_t n = fz_utf8_put(code, bytes);
        const size_t step = fz_utf8_step(bytes, n, &back);
        const bool is_surrogate = code >= 0xd800 && code < 0xe000;
        assert_int_equal(back, is_surrogate ? FZ_UTF8_BAD : code);
        assert_int_equal(step, is_surrogate ? 1 : n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_maximal_subpart_becomes_one_replacement),
        cmocka_unit_test(a_copy_is_cut_at_a_whole_character),
        cmocka_unit_test(every_code_point_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
