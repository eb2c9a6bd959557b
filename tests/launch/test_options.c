#include "tests/support/unit.h"

#include "launch/options.h"

static const fz_option table[] = {
    {"--set", "KEY=VALUE", "overrides", true},
    {"--ranks", "N", "how many", false},
    {"--json", NULL, "as JSON", false},
};
static const fz_command command = {"florenz x CONFIG", "Does x.", 1, 2, table, 3};
static fz_options o;

static fz_status parse(int argc, const char *const *words)
{
    static char text[16][64];
    char *argv[16];
    for (int i = 0; i < argc; i++) {
        snprintf(text[i], sizeof text[i], "%s", words[i]);
        argv[i] = text[i];
    }
    return fz_options_parse(&command, argc, argv, &o);
}
#define PARSE(...)                                                                                 \
    parse((int)(sizeof((const char *[]){"x", __VA_ARGS__}) / sizeof(char *)),                      \
          (const char *[]){"x", __VA_ARGS__})

static void options_and_arguments_mix(void **state)
{
    long long n = 5;
    (void)state;
    assert_ok(PARSE("a.yaml", "--set", "k=v", "--ranks=8", "--json", "--set=l=w"));
    assert_int_equal(o.n_args, 1);
    assert_string_equal(o.arg[0], "a.yaml");
    assert_int_equal(o.n_given, 4);
    assert_string_equal(fz_options_get(&o, "--set"), "l=w");
    assert_string_equal(o.given[0].value, "k=v");
    assert_non_null(fz_options_get(&o, "--json"));
    assert_ok(fz_options_int(&o, "--ranks", 1, &n));
    assert_int_equal(n, 8);
}

static void an_absent_number_keeps_its_default(void **state)
{
    long long n = 5;
    (void)state;
    assert_ok(PARSE("a.yaml"));
    assert_ok(fz_options_int(&o, "--ranks", 1, &n));
    assert_int_equal(n, 5);
    assert_null(fz_options_get(&o, "--json"));
}

static void a_real_number_is_read_within_its_range(void **state)
{
    double x = 0.5;
    (void)state;
    assert_ok(PARSE("a"));
    assert_ok(fz_options_real(&o, "--ranks", -1, 2, &x));
    assert_true(x > 0.49 && x < 0.51);
    assert_ok(PARSE("a", "--ranks=-0.25"));
    assert_ok(fz_options_real(&o, "--ranks", -1, 2, &x));
    assert_true(x > -0.26 && x < -0.24);
    const char *const bad[] = {"2.5", "-1.5", "nan", "1x", ""};
    for (int i = 0; i < 5; i++) {
        assert_ok(PARSE("a", "--ranks", bad[i]));
        assert_fails(fz_options_real(&o, "--ranks", -1, 2, &x), FZ_ERR_USAGE,
                     "is not a number from -1 to 2");
    }
}

static void mistakes_are_named(void **state)
{
    long long n = 5;
    (void)state;
    assert_fails(PARSE("a", "--rank", "3"), FZ_ERR_USAGE,
                 "--rank: unknown option; the nearest one is --ranks");
    assert_fails(PARSE("a", "--ranks"), FZ_ERR_USAGE, "--ranks needs a value: --ranks N");
    assert_fails(PARSE("a", "--json=1"), FZ_ERR_USAGE, "--json takes no value");
    assert_fails(PARSE("a", "--ranks=1", "--ranks=2"), FZ_ERR_USAGE, "--ranks is given twice");
    assert_fails(PARSE("a", "b", "c"), FZ_ERR_USAGE, "c: unexpected argument");
    assert_fails(PARSE("--json"), FZ_ERR_USAGE, "an argument is missing; usage: florenz x");
    assert_ok(PARSE("a", "--ranks=0"));
    assert_fails(fz_options_int(&o, "--ranks", 1, &n), FZ_ERR_USAGE,
                 "--ranks: 0 is not a whole number of at least 1");
    assert_ok(PARSE("a", "--ranks=4x"));
    assert_fails(fz_options_int(&o, "--ranks", 1, &n), FZ_ERR_USAGE, "4x is not a whole number");
}

static void help_wins_over_every_mistake(void **state)
{
    char text[2048] = "";
    (void)state;
    assert_ok(PARSE("--nonsense", "--help"));
    assert_true(o.wants_help);
    FILE *out = fmemopen(text, sizeof text, "w");
    fz_command_help(&command, out);
    fclose(out);
    assert_non_null(strstr(text, "usage: florenz x CONFIG"));
    assert_non_null(strstr(text, "--set KEY=VALUE"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_arguments_mix),
        cmocka_unit_test(an_absent_number_keeps_its_default),
        cmocka_unit_test(a_real_number_is_read_within_its_range),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(help_wins_over_every_mistake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
