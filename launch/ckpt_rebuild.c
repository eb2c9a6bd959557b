/* florenz ckpt rebuild-index: index and manifest made anew from the shards. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/rebuild.h"
#include "core/log.h"
#include "core/memory.h"
#include "launch/ckpt_config.h"
#include "launch/ckpt_tools.h"
#include "launch/files.h"

static const fz_option options_table[] = {
    {"--config", "FILE",
     "the run's config, as run.dir/config.yaml has it; default the one two folders above", false},
    {"--base", "NAME", "the base of a step, where more than one fits", false},
    {"--dry-run", NULL, "look and say, write nothing", false},
};
static const fz_command command = {
    .usage = "florenz ckpt rebuild-index PATH [OPTION]...",
    .about = "Makes index.h5 and MANIFEST of a step or a base anew from its shards, where one of\n"
             "them is damaged or lost. All payload is read, compared with the checksums in the\n"
             "shards, and left as it is; digests are computed anew. The config is not in the\n"
             "shards, only its hash: it comes from the old index or from a file.",
    .least_args = 1,
    .most_args = 1,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

/* Whether it is broken at all: a whole one is left alone. */
static bool is_whole(const char *path)
{
    fz_source *source = NULL;

    if (FZ_NEW(&source, 1) != FZ_OK) return false;
    const bool is_open =
        fz_source_open_here(path, fz_ckpt_is_base(path) ? "base" : "step", source) == FZ_OK;
    if (is_open) fz_source_reset(source);
    fz_free(&source);
    return is_open;
}

/* A file that was named must be the run's; the one that happens to be there may be another. */
static fz_status take_config(fz_rebuilt *r, const char *name, bool is_named)
{
    fz_ckpt_info *info = &r->source.index.info;
    char *text = NULL;
    uint64_t hash = 0;
    size_t n = 0;

    FZ_TRY(fz_file_read(name, &text, &n));
    FZ_CHECK(text || !is_named, FZ_ERR_USAGE, "--config: %s is not there", name);
    if (!text) return FZ_OK;
    fz_status status = fz_ckpt_config_hash(text, name, &hash);
    if (status == FZ_OK && r->has_numbers && hash != info->config_hash)
        status = FZ_FAIL(FZ_ERR_USAGE,
                         "--config: %s has hash %016" PRIx64 ", the run's config %016" PRIx64, name,
                         hash, info->config_hash);
    if (status == FZ_OK && (is_named || r->has_numbers)) {
        if (!r->has_numbers) info->config_hash = hash;
        info->config = text;
        printf("config: from %s\n", name);
        return FZ_OK;
    }
    fz_free(&text);
    return is_named ? status : FZ_OK;
}

static fz_status find_config(fz_rebuilt *r, const fz_options *options)
{
    const char *name = fz_options_get(options, "--config");
    char dir[FZ_PATH_BYTES], run[FZ_PATH_BYTES], path[FZ_PATH_BYTES];

    if (name) {
        fz_free(&r->source.index.info.config);
        return take_config(r, name, true);
    }
    if (r->has_old_info) {
        printf("config: from the old index\n");
        return FZ_OK;
    }
    fz_ckpt_split(r->source.path, dir);
    fz_ckpt_split(dir, run);
    FZ_TRY(fz_disk_join(path, run, "config.yaml"));
    return take_config(r, path, false);
}

static void say_losses(const fz_rebuilt *r)
{
    if (r->is_base) return;
    if (!r->source.index.info.config)
        fz_warn("%s: the config is lost: training goes on from it only where the defaults fit; "
                "--config FILE puts it back",
                r->source.path);
    if (!r->has_numbers)
        fz_warn("%s: seed, data position and arithmetic are lost: its shards are from before they "
                "said so, and the data begins anew",
                r->source.path);
}

static fz_status rebuild(const char *path, const fz_options *options, fz_rebuilt *r)
{
    const bool is_dry = fz_options_get(options, "--dry-run") != NULL;

    FZ_TRY(fz_rebuild_read(path, fz_options_get(options, "--base"), r));
    fz_status status = find_config(r, options);
    if (status == FZ_OK) say_losses(r);
    if (status == FZ_OK && !is_dry) status = fz_rebuild_write(r);
    if (status == FZ_OK)
        printf("%s: %d tensors in %lld fragments of %lld files: %s\n", path,
               r->source.index.n_tensors, (long long)r->source.index.n_rows,
               (long long)r->manifest.n_files - 1,
               is_dry ? "can be rebuilt" : "index and manifest are new");
    fz_rebuilt_reset(r);
    return status;
}

static fz_status run(const fz_options *options, int *code)
{
    char path[FZ_PATH_BYTES];
    fz_rebuilt *r = NULL;

    (void)code;
    FZ_TRY(fz_ckpt_path(options->arg[0], path));
    FZ_CHECK(fz_ckpt_is_step(path) || fz_ckpt_is_base(path), FZ_ERR_USAGE,
             "%s: name a step-* or a base-* directory", options->arg[0]);
    if (is_whole(path)) {
        printf("%s: manifest and index are whole; nothing is to be done\n", path);
        return FZ_OK;
    }
    FZ_TRY(FZ_NEW(&r, 1));
    const fz_status status = rebuild(path, options, r);
    fz_free(&r);
    return status;
}

int fz_ckpt_rebuild_index(int argc, char **argv)
{
    return fz_ckpt_tool(&command, argc, argv, run);
}
