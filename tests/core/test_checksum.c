#include "tests/support/unit.h"

#include "core/checksum.h"

/* Bit by bit, straight from the polynomial. */
static uint32_t crc_by_definition(const unsigned char *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void crc_of_the_standard_text_is_known(void **state)
{
    (void)state;
    assert_int_equal(fz_crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(fz_crc32c(0, "", 0), 0);
}

static void crc_matches_the_definition_at_every_length(void **state)
{
    unsigned char bytes[300];
    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 37 + 11);
    for (size_t n = 0; n <= sizeof bytes; n++)
        assert_int_equal(fz_crc32c(0, bytes, n), crc_by_definition(bytes, n));
}

static void crc_goes_on_where_it_stopped(void **state)
{
    const char text[] = "the quick brown fox jumps over the lazy dog";
    (void)state;
    for (size_t cut = 0; cut < sizeof text; cut++)
        assert_int_equal(fz_crc32c(fz_crc32c(0, text, cut), text + cut, sizeof text - cut),
                         fz_crc32c(0, text, sizeof text));
}

static void digest_does_not_depend_on_the_split(void **state)
{
    float x[100];
    (void)state;
    for (int i = 0; i < 100; i++)
        x[i] = (float)i * 0.37f;
    const uint64_t whole = fz_digest32(x, 1000, 100);
    for (int cut = 0; cut <= 100; cut++)
        assert_true(fz_digest32(x, 1000, cut) + fz_digest32(x + cut, 1000 + cut, 100 - cut) ==
                    whole);
}

static void digest_sees_a_swap_a_flip_and_a_sign_of_zero(void **state)
{
    float x[4] = {1.0f, 2.0f, 0.0f, 0.0f};
    const float swapped[4] = {2.0f, 1.0f, 0.0f, 0.0f};
    (void)state;
    const uint64_t before = fz_digest32(x, 0, 4);
    assert_true(fz_digest32(swapped, 0, 4) != before);
    assert_true(fz_digest32(x, 1, 4) != before);
    x[3] = -0.0f;
    assert_true(fz_digest32(x, 0, 4) != before);
}

/* The format is written to disk: these numbers must never change (computed with Python). */
static void digest_is_the_documented_formula(void **state)
{
    const uint32_t bits[2] = {0x3f800000u, 7};
    (void)state;
    assert_true(fz_digest32(bits, 0, 1) == UINT64_C(0xfd695a1b70dc1235));
    assert_true(fz_digest32(bits, (INT64_C(1) << 33) + 5, 2) == UINT64_C(0x6c8a564e91291866));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_of_the_standard_text_is_known),
        cmocka_unit_test(crc_matches_the_definition_at_every_length),
        cmocka_unit_test(crc_goes_on_where_it_stopped),
        cmocka_unit_test(digest_does_not_depend_on_the_split),
        cmocka_unit_test(digest_sees_a_swap_a_flip_and_a_sign_of_zero),
        cmocka_unit_test(digest_is_the_documented_formula),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
