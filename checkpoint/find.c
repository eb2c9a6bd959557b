#include <string.h>

#include <hdf5.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"
#include "checkpoint/source.h"
#include "core/log.h"
#include "core/memory.h"

void fz_ckpt_info_reset(fz_ckpt_info *info)
{
    fz_free(&info->config);
    *info = (fz_ckpt_info){.step = 0};
}

fz_status fz_ckpt_start(void)
{
    unsigned major = 0, minor = 0, release = 0;
    const uint16_t one = 1;

    /* A full disk leaves files that HDF5 cannot close; its exit handler would crash on them. */
    FZ_CHECK(H5dont_atexit() >= 0 && H5open() >= 0, FZ_ERR_IO, "hdf5 does not start");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* errors become our texts */
    H5get_libversion(&major, &minor, &release);
    FZ_CHECK(major * 10000 + minor * 100 + release >= 11007, FZ_ERR_USAGE,
             "hdf5 %u.%u.%u is too old, 1.10.7 is needed", major, minor, release);
    FZ_CHECK(*(const unsigned char *)&one == 1, FZ_ERR_USAGE,
             "checkpoints are little-endian, and this machine is not");
    return FZ_OK;
}

/* Everything but the payload of one step, rank 0. */
static fz_status read_step(const char *dir, int64_t step, fz_ckpt_info *info)
{
    char name[FZ_STEP_NAME_BYTES], path[FZ_PATH_BYTES], base[FZ_PATH_BYTES], *bytes;
    fz_manifest manifest;
    fz_index index;
    size_t n;

    fz_step_name(name, step);
    FZ_TRY(fz_disk_join(path, dir, name));
    FZ_TRY(fz_source_read_index(path, "step", &bytes, &n));
    fz_status status = fz_index_read(bytes, n, path, &index);
    fz_free(&bytes);
    FZ_TRY(status);
    if (index.info.step != step)
        status = FZ_FAIL(FZ_ERR_FORMAT, "%s holds step %lld", path, (long long)index.info.step);
    if (status == FZ_OK && index.info.base[0]) {
        status = fz_disk_join(base, dir, index.info.base);
        if (status == FZ_OK) status = fz_manifest_accept(base, &manifest);
        if (status == FZ_OK) fz_manifest_reset(&manifest);
    }
    if (status == FZ_OK) {
        *info = index.info;
        index.info.config = NULL;
    }
    fz_index_reset(&index);
    return status;
}

static fz_status find_here(const char *dir, int64_t before, int64_t *found, fz_ckpt_info *info)
{
    int64_t *steps = NULL;
    int n = 0;

    fz_directory_recover(dir);
    FZ_TRY(fz_directory_steps(dir, &steps, &n));
    for (int i = 0; i < n && !*found; i++) {
        if (steps[i] >= before) continue;
        *found = read_step(dir, steps[i], info) == FZ_OK;
        if (!*found)
            fz_warn("step %lld is not used: %s", (long long)steps[i], fz_last_error()->text);
    }
    fz_free(&steps);
    return FZ_OK;
}

static fz_status share_info(const fz_group *world, fz_ckpt_info *info)
{
    char *config = info->config;
    int64_t bytes = config ? (int64_t)strlen(config) + 1 : 0;
    fz_status status = FZ_OK;

    FZ_TRY(fz_broadcast(world, &bytes, sizeof bytes, 0));
    FZ_TRY(fz_broadcast(world, info, sizeof *info, 0));
    if (fz_group_rank(world) != 0) status = fz_alloc((void **)&config, (size_t)bytes, "config");
    info->config = config;
    FZ_TRY(fz_agree(world, status));
    return fz_broadcast(world, config, (size_t)bytes, 0);
}

fz_status fz_ckpt_find_before(const fz_group *world, const char *dir, int64_t before, bool *found,
                              fz_ckpt_info *info)
{
    fz_ckpt_info here = {.step = 0};
    int64_t is_found = 0;
    fz_status status = FZ_OK;

    if (fz_group_rank(world) == 0) status = find_here(dir, before, &is_found, &here);
    FZ_TRY(fz_agree(world, status));
    FZ_TRY(fz_broadcast(world, &is_found, sizeof is_found, 0));
    if (is_found) status = share_info(world, &here);
    if (status != FZ_OK) {
        fz_ckpt_info_reset(&here);
        return status;
    }
    *found = is_found != 0;
    if (*found) *info = here;
    return FZ_OK;
}

fz_status fz_ckpt_find(const fz_group *world, const char *dir, bool *found, fz_ckpt_info *info)
{
    return fz_ckpt_find_before(world, dir, INT64_MAX, found, info);
}
