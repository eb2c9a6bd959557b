/* A load at any other layout: every stored block is read once in the whole job, what ranks hand on
 * is what was stored, and one rank's trouble is everybody's. */
#include "tests/checkpoint/toy_state.h"

#include "tests/checkpoint/recut.h"
#include "tests/checkpoint/tamper.h"

#include "checkpoint/load_plan.h"
#include "checkpoint/wants.h"
#include "core/fault.h"
#include "core/log.h"

enum { LEAVES = 8 };

/* ---- states cut at random ---- */

static uint64_t draw(uint64_t *seed, int64_t n)
{
    *seed = fz_mix64(*seed + 1);
    return *seed % (uint64_t)n;
}

/* Halves a random box until there are LEAVES of them; some may be a row thin. */
static int cut_at_random(uint64_t *seed, const fz_state_tensor *tensor, fz_box leaves[LEAVES])
{
    int n = 1;

    leaves[0] = fz_box_of_tensor(tensor);
    for (int tries = 0; tries < 3 * LEAVES && n < LEAVES && tensor->ndim > 0; tries++) {
        fz_box *box = &leaves[draw(seed, n)];
        const int axis = (int)draw(seed, tensor->ndim);
        const int64_t extent = box->hi[axis] - box->lo[axis];
        if (extent < 2) continue;
        const int64_t at = box->lo[axis] + 1 + (int64_t)draw(seed, extent - 1);
        leaves[n] = *box;
        leaves[n++].lo[axis] = at;
        box->hi[axis] = at;
    }
    return n;
}

/* Owners and copies anywhere; with is_lonely all of it on the last rank. */
static void create_at_random(toy *t, uint64_t seed, bool is_lonely)
{
    *t = (toy){.state = {.n_tensors = N_TOY_TENSORS}};
    memcpy(t->tensors, TOY_TENSORS, sizeof TOY_TENSORS);
    t->state.tensors = t->tensors;
    assert_int_equal(FZ_NEW(&t->views, N_TOY_TENSORS * 3 * LEAVES), FZ_OK);
    t->state.views = t->views;
    for (int i = 0; i < N_TOY_TENSORS; i++) {
        fz_box leaves[LEAVES];
        const int n = cut_at_random(&seed, &t->tensors[i], leaves);
        for (int p = 0; p < n; p++) {
            const int owner = is_lonely ? world.size - 1 : (int)draw(&seed, world.size);
            const uint64_t copies = is_lonely ? 0 : draw(&seed, INT64_C(1) << 20) >> 4 & 0xffff;
            if (world.rank != owner && !(copies >> world.rank & 1)) continue;
            for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
                if (t->tensors[i].trainable == (kind != FZ_STATE_WEIGHT))
                    toy_add(t, i, &leaves[p], p, (fz_state_kind)kind, world.rank == owner);
        }
    }
    toy_each(t, seed + 99, true, false); /* not what is stored */
}

/* ---- the disk ---- */

static char scratch[FZ_PATH_BYTES], step_path[FZ_PATH_BYTES], base_path[FZ_PATH_BYTES];

static int start(void **state)
{
    (void)state;
    make_scratch(scratch);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    remove_scratch(scratch);
    return 0;
}

static void save_step(const toy_layout *l, int64_t step, uint64_t seed)
{
    const fz_ckpt_info info = toy_info(step);
    char name[FZ_STEP_NAME_BYTES];
    fz_ckpt_info found_info;
    bool found = false;
    toy t;

    toy_create(&t, world.group, l, seed);
    assert_all_ranks(fz_ckpt_save(world.group, scratch, &t.state, &info, 0, NULL) == FZ_OK);
    toy_reset(&t);
    assert_all_ranks(fz_ckpt_find(world.group, scratch, &found, &found_info) == FZ_OK && found);
    fz_step_name(name, step);
    fz_disk_join(step_path, scratch, name);
    fz_disk_join(base_path, scratch, found_info.base);
    fz_ckpt_info_reset(&found_info);
}

/* Cuts through fragments, by rank 0. */
static void recut_all(int64_t n_files, uint64_t seed)
{
    fz_barrier(world.group);
    if (world.rank == 0) {
        recut_directory(step_path, "step", n_files, seed);
        recut_directory(base_path, "base", 1 + n_files / 2, seed + 1);
    }
    fz_barrier(world.group);
}

static int64_t stored_bytes(const char *path, const char *kind)
{
    fz_source source;
    int64_t n = 0;

    assert_ok(fz_source_open_here(path, kind, &source));
    for (int64_t f = 0; f < source.index.n_files; f++)
        for (int k = 0; k < FZ_N_STATE_KINDS; k++)
            n += source.index.files[f].arena[k].bytes;
    fz_source_reset(&source);
    return n;
}

static int64_t sum_over_ranks(int64_t x)
{
    assert_int_equal(fz_allreduce_sum_int(world.group, &x, 1), FZ_OK);
    return x;
}

/* ---- tests ---- */

static void each_stored_byte_is_read_once_by_the_whole_job(void **state)
{
    int64_t n_rounds = 0;

    (void)state;
    for (int n_case = 0; n_case < 12; n_case++) {
        const uint64_t seed = 1000 + (uint64_t)n_case;
        fz_ckpt_load_stats stats;
        toy t;
        save_step(&TOY_LAYOUTS[n_case % N_TOY_LAYOUTS], 5, seed);
        if (n_case % 4 != 0) recut_all(1 + n_case, seed);
        fz_load_set_round_bytes(n_case % 3 == 0 ? 64 << 20 : 2000);
        create_at_random(&t, seed, n_case % 5 == 0);
        const fz_status status =
            fz_ckpt_load_path(world.group, step_path, FZ_MOMENTS_KEEP, &t.state, &stats);
        if (status != FZ_OK) fprintf(stderr, "load: %s\n", fz_last_error()->text);
        assert_all_ranks(status == FZ_OK);
        assert_all_ranks(toy_each(&t, seed, false, false) == 0);
        const int64_t stored = stored_bytes(step_path, "step") + stored_bytes(base_path, "base");
        assert_all_ranks(sum_over_ranks(stats.bytes_read) == stored);
        assert_all_ranks(stats.bytes_of_job == stored);
        assert_all_ranks(sum_over_ranks(stats.bytes_sent) == sum_over_ranks(stats.bytes_received));
        if (n_case % 5 == 0) /* nobody else has a view, so nobody has to be told */
            assert_all_ranks(stats.n_rounds == 0 && stats.bytes_sent == 0);
        n_rounds += stats.n_rounds;
        toy_reset(&t);
    }
    fz_load_set_round_bytes(64 << 20);
    assert_all_ranks(world.size == 1 ? n_rounds == 0 : n_rounds > 30);
}

/* Who has whole files of its own reads them, and that is all. */
static void an_equal_layout_exchanges_nothing(void **state)
{
    const toy_layout *const lone = &TOY_LAYOUTS[3]; /* no copies */
    fz_ckpt_load_stats stats;
    toy t;

    (void)state;
    save_step(lone, 6, 3);
    toy_create(&t, world.group, lone, 4);
    assert_all_ranks(fz_ckpt_load_path(world.group, step_path, FZ_MOMENTS_KEEP, &t.state, &stats) ==
                     FZ_OK);
    assert_all_ranks(toy_each(&t, 3, false, false) == 0);
    assert_all_ranks(stats.n_rounds == 0 && stats.bytes_sent == 0 && stats.bytes_received == 0);
    toy_reset(&t);
}

/* A tensor of two blocks, stored by rows; every rank takes all of it, then a share of columns. */
static void memory_is_bounded_and_counted(void **state)
{
    enum { ROWS = 2600, COLS = 2003 };
    const fz_state_tensor tensor = {"big", 2, {ROWS, COLS}, false};
    fz_state_view v = {.kind = FZ_STATE_WEIGHT, .is_owner = true};
    const fz_state s = {.n_tensors = 1, .tensors = &tensor, .n_views = 1, .views = &v};
    char path[FZ_PATH_BYTES], dir[FZ_PATH_BYTES];
    fz_ckpt_info info = toy_info(1);
    int64_t n_wrong = 0;

    (void)state;
    fz_disk_join(dir, scratch, "big");
    fz_disk_join(path, dir, "step-000000001");
    assert_int_equal(FZ_NEW(&v.data, ROWS * COLS), FZ_OK);
    for (int turn = 0; turn < 3; turn++) { /* saved by rows, loaded whole, loaded by columns */
        v.is_owner = turn != 1 || world.rank == world.size - 1;
        memcpy(v.lo, (int64_t[2]){0, 0}, 2 * sizeof *v.lo);
        memcpy(v.hi, (int64_t[2]){ROWS, COLS}, 2 * sizeof *v.hi);
        if (turn == 0) cut_axis(ROWS, world.rank, world.size, &v.lo[0], &v.hi[0]);
        if (turn == 2) cut_axis(COLS, world.rank, world.size, &v.lo[1], &v.hi[1]);
        const int64_t cols = v.hi[1] - v.lo[1], n = (v.hi[0] - v.lo[0]) * cols;
        for (int64_t i = 0; i < n; i++)
            v.data[i] = turn ? -1 : (float)((v.lo[0] + i / cols) * COLS + v.lo[1] + i % cols);
        if (turn == 0) {
            assert_all_ranks(fz_ckpt_save(world.group, dir, &s, &info, 0, NULL) == FZ_OK);
            continue;
        }
        fz_ckpt_load_stats stats;
        const fz_memory_counters before = fz_memory_get();
        assert_all_ranks(fz_ckpt_load_path(world.group, path, FZ_MOMENTS_KEEP, &s, &stats) ==
                         FZ_OK);
        const int64_t taken = fz_memory_get().bytes_peak - before.bytes_live;
        assert_all_ranks(stats.extra_bytes <= 256 << 20);
        /* All but the index and small change; what was taken before may have been more. */
        assert_all_ranks(taken <= stats.extra_bytes + (2 << 20) ||
                         fz_memory_get().bytes_peak == before.bytes_peak);
        assert_all_ranks(sum_over_ranks(stats.bytes_read) == INT64_C(4) * ROWS * COLS);
        for (int64_t i = 0; i < n; i++)
            n_wrong += v.data[i] != (float)((v.lo[0] + i / cols) * COLS + v.lo[1] + i % cols);
        assert_all_ranks(n_wrong == 0);
    }
    fz_free(&v.data);
}

/* Flips a bit of a random block; the text must be one, and name the file. */
static void damage_is_told_to_all_in_the_same_words(void **state)
{
    char path[FZ_PATH_BYTES], name[FZ_SHARD_NAME_BYTES], text[sizeof fz_last_error()->text];
    uint64_t seed = 7;
    fz_source source;

    (void)state;
    save_step(&TOY_LAYOUTS[1], 8, 8);
    recut_all(6, 8);
    assert_all_ranks(fz_source_open(world.group, step_path, "step", &source) == FZ_OK);
    fz_load_set_round_bytes(3000);
    for (int n_case = 0; n_case < 8; n_case++) {
        const fz_fragment *row = &source.index.rows[draw(&seed, source.index.n_rows)];
        toy t;
        fz_shard_name(name, row->file);
        fz_disk_join(path, step_path, name);
        if (world.rank == 0) flip_at(path, row->offset);
        create_at_random(&t, seed, false);
        assert_all_ranks(fz_ckpt_load(world.group, scratch, 8, &t.state) == FZ_ERR_FORMAT);
        memcpy(text, fz_last_error()->text, sizeof text);
        const size_t used = strlen(text);
        memset(text + used, 0, sizeof text - used);
        assert_all_ranks(fz_same(world.group, text, sizeof text, "text") == FZ_OK);
        assert_all_ranks(strstr(text, name) && strstr(text, "is damaged between bytes "));
        toy_reset(&t);
        fz_barrier(world.group);
        if (world.rank == 0) flip_at(path, row->offset);
        fz_barrier(world.group);
    }
    fz_source_reset(&source);
    fz_load_set_round_bytes(64 << 20);
}

/* Reads of any rank fail in turn, allocations too: all say the same, and the next load works. */
static void one_failing_rank_leaves_nobody_waiting(void **state)
{
    const char *const sites[] = {"read", "alloc"};
    char spec[32];
    int n_failed = 0;
    toy t;

    (void)state;
    save_step(&TOY_LAYOUTS[2], 9, 9);
    recut_all(5, 9);
    fz_load_set_round_bytes(3000);
    create_at_random(&t, 12, false);
    for (int i = 0; i < 24; i++) {
        snprintf(spec, sizeof spec, "%s:%d", sites[i % 2], 1 + i / 2 * (i % 2 ? 5 : 1));
        if (world.rank == i / 2 % world.size) fz_fault_set(spec);
        const fz_status status = fz_ckpt_load(world.group, scratch, 9, &t.state);
        fz_fault_set(NULL);
        int64_t code = (int64_t)status;
        assert_int_equal(fz_allreduce_max_int(world.group, &code, 1), FZ_OK);
        assert_all_ranks((int64_t)status == code);
        assert_all_ranks(status == FZ_OK || status == (i % 2 ? FZ_ERR_MEMORY : FZ_ERR_IO));
        n_failed += status != FZ_OK;
    }
    assert_all_ranks(n_failed > 8);
    assert_all_ranks(fz_ckpt_load(world.group, scratch, 9, &t.state) == FZ_OK);
    assert_all_ranks(toy_each(&t, 9, false, false) == 0);
    toy_reset(&t);
    fz_load_set_round_bytes(64 << 20);
}

static void moments_are_dropped_when_asked(void **state)
{
    fz_ckpt_load_stats stats;
    toy t;

    (void)state;
    save_step(&TOY_LAYOUTS[1], 11, 11);
    create_at_random(&t, 11, false);
    assert_all_ranks(fz_ckpt_load_path(world.group, step_path, FZ_MOMENTS_ZERO, &t.state, &stats) ==
                     FZ_OK);
    assert_all_ranks(toy_each(&t, 11, false, true) == 0);
    /* Nor are they read. */
    assert_all_ranks(sum_over_ranks(stats.bytes_read) < stored_bytes(step_path, "step") / 2);
    toy_reset(&t);
}

static void equal_lists_are_kept_once(void **state)
{
    const int kind = world.rank % 3; /* 0 wants nothing, 1 and 2 differ in one number */
    const fz_want mine[2] = {{.tensor = 4, .hi = {9}}, {.tensor = 5, .hi = {kind}}};
    fz_wants wants;

    (void)state;
    assert_all_ranks(fz_wants_gather(world.group, mine, kind ? 2 : 0, &wants) == FZ_OK);
    assert_all_ranks(wants.n_classes == (world.size < 3 ? world.size : 3));
    for (int r = 0; r < world.size; r++)
        assert_int_equal(wants.class_of[r], r % 3);
    for (int c = 0, at = 0; c < wants.n_classes; c++) {
        assert_int_equal(wants.first_member[c], at);
        for (int r = c; r < world.size; r += 3)
            assert_int_equal(wants.members[at++], r);
        assert_int_equal(wants.first[c + 1] - wants.first[c], c ? 2 : 0);
        if (c) assert_int_equal(wants.list[wants.first[c] + 1].hi[0], c);
    }
    fz_wants_reset(&wants);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_lists_are_kept_once),
        cmocka_unit_test(memory_is_bounded_and_counted),
        cmocka_unit_test(each_stored_byte_is_read_once_by_the_whole_job),
        cmocka_unit_test(an_equal_layout_exchanges_nothing),
        cmocka_unit_test(damage_is_told_to_all_in_the_same_words),
        cmocka_unit_test(one_failing_rank_leaves_nobody_waiting),
        cmocka_unit_test(moments_are_dropped_when_asked),
    };

    if (fz_ckpt_start() != FZ_OK) return 1;
    fz_log_set_level(FZ_LOG_ERROR);
    run_on_all_ranks_with(tests, start, stop);
}
