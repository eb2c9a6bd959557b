/* Checkpoints compared: across layouts nothing differs, and each kind of difference is told. Then
 * damage that no checksum shows, because they were made to match: what only digests find. */
#include "tests/checkpoint/toy_state.h"

#include <math.h>

#include "tests/checkpoint/tamper.h"

#include "checkpoint/compare.h"
#include "checkpoint/row_digest.h"
#include "checkpoint/verify.h"

static char scratch[FZ_PATH_BYTES];

static void save(const char *name, const toy_layout *l, uint64_t seed, char step[FZ_PATH_BYTES])
{
    const fz_ckpt_info info = toy_info(42);
    char dir[FZ_PATH_BYTES];
    toy t;

    fz_disk_join(dir, scratch, name);
    toy_create(&t, world.group, l, seed);
    assert_ok(fz_ckpt_save(world.group, dir, &t.state, &info, 0, NULL));
    toy_reset(&t);
    fz_disk_join(step, dir, "step-000000042");
}

typedef struct seen {
    int n, of[FZ_DIFFERS_BITS + 1];
    fz_difference last;
} seen;

static fz_status see(void *context, const fz_difference *difference)
{
    seen *s = context;
    s->n++;
    s->of[difference->what]++;
    s->last = *difference;
    return FZ_OK;
}

static seen compare(const fz_index *a, const fz_index *b, int64_t n_same)
{
    seen s = {.n = 0};
    int64_t n = 0;

    assert_ok(fz_compare(a, b, see, &s, &n));
    assert_int_equal(n, n_same);
    return s;
}

enum { N_PAIRS = 6 * 3 + 2 };

static void layouts_do_not_matter_and_values_do(void **state)
{
    char first[FZ_PATH_BYTES], other[FZ_PATH_BYTES], name[32];
    static fz_source a, b;

    (void)state;
    save("first", &TOY_LAYOUTS[0], 1, first);
    assert_ok(fz_source_open_here(first, "step", &a));
    for (int l = 0; l < N_TOY_LAYOUTS; l++) {
        snprintf(name, sizeof name, "layout-%d", l);
        save(name, &TOY_LAYOUTS[l], 1, other);
        assert_ok(fz_source_open_here(other, "step", &b));
        assert_int_equal(compare(&a.index, &b.index, N_PAIRS).n, 0);
        fz_source_reset(&b);
    }
    save("values", &TOY_LAYOUTS[2], 2, other);
    assert_ok(fz_source_open_here(other, "step", &b));
    const seen s = compare(&a.index, &b.index, 0);
    assert_int_equal(s.of[FZ_DIFFERS_BITS], N_PAIRS);
    fz_source_reset(&b);
    fz_source_reset(&a);
}

static void each_difference_is_told(void **state)
{
    char path[FZ_PATH_BYTES];
    static fz_source a, b;

    (void)state;
    save("pair", &TOY_LAYOUTS[1], 1, path);
    assert_ok(fz_source_open_here(path, "step", &a));
    assert_ok(fz_source_open_here(path, "step", &b));
    fz_index *x = &b.index;

    x->sums[FZ_STATE_EXP_AVG * x->n_tensors + 3][0] ^= 1;
    seen s = compare(&a.index, x, N_PAIRS - 1);
    assert_int_equal(s.of[FZ_DIFFERS_BITS], 1);
    assert_int_equal(s.last.a, 3);
    assert_int_equal(s.last.kind, FZ_STATE_EXP_AVG);
    x->sums[FZ_STATE_EXP_AVG * x->n_tensors + 3][0] ^= 1;

    x->sums[FZ_STATE_WEIGHT * x->n_tensors + 6][0] ^= 1; /* frozen */
    assert_int_equal(compare(&a.index, x, N_PAIRS - 1).last.a, 6);
    x->sums[FZ_STATE_WEIGHT * x->n_tensors + 6][0] ^= 1;

    strcpy(x->tensors[2].name, "layer.0.other");
    s = compare(&a.index, x, N_PAIRS - 3);
    assert_int_equal(s.of[FZ_DIFFERS_ONLY_A], 1);
    assert_int_equal(s.of[FZ_DIFFERS_ONLY_B], 1);
    assert_true(s.last.a == -1 && s.last.b == 2);
    strcpy(x->tensors[2].name, a.index.tensors[2].name);

    x->tensors[1].shape[0]++;
    assert_int_equal(compare(&a.index, x, N_PAIRS - 3).of[FZ_DIFFERS_SHAPE], 1);
    x->tensors[1].shape[0]--;

    x->info.has_weights_alone = true;
    assert_int_equal(compare(&a.index, x, N_PAIRS - 12).of[FZ_DIFFERS_ONLY_A], 12);
    x->info.has_weights_alone = false;

    /* Frozen there, with the same weights: two moments are missing, and it is said why. */
    memcpy(x->sums[FZ_STATE_WEIGHT * x->n_tensors], x->sums[0], sizeof *x->sums);
    x->tensors[0].trainable = false;
    s = compare(&a.index, x, N_PAIRS - 2);
    assert_int_equal(s.of[FZ_DIFFERS_TRAINED], 1);
    assert_int_equal(s.of[FZ_DIFFERS_ONLY_A], 2);
    assert_int_equal(s.n, 3);
    fz_source_reset(&b);
    fz_source_reset(&a);
}

static void values_are_counted_and_placed(void **state)
{
    float a[] = {1, 2, NAN, 4, -0.0f, 6}, b[] = {1, 2.5f, 3, 4, 0.0f, 2};
    fz_values_difference d = fz_compare_values(a, b, 6);

    (void)state;
    assert_int_equal(d.n, 4);
    assert_int_equal(d.n_first, 3);
    assert_int_equal(d.first[0], 1);
    assert_int_equal(d.first[1], 2);
    assert_int_equal(d.first[2], 4); /* zeros of two signs are other bits */
    assert_true(d.a[0] == 2 && d.b[0] == 2.5f);
    assert_int_equal(d.n_nan, 1);
    assert_true(d.max_abs == 4);
    assert_int_equal(fz_compare_values(a, a, 6).n, 0);
}

/* A file of two blocks, made by hand: a box in two flat ranges, the cut beside a block's border. */
static void digests_of_cut_fragments_add_up(void **state)
{
    enum { ROWS = 1031, COLS = 4999, N = ROWS * COLS, CUT = (FZ_BLOCK_BYTES - 20) / 4 };
    fz_state_tensor tensor = {.name = "t", .ndim = 2, .shape = {ROWS, COLS}, .trainable = true};
    fz_fragment rows[2] = {{.b = CUT, .hi = {ROWS, COLS, 1, 1, 1}},
                           {.offset = CUT * 4, .a = CUT, .b = N, .hi = {ROWS, COLS, 1, 1, 1}}};
    fz_index_file file = {.size = N * 4, .arena[0] = {.bytes = N * 4}};
    uint32_t crcs[2];
    uint64_t digests[2];
    static fz_source source;
    char path[FZ_PATH_BYTES];
    float *x = NULL;

    (void)state;
    assert_ok(FZ_NEW(&x, N));
    for (int64_t i = 0; i < N; i++)
        x[i] = (float)(i % 8191);
    crcs[0] = fz_crc32c(0, x, FZ_BLOCK_BYTES);
    crcs[1] = fz_crc32c(0, (char *)x + FZ_BLOCK_BYTES, N * 4 - FZ_BLOCK_BYTES);
    source.index = (fz_index){.n_tensors = 1,
                              .tensors = &tensor,
                              .n_rows = 2,
                              .rows = rows,
                              .n_files = 1,
                              .files = &file,
                              .n_blocks = 2,
                              .crcs = crcs};
    fz_disk_join(source.path, scratch, "by-hand");
    assert_ok(fz_disk_make_directory(source.path));
    fz_disk_join(path, source.path, "s00");
    assert_ok(fz_disk_make_directory(path));
    fz_disk_join(path, source.path, "s00/rank-00000.h5");
    assert_ok(fz_disk_write_file(path, x, (size_t)N * 4));
    assert_ok(fz_row_digests(&source, digests));
    assert_true(digests[0] == fz_digest32(x, 0, CUT));
    assert_true(digests[0] + digests[1] == fz_digest32(x, 0, N));

    /* A box in the middle: its runs are pieces of the tensor's rows. */
    rows[0] = (fz_fragment){.a = 3, .b = 700, .lo = {5, 100, 0, 0, 0}, .hi = {9, 300, 1, 1, 1}};
    source.index.n_rows = 1;
    assert_ok(fz_row_digests(&source, digests));
    uint64_t expected = 0;
    for (int64_t i = 3; i < 700; i++)
        expected += fz_digest32(&x[i - 3], (5 + i / 200) * COLS + 100 + i % 200, 1);
    assert_true(digests[0] == expected);
    fz_free(&x);
}

static void keep_text(void *context, const char *text)
{
    snprintf(context, 1024, "%s", text);
}

static void digests_find_what_checksums_cannot(void **state)
{
    char step[FZ_PATH_BYTES], text[1024] = "";
    fz_verify verify = {.say = keep_text, .context = text};

    (void)state;
    save("tampered", &TOY_LAYOUTS[0], 4, step);
    assert_ok(fz_verify_directory(&verify, step));
    assert_int_equal(verify.n_faults, 0);
    flip_with_right_checksums(step, FZ_STATE_EXP_AVG, 1000);
    verify.is_deep = true;
    assert_ok(fz_verify_directory(&verify, step));
    assert_int_equal(verify.damage, FZ_DAMAGE_LOST);
    assert_non_null(strstr(text, "rank-00000.h5: bytes "));
    assert_non_null(strstr(text, "exp_avg of tensor embed.weight"));
}

/* Every byte of every file in turn would take long; these fall everywhere. */
static void no_flip_goes_unseen(void **state)
{
    static const char *const files[] = {"MANIFEST", "index.h5", "s00/rank-00000.h5"};
    char step[FZ_PATH_BYTES], path[FZ_PATH_BYTES], text[1024];
    uint64_t random = 5;

    (void)state;
    save("flipped", &TOY_LAYOUTS[1], 5, step);
    for (int i = 0; i < 120; i++) {
        fz_verify verify = {.say = keep_text, .context = text};
        int64_t size = 0;
        fz_disk_join(path, step, files[i % 3]);
        assert_ok(fz_disk_size(path, &size));
        random = fz_mix64(random + 1);
        const int64_t at = (int64_t)(random % (uint64_t)size);
        text[0] = 0;
        flip_at(path, at);
        assert_ok(fz_verify_directory(&verify, step));
        if (verify.n_faults == 0) fail_msg("%s: byte %lld", files[i % 3], (long long)at);
        assert_int_equal(verify.damage == FZ_DAMAGE_NONE, 0);
        flip_at(path, at);
    }
    fz_verify verify = {.say = keep_text, .context = text};
    assert_ok(fz_verify_directory(&verify, step));
    assert_int_equal(verify.n_faults, 0);
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_do_not_matter_and_values_do),
        cmocka_unit_test(each_difference_is_told),
        cmocka_unit_test(values_are_counted_and_placed),
        cmocka_unit_test(digests_of_cut_fragments_add_up),
        cmocka_unit_test(digests_find_what_checksums_cannot),
        cmocka_unit_test(no_flip_goes_unseen),
    };

    if (fz_ckpt_start() != FZ_OK) return 1;
    run_on_all_ranks_with(tests, start, stop);
}
