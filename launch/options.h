/* Command lines: one table per command gives parser, --help and the error for an unknown option.
 * Local. */
#ifndef FZ_LAUNCH_OPTIONS_H
#define FZ_LAUNCH_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "core/status.h"

typedef struct fz_option {
    const char *name;  /* "--ranks" */
    const char *value; /* "N"; NULL: a flag without a value */
    const char *help;
    bool many; /* may be given more than once */
} fz_option;

typedef struct fz_command {
    const char *usage; /* "florenz train CONFIG [OPTION]..." */
    const char *about;
    int least_args, most_args; /* plain arguments */
    const fz_option *options;
    int n_options;
} fz_command;

enum { FZ_OPTION_ARGS = 4096 };

typedef struct fz_options {
    const fz_command *command;
    bool wants_help; /* --help was there; nothing else is checked then */
    int n_args;
    const char *arg[FZ_OPTION_ARGS]; /* borrowed from argv */
    int n_given;
    struct {
        const fz_option *option;
        const char *value;
    } given[FZ_OPTION_ARGS];
} fz_options;

/* "--name value" and "--name=value". FZ_ERR_USAGE names what is wrong and the nearest option. */
fz_status fz_options_parse(const fz_command *command, int argc, char **argv, fz_options *options);
/* The last value given for a name, or NULL; "" for a flag that is there. */
const char *fz_options_get(const fz_options *options, const char *name);
/* A whole number >= least; *out keeps its value where the option is absent. */
fz_status fz_options_int(const fz_options *options, const char *name, long long least,
                         long long *out);
/* Likewise a number between least and most. */
fz_status fz_options_real(const fz_options *options, const char *name, double least, double most,
                          double *out);
void fz_command_help(const fz_command *command, FILE *out);
/* What every command does first: parses; where help was wanted or the line is wrong, says it and is
 * false: the command ends with *code_p. */
bool fz_command_begins(const fz_command *command, int argc, char **argv, fz_options *options,
                       int *code_p);

#endif
