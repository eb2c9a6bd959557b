/* A toy state of which every step is told apart, whose frozen weights change every third step, and
 * what a directory of such steps must give. Include after toy_state.h. */
#ifndef FZ_TESTS_MARKED_STATE_H
#define FZ_TESTS_MARKED_STATE_H

#include <dirent.h>

#include "tests/checkpoint/toy_state.h"
#include "tests/support/unit.h"

#include "checkpoint/manifest.h"

/* mark: what the bits are made of. */
static inline void marked_create(toy *t, const fz_group *group, const toy_layout *l, int64_t mark)
{
    toy_create(t, group, l, (uint64_t)mark);
    for (int v = 0; v < t->state.n_views; v++) {
        const fz_state_view *view = &t->views[v];
        const fz_box box = fz_box_of_view(view, t->tensors[view->tensor].ndim);
        if (view->kind != FZ_STATE_WEIGHT) continue;
        for (int64_t i = 0; i < fz_box_elements(&box); i++) /* the same at any cut */
            view->data[i] = (float)(mark / 3 * 1000 + view->tensor);
    }
}

static inline fz_status marked_save(const fz_group *group, const char *dir, const toy_layout *l,
                                    int64_t step, int64_t mark, int keep)
{
    const fz_ckpt_info info = toy_info(step);
    toy t;

    marked_create(&t, group, l, mark);
    const fz_status status = fz_ckpt_save(group, dir, &t.state, &info, keep, NULL);
    toy_reset(&t);
    return status;
}

/* Whether a state holds what was saved with the mark; both of one rank and not cut. */
static inline bool marked_is_right(const toy *t, const fz_group *group, int64_t mark)
{
    bool is_right = true;
    toy expected;

    marked_create(&expected, group, &TOY_LAYOUTS[0], mark);
    for (int v = 0; v < t->state.n_views; v++) {
        const fz_state_view *view = &t->views[v];
        const fz_box box = fz_box_of_view(view, t->tensors[view->tensor].ndim);
        is_right &= memcmp(view->data, expected.views[v].data,
                           (size_t)fz_box_elements(&box) * sizeof *view->data) == 0;
    }
    toy_reset(&expected);
    return is_right;
}

/* Whether a step, loaded with one rank, has the bits of the mark. */
static inline bool marked_holds(const fz_group *one, const char *dir, int64_t step, int64_t mark)
{
    toy t;

    toy_create(&t, one, &TOY_LAYOUTS[0], 1u << 30);
    const bool is_right = fz_ckpt_load(one, dir, step, &t.state) == FZ_OK;
    if (!is_right) fprintf(stderr, "%s\n", fz_last_error()->text);
    const bool is_same = is_right && marked_is_right(&t, one, mark);
    toy_reset(&t);
    return is_same;
}

/* The same, and says so where it has not. */
static inline bool marked_loads(const fz_group *one, const char *dir, int64_t step, int64_t mark)
{
    const bool is_same = marked_holds(one, dir, step, mark);
    if (!is_same)
        fprintf(stderr, "step %lld of %s is not that of %lld\n", (long long)step, dir,
                (long long)mark);
    return is_same;
}

/* The newest acceptable step, -1 none. */
static inline int64_t marked_newest(const fz_group *one, const char *dir)
{
    fz_ckpt_info info;
    bool found = false;

    if (fz_ckpt_find(one, dir, &found, &info) != FZ_OK || !found) return -1;
    const int64_t step = info.step;
    fz_ckpt_info_reset(&info);
    return step;
}

/* Every third save is of the step before it and takes its place. */
static inline int64_t marked_step(int64_t mark)
{
    return mark - mark / 3;
}

/* The mark of what a new start finds: the last acknowledged one (0: none) or the next, which was
 * under way; -1: neither, which is said. */
static inline int64_t marked_find(const fz_group *one, const char *dir, int64_t last)
{
    const int64_t newest = marked_newest(one, dir);
    const int64_t step = marked_step(last), next = marked_step(last + 1);

    if (last == 0 && newest < 0) return 0;
    if (newest == next && (next != step || marked_holds(one, dir, newest, last + 1)))
        return next == step || marked_loads(one, dir, newest, last + 1) ? last + 1 : -1;
    if (last > 0 && newest == step) return marked_loads(one, dir, newest, last) ? last : -1;
    fprintf(stderr, "%s: step %lld is found, %lld was acknowledged\n", dir, (long long)newest,
            (long long)step);
    return -1;
}

/* Entries of a directory whose names begin so. */
static inline int count_names(const char *dir, const char *start)
{
    DIR *list = opendir(dir);
    const struct dirent *entry;
    int n = 0;

    while (list && (entry = readdir(list)))
        n += strncmp(entry->d_name, start, strlen(start)) == 0 && strcmp(entry->d_name, ".") != 0 &&
             strcmp(entry->d_name, "..") != 0;
    if (list) closedir(list);
    return n;
}

/* Whether every step that has its name is whole. */
static inline bool steps_are_whole(const char *dir)
{
    int64_t *steps = NULL;
    int n = 0;
    bool is_whole = fz_directory_steps(dir, &steps, &n) == FZ_OK;

    for (int i = 0; i < n; i++) {
        char name[FZ_STEP_NAME_BYTES], path[FZ_PATH_BYTES];
        fz_manifest manifest;
        fz_step_name(name, steps[i]);
        if (fz_disk_join(path, dir, name) != FZ_OK ||
            fz_manifest_accept(path, &manifest) != FZ_OK) {
            fprintf(stderr, "%s\n", fz_last_error()->text);
            is_whole = false;
            continue;
        }
        fz_manifest_reset(&manifest);
    }
    fz_free(&steps);
    return is_whole;
}

/* In memory, where syncs cost nothing and show nothing that matters here; else beside the program.
 */
static inline void make_quick_folder(char path[FZ_PATH_BYTES])
{
    snprintf(path, FZ_PATH_BYTES, "/dev/shm/ckpt-test-XXXXXX");
    if (mkdtemp(path)) return;
    snprintf(path, FZ_PATH_BYTES, "%s/ckpt-test-XXXXXX", FZ_BINARY_DIR);
    assert_non_null(mkdtemp(path));
}

#endif
