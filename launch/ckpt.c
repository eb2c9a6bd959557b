/* florenz ckpt: checkpoints and the files of others. */
#include <stdio.h>
#include <string.h>

#include "checkpoint/direct.h"
#include "launch/ckpt.h"
#include "launch/commands.h"
#include "launch/exit_codes.h"
#include "launch/share.h"

static fz_status make_program(fz_session *s)
{
    int64_t n_shards = 0, n_lanes = 0;
    FZ_TRY(fz_config_model(&s->config, &s->model));
    fz_config_train(&s->config, &s->train);
    FZ_TRY(fz_config_numerics(&s->config, &s->model, &n_shards, &n_lanes));
    s->layout.n_shards = n_shards;
    s->layout.n_lanes = n_lanes;
    s->layout.shape = (fz_mesh_shape){.tp = 1, .pp = 1, .dp = 1};
    return fz_program_create(&s->model, n_shards, &s->program);
}

fz_status fz_ckpt_program(fz_session *s)
{
    return fz_share_status(s->world.group, fz_config_blame(&s->config, make_program(s)));
}

fz_status fz_ckpt_read_io(const fz_options *options)
{
    const char *text = fz_options_get(options, "--io");
    if (!text) return FZ_OK;
    for (int io = 0; io < FZ_N_IO; io++) {
        if (strcmp(text, FZ_IO_NAMES[io]) != 0) continue;
        fz_io_set((fz_io)io);
        return FZ_OK;
    }
    return FZ_FAIL(FZ_ERR_USAGE, "--io: %s is none of auto, direct, buffered", text);
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} parts[] = {{"import", fz_ckpt_import}, {"export", fz_ckpt_export}};

int fz_cmd_ckpt(int argc, char **argv)
{
    static const char usage[] = "usage: florenz ckpt import | export CONFIG [ARGUMENT]...\n"
                                "each has --help";
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        puts(usage);
        return FZ_EXIT_DONE;
    }
    for (size_t i = 0; argc > 1 && i < sizeof parts / sizeof *parts; i++)
        if (strcmp(argv[1], parts[i].name) == 0) return parts[i].run(argc - 1, argv + 1);
    return fz_exit_with(
        FZ_FAIL(FZ_ERR_USAGE, "ckpt %s: not one of import, export", argc > 1 ? argv[1] : ""),
        false);
}
