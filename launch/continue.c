#include "launch/continue.h"

#include <inttypes.h>
#include <string.h>

#include "core/log.h"
#include "launch/config_yaml.h"

static const char data_key[] = "data.train"; /* stands for the data behind it */

static bool is_accepted(const char *key, const char *const *accept, int n_accept)
{
    for (int i = 0; i < n_accept; i++)
        if (strcmp(accept[i], key) == 0) return true;
    return false;
}

fz_status fz_continue_check_accept(const char *const *accept, int n_accept)
{
    for (int i = 0; i < n_accept; i++) {
        const fz_setting *setting = fz_settings_find(&fz_config_table, accept[i]);
        FZ_CHECK(setting, FZ_ERR_USAGE, "--accept-change %s: unknown key; the nearest one is %s",
                 accept[i], fz_settings_nearest(&fz_config_table, accept[i]));
        FZ_CHECK(
            setting->change != FZ_CHANGE_NEVER, FZ_ERR_USAGE,
            "--accept-change %s: a run's model cannot change; start a new run.dir (its weights "
            "can come from checkpoint.init_from)",
            accept[i]);
    }
    return FZ_OK;
}

static bool regroups_sums(const char *key)
{
    return strcmp(key, "numerics.shards") == 0 || strcmp(key, "numerics.lanes") == 0 ||
           strcmp(key, "train.micro_batch") == 0;
}

static fz_status check_key(const fz_setting *setting, const char *now, const char *before,
                           bool is_fresh, const char *const *accept, int n_accept)
{
    const bool is_free = is_fresh && setting->change != FZ_CHANGE_NEVER;
    switch (is_free ? FZ_CHANGE_FREE : setting->change) {
    case FZ_CHANGE_FREE:
        return FZ_OK;
    case FZ_CHANGE_ANNOUNCED:
        fz_info("continues with another %s: %s, before %s%s", setting->key, now, before,
                regroups_sums(setting->key) ? "; sums are grouped anew" : "");
        return FZ_OK;
    case FZ_CHANGE_REFUSED:
        FZ_CHECK(is_accepted(setting->key, accept, n_accept), FZ_ERR_USAGE,
                 "%s: %s, but the run was started with %s; put it back, or add --accept-change %s",
                 setting->key, now, before, setting->key);
        fz_info("continues with another %s: %s, before %s (accepted)", setting->key, now, before);
        return FZ_OK;
    case FZ_CHANGE_NEVER:
        return FZ_FAIL(FZ_ERR_USAGE,
                       "%s: %s, but the run's model has %s and cannot change; put it back, or "
                       "start a new run.dir",
                       setting->key, now, before);
    }
    return FZ_OK;
}

static fz_status check_keys(const fz_config *config, const fz_config *before, bool is_fresh,
                            const char *const *accept, int n_accept)
{
    char now[FZ_LIST_BYTES], then[FZ_LIST_BYTES];
    for (int i = 0; i < fz_config_table.n; i++) {
        const fz_setting *setting = &fz_config_table.settings[i];
        fz_settings_text(setting, config, now, sizeof now);
        fz_settings_text(setting, before, then, sizeof then);
        if (strcmp(now, then) == 0) continue;
        /* Two names of one model are one model: the sizes decide. */
        if (strcmp(setting->key, "model.variant") == 0) continue;
        now[200] = then[200] = '\0';
        FZ_TRY(check_key(setting, now, then, is_fresh, accept, n_accept));
    }
    return FZ_OK;
}

static fz_status check_data(uint64_t before, uint64_t now, const char *const *accept, int n_accept)
{
    if (before == now) return FZ_OK;
    FZ_CHECK(
        is_accepted(data_key, accept, n_accept), FZ_ERR_USAGE,
        "%s: the shards are not those of the run (fingerprint %016" PRIx64 ", before %016" PRIx64
        "): the position in them means other samples; put them back, or add --accept-change %s",
        data_key, now, before, data_key);
    fz_info("continues with other data: fingerprint %016" PRIx64 ", before %016" PRIx64
            " (accepted)",
            now, before);
    return FZ_OK;
}

/* Weights that came from elsewhere: no data was seen, so nothing but the model is settled. */
static bool is_imported(const fz_ckpt_info *info)
{
    return info->step == 0 && info->samples == 0 && info->data_fingerprint == 0;
}

/* The config that the checkpoint was written under; a key that its text does not have had its
 * default. */
static fz_status read_before(const fz_ckpt_info *info, fz_config *before)
{
    fz_config_init(before, "the checkpoint's config");
    if (info->config) FZ_TRY(fz_config_parse(before, info->config, strlen(info->config), true));
    return FZ_OK;
}

fz_status fz_continue_drops_moments(const fz_config *config, const fz_ckpt_info *info,
                                    bool *drops_p)
{
    fz_config before;

    *drops_p = false;
    if (config->checkpoint.optimizer != FZ_OPTIMIZER_DROP) return FZ_OK;
    FZ_TRY(read_before(info, &before));
    *drops_p = before.checkpoint.optimizer != FZ_OPTIMIZER_DROP;
    return FZ_OK;
}

fz_status fz_continue_check_config(const fz_config *config, const fz_ckpt_info *info,
                                   const char *arithmetic_id, const char *const *accept,
                                   int n_accept)
{
    fz_config before;
    FZ_TRY(read_before(info, &before));
    FZ_TRY(fz_config_resolve(&before));
    FZ_TRY(
        fz_config_blame(config, check_keys(config, &before, is_imported(info), accept, n_accept)));
    if (strcmp(info->arithmetic_id, arithmetic_id) != 0)
        fz_info("arithmetic changed: %s, before %s; losses may differ in the last bits",
                arithmetic_id, info->arithmetic_id);
    return FZ_OK;
}

fz_status fz_continue_check_data(const fz_config *config, const fz_ckpt_info *info,
                                 uint64_t fingerprint, const char *const *accept, int n_accept)
{
    if (is_imported(info)) return FZ_OK;
    return fz_config_blame(config,
                           check_data(info->data_fingerprint, fingerprint, accept, n_accept));
}
