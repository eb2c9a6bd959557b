/* florenz ckpt list: what lies in a directory of checkpoints, one line each. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "checkpoint/directory.h"
#include "checkpoint/gc.h"
#include "checkpoint/manifest.h"
#include "checkpoint/source.h"
#include "core/memory.h"
#include "launch/ckpt_tools.h"
#include "launch/json.h"
#include "launch/run_dir.h"

static const fz_option options_table[] = {
    {"--json", NULL, "one object on standard output", false},
};
static const fz_command command = {
    .usage = "florenz ckpt list DIR [OPTION]...",
    .about = "Lists the checkpoints of a directory (or of a run's), newest first, the bases of\n"
             "frozen weights, and what is being written. Damage is looked for in manifest, sizes\n"
             "and index; verify reads the payload.",
    .least_args = 1,
    .most_args = 1,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

typedef struct lister {
    char dir[FZ_PATH_BYTES];
    bool is_in_use;                     /* a job has the run's lock */
    json_t *steps, *bases, *unfinished; /* NULL: lines */
} lister;

static void date_of(const char *dir, const char *name, char *text, size_t bytes)
{
    char path[FZ_PATH_BYTES];
    struct stat about;
    struct tm parts;

    snprintf(text, bytes, "-");
    if (fz_disk_join(path, dir, name) != FZ_OK || stat(path, &about) != 0) return;
    if (gmtime_r(&about.st_mtime, &parts)) strftime(text, bytes, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

/* ---- steps and bases ---- */

typedef struct entry {
    char name[FZ_STEP_NAME_BYTES], date[32], layout[48], base[64], why[512];
    int64_t bytes;
    int n_tensors; /* that it stores; -1: not known */
    bool is_ok, is_weights_alone;
} entry;

static void look_at_index(const lister *l, entry *e, const fz_source *source, bool is_base)
{
    const fz_ckpt_info *info = &source->index.info;
    char expected[FZ_STEP_NAME_BYTES], base[FZ_PATH_BYTES];

    e->n_tensors = 0;
    for (int t = 0; t < source->index.n_tensors; t++)
        e->n_tensors += source->index.tensors[t].trainable != is_base;
    snprintf(e->layout, sizeof e->layout, "tp %d pp %d dp %d", info->tp, info->pp, info->dp);
    snprintf(e->base, sizeof e->base, "%s", info->base);
    e->is_weights_alone = info->has_weights_alone;
    e->is_ok = true;
    if (is_base) return;
    fz_step_name(expected, info->step);
    if (strcmp(expected, e->name) != 0) {
        e->is_ok = false;
        snprintf(e->why, sizeof e->why, "it holds %s", expected);
    } else if (!fz_step_is_acceptable(l->dir, info->step)) {
        e->is_ok = false;
        if (fz_source_base(source, base) == FZ_OK && !fz_disk_is_there(base))
            snprintf(e->why, sizeof e->why, "its base %.63s is missing", info->base);
        else
            snprintf(e->why, sizeof e->why, "its base is damaged: %.400s", fz_last_error()->text);
    }
}

static fz_status look(const lister *l, const char *name, entry *e)
{
    const bool is_base = strncmp(name, "base-", 5) == 0;
    char path[FZ_PATH_BYTES];
    fz_source *source = NULL;

    *e = (entry){.n_tensors = -1};
    snprintf(e->name, sizeof e->name, "%s", name);
    FZ_TRY(fz_disk_join(path, l->dir, name));
    date_of(path, "MANIFEST", e->date, sizeof e->date);
    e->bytes = fz_tree_bytes(path);
    FZ_TRY(FZ_NEW(&source, 1));
    if (fz_source_open_here(path, is_base ? "base" : "step", source) == FZ_OK) {
        look_at_index(l, e, source, is_base);
        fz_source_reset(source);
    } else {
        snprintf(e->why, sizeof e->why, "%s", fz_last_error()->text);
    }
    fz_free(&source);
    return FZ_OK;
}

static void say(const lister *l, const entry *e, bool is_base)
{
    if (l->steps) {
        json_t *object =
            json_pack("{s:s, s:s, s:I, s:s, s:o}", "name", e->name, "date", e->date, "bytes",
                      (json_int_t)e->bytes, "state", e->is_ok ? "ok" : "damaged", "tensors",
                      e->n_tensors >= 0 ? json_integer(e->n_tensors) : json_null());
        if (!e->is_ok) json_object_set_new(object, "why", fz_json_text(e->why));
        if (!is_base) {
            json_object_set_new(object, "layout", fz_json_text(e->layout));
            json_object_set_new(object, "base", fz_json_text(e->base));
            json_object_set_new(object, "weights_alone", json_boolean(e->is_weights_alone));
        }
        json_array_append_new(is_base ? l->bases : l->steps, object);
        return;
    }
    printf("%s  %-20s  %14lld bytes", e->name, e->date, (long long)e->bytes);
    if (e->n_tensors >= 0) printf("  %4d tensors", e->n_tensors);
    if (!is_base && e->layout[0]) printf("  %s", e->layout);
    if (e->is_weights_alone) printf("  weights alone");
    if (e->is_ok)
        printf("  ok\n");
    else
        printf("  damaged (%s)\n", e->why);
}

static fz_status list_steps(const lister *l)
{
    int64_t *steps = NULL;
    int n = 0;

    FZ_TRY(fz_directory_steps(l->dir, &steps, &n));
    fz_status status = FZ_OK;
    for (int i = 0; i < n && status == FZ_OK; i++) {
        char name[FZ_STEP_NAME_BYTES];
        entry e;
        fz_step_name(name, steps[i]);
        status = look(l, name, &e);
        if (status == FZ_OK) say(l, &e, false);
    }
    fz_free(&steps);
    return status;
}

static void say_unfinished(const lister *l, const char *name)
{
    const char *state = l->is_in_use ? "being written" : "being written, or left by a killed save";
    char path[FZ_PATH_BYTES], date[32];

    if (fz_disk_join(path, l->dir, name) != FZ_OK) return;
    date_of(l->dir, name, date, sizeof date);
    if (strstr(name, ".old-")) state = "replaced";
    if (l->unfinished)
        json_array_append_new(l->unfinished,
                              json_pack("{s:o, s:s, s:I, s:s}", "name", fz_json_text(name), "date",
                                        date, "bytes", (json_int_t)fz_tree_bytes(path), "state",
                                        state));
    else
        printf("%s  %-20s  %14lld bytes  %s\n", name, date, (long long)fz_tree_bytes(path), state);
}

/* Bases, then what begins with a dot; in the order of their names. */
static fz_status list_others(const lister *l)
{
    struct dirent **names = NULL;
    const int n = scandir(l->dir, &names, NULL, alphasort);
    fz_status status = FZ_OK;

    for (int i = 0; i < n && status == FZ_OK; i++) {
        entry e;
        if (strncmp(names[i]->d_name, "base-", 5) != 0) continue;
        status = look(l, names[i]->d_name, &e);
        if (status == FZ_OK) say(l, &e, true);
    }
    for (int i = 0; i < n; i++) {
        if (status == FZ_OK && fz_is_unfinished(names[i]->d_name))
            say_unfinished(l, names[i]->d_name);
        free(names[i]); /* the library's memory */
    }
    free(names);
    return status;
}

static void read_latest(const lister *l, char *text, size_t bytes)
{
    char path[FZ_PATH_BYTES], *line = NULL;
    size_t n = 0;

    text[0] = 0;
    if (fz_disk_join(path, l->dir, "latest") != FZ_OK || !fz_disk_is_there(path)) return;
    if (fz_disk_read_file(path, &line, &n) != FZ_OK) return;
    snprintf(text, bytes, "%.*s", (int)strcspn(line, "\n"), line);
    fz_free(&line);
}

static fz_status list(lister *l)
{
    char latest[FZ_STEP_NAME_BYTES];

    FZ_TRY(list_steps(l));
    FZ_TRY(list_others(l));
    read_latest(l, latest, sizeof latest);
    if (l->steps)
        fz_json_print(json_pack("{s:o, s:o, s:o, s:o, s:o}", "dir", fz_json_text(l->dir), "latest",
                                latest[0] ? fz_json_text(latest) : json_null(), "steps", l->steps,
                                "bases", l->bases, "unfinished", l->unfinished));
    else
        printf("latest: %s\n", latest[0] ? latest : "none");
    return FZ_OK;
}

static fz_status run(const fz_options *options, int *code)
{
    lister l = {.steps = NULL};
    char parent[FZ_PATH_BYTES];

    (void)code;
    FZ_TRY(fz_ckpt_directory(options->arg[0], l.dir));
    fz_ckpt_split(l.dir, parent);
    l.is_in_use = fz_run_dir_in_use(parent);
    if (fz_options_get(options, "--json")) {
        l.steps = json_array();
        l.bases = json_array();
        l.unfinished = json_array();
    }
    return list(&l);
}

int fz_ckpt_list(int argc, char **argv)
{
    return fz_ckpt_tool(&command, argc, argv, run);
}
