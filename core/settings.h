/* Settings: one table gives parser, --help, ranges, the printed effective config, its hash, and the
 * error for an unknown key with the nearest known one. Local.
 */
#ifndef FZ_CORE_SETTINGS_H
#define FZ_CORE_SETTINGS_H

#include <stdint.h>
#include <stdio.h>

#include "core/status.h"

typedef enum fz_setting_type {
    FZ_SET_INT,        /* int64_t                                                     */
    FZ_SET_FLOAT,      /* double                                                      */
    FZ_SET_BOOL,       /* bool; on/off/true/false/yes/no                              */
    FZ_SET_TEXT,       /* char[FZ_TEXT_BYTES]; null: empty                            */
    FZ_SET_CHOICE,     /* int, index into choices "a|b|c"                             */
    FZ_SET_AUTO,       /* int64_t, or FZ_AUTO for the word auto                       */
    FZ_SET_FLOAT_AUTO, /* double, or FZ_AUTO_FLOAT for the word auto                  */
    FZ_SET_TIME,       /* double seconds, FZ_NO_TIME for null; "90", "10m", "1:30:00", "2-00:00" */
    FZ_SET_LIST,       /* fz_text_list: YAML sequence or one scalar                    */
    FZ_SET_FLOATS,     /* double[max], YAML sequence of exactly max numbers            */
} fz_setting_type;

enum {
    FZ_TEXT_BYTES = 512,
    FZ_LIST_MAX = 32,
    FZ_LIST_BYTES = FZ_LIST_MAX * (FZ_TEXT_BYTES + 2), /* of a whole list as one text */
};
#define FZ_AUTO INT64_C(-1)
#define FZ_AUTO_FLOAT (-1.0)
#define FZ_NO_TIME (-1.0)

typedef struct fz_text_list {
    int n;
    char item[FZ_LIST_MAX][FZ_TEXT_BYTES];
} fz_text_list;

/* What a continuation does when the key differs from the checkpoint's (design.md 9). */
typedef enum fz_change {
    FZ_CHANGE_FREE,
    FZ_CHANGE_ANNOUNCED,
    FZ_CHANGE_REFUSED, /* unless --accept-change KEY */
    FZ_CHANGE_NEVER,
} fz_change;

typedef struct fz_setting {
    const char *key; /* "train.global_batch" */
    fz_setting_type type;
    size_t offset;   /* in the caller's config struct */
    const char *def; /* default as text; "null" allowed where the type allows it */
    double min, max; /* inclusive; for INT, FLOAT, AUTO, TIME */
    const char *choices;
    fz_change change;
    const char *help;
} fz_setting;

typedef struct fz_settings_table {
    const fz_setting *settings;
    int n;
} fz_settings_table;

void fz_settings_defaults(const fz_settings_table *table, void *config);
/* where: "config.yaml:14" or "--set"; goes before the message:
 * "config.yaml:14 layout.tp: three is not a whole number" */
fz_status fz_settings_set(const fz_settings_table *table, void *config, const char *key,
                          const char *value, const char *where);
/* For LIST and FLOATS: several values. */
fz_status fz_settings_set_list(const fz_settings_table *table, void *config, const char *key,
                               const char *const *values, int n, const char *where);
const fz_setting *fz_settings_find(const fz_settings_table *table, const char *key);
const char *fz_settings_nearest(const fz_settings_table *table, const char *key);
/* The value as the text that would set it again. Returns out. */
char *fz_settings_text(const fz_setting *setting, const void *config, char *out, size_t bytes);
/* YAML, grouped by section, in table order; readable by the parser. */
void fz_settings_print(const fz_settings_table *table, const void *config, FILE *out);
void fz_settings_help(const fz_settings_table *table, FILE *out);
uint64_t fz_settings_hash(const fz_settings_table *table, const void *config);

#endif
