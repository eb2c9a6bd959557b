/* florenz ckpt verify: is what lies on the disk what was saved. */
#include <stdio.h>
#include <string.h>

#include "checkpoint/directory.h"
#include "checkpoint/verify.h"
#include "core/memory.h"
#include "launch/ckpt_tools.h"
#include "launch/json.h"

static const fz_option options_table[] = {
    {"--deep", NULL, "the digest of every tensor too, from its elements", false},
    {"--json", NULL, "one object on standard output", false},
};
static const fz_command command = {
    .usage = "florenz ckpt verify PATH|DIR [OPTION]...",
    .about = "Checks one checkpoint with its base, or all of a directory: manifest, sizes, index,\n"
             "coverage, the checksum of every block and file. Every fault is a line that names\n"
             "file, bytes and tensor. Exit code 0: whole; 1: damaged, but it can be mended, or\n"
             "another checkpoint is whole; 2: lost.",
    .least_args = 1,
    .most_args = 1,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

static const char *const STATES[] = {"whole", "damaged, recoverable", "lost"};

typedef struct report {
    bool is_json;
    json_t *steps, *faults; /* the whole list; those of the one at hand */
} report;

static void say(void *context, const char *text)
{
    const report *r = context;
    if (r->is_json)
        json_array_append_new(r->faults, fz_json_text(text));
    else
        printf("%s\n", text);
}

static fz_status verify_one(fz_verify *v, const char *path, report *r)
{
    char dir[FZ_PATH_BYTES];

    v->damage = FZ_DAMAGE_NONE;
    v->n_faults = v->n_files = v->n_bytes = v->n_tensors = 0;
    if (r->is_json) r->faults = json_array();
    FZ_TRY(fz_verify_directory(v, path));
    const char *name = fz_ckpt_split(path, dir);
    if (!r->is_json) {
        printf("%s: %s: %lld files, %lld bytes%s\n", name, STATES[v->damage], (long long)v->n_files,
               (long long)v->n_bytes, v->is_deep ? ", digests too" : "");
        return FZ_OK;
    }
    json_array_append_new(r->steps,
                          json_pack("{s:s, s:s, s:I, s:I, s:o}", "name", name, "state",
                                    STATES[v->damage], "files", (json_int_t)v->n_files, "bytes",
                                    (json_int_t)v->n_bytes, "faults", r->faults));
    return FZ_OK;
}

/* Whether a run can go on from an older step; nothing is said of those that are no help. */
static fz_status find_older(const fz_verify *asked, const char *path, char *found, size_t bytes)
{
    char dir[FZ_PATH_BYTES], other[FZ_PATH_BYTES], name[FZ_STEP_NAME_BYTES];
    const char *mine = fz_ckpt_split(path, dir);
    int64_t *steps = NULL;
    int n = 0;

    found[0] = 0;
    FZ_TRY(fz_directory_steps(dir, &steps, &n));
    fz_status status = FZ_OK;
    for (int i = 0; i < n && status == FZ_OK && !found[0]; i++) {
        fz_verify v = {.is_deep = asked->is_deep};
        fz_step_name(name, steps[i]);
        if (strcmp(name, mine) >= 0) continue; /* names order as their numbers do */
        status = fz_disk_join(other, dir, name);
        if (status == FZ_OK) status = fz_verify_directory(&v, other);
        if (status == FZ_OK && v.damage < FZ_DAMAGE_LOST) snprintf(found, bytes, "%s", name);
    }
    fz_free(&steps);
    return status;
}

static fz_status verify_path(fz_verify *v, const char *path, report *r, int *code)
{
    char older[FZ_STEP_NAME_BYTES] = "";

    FZ_TRY(verify_one(v, path, r));
    *code = v->damage;
    if (v->damage < FZ_DAMAGE_LOST || fz_ckpt_is_base(path)) return FZ_OK;
    FZ_TRY(find_older(v, path, older, sizeof older));
    if (!older[0]) return FZ_OK;
    *code = FZ_DAMAGE_MENDABLE;
    if (!r->is_json) printf("%s can take its place\n", older);
    return FZ_OK;
}

static fz_status verify_all(fz_verify *v, const char *dir, report *r, int *code)
{
    char path[FZ_PATH_BYTES], name[FZ_STEP_NAME_BYTES];
    int64_t *steps = NULL;
    int n = 0, n_whole = 0, n_lost = 0;

    FZ_TRY(fz_directory_steps(dir, &steps, &n));
    fz_status status = FZ_OK;
    for (int i = 0; i < n && status == FZ_OK; i++) {
        fz_step_name(name, steps[i]);
        status = fz_disk_join(path, dir, name);
        if (status == FZ_OK) status = verify_one(v, path, r);
        n_whole += v->damage == FZ_DAMAGE_NONE;
        n_lost += v->damage == FZ_DAMAGE_LOST;
    }
    fz_free(&steps);
    FZ_TRY(status);
    FZ_CHECK(n > 0, FZ_ERR_USAGE, "no checkpoint in %s", dir);
    *code = n_whole == n ? FZ_DAMAGE_NONE : n_lost == n ? FZ_DAMAGE_LOST : FZ_DAMAGE_MENDABLE;
    return FZ_OK;
}

static fz_status run(const fz_options *options, int *code)
{
    report r = {.is_json = fz_options_get(options, "--json") != NULL};
    fz_verify v = {.is_deep = fz_options_get(options, "--deep") != NULL, .say = say, .context = &r};
    char path[FZ_PATH_BYTES];

    FZ_TRY(fz_ckpt_path(options->arg[0], path));
    if (r.is_json) r.steps = json_array();
    fz_status status;
    if (fz_ckpt_is_step(path) || fz_ckpt_is_base(path)) {
        status = verify_path(&v, path, &r, code);
    } else {
        status = fz_ckpt_directory(options->arg[0], path);
        if (status == FZ_OK) status = verify_all(&v, path, &r, code);
    }
    if (r.is_json && status == FZ_OK)
        fz_json_print(json_pack("{s:o, s:o, s:i}", "path", fz_json_text(path), "checkpoints",
                                r.steps, "exit_code", *code));
    return status;
}

int fz_ckpt_verify(int argc, char **argv)
{
    return fz_ckpt_tool(&command, argc, argv, run);
}
