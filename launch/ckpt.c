/* florenz ckpt: checkpoints and the files of others. */
#include <stdio.h>
#include <string.h>

#include "checkpoint/direct.h"
#include "core/log.h"
#include "launch/ckpt.h"
#include "launch/ckpt_tools.h"
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
    const char *name, *about;
    int (*run)(int argc, char **argv);
    bool has_ranks; /* one of them tells what is wrong with the command line */
} parts[] = {
    {"import", "weights from safetensors", fz_ckpt_import, true},
    {"export", "weights to safetensors", fz_ckpt_export, true},
    {"list", "what lies in a directory, one line each", fz_ckpt_list, false},
    {"show", "what a checkpoint says of itself", fz_ckpt_show, false},
    {"verify", "is what lies on the disk what was saved", fz_ckpt_verify, false},
    {"diff", "what two checkpoints do not share, by digest", fz_ckpt_diff, false},
    {"rebuild-index", "index and manifest anew from the shards", fz_ckpt_rebuild_index, false},
    {"gc", "removes what nobody needs", fz_ckpt_gc, false},
    {"view", "one HDF5 file with whole tensors", fz_ckpt_view, false},
    {"bench", "how near all this comes to what the disk can do", fz_ckpt_bench, false},
};

static void help(void)
{
    printf("usage: florenz ckpt PART [ARGUMENT]...\n\n");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        printf("  %-14s %s\n", parts[i].name, parts[i].about);
    printf("\neach has --help\n");
}

int fz_cmd_ckpt(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        help();
        return FZ_EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(name, parts[i].name) != 0) continue;
        if (!parts[i].has_ranks) fz_log_set_writer(true);
        return parts[i].run(argc - 1, argv + 1);
    }
    return fz_exit_with(
        FZ_FAIL(FZ_ERR_USAGE, "ckpt %s: no such part; see florenz ckpt --help", name), false);
}
