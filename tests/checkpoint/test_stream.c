/* Tensor after tensor in, tensor after tensor out: the same bits as by the usual save and load, in
 * memory for a few tensors. */
#include "tests/checkpoint/toy_state.h"

#include <dirent.h>

#include "tests/checkpoint/tamper.h"

#include "checkpoint/source.h"
#include "checkpoint/stream.h"
#include "core/fault.h"
#include "core/log.h"

enum { GROUPS = 4 };
static char scratch[FZ_PATH_BYTES];
static fz_group *groups[GROUPS]; /* of the first 1, 2, ... ranks; NULL where not a member */
static int n_groups;

static int start(void **state)
{
    (void)state;
    make_scratch(scratch);
    n_groups = world.size < GROUPS ? world.size : GROUPS;
    for (int i = 0; i < n_groups; i++) {
        fz_group_split(world.group, world.rank <= i, world.rank, &groups[i]);
        if (world.rank > i) fz_group_destroy(&groups[i]);
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

static int64_t elements_of(int tensor)
{
    const fz_box box = fz_box_of_tensor(&TOY_TENSORS[tensor]);
    return fz_box_elements(&box);
}

static int64_t count_wrong(const float *x, uint64_t seed, int tensor, int kind, bool is_zero)
{
    int64_t n_wrong = 0;

    for (int64_t i = 0; i < elements_of(tensor); i++) {
        const uint32_t bits = is_zero ? 0 : toy_bits(seed, tensor, kind, i);
        n_wrong += memcmp(&x[i], &bits, sizeof bits) != 0;
    }
    return n_wrong;
}

/* saving */

typedef struct giver { /* what the save asks for */
    uint64_t seed;
    int n_asked, asked[N_TOY_TENSORS];
    int fails_at; /* tensor; -1: none */
} giver;

static fz_status give(void *context, int tensor, float *out)
{
    giver *g = context;

    FZ_CHECK(g->n_asked < N_TOY_TENSORS, FZ_ERR_ARG, "asked too often");
    g->asked[g->n_asked++] = tensor;
    FZ_CHECK(tensor != g->fails_at, FZ_ERR_FORMAT, "tensor %d cannot be given", tensor);
    for (int64_t i = 0; i < elements_of(tensor); i++) {
        const uint32_t bits = toy_bits(g->seed, tensor, FZ_STATE_MASTER, i);
        memcpy(&out[i], &bits, sizeof bits);
    }
    return FZ_OK;
}

static fz_status save_stream(const fz_group *group, const char *dir, int64_t step, giver *g)
{
    const fz_ckpt_info info = toy_info(step);
    return fz_ckpt_save_tensors(group, dir, N_TOY_TENSORS, TOY_TENSORS, give, g, &info, NULL);
}

/* Moments become zero, weights are the seed's, at any layout and by any number of ranks. */
static void load_usually(const fz_group *group, const toy_layout *l, const char *dir, int64_t step,
                         uint64_t seed)
{
    fz_status status = FZ_OK;
    int64_t n_wrong = 0;
    toy t;

    if (group) {
        toy_create(&t, group, l, seed + 1);
        status = fz_ckpt_load(group, dir, step, &t.state);
        if (status != FZ_OK) fprintf(stderr, "load %s: %s\n", l->name, fz_last_error()->text);
        n_wrong = toy_each(&t, seed, false, true);
        toy_reset(&t);
    }
    assert_all_ranks(status == FZ_OK && n_wrong == 0);
}

static void what_was_streamed_loads_at_every_layout(void **state)
{
    char dir[FZ_PATH_BYTES], log[FZ_PATH_BYTES], *text;
    size_t n;

    (void)state;
    fz_disk_join(dir, scratch, "stream");
    fz_disk_join(log, scratch, "log");
    for (int a = 0; a < n_groups; a++) {
        giver g = {.seed = 5, .fails_at = -1};
        fz_status status = FZ_OK;
        if (groups[a]) status = save_stream(groups[a], dir, a, &g);
        assert_all_ranks(status == FZ_OK);
        int64_t n_asked = g.n_asked;
        for (int i = 1; i < g.n_asked; i++) { /* the two frozen ones come first */
            const bool was_trained = TOY_TENSORS[g.asked[i - 1]].trainable;
            const bool is_trained = TOY_TENSORS[g.asked[i]].trainable;
            assert_true(was_trained == is_trained ? g.asked[i] > g.asked[i - 1] : is_trained);
        }
        assert_ok(fz_allreduce_sum_int(world.group, &n_asked, 1));
        assert_int_equal(n_asked, N_TOY_TENSORS);
        if (a > 0 && groups[a]) assert_true(g.n_asked < N_TOY_TENSORS); /* all have a share */
        for (int b = 0; b < N_TOY_LAYOUTS; b++)
            load_usually(groups[(a + b) % n_groups], &TOY_LAYOUTS[b], dir, a, 5);
    }
    fz_log_set_writer(world.rank == 0);
    assert_ok(fz_log_open(world.rank == 0 ? log : NULL));
    load_usually(world.group, &TOY_LAYOUTS[1], dir, 0, 5);
    assert_ok(fz_log_open(NULL));
    fz_log_set_writer(false);
    fz_status status = FZ_OK;
    if (world.rank == 0) {
        status = fz_disk_read_file(log, &text, &n);
        assert_int_equal(status, FZ_OK);
        assert_non_null(strstr(text, "step-000000000 holds weights alone: moments start at zero"));
        fz_free(&text);
    }
    assert_all_ranks(status == FZ_OK);
}

static void what_was_streamed_is_found_and_gives_its_weights(void **state)
{
    char dir[FZ_PATH_BYTES], path[FZ_PATH_BYTES];
    fz_ckpt_info info;
    int64_t n_wrong = 0;
    bool found = false;
    toy t;

    (void)state;
    fz_disk_join(dir, scratch, "stream");
    assert_all_ranks(fz_ckpt_find(world.group, dir, &found, &info) == FZ_OK && found);
    assert_all_ranks(info.step == n_groups - 1 && info.has_weights_alone);
    assert_all_ranks(info.samples == info.step * 32 && strstr(info.config, "toy") != NULL);
    fz_ckpt_info_reset(&info);
    fz_disk_join(path, dir, "step-000000000/");
    toy_create(&t, world.group, &TOY_LAYOUTS[3], 9);
    assert_all_ranks(fz_ckpt_load_weights(world.group, path, &t.state) == FZ_OK);
    for (int v = 0; v < t.state.n_views; v++) { /* moments stay as they are */
        toy one = t;
        one.views = &t.views[v];
        one.state.n_views = 1;
        const bool is_weight =
            t.views[v].kind == FZ_STATE_MASTER || t.views[v].kind == FZ_STATE_WEIGHT;
        n_wrong += toy_each(&one, is_weight ? 5 : 9, false, false);
    }
    assert_all_ranks(n_wrong == 0);
    toy_reset(&t);
}

/* What a run goes on to save after such a start has its moments again. */
static void the_next_usual_save_is_whole(void **state)
{
    const fz_ckpt_info info = toy_info(20);
    char dir[FZ_PATH_BYTES];
    fz_ckpt_info found_info;
    bool found = false;
    toy t;

    (void)state;
    fz_disk_join(dir, scratch, "stream");
    toy_create(&t, world.group, &TOY_LAYOUTS[1], 5);
    assert_all_ranks(fz_ckpt_load(world.group, dir, 0, &t.state) == FZ_OK);
    assert_all_ranks(fz_ckpt_save(world.group, dir, &t.state, &info, 0, NULL) == FZ_OK);
    toy_reset(&t);
    assert_all_ranks(fz_ckpt_find(world.group, dir, &found, &found_info) == FZ_OK && found);
    assert_all_ranks(found_info.step == 20 && !found_info.has_weights_alone);
    fz_ckpt_info_reset(&found_info);
    load_usually(world.group, &TOY_LAYOUTS[2], dir, 20, 5);
}

/* reading */

/* Local: every rank reads for itself. */
static void read_all(const char *path, uint64_t seed, bool has_moments)
{
    fz_ckpt_reader *reader = NULL;
    float x[331 * 24];

    assert_ok(fz_ckpt_reader_open(path, &reader));
    assert_int_equal(fz_ckpt_reader_count(reader), N_TOY_TENSORS);
    assert_int_equal(fz_ckpt_reader_info(reader)->shards, 8);
    assert_int_equal(fz_ckpt_reader_info(reader)->has_weights_alone, !has_moments);
    for (int t = N_TOY_TENSORS - 1; t >= 0; t--) {
        const fz_state_tensor *tensor = fz_ckpt_reader_tensor(reader, t);
        assert_string_equal(tensor->name, TOY_TENSORS[t].name);
        assert_int_equal(tensor->trainable, TOY_TENSORS[t].trainable);
        for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
            const bool is_moment = kind == FZ_STATE_EXP_AVG || kind == FZ_STATE_EXP_AVG_SQ;
            const bool is_zero = is_moment && (!has_moments || !tensor->trainable);
            memset(x, 0x55, sizeof x);
            assert_ok(fz_ckpt_reader_read(reader, t, (fz_state_kind)kind, x));
            assert_int_equal(count_wrong(x, seed, t, kind, is_zero), 0);
        }
    }
    fz_ckpt_reader_close(&reader);
}

static void tensors_are_read_from_what_any_ranks_saved(void **state)
{
    char dir[FZ_PATH_BYTES], path[FZ_PATH_BYTES];

    (void)state;
    fz_disk_join(dir, scratch, "usual");
    for (int a = 0; a < N_TOY_LAYOUTS; a++) {
        const fz_ckpt_info info = toy_info(a);
        char name[FZ_STEP_NAME_BYTES];
        toy t;
        toy_create(&t, world.group, &TOY_LAYOUTS[a], 3);
        assert_all_ranks(fz_ckpt_save(world.group, dir, &t.state, &info, 0, NULL) == FZ_OK);
        toy_reset(&t);
        fz_step_name(name, a);
        fz_disk_join(path, dir, name);
        read_all(path, 3, true);
    }
    fz_disk_join(path, scratch, "stream/step-000000000///");
    read_all(path, 5, false);
    assert_all_ranks(true);
}

/* In the step and in its base: the tensor is named, and the others are read. Rank 0 alone. */
static void check_damage(const char *dir)
{
    char path[FZ_PATH_BYTES], source_path[FZ_PATH_BYTES], name[FZ_SHARD_NAME_BYTES];
    fz_ckpt_reader *reader = NULL;
    fz_source source;
    float x[331 * 24];

    fz_disk_join(path, dir, "step-000000000");
    for (int in_base = 0; in_base < 2; in_base++) {
        assert_ok(fz_ckpt_reader_open(path, &reader));
        const char *base = fz_ckpt_reader_info(reader)->base;
        fz_disk_join(source_path, dir, in_base ? base : "step-000000000");
        fz_ckpt_reader_close(&reader);
        assert_ok(fz_source_open_here(source_path, in_base ? "base" : "step", &source));
        const fz_fragment row = source.index.rows[source.index.n_rows - 1];
        fz_shard_name(name, row.file);
        fz_source_reset(&source);
        char file[FZ_PATH_BYTES];
        fz_disk_join(file, source_path, name);
        flip_at(file, row.offset);
        assert_ok(fz_ckpt_reader_open(path, &reader)); /* nobody has read the payload yet */
        assert_fails(fz_ckpt_reader_read(reader, (int)row.tensor, FZ_STATE_MASTER, x),
                     FZ_ERR_FORMAT, TOY_TENSORS[row.tensor].name);
        assert_non_null(strstr(fz_last_error()->text, name));
        assert_non_null(strstr(fz_last_error()->text, "between bytes"));
        assert_ok(fz_ckpt_reader_read(reader, in_base ? 0 : 6, FZ_STATE_MASTER, x));
        fz_ckpt_reader_close(&reader);
        flip_at(file, row.offset);
    }
    fz_disk_join(source_path, dir, "step-000000000/index.h5");
    flip_at(source_path, 3000);
    assert_fails(fz_ckpt_reader_open(path, &reader), FZ_ERR_FORMAT, "index.h5 is damaged");
    flip_at(source_path, 3000);
    read_all(path, 5, false);
}

/* The last of the tests that read it. */
static void check_digest(const char *dir)
{
    char path[FZ_PATH_BYTES];
    fz_ckpt_reader *reader = NULL;
    float x[331 * 24];

    fz_disk_join(path, dir, "step-000000000");
    flip_with_right_checksums(path, FZ_STATE_MASTER, 5);
    assert_ok(fz_ckpt_reader_open(path, &reader));
    assert_fails(fz_ckpt_reader_read(reader, 0, FZ_STATE_MASTER, x), FZ_ERR_FORMAT,
                 "master of tensor embed.weight has digest");
    assert_ok(fz_ckpt_reader_read(reader, 1, FZ_STATE_MASTER, x));
    fz_ckpt_reader_close(&reader);
}

static void wrong_bits_with_right_checksums_are_refused(void **state)
{
    char dir[FZ_PATH_BYTES];

    (void)state;
    fz_disk_join(dir, scratch, "stream");
    if (world.rank == 0) check_digest(dir);
    assert_all_ranks(true);
}

static void damage_is_found_and_named(void **state)
{
    char dir[FZ_PATH_BYTES];

    (void)state;
    fz_disk_join(dir, scratch, "stream");
    if (world.rank == 0) check_damage(dir);
    assert_all_ranks(true);
}

/* failing */

/* Asked when rank 0 is done removing. No folder is empty too. */
static bool is_empty(const char *path)
{
    int n = 0;

    assert_ok(fz_barrier(world.group));
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        n++;
    if (dir) closedir(dir);
    return n <= 2;
}

static void a_tensor_that_cannot_be_given_leaves_nothing(void **state)
{
    const int tensors[] = {2, N_TOY_TENSORS - 1}; /* one of the step, one of the base */
    char dir[FZ_PATH_BYTES];

    (void)state;
    fz_disk_join(dir, scratch, "fails");
    for (int i = 0; i < 2; i++) {
        giver g = {.seed = 5, .fails_at = tensors[i]};
        char text[64];
        snprintf(text, sizeof text, "tensor %d cannot be given", tensors[i]);
        assert_all_ranks(save_stream(world.group, dir, 0, &g) == FZ_ERR_FORMAT);
        assert_all_ranks(strstr(fz_last_error()->text, text) != NULL);
        assert_all_ranks(is_empty(dir));
    }
}

/* Every write and every allocation fails once where one rank saves; with more, some of the last
 * rank and of the first do. */
static void a_save_that_fails_anywhere_leaves_nothing(void **state)
{
    static const char *const SITES[] = {"write", "alloc"};
    char dir[FZ_PATH_BYTES], spec[32];
    int n_failed = 0;

    (void)state;
    fz_disk_join(dir, scratch, "fails");
    for (int site = 0; site < 2; site++)
        for (int who = 0; who < (world.size > 1 ? 2 : 1); who++)
            for (int n = 1;; n += world.size > 1 ? 5 : 1) {
                giver g = {.seed = 5, .fails_at = -1};
                snprintf(spec, sizeof spec, "%s:%d", SITES[site], n);
                if (world.rank == who * (world.size - 1)) assert_ok(fz_fault_set(spec));
                const fz_status status = save_stream(world.group, dir, 0, &g);
                assert_ok(fz_fault_set(NULL));
                assert_all_ranks(is_empty(dir) || status == FZ_OK);
                if (world.rank == 0) fz_disk_remove_tree(dir);
                if (status == FZ_OK) break;
                n_failed++;
            }
    assert_all_ranks(n_failed > 20);
}

/* memory */

enum { BIG_TENSORS = 24, BIG_SIDE = 512 };

static fz_status give_big(void *context, int tensor, float *out)
{
    (void)context;
    for (int64_t i = 0; i < BIG_SIDE * BIG_SIDE; i++)
        out[i] = (float)(tensor + 1) * (float)(i % 1021);
    return FZ_OK;
}

/* 24 tensors of 1 MiB: neither side ever holds three of them, besides the blocks on their way to
 * the disk, which take half of the 16 that are in one file. */
static void memory_is_that_of_a_few_tensors(void **state)
{
    static fz_state_tensor tensors[BIG_TENSORS];
    static float x[BIG_SIDE * BIG_SIDE];
    const int64_t limit = (3 + 8) * (int64_t)sizeof x;
    const fz_ckpt_info info = toy_info(1);
    char dir[FZ_PATH_BYTES], path[FZ_PATH_BYTES];
    fz_ckpt_reader *reader = NULL;
    fz_ckpt_save_stats stats = {0};

    (void)state;
    fz_disk_join(dir, scratch, "big");
    for (int t = 0; t < BIG_TENSORS; t++) {
        tensors[t] =
            (fz_state_tensor){.ndim = 2, .shape = {BIG_SIDE, BIG_SIDE}, .trainable = t % 3 != 0};
        snprintf(tensors[t].name, sizeof tensors[t].name, "t%d", t);
    }
    const int64_t before = fz_memory_get().bytes_live, peak = fz_memory_get().bytes_peak;
    assert_all_ranks(peak - before < limit); /* what came before leaves room to see */
    assert_all_ranks(fz_ckpt_save_tensors(world.group, dir, BIG_TENSORS, tensors, give_big, NULL,
                                          &info, &stats) == FZ_OK);
    assert_all_ranks(fz_memory_get().bytes_peak - before < limit);
    int64_t bytes = stats.bytes;
    assert_ok(fz_allreduce_sum_int(world.group, &bytes, 1));
    assert_int_equal(bytes, BIG_TENSORS * (int64_t)sizeof x);
    int64_t most = stats.bytes;
    assert_ok(fz_allreduce_max_int(world.group, &most, 1));
    assert_true(most * world.size <= bytes + 2 * world.size * (int64_t)sizeof x);
    fz_disk_join(path, dir, "step-000000001");
    assert_ok(fz_ckpt_reader_open(path, &reader));
    for (int t = 0; t < BIG_TENSORS; t++) {
        assert_ok(fz_ckpt_reader_read(reader, t, FZ_STATE_MASTER, x));
        assert_true(x[1020] == (float)(t + 1) * 1020.0f);
    }
    fz_ckpt_reader_close(&reader);
    /* Up to a block of 16 MiB in either file. */
    assert_all_ranks(fz_memory_get().bytes_peak - before <= (int64_t)64 << 20);
    assert_all_ranks(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_that_of_a_few_tensors),
        cmocka_unit_test(what_was_streamed_loads_at_every_layout),
        cmocka_unit_test(what_was_streamed_is_found_and_gives_its_weights),
        cmocka_unit_test(tensors_are_read_from_what_any_ranks_saved),
        cmocka_unit_test(damage_is_found_and_named),
        cmocka_unit_test(the_next_usual_save_is_whole),
        cmocka_unit_test(wrong_bits_with_right_checksums_are_refused),
        cmocka_unit_test(a_tensor_that_cannot_be_given_leaves_nothing),
        cmocka_unit_test(a_save_that_fails_anywhere_leaves_nothing),
    };

    if (fz_ckpt_start() != FZ_OK) return 1;
    run_on_all_ranks_with(tests, start, stop);
}
