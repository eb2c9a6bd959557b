/* Save at one layout, load at all others, on groups of every size. */
#include "tests/checkpoint/toy_state.h"

#include "checkpoint/source.h"

static char scratch[FZ_PATH_BYTES];
static fz_group *groups[3]; /* of the first 1, size-1 and size ranks; NULL where not a member */
static int group_sizes[3], n_groups;

static int start(void **state)
{
    const int wanted[3] = {1, world.size - 1, world.size};

    (void)state;
    make_scratch(scratch);
    for (int i = 0; i < 3; i++) {
        if (wanted[i] < 1 || (n_groups > 0 && wanted[i] <= group_sizes[n_groups - 1])) continue;
        group_sizes[n_groups] = wanted[i];
        fz_group_split(world.group, world.rank < wanted[i], world.rank, &groups[n_groups]);
        if (world.rank >= wanted[i]) fz_group_destroy(&groups[n_groups]);
        n_groups++;
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    for (int i = 0; i < n_groups; i++)
        fz_group_destroy(&groups[i]);
    remove_scratch(scratch);
    return 0;
}

static void save_at(const fz_group *group, const toy_layout *l, const char *dir, int64_t step,
                    uint64_t seed)
{
    const fz_ckpt_info info = toy_info(step);
    fz_ckpt_save_stats stats = {0};
    fz_status status = FZ_OK;
    toy t;

    if (group) {
        toy_create(&t, group, l, seed);
        status = fz_ckpt_save(group, dir, &t.state, &info, 0, &stats);
        if (status != FZ_OK) fprintf(stderr, "save %s: %s\n", l->name, fz_last_error()->text);
        toy_reset(&t);
    }
    assert_all_ranks(status == FZ_OK);
}

static void load_at(const fz_group *group, const toy_layout *l, const char *dir, int64_t step,
                    uint64_t seed)
{
    fz_status status = FZ_OK;
    int64_t n_wrong = 0;
    toy t;

    if (group) {
        toy_create(&t, group, l, seed + 1); /* not what is expected */
        status = fz_ckpt_load(group, dir, step, &t.state);
        if (status != FZ_OK) fprintf(stderr, "load %s: %s\n", l->name, fz_last_error()->text);
        n_wrong = toy_each(&t, seed, false, false);
        toy_reset(&t);
    }
    assert_all_ranks(status == FZ_OK && n_wrong == 0);
}

static void every_layout_loads_what_every_other_saved(void **state)
{
    (void)state;
    for (int a = 0; a < N_TOY_LAYOUTS * n_groups; a++) {
        const int64_t step = a;
        save_at(groups[a % n_groups], &TOY_LAYOUTS[a / n_groups], scratch, step, 5);
        for (int b = 0; b < N_TOY_LAYOUTS; b++)
            load_at(groups[(a + b) % n_groups], &TOY_LAYOUTS[b], scratch, step, 5);
    }
}

static void two_layouts_save_the_same_digests(void **state)
{
    fz_source one, other;
    char path[FZ_PATH_BYTES], name[FZ_STEP_NAME_BYTES];

    (void)state;
    fz_step_name(name, 0);
    fz_disk_join(path, scratch, name);
    assert_all_ranks(fz_source_open(world.group, path, "step", &one) == FZ_OK);
    for (int a = 1; a < N_TOY_LAYOUTS * n_groups; a++) {
        fz_step_name(name, a);
        fz_disk_join(path, scratch, name);
        assert_all_ranks(fz_source_open(world.group, path, "step", &other) == FZ_OK);
        assert_all_ranks(memcmp(one.index.sums, other.index.sums,
                                sizeof *one.index.sums * FZ_N_STATE_KINDS * N_TOY_TENSORS) == 0);
        assert_all_ranks(strcmp(one.index.info.base, other.index.info.base) == 0);
        fz_source_reset(&other);
    }
    fz_source_reset(&one);
}

static void the_newest_is_found_with_everything_said_about_it(void **state)
{
    fz_ckpt_info info, expected = toy_info(N_TOY_LAYOUTS * n_groups - 1);
    bool found = false;

    (void)state;
    assert_all_ranks(fz_ckpt_find(world.group, scratch, &found, &info) == FZ_OK && found);
    assert_all_ranks(strcmp(info.config, expected.config) == 0);
    assert_all_ranks(strncmp(info.base, "base-", 5) == 0 && strlen(info.base) == 21);
    assert_all_ranks(info.step == expected.step && info.samples == expected.samples);
    assert_all_ranks(info.seed == expected.seed && info.config_hash == expected.config_hash);
    assert_all_ranks(info.data_fingerprint == expected.data_fingerprint);
    assert_all_ranks(info.tp == 2 && info.pp == 3 && info.dp == 4 && info.shards == 8);
    assert_all_ranks(info.lanes == 16 && info.global_batch == 32 && info.micro_batch == 4);
    assert_all_ranks(strcmp(info.run_id, expected.run_id) == 0);
    assert_all_ranks(strcmp(info.arithmetic_id, expected.arithmetic_id) == 0);
    const int64_t before = info.step;
    fz_ckpt_info_reset(&info);
    assert_all_ranks(fz_ckpt_find_before(world.group, scratch, before, &found, &info) == FZ_OK);
    assert_all_ranks(found && info.step == before - 1);
    fz_ckpt_info_reset(&info);
    assert_all_ranks(fz_ckpt_find_before(world.group, scratch, 0, &found, &info) == FZ_OK &&
                     !found);
    assert_all_ranks(
        fz_ckpt_find(world.group, "/nonexistent/checkpoints", &found, &info) == FZ_OK && !found);
}

/* Weights come from where they lie; moments that were not kept start at zero. */
static void what_is_trained_may_change_between_runs(void **state)
{
    char dir[FZ_PATH_BYTES];

    (void)state;
    fz_disk_join(dir, scratch, "changes");
    save_at(world.group, &TOY_LAYOUTS[1], dir, 3, 8);
    for (int thaw = 0; thaw < 2; thaw++) {
        toy t = {.state = {.n_tensors = N_TOY_TENSORS}};
        memcpy(t.tensors, TOY_TENSORS, sizeof TOY_TENSORS);
        for (int i = 0; i < N_TOY_TENSORS; i++) /* all trained, or all frozen */
            t.tensors[i].trainable = thaw;
        t.state.tensors = t.tensors;
        toy_add_views(&t, world.group, &TOY_LAYOUTS[2]);
        toy_each(&t, 9, true, false);
        assert_all_ranks(fz_ckpt_load(world.group, dir, 3, &t.state) == FZ_OK);
        for (int v = 0; v < t.state.n_views; v++) { /* those that were frozen have no moments */
            toy one = t;
            one.views = &t.views[v];
            one.state.n_views = 1;
            const bool had_none = !TOY_TENSORS[t.views[v].tensor].trainable;
            assert_int_equal(toy_each(&one, 8, false, had_none), 0);
        }
        toy_reset(&t);
    }
    assert_all_ranks(true);
}

static void weights_alone_leave_the_moments_as_they_are(void **state)
{
    char path[FZ_PATH_BYTES];
    int64_t n_wrong = 0;
    toy t;

    (void)state;
    fz_disk_join(path, scratch, "changes/step-000000003//");
    toy_create(&t, world.group, &TOY_LAYOUTS[3], 9);
    assert_all_ranks(fz_ckpt_load_weights(world.group, path, &t.state) == FZ_OK);
    for (int v = 0; v < t.state.n_views; v++) {
        toy one = t;
        one.views = &t.views[v];
        one.state.n_views = 1;
        const bool is_weight =
            t.views[v].kind == FZ_STATE_MASTER || t.views[v].kind == FZ_STATE_WEIGHT;
        n_wrong += toy_each(&one, is_weight ? 8 : 9, false, false);
    }
    assert_all_ranks(n_wrong == 0);
    toy_reset(&t);
}

static void another_model_is_refused_by_name_and_shape(void **state)
{
    const char *text = fz_last_error()->text;
    toy t;

    (void)state;
    toy_create(&t, world.group, &TOY_LAYOUTS[0], 5);
    t.tensors[1].shape[1] = 35;
    for (int v = 0; v < t.state.n_views; v++)
        if (t.views[v].tensor == 1) t.views[v].hi[1] = 35;
    assert_all_ranks(fz_ckpt_load(world.group, scratch, 0, &t.state) == FZ_ERR_FORMAT);
    assert_all_ranks(strstr(text, "layer.0.q is (24, 36) there and (24, 35) here") != NULL);
    strcpy(t.tensors[1].name, "layer.0.k");
    assert_all_ranks(fz_ckpt_load(world.group, scratch, 0, &t.state) == FZ_ERR_FORMAT);
    assert_all_ranks(strstr(text, "layer.0.q (24, 36), here it is layer.0.k (24, 35)") != NULL);
    memcpy(t.tensors, TOY_TENSORS, sizeof TOY_TENSORS);
    t.state.n_tensors--;
    for (int v = 0; v < t.state.n_views; v++) /* its last tensor's view shall exist */
        if (t.views[v].tensor == N_TOY_TENSORS - 1) t.views[v].hi[0] = t.views[v].lo[0];
    assert_all_ranks(fz_ckpt_load(world.group, scratch, 0, &t.state) == FZ_ERR_FORMAT);
    assert_all_ranks(strstr(text, "has 8 tensors, here there are 7") != NULL);
    toy_reset(&t);
}

static void a_copy_that_drifted_stops_the_save(void **state)
{
    const fz_ckpt_info info = toy_info(50);
    char dir[FZ_PATH_BYTES];
    int64_t n_changed = 0;
    toy t;

    (void)state;
    if (world.size == 1) return;
    fz_disk_join(dir, scratch, "drift");
    toy_create(&t, world.group, &TOY_LAYOUTS[2], 5);
    for (int v = 0; v < t.state.n_views && world.rank == 1 && !n_changed; v++)
        if (!t.views[v].is_owner && t.views[v].kind == FZ_STATE_EXP_AVG && t.views[v].tensor == 0) {
            t.views[v].data[3] = 1.5f;
            n_changed = 1;
        }
    assert_int_equal(fz_allreduce_sum_int(world.group, &n_changed, 1), FZ_OK);
    assert_int_equal(n_changed, 1);
    assert_all_ranks(fz_ckpt_save(world.group, dir, &t.state, &info, 0, NULL) == FZ_ERR_DEVICE);
    assert_all_ranks(
        strstr(fz_last_error()->text, "rank 1: exp_avg of tensor embed.weight, piece"));
    toy_reset(&t);
}

static void elements_without_or_with_two_owners_are_refused(void **state)
{
    const fz_ckpt_info info = toy_info(51);
    toy t;

    (void)state;
    toy_create(&t, world.group, &TOY_LAYOUTS[1], 5);
    for (int v = 0; v < t.state.n_views; v++)
        if (t.views[v].tensor == 0 && t.views[v].piece == 2) t.views[v].is_owner = false;
    assert_all_ranks(fz_ckpt_save(world.group, scratch, &t.state, &info, 0, NULL) == FZ_ERR_ARG);
    assert_all_ranks(strstr(fz_last_error()->text, "master of tensor embed.weight: "));
    for (int v = 0; v < t.state.n_views; v++)
        t.views[v].is_owner = true;
    if (world.size > 1)
        assert_all_ranks(fz_ckpt_save(world.group, scratch, &t.state, &info, 0, NULL) ==
                         FZ_ERR_ARG);
    toy_reset(&t);
}

static bool is_there(const char *dir, const char *name)
{
    char path[FZ_PATH_BYTES];
    fz_disk_join(path, dir, name);
    return fz_disk_is_there(path);
}

static void old_steps_and_unused_bases_go(void **state)
{
    char dir[FZ_PATH_BYTES], base[2][64] = {"", ""}, *line;
    size_t n;

    (void)state;
    fz_disk_join(dir, scratch, "keep");
    for (int64_t step = 1; step <= 6; step++) {
        const fz_ckpt_info info = toy_info(step);
        fz_ckpt_info found_info;
        bool found;
        toy t;
        toy_create(&t, world.group, &TOY_LAYOUTS[1],
                   step < 4 ? 1 : 2); /* frozen ones change at 4 */
        assert_all_ranks(fz_ckpt_save(world.group, dir, &t.state, &info, 2, NULL) == FZ_OK);
        toy_reset(&t);
        assert_all_ranks(fz_ckpt_find(world.group, dir, &found, &found_info) == FZ_OK && found);
        assert_all_ranks(found_info.step == step);
        strcpy(base[step < 4 ? 0 : 1], found_info.base);
        fz_ckpt_info_reset(&found_info);
        assert_all_ranks(is_there(dir, base[0]) == (step < 5));
    }
    assert_all_ranks(!is_there(dir, "step-000000004") && is_there(dir, "step-000000005") &&
                     is_there(dir, "step-000000006") && is_there(dir, base[1]));
    char path[FZ_PATH_BYTES];
    fz_disk_join(path, dir, "latest");
    assert_all_ranks(fz_disk_read_file(path, &line, &n) == FZ_OK);
    assert_all_ranks(strcmp(line, "step-000000006\n") == 0);
    fz_free(&line);
}

static void a_step_can_be_saved_again_over_itself(void **state)
{
    char dir[FZ_PATH_BYTES];

    (void)state;
    fz_disk_join(dir, scratch, "again");
    save_at(world.group, &TOY_LAYOUTS[0], dir, 9, 1);
    save_at(world.group, &TOY_LAYOUTS[4], dir, 9, 2);
    load_at(world.group, &TOY_LAYOUTS[3], dir, 9, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_loads_what_every_other_saved),
        cmocka_unit_test(two_layouts_save_the_same_digests),
        cmocka_unit_test(the_newest_is_found_with_everything_said_about_it),
        cmocka_unit_test(what_is_trained_may_change_between_runs),
        cmocka_unit_test(weights_alone_leave_the_moments_as_they_are),
        cmocka_unit_test(another_model_is_refused_by_name_and_shape),
        cmocka_unit_test(a_copy_that_drifted_stops_the_save),
        cmocka_unit_test(elements_without_or_with_two_owners_are_refused),
        cmocka_unit_test(old_steps_and_unused_bases_go),
        cmocka_unit_test(a_step_can_be_saved_again_over_itself),
    };

    if (fz_ckpt_start() != FZ_OK) return 1;
    run_on_all_ranks_with(tests, start, stop);
}
