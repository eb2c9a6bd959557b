#include "launch/ckpt_config.h"

#include <string.h>

#include "core/memory.h"
#include "launch/config_yaml.h"

/* A key that the text does not have had its default. */
static fz_status parse_stored(const char *text, const char *name, fz_config *config)
{
    fz_config_init(config, name);
    if (text) FZ_TRY(fz_config_parse(config, text, strlen(text), true));
    return fz_config_resolve(config);
}

fz_status fz_ckpt_config_hash(const char *text, const char *name, uint64_t *hash_p)
{
    fz_config *config = NULL;

    FZ_TRY(FZ_NEW(&config, 1));
    const fz_status status = parse_stored(text, name, config);
    if (status == FZ_OK) *hash_p = fz_settings_hash(&fz_config_table, config);
    fz_free(&config);
    return status;
}

static const char *change_name(fz_change change)
{
    switch (change) {
    case FZ_CHANGE_FREE:
        return "free";
    case FZ_CHANGE_ANNOUNCED:
        return "announced";
    case FZ_CHANGE_REFUSED:
        return "refused";
    case FZ_CHANGE_NEVER:
        return "never";
    }
    return "never";
}

static void compare(const fz_config *stored, const fz_config *file, fz_ckpt_config_say *say,
                    void *context)
{
    static char a[FZ_LIST_BYTES], b[FZ_LIST_BYTES];

    for (int i = 0; i < fz_config_table.n; i++) {
        const fz_setting *setting = &fz_config_table.settings[i];
        fz_settings_text(setting, stored, a, sizeof a);
        fz_settings_text(setting, file, b, sizeof b);
        if (strcmp(a, b) != 0) say(context, setting->key, a, b, change_name(setting->change));
    }
}

fz_status fz_ckpt_config_diff(const char *text, const char *file, fz_ckpt_config_say *say,
                              void *context)
{
    fz_config *configs = NULL;

    FZ_TRY(FZ_NEW(&configs, 2));
    fz_status status = parse_stored(text, "the checkpoint's config", &configs[0]);
    if (status == FZ_OK) status = fz_config_load(&configs[1], file, NULL, 0, NULL);
    if (status == FZ_OK) compare(&configs[0], &configs[1], say, context);
    fz_free(&configs);
    return status;
}
