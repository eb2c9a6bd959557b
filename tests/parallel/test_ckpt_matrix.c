/* A checkpoint of any layout loads on any other: all pairs of layouts, both families, by digest
 * and by bits; and random chains of three layouts back to the first. */
#include "tests/support/ranks.h"

#include "tests/parallel/seats.h"

#include "checkpoint/source.h"
#include "tests/parallel/held_state.h"

enum { N_CHAINS = 200, SEED = 44595 };

/* Pairs that fill the seats stand together. */
static const layout LAYOUTS[] = {
    /* pp dp tp, shards, sharded optimizer */
    {{2, 2, 2}, 4, false}, {{2, 2, 2}, 4, true},  {{1, 8, 1}, 4, true},  {{1, 2, 4}, 4, true},
    {{7, 1, 1}, 1, false}, {{1, 1, 1}, 4, false}, {{1, 7, 1}, 2, true},  {{1, 1, 1}, 2, false},
    {{1, 3, 2}, 4, false}, {{1, 1, 2}, 4, false}, {{2, 3, 1}, 4, true},  {{1, 1, 2}, 2, false},
    {{5, 1, 1}, 4, false}, {{1, 3, 1}, 4, true},  {{1, 5, 1}, 1, true},  {{3, 1, 1}, 4, false},
    {{1, 1, 4}, 4, false}, {{2, 1, 2}, 2, false}, {{1, 2, 1}, 4, false}, {{2, 2, 1}, 4, true},
};
enum { N_LAYOUTS = sizeof LAYOUTS / sizeof *LAYOUTS, N_FAMILIES = 2 };

static char scratch[FZ_PATH_BYTES];
static fz_mesh_shape shapes[N_LAYOUTS];

static int start(void **state)
{
    (void)state;
    make_scratch(scratch);
    for (int l = 0; l < N_LAYOUTS; l++)
        shapes[l] = LAYOUTS[l].shape;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    remove_scratch(scratch);
    return 0;
}

static void directory_of(char path[FZ_PATH_BYTES], const char *kind, int family, int i)
{
    char name[64];
    snprintf(name, sizeof name, "%s-%d-%d", kind, family, i);
    assert_int_equal(fz_disk_join(path, scratch, name), FZ_OK);
}

static bool save(const fz_group *group, const layout *l, const char *dir, const fz_state *state)
{
    static char config[] = "model: {variant: small}\n";
    const fz_ckpt_info info = {.step = 1,
                               .samples = 8,
                               .seed = 1,
                               .tp = l->shape.tp,
                               .pp = l->shape.pp,
                               .dp = l->shape.dp,
                               .shards = l->shards,
                               .lanes = 8,
                               .global_batch = 8,
                               .micro_batch = 1,
                               .run_id = "matrix",
                               .config = config};
    const bool saved = fz_ckpt_save(group, dir, state, &info, 0, NULL) == FZ_OK;
    if (!saved) fprintf(stderr, "save at %s: %s\n", dir, fz_last_error()->text);
    return saved;
}

/* Loads into a state with other bits and compares; what was loaded may be saved again. All ranks of
 * sub answer alike. */
static bool load(const fz_world *sub, int family, int at, const char *dir, const char *again)
{
    held_state h;
    int64_t n_wrong = 0;

    fz_status status = fz_agree(sub->group, held_create(&h, family, &LAYOUTS[at], sub->rank));
    if (status == FZ_OK) each_element(&h.state, SEED + 1000, true);
    if (status == FZ_OK) status = fz_ckpt_load(sub->group, dir, 1, &h.state);
    if (status != FZ_OK) fprintf(stderr, "load of %s: %s\n", dir, fz_last_error()->text);
    if (status == FZ_OK) n_wrong = each_element(&h.state, SEED + (uint64_t)family, false);
    if (n_wrong > 0) fprintf(stderr, "load of %s: %lld wrong\n", dir, (long long)n_wrong);
    n_wrong += status != FZ_OK;
    if (fz_allreduce_max_int(sub->group, &n_wrong, 1) != FZ_OK) return false;
    const bool is_good =
        n_wrong == 0 && (!again || save(sub->group, &LAYOUTS[at], again, &h.state));
    held_reset(&h);
    return is_good;
}

static void every_layout_saves(void **state)
{
    bool is_done[N_LAYOUTS] = {false}, is_good = true;
    int seats[N_RANKS];

    (void)state;
    while (take_seats(shapes, N_LAYOUTS, is_done, seats) > 0) {
        fz_world sub = sit_down(seats);
        const int at = seats[world.rank];
        for (int family = 0; family < N_FAMILIES && sub.group && is_good; family++) {
            char dir[FZ_PATH_BYTES];
            held_state h;
            directory_of(dir, "pair", family, at);
            const fz_status status = held_create(&h, family, &LAYOUTS[at], sub.rank);
            is_good = fz_agree(sub.group, status) == FZ_OK;
            if (is_good) each_element(&h.state, SEED + (uint64_t)family, true);
            is_good = is_good && save(sub.group, &LAYOUTS[at], dir, &h.state);
            held_reset(&h);
        }
        if (sub.group) fz_group_destroy(&sub.group);
    }
    assert_all_ranks(is_good);
}

static void all_of_them_store_the_same_digests(void **state)
{
    bool is_good = true;

    (void)state;
    for (int family = 0; family < N_FAMILIES && world.rank == 0; family++) {
        fz_source first = {.head = NULL}, other;
        for (int l = 0; l < N_LAYOUTS; l++) {
            char dir[FZ_PATH_BYTES], path[FZ_PATH_BYTES];
            directory_of(dir, "pair", family, l);
            assert_int_equal(fz_disk_join(path, dir, "step-000000001"), FZ_OK);
            assert_int_equal(fz_source_open_here(path, "step", l ? &other : &first), FZ_OK);
            if (l == 0) continue;
            const size_t n = (size_t)FZ_N_STATE_KINDS * (size_t)first.index.n_tensors;
            is_good &=
                memcmp(first.index.sums, other.index.sums, n * sizeof *first.index.sums) == 0 &&
                strcmp(first.index.info.base, other.index.info.base) == 0;
            fz_source_reset(&other);
        }
        fz_source_reset(&first);
    }
    assert_all_ranks(is_good);
}

static void every_layout_loads_what_every_layout_saved(void **state)
{
    bool is_done[N_LAYOUTS] = {false}, is_good = true;
    int seats[N_RANKS];
    int64_t n_pairs = 0;

    (void)state;
    while (take_seats(shapes, N_LAYOUTS, is_done, seats) > 0) {
        fz_world sub = sit_down(seats);
        for (int i = 0; i < N_FAMILIES * N_LAYOUTS && sub.group && is_good; i++) {
            char dir[FZ_PATH_BYTES];
            directory_of(dir, "pair", i / N_LAYOUTS, i % N_LAYOUTS);
            is_good = load(&sub, i / N_LAYOUTS, seats[world.rank], dir, NULL);
            n_pairs += sub.rank == 0;
        }
        if (sub.group) fz_group_destroy(&sub.group);
    }
    assert_all_ranks(is_good);
    assert_int_equal(fz_allreduce_sum_int(world.group, &n_pairs, 1), FZ_OK);
    assert_int_equal(n_pairs, N_FAMILIES * N_LAYOUTS * N_LAYOUTS);
}

/* One leg of a chain on the first ranks of a table; the others wait for its end. */
static bool leg(const fz_group *table, int family, int at, const char *from, const char *to)
{
    fz_world sub = {.group = NULL};
    const int size = fz_mesh_size(LAYOUTS[at].shape);
    int64_t is_bad = 0;

    sub.rank = fz_group_rank(table);
    if (fz_group_split(table, sub.rank < size, sub.rank, &sub.group) != FZ_OK) return false;
    if (sub.rank < size) is_bad = !load(&sub, family, at, from, to);
    fz_group_destroy(&sub.group);
    return fz_allreduce_max_int(table, &is_bad, 1) == FZ_OK && is_bad == 0;
}

/* A layout of at most `most` ranks, drawn. */
static int draw_layout(uint64_t *random, int most)
{
    int at;
    do
        at = draw(random, N_LAYOUTS);
    while (fz_mesh_size(LAYOUTS[at].shape) > most);
    return at;
}

/* Two tables of 4 ranks run two chains at a time; one chain of five has all 8. */
static void random_chains_come_back_to_the_first_layout(void **state)
{
    fz_group *half = NULL;
    bool is_good = true;

    (void)state;
    assert_int_equal(fz_group_split(world.group, world.rank / 4, world.rank, &half), FZ_OK);
    for (int i = 0; i < N_CHAINS; i++) {
        const bool is_large = i % 5 == 0;
        int64_t is_bad = !is_good;
        uint64_t random = (uint64_t)i;
        const int most = is_large ? 8 : 4, family = i / 5 % 2;
        const int a = draw_layout(&random, most), b = draw_layout(&random, most);
        const int c = draw_layout(&random, most);
        char first[FZ_PATH_BYTES], second[FZ_PATH_BYTES], third[FZ_PATH_BYTES];
        if (is_large) assert_int_equal(fz_allreduce_max_int(world.group, &is_bad, 1), FZ_OK);
        if (is_large && is_bad) break; /* at one table or the other: all know it now */
        if (!is_good || (!is_large && i % 2 != world.rank / 4)) continue;
        const fz_group *table = is_large ? world.group : half;
        directory_of(first, "pair", family, a);
        directory_of(second, "second", is_large, world.rank / 4 * !is_large);
        directory_of(third, "third", is_large, world.rank / 4 * !is_large);
        is_good = leg(table, family, b, first, second) && leg(table, family, c, second, third) &&
                  leg(table, family, a, third, NULL);
        if (!is_good) fprintf(stderr, "chain %d: %d -> %d -> %d -> %d\n", i, a, b, c, a);
    }
    fz_group_destroy(&half);
    assert_all_ranks(is_good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_saves),
        cmocka_unit_test(all_of_them_store_the_same_digests),
        cmocka_unit_test(every_layout_loads_what_every_layout_saved),
        cmocka_unit_test(random_chains_come_back_to_the_first_layout),
    };

    if (fz_ckpt_start() != FZ_OK) return 1;
    run_on_all_ranks_with(tests, start, stop);
}
