/* The commands of the program, one file each. argv[0] is the command's name; the result is the exit
 * code (launch/exit_codes.h). A command reports its own failures. */
#ifndef FZ_LAUNCH_COMMANDS_H
#define FZ_LAUNCH_COMMANDS_H

#include "core/status.h"

int fz_cmd_train(int argc, char **argv);
int fz_cmd_eval(int argc, char **argv);
int fz_cmd_generate(int argc, char **argv);
int fz_cmd_score(int argc, char **argv);
int fz_cmd_plan(int argc, char **argv);
int fz_cmd_data(int argc, char **argv); /* synth | index | check */
int fz_cmd_ckpt(int argc, char **argv); /* import | export | list | show | ... */
/* Leaves reporting to main. */
fz_status fz_cmd_bench(int argc, char **argv);

#endif
