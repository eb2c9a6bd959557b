/* florenz: the program. */
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "launch/commands.h"
#include "launch/environment.h"
#include "launch/exit_codes.h"
#include "launch/version.h"

static int bench(int argc, char **argv)
{
    return fz_exit_with(fz_cmd_bench(argc, argv), false);
}

static const struct {
    const char *name, *about;
    int (*run)(int argc, char **argv);
    bool has_ranks; /* one of them tells what is wrong with the command line */
} commands[] = {
    {"train", "train or continue; under mpirun, srun or alone", fz_cmd_train, true},
    {"eval", "held-out loss by task and language, from the newest checkpoint", fz_cmd_eval, true},
    {"generate", "captions of held-out images beside their pictures", fz_cmd_generate, true},
    {"score", "log-probability of given texts for given pictures", fz_cmd_score, true},
    {"plan", "parameters, bytes, FLOPs and bubble of a layout, without running it", fz_cmd_plan,
     false},
    {"data", "synth | build | tokenizers | index | check: make and check training data",
     fz_cmd_data, false},
    {"ckpt", "import | export | list | show | verify | diff | rebuild-index | gc | view",
     fz_cmd_ckpt, true},
    {"bench", "speed of the step and of its operations on this machine", bench, true},
};

static int help(FILE *out, int code)
{
    fprintf(out, "usage: florenz COMMAND [ARGUMENT]...\n\n"
                 "Trains the Florenz vision-language models on any number of ranks.\n\ncommands\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].about);
    fprintf(out, "\nflorenz COMMAND --help describes a command, florenz train --help-config the\n"
                 "keys of a config, docs/exit-codes.md the exit codes. florenz --version\n");
    return code;
}

int main(int argc, char **argv)
{
    if (argc < 2) return help(stderr, FZ_EXIT_USAGE);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return help(stdout, FZ_EXIT_DONE);
    if (strcmp(argv[1], "--version") == 0) {
        puts("florenz " FZ_VERSION);
        return FZ_EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        if (commands[i].has_ranks) fz_log_set_writer(fz_environment_rank() == 0);
        return commands[i].run(argc - 1, argv + 1);
    }
    fz_log_set_writer(fz_environment_rank() == 0);
    return fz_exit_with(FZ_FAIL(FZ_ERR_USAGE, "%s: unknown command; see florenz --help", argv[1]),
                        false);
}
