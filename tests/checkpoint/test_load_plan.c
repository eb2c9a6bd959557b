/* Cuts, and the plan of a load: who reads, who sends what to whom in which round. No files, no
 * ranks: the plans of all ranks are made side by side. */
#include "tests/support/unit.h"

#include "checkpoint/cut.h"
#include "checkpoint/load_plan.h"
#include "core/memory.h"
#include "core/rng.h"

enum { MAX_RANKS = 24, N_TENSORS = 4, MAX_ROWS = 64, N_FILES = 5 };

static const fz_state_tensor tensors[N_TENSORS] = {
    {.name = "matrix", .ndim = 2, .shape = {4000, 3000}}, /* 46 MiB: three blocks */
    {.name = "cube", .ndim = 3, .shape = {40, 200, 900}},
    {.name = "norm", .ndim = 1, .shape = {7}},
    {.name = "gate", .ndim = 0},
};

static uint64_t seed = 1;

static int64_t below(int64_t n)
{
    seed = fz_mix64(seed + 1);
    return (int64_t)(seed % (uint64_t)n);
}

static fz_box random_box_inside(const fz_box *outer)
{
    fz_box box = *outer;
    for (int axis = 0; axis < FZ_MAX_AXES; axis++) {
        const int64_t n = outer->hi[axis] - outer->lo[axis];
        if (below(2)) continue;
        box.lo[axis] += below(n);
        box.hi[axis] = box.lo[axis] + 1 + below(outer->hi[axis] - box.lo[axis]);
    }
    return box;
}

/* cuts */

/* Every element of a cut against a walk over all of them. */
static void cuts_take_exactly_the_elements_of_both(void **state)
{
    static float file[4096], data[4096], packed[4096], other[4096];

    (void)state;
    for (int n_case = 0; n_case < 2000; n_case++) {
        fz_box whole = {.lo = {0}};
        for (int axis = 0; axis < FZ_MAX_AXES; axis++)
            whole.hi[axis] = 1 + below(5);
        const fz_box box = random_box_inside(&whole), wanted = random_box_inside(&whole);
        const int64_t n = fz_box_elements(&box);
        fz_fragment row = {.offset = 4 * below(9), .a = below(n)};
        memcpy(row.lo, box.lo, sizeof box.lo);
        memcpy(row.hi, box.hi, sizeof box.hi);
        row.b = row.a + 1 + below(n - row.a);
        const int64_t row_end = row.offset + 4 * (row.b - row.a);
        const int64_t begin = 4 * below(row_end / 4), end = begin + 4 * below(n + 4);
        for (int64_t i = 0; i < 4096; i++)
            file[i] = (float)i, data[i] = other[i] = -1;

        int64_t expected = 0, first = 0, last = 0;
        for (int64_t flat = row.a; flat < row.b; flat++) {
            int64_t at[FZ_MAX_AXES], rest = flat;
            bool is_in = true;
            for (int axis = FZ_MAX_AXES - 1; axis >= 0; axis--) {
                const int64_t extent = box.hi[axis] - box.lo[axis];
                at[axis] = box.lo[axis] + rest % extent;
                rest /= extent;
                is_in &= at[axis] >= wanted.lo[axis] && at[axis] < wanted.hi[axis];
            }
            const int64_t byte = row.offset + 4 * (flat - row.a);
            if (!is_in) continue;
            if (last == 0) first = byte;
            last = byte + 4;
            if (byte < begin || byte >= end) continue;
            other[fz_box_offset(&wanted, at)] = file[byte / 4];
            expected++;
        }
        assert_int_equal(fz_cut_count(&row, &wanted, begin, end), expected);
        int64_t span_begin, span_end;
        fz_cut_span(&row, &wanted, &span_begin, &span_end);
        const bool has_none = fz_cut_count(&row, &wanted, row.offset, row_end) == 0;
        assert_true(has_none || (span_begin <= first && span_end >= last));
        fz_cut_copy(&row, &wanted, begin, end, (const char *)file + begin, data);
        assert_memory_equal(data, other, sizeof data);
        assert_int_equal(fz_cut_pack(&row, &wanted, begin, end, (const char *)file + begin, packed),
                         expected);
        for (int64_t i = 0; i < 4096; i++)
            data[i] = -1;
        assert_int_equal(fz_cut_unpack(&row, &wanted, begin, end, packed, data), expected);
        assert_memory_equal(data, other, sizeof data);
    }
}

/* plans */

typedef struct scene {
    fz_source sources[FZ_LOAD_SOURCES];
    fz_fragment rows[MAX_ROWS];
    fz_index_file files[N_FILES];
    fz_wants wants;
    int class_of[MAX_RANKS], first_member[MAX_RANKS + 1], members[MAX_RANKS];
    int64_t first[MAX_RANKS + 1], hosts[MAX_RANKS];
    fz_want list[MAX_RANKS * 8];
    int64_t round_bytes;
} scene;

static scene s;

/* Tensors as flat ranges at random borders, over the files. */
static void make_source(void)
{
    fz_index *index = &s.sources[0].index;

    *index = (fz_index){.n_tensors = N_TENSORS, .rows = s.rows, .n_files = N_FILES};
    index->tensors = malloc(sizeof tensors);
    memcpy(index->tensors, tensors, sizeof tensors);
    index->files = memset(s.files, 0, sizeof s.files);
    strcpy(s.sources[0].path, "scene");
    for (int f = 0; f < N_FILES; f++)
        s.files[f].arena[0].offset = 4 * below(3000);
    for (int t = 0; t < N_TENSORS; t++) {
        const fz_box box = fz_box_of_tensor(&tensors[t]);
        const int64_t n = fz_box_elements(&box);
        for (int64_t a = 0, b; a < n; a = b) {
            fz_arena_place *arena;
            b = index->n_rows > MAX_ROWS - 8 ? n : a + 1 + below(n - a);
            fz_fragment *row = &s.rows[index->n_rows++];
            *row = (fz_fragment){.tensor = t, .file = below(N_FILES), .a = a, .b = b};
            memcpy(row->lo, box.lo, sizeof box.lo);
            memcpy(row->hi, box.hi, sizeof box.hi);
            arena = &s.files[row->file].arena[0];
            row->offset = arena->offset + arena->bytes;
            arena->bytes += 4 * (b - a);
        }
    }
    assert_ok(
        fz_rows_chain(N_TENSORS, s.rows, index->n_rows, &s.sources[0].head, &s.sources[0].next));
}

/* Ranks in classes of any size, or every n_classes-th rank in one, or neighbours, as copies are;
 * the last class may want nothing. */
static void make_wants(int size, int n_classes)
{
    const int64_t order = below(3);
    int n = 0;

    s.wants = (fz_wants){.size = size,
                         .n_classes = n_classes,
                         .class_of = s.class_of,
                         .first_member = s.first_member,
                         .members = s.members,
                         .first = s.first,
                         .list = s.list};
    for (int r = 0; r < size; r++)
        s.class_of[r] = order == 0   ? (r < n_classes ? r : (int)below(n_classes))
                        : order == 1 ? r % n_classes
                                     : (int)((int64_t)r * n_classes / size);
    for (int c = 0; c < n_classes; c++) {
        s.first_member[c] = n;
        for (int r = 0; r < size; r++)
            if (s.class_of[r] == c) s.members[n++] = r;
        const int64_t n_wants = c == n_classes - 1 && n_classes > 1 ? 0 : 1 + below(6);
        s.first[c + 1] = s.first[c] + n_wants;
        for (int64_t i = s.first[c]; i < s.first[c + 1]; i++) {
            const int64_t t = below(N_TENSORS);
            const fz_box whole = fz_box_of_tensor(&tensors[t]), box = random_box_inside(&whole);
            s.list[i] = (fz_want){.tensor = t};
            memcpy(s.list[i].lo, box.lo, sizeof box.lo);
            memcpy(s.list[i].hi, box.hi, sizeof box.hi);
        }
    }
    s.first_member[n_classes] = n;
    for (int r = 0; r < size; r++)
        s.hosts[r] = r / 4;
}

static void make_scene(int n_case)
{
    const int size = 1 + (int)below(MAX_RANKS);

    memset(&s, 0, sizeof s);
    make_source();
    make_wants(size, 1 + (int)below(size));
    s.round_bytes = n_case % 3 == 0 ? 4096 : INT64_C(1) << (16 + below(11));
}

static void reset_scene(void)
{
    free(s.sources[0].index.tensors);
    fz_free(&s.sources[0].head);
    fz_free(&s.sources[0].next);
}

static fz_status plan_of(int rank, fz_load_plan *plan)
{
    const fz_load_plan_args args = {.sources = s.sources,
                                    .wants = &s.wants,
                                    .hosts = s.hosts,
                                    .rank = rank,
                                    .round_bytes = s.round_bytes};
    return fz_load_plan_make(&args, plan);
}

/* Bytes that the class needs of the block. */
static int64_t need_of(const fz_load_block *block, int class_n)
{
    int64_t n = 0;
    for (int64_t i = s.first[class_n]; i < s.first[class_n + 1]; i++)
        for (int64_t r = 0; r < s.sources[0].index.n_rows; r++) {
            const fz_box wanted = fz_box_of_want(&s.list[i]);
            if (s.rows[r].tensor != s.list[i].tensor || s.rows[r].file != block->file) continue;
            n += 4 * fz_cut_count(&s.rows[r], &wanted, block->begin, block->end);
        }
    return n;
}

/* The rule of docs/design/0010, said again over ranks. */
static void check_reader(const fz_load_block *block, int64_t *load)
{
    int64_t need[MAX_RANKS], host[MAX_RANKS] = {0}, most = 0, most_on_host = 0;
    int best = -1, n_needing = 0;

    for (int r = 0; r < s.wants.size; r++) {
        need[r] = need_of(block, s.class_of[r]);
        host[s.hosts[r]] += need[r];
        n_needing += need[r] > 0;
        if (need[r] > most) most = need[r];
    }
    for (int r = 0; r < s.wants.size; r++)
        if (need[r] * 2 >= most && host[s.hosts[r]] > most_on_host) most_on_host = host[s.hosts[r]];
    for (int r = 0; r < s.wants.size; r++)
        if (need[r] * 2 >= most && host[s.hosts[r]] * 2 >= most_on_host &&
            (best < 0 || load[r] < load[best]))
            best = r;
    assert_true(most > 0);
    assert_int_equal(block->reader, best);
    assert_int_equal(block->is_shared, n_needing > 1);
    load[best] += block->end - block->begin;
}

static void check_blocks(const fz_load_plan *plan)
{
    int64_t load[MAX_RANKS] = {0}, total = 0;

    for (int64_t i = 0; i < plan->n_blocks; i++) {
        const fz_load_block *block = &plan->blocks[i];
        const fz_arena_place arena = s.files[block->file].arena[0];
        assert_int_equal((block->begin - arena.offset) % FZ_BLOCK_BYTES, 0);
        assert_true(block->end == arena.offset + arena.bytes ||
                    block->end == block->begin + FZ_BLOCK_BYTES);
        if (i > 0) /* no block twice */
            assert_true(block->file > block[-1].file || block->begin >= block[-1].end);
        check_reader(block, load);
        total += block->end - block->begin;
    }
    assert_int_equal(total, plan->bytes_of_job);
}

/* What the two ends of every message think of it, and the bytes of every round. */
static void check_messages(const fz_load_plan *plans)
{
    int64_t next[MAX_RANKS] = {0};

    for (int from = 0; from < s.wants.size; from++) {
        int64_t sent = 0, at[MAX_RANKS] = {0};
        for (int64_t i = 0; i < plans[from].n_sends; i++) {
            const fz_load_message *m = &plans[from].sends[i];
            const bool is_new = i == 0 || m->round != m[-1].round;
            if (is_new) sent = 0;
            if (is_new || m->first_cut != m[-1].first_cut) sent += m->bytes;
            assert_true(i == 0 || (m->round >= m[-1].round && m->block >= 0));
            assert_true(sent <= s.round_bytes || sent == m->bytes);
            assert_true(sent <= plans[from].send_bytes);
            /* The same message, the next from this rank in the receiver's list. */
            const fz_load_plan *to = &plans[m->peer];
            int64_t *k = &at[m->peer];
            while (*k < to->n_receives && to->receives[*k].peer != from)
                ++*k;
            assert_true(*k < to->n_receives);
            const fz_load_message *r = &to->receives[(*k)++];
            assert_true(r->block == m->block && r->first_cut == m->first_cut &&
                        r->n_cuts == m->n_cuts && r->bytes == m->bytes && r->round == m->round);
            next[m->peer]++;
        }
    }
    for (int r = 0; r < s.wants.size; r++) {
        int64_t received = 0;
        assert_int_equal(next[r], plans[r].n_receives);
        for (int64_t i = 0; i < plans[r].n_receives; i++) {
            const fz_load_message *m = &plans[r].receives[i];
            if (i == 0 || m->round != m[-1].round) received = 0;
            received += m->bytes;
            assert_true(i == 0 || m->round >= m[-1].round);
            assert_true(received <= s.round_bytes || received == m->bytes);
            assert_true(received <= plans[r].receive_bytes && m->round < plans[r].n_rounds);
        }
    }
}

/* Every rank gets every element it wants, from its own blocks or by a message. */
static void check_elements(const fz_load_plan *plans)
{
    for (int r = 0; r < s.wants.size; r++) {
        const int class_n = s.class_of[r];
        int64_t wanted = 0, got = 0;
        for (int64_t i = s.first[class_n]; i < s.first[class_n + 1]; i++) {
            const fz_box box = fz_box_of_want(&s.list[i]);
            wanted += 4 * fz_box_elements(&box);
        }
        for (int64_t i = 0; i < plans[r].n_receives; i++)
            got += plans[r].receives[i].bytes;
        for (int64_t i = 0; i < plans[r].n_cuts; i++) {
            const fz_load_cut *cut = &plans[r].cuts[i];
            if (cut->class_n == class_n && plans[r].blocks[cut->block].reader == r)
                got += 4 * cut->n;
        }
        assert_int_equal(got, wanted);
    }
}

static void every_rank_makes_the_same_plan_and_it_works(void **state)
{
    fz_load_plan plans[MAX_RANKS];
    int n_with_rounds = 0;

    (void)state;
    for (int n_case = 0; n_case < 150; n_case++) {
        make_scene(n_case);
        for (int r = 0; r < s.wants.size; r++) {
            assert_ok(plan_of(r, &plans[r]));
            assert_int_equal(plans[r].n_blocks, plans[0].n_blocks);
            assert_int_equal(plans[r].n_rounds, plans[0].n_rounds);
            assert_memory_equal(plans[r].blocks, plans[0].blocks,
                                (size_t)(plans[0].n_blocks + 1) * sizeof *plans[0].blocks);
        }
        n_with_rounds += plans[0].n_rounds > 1;
        check_blocks(&plans[0]);
        check_messages(plans);
        check_elements(plans);
        for (int r = 0; r < s.wants.size; r++)
            fz_load_plan_reset(&plans[r]);
        reset_scene();
    }
    assert_true(n_with_rounds > 50);
}

/* A fragment fewer, and somebody's elements are nowhere. */
static void a_hole_is_named(void **state)
{
    fz_load_plan plan;

    (void)state;
    make_scene(1);
    make_wants(1, 1);
    s.list[0] = (fz_want){.tensor = 2, .hi = {7, 1, 1, 1, 1}};
    int64_t *head = &s.sources[0].head[2];
    s.rows[*head].a++;
    assert_fails(plan_of(0, &plan), FZ_ERR_FORMAT, "of 7 elements of master of tensor norm");
    reset_scene();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_take_exactly_the_elements_of_both),
        cmocka_unit_test(every_rank_makes_the_same_plan_and_it_works),
        cmocka_unit_test(a_hole_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
