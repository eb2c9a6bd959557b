#include "launch/options.h"

#include <stdlib.h>
#include <string.h>

#include "launch/exit_codes.h"

static const fz_option *find(const fz_command *command, const char *text, size_t length)
{
    for (int i = 0; i < command->n_options; i++) {
        const char *name = command->options[i].name;
        if (strlen(name) == length && strncmp(name, text, length) == 0) return &command->options[i];
    }
    return NULL;
}

/* The option that shares the longest head with text: typing errors mostly come late. */
static const char *nearest(const fz_command *command, const char *text)
{
    const char *best = "--help";
    size_t most = 2;
    for (int i = 0; i < command->n_options; i++) {
        const char *name = command->options[i].name;
        size_t same = 0;
        while (name[same] && name[same] == text[same])
            same++;
        if (same > most) {
            most = same;
            best = name;
        }
    }
    return best;
}

static fz_status add(fz_options *options, const fz_option *option, const char *value)
{
    FZ_CHECK(option->many || !fz_options_get(options, option->name), FZ_ERR_USAGE,
             "%s is given twice", option->name);
    FZ_CHECK(options->n_given < FZ_OPTION_ARGS, FZ_ERR_USAGE, "more than %d options",
             FZ_OPTION_ARGS);
    options->given[options->n_given].option = option;
    options->given[options->n_given++].value = value;
    return FZ_OK;
}

static fz_status parse_option(fz_options *options, int argc, char **argv, int *i)
{
    const char *text = argv[*i];
    const size_t length = strcspn(text, "=");
    const fz_option *option = find(options->command, text, length);
    FZ_CHECK(option, FZ_ERR_USAGE, "%.*s: unknown option; the nearest one is %s; see --help",
             (int)length, text, nearest(options->command, text));
    if (!option->value) {
        FZ_CHECK(text[length] == '\0', FZ_ERR_USAGE, "%s takes no value", option->name);
        return add(options, option, "");
    }
    if (text[length] == '=') return add(options, option, text + length + 1);
    FZ_CHECK(*i + 1 < argc, FZ_ERR_USAGE, "%s needs a value: %s %s", option->name, option->name,
             option->value);
    return add(options, option, argv[++*i]);
}

fz_status fz_options_parse(const fz_command *command, int argc, char **argv, fz_options *options)
{
    memset(options, 0, sizeof *options);
    options->command = command;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            options->wants_help = true;
            return FZ_OK;
        }
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1] != '\0') {
            FZ_TRY(parse_option(options, argc, argv, &i));
            continue;
        }
        FZ_CHECK(options->n_args < command->most_args, FZ_ERR_USAGE,
                 "%s: unexpected argument; usage: %s", argv[i], command->usage);
        options->arg[options->n_args++] = argv[i];
    }
    FZ_CHECK(options->n_args >= command->least_args, FZ_ERR_USAGE,
             "an argument is missing; usage: %s", command->usage);
    return FZ_OK;
}

const char *fz_options_get(const fz_options *options, const char *name)
{
    for (int i = options->n_given - 1; i >= 0; i--)
        if (strcmp(options->given[i].option->name, name) == 0) return options->given[i].value;
    return NULL;
}

fz_status fz_options_int(const fz_options *options, const char *name, long long least,
                         long long *out)
{
    const char *text = fz_options_get(options, name);
    if (!text) return FZ_OK;
    char *end;
    const long long value = strtoll(text, &end, 10);
    FZ_CHECK(end != text && *end == '\0' && value >= least, FZ_ERR_USAGE,
             "%s: %s is not a whole number of at least %lld", name, text, least);
    *out = value;
    return FZ_OK;
}

fz_status fz_options_real(const fz_options *options, const char *name, double least, double most,
                          double *out)
{
    const char *text = fz_options_get(options, name);
    if (!text) return FZ_OK;
    char *end;
    const double value = strtod(text, &end);
    FZ_CHECK(end != text && *end == '\0' && value >= least && value <= most, FZ_ERR_USAGE,
             "%s: %s is not a number from %g to %g", name, text, least, most);
    *out = value;
    return FZ_OK;
}

void fz_command_help(const fz_command *command, FILE *out)
{
    fprintf(out, "usage: %s\n\n%s\n", command->usage, command->about);
    if (command->n_options > 0) fprintf(out, "\noptions\n");
    for (int i = 0; i < command->n_options; i++) {
        const fz_option *option = &command->options[i];
        char head[64];
        snprintf(head, sizeof head, "%s%s%s", option->name, option->value ? " " : "",
                 option->value ? option->value : "");
        fprintf(out, "  %-24s %s%s\n", head, option->help,
                option->many ? " (may be given more than once)" : "");
    }
    fprintf(out, "  %-24s this text\n", "--help");
}

bool fz_command_begins(const fz_command *command, int argc, char **argv, fz_options *options,
                       int *code_p)
{
    const fz_status status = fz_options_parse(command, argc, argv, options);
    if (status == FZ_OK && !options->wants_help) return true;
    if (options->wants_help) fz_command_help(command, stdout);
    *code_p = status == FZ_OK ? FZ_EXIT_DONE : fz_exit_with(status, false);
    return false;
}
