/* A hundred thousand flipped bits, and coarser damage, in every file of a step and its base: each
 * is noticed, the file is named and, in the payload, the block; a start takes the newest step that
 * is whole, and its bits are right.
 *
 *   checkpoint_test_flips [FLIPS [SEED]]     default: 100000 1
 */
#define _GNU_SOURCE
#include "tests/checkpoint/marked_state.h"

#include "tests/support/forked.h"

#include <fcntl.h>

#include "checkpoint/source.h"
#include "checkpoint/verify.h"
#include "checkpoint/verify_file.h"
#include "core/log.h"

/* Two steps with a base each. */
enum { OLD_MARK = 4, NEW_MARK = 6, RANKS = 3, MAX_FILES = 16, THOROUGH_EVERY = 250, PAGE = 4096 };

typedef struct stored { /* one file of the newer step or its base, as it should be */
    char path[FZ_PATH_BYTES];
    char old_path[FZ_PATH_BYTES]; /* its like in the older step */
    char *bytes;                  /* owned */
    size_t n;
    const char *in; /* the directory it is in */
    const fz_source *source;
    const fz_manifest_file *listed; /* NULL: MANIFEST, index.h5 */
    bool is_base;
} stored;

static int64_t n_flips = 100000;
static uint64_t seed = 1;
static char dir[FZ_PATH_BYTES];
static fz_group one = {.rank = 0, .size = 1};
static char step_path[FZ_PATH_BYTES], base_path[FZ_PATH_BYTES];
static fz_source sources[2]; /* step, base */
static fz_manifest manifests[2];
static stored files[MAX_FILES];
static int n_files;

static uint64_t draw(uint64_t below)
{
    static uint64_t n;
    return fz_mix64(seed * 1000003 + n++) % below;
}

/* the checkpoint */

static void save_with_ranks(int64_t mark)
{
    forked_shared *shared = forked_start(RANKS);
    int status;

    for (int r = 0; r < RANKS; r++) {
        const fz_group group = {.rank = r, .size = RANKS, .shared = shared};
        if (fork() == 0)
            _exit(marked_save(&group, dir, &TOY_LAYOUTS[1], marked_step(mark), mark, 0) != FZ_OK);
    }
    for (int r = 0; r < RANKS; r++)
        assert_true(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    forked_stop(shared);
}

static void add_file(const char *in, const char *old, const char *name, int i,
                     const fz_manifest_file *listed)
{
    stored *file = &files[n_files++];

    assert_true(n_files <= MAX_FILES);
    *file = (stored){.in = in, .source = &sources[i], .listed = listed, .is_base = i == 1};
    assert_ok(fz_disk_join(file->path, in, name));
    assert_ok(fz_disk_join(file->old_path, old, name));
    assert_ok(fz_disk_read_file(file->path, &file->bytes, &file->n));
}

static void read_files(const char *in, const char *old, int i)
{
    assert_ok(fz_manifest_accept(in, &manifests[i]));
    assert_ok(fz_source_open_here(in, i ? "base" : "step", &sources[i]));
    add_file(in, old, "MANIFEST", i, NULL);
    for (int64_t f = 0; f < manifests[i].n_files; f++)
        add_file(in, old, manifests[i].files[f].name, i, f == 0 ? NULL : &manifests[i].files[f]);
}

static int start(void **state)
{
    char name[FZ_STEP_NAME_BYTES], old_step[FZ_PATH_BYTES], old_base[FZ_PATH_BYTES];
    fz_manifest old;

    (void)state;
    make_quick_folder(dir);
    save_with_ranks(OLD_MARK);
    save_with_ranks(NEW_MARK);
    fz_step_name(name, marked_step(OLD_MARK));
    assert_ok(fz_disk_join(old_step, dir, name));
    assert_ok(fz_manifest_accept(old_step, &old));
    assert_ok(fz_disk_join(old_base, dir, old.base));
    fz_manifest_reset(&old);
    fz_step_name(name, marked_step(NEW_MARK));
    assert_ok(fz_disk_join(step_path, dir, name));
    read_files(step_path, old_step, 0);
    assert_ok(fz_disk_join(base_path, dir, manifests[0].base));
    read_files(base_path, old_base, 1);
    assert_true(strcmp(old_base, base_path) != 0 && n_files >= 8);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    for (int f = 0; f < n_files; f++)
        fz_free(&files[f].bytes);
    for (int i = 0; i < 2; i++) {
        fz_source_reset(&sources[i]);
        fz_manifest_reset(&manifests[i]);
    }
    fz_disk_remove_tree(dir);
    return 0;
}

static void put_back(const stored *file)
{
    const int fd = open(file->path, O_RDWR | O_CREAT | O_TRUNC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, file->bytes, file->n, 0), file->n);
    close(fd);
}

/* what notices */

typedef struct heard {
    const char *path; /* that a fault must name */
    bool is_named;
    int64_t begin, end; /* of the block that was named last */
} heard;

static void hear(void *context, const char *text)
{
    heard *h = context;
    long long begin, end;
    const char *between = strstr(text, "between bytes ");

    h->is_named |= strstr(text, h->path) != NULL;
    if (!between || sscanf(between, "between bytes %lld and %lld", &begin, &end) != 2) return;
    h->begin = begin;
    h->end = end;
}

/* What looks at this one file in a verification and in a load. named: what the complaint must name.
 */
static bool is_noticed(const stored *file, const char *named, heard *h)
{
    fz_verify verify = {.say = hear, .context = h};
    fz_manifest manifest;
    char *bytes = NULL;
    size_t n = 0;

    *h = (heard){.path = named};
    if (file->listed) {
        assert_ok(fz_verify_file(&verify, file->in, file->listed, file->source));
        return verify.n_faults > 0 && h->is_named;
    }
    if (fz_manifest_accept(file->in, &manifest) == FZ_OK) {
        fz_manifest_reset(&manifest);
        if (fz_source_read_index(file->in, file->is_base ? "base" : "step", &bytes, &n) == FZ_OK) {
            fz_free(&bytes);
            return false;
        }
    }
    return strstr(fz_last_error()->text, named) != NULL;
}

static bool is_in_payload(const stored *file, int64_t at)
{
    const fz_index *index = &file->source->index;
    const char *name = file->listed ? strstr(file->listed->name, "rank-") : NULL;

    if (!name) return false;
    const fz_index_file *f = &index->files[atoll(name + strlen("rank-"))];
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
        if (at >= f->arena[kind].offset && at < f->arena[kind].offset + f->arena[kind].bytes)
            return true;
    return false;
}

/* What a start takes: the newest step that loads, whose bits must be right. */
static int64_t step_taken(void)
{
    for (int64_t before = INT64_MAX;;) {
        fz_ckpt_info info;
        bool found = false;
        toy t;

        assert_ok(fz_ckpt_find_before(&one, dir, before, &found, &info));
        if (!found) return -1;
        before = info.step;
        fz_ckpt_info_reset(&info);
        toy_create(&t, &one, &TOY_LAYOUTS[0], 99);
        const fz_status status = fz_ckpt_load(&one, dir, before, &t.state);
        const int64_t mark = before == marked_step(NEW_MARK) ? NEW_MARK : OLD_MARK;
        const bool is_right = status == FZ_OK && marked_is_right(&t, &one, mark);
        toy_reset(&t);
        if (is_right) return before;
        assert_int_equal(status, FZ_ERR_FORMAT); /* and never OK with wrong bits */
    }
}

/* The program's verification of all of it, and the step that is taken. */
static void check_all(const char *what, const stored *file, const char *named, bool still_loads)
{
    heard h = {.path = named};
    fz_verify verify = {.say = hear, .context = &h};
    const int64_t expected = marked_step(still_loads ? NEW_MARK : OLD_MARK);

    assert_ok(fz_verify_directory(&verify, step_path));
    if (verify.n_faults == 0 || !h.is_named)
        fail_msg("%s in %s: %lld faults are found, it is %s", what, file->path,
                 (long long)verify.n_faults, h.is_named ? "named" : "not named");
    const int64_t taken = step_taken();
    if (taken != expected)
        fail_msg("%s in %s: step %lld is taken, not %lld", what, file->path, (long long)taken,
                 (long long)expected);
}

/* bits */

static void flip(int fd, char byte, int64_t at)
{
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
}

/* A byte of the payload. */
static const stored *draw_payload(int64_t *at)
{
    for (;;) {
        const stored *file = &files[draw((uint64_t)n_files)];
        if (!file->listed) continue;
        *at = (int64_t)draw(file->n);
        if (is_in_payload(file, *at)) return file;
    }
}

/* A byte of anything: every file often, large ones more often. */
static const stored *draw_byte(int64_t *at)
{
    const stored *file = &files[draw((uint64_t)n_files)];
    size_t total = 0, place;

    if (draw(2) == 0) return draw_payload(at);
    *at = (int64_t)draw(file->n);
    if (draw(2) == 0) return file;
    for (int f = 0; f < n_files; f++)
        total += files[f].n;
    place = (size_t)draw(total);
    for (file = files; place >= file->n; file++)
        place -= file->n;
    *at = (int64_t)place;
    return file;
}

static void every_flipped_bit_is_noticed_and_named(void **state)
{
    int64_t n_in_payload = 0, n_beside = 0;
    heard h;

    (void)state;
    assert_int_equal(step_taken(), marked_step(NEW_MARK));
    for (int64_t i = 0; i < n_flips; i++) {
        int64_t at = 0;
        const stored *file = draw_byte(&at);
        const int bit = (int)draw(8), fd = open(file->path, O_RDWR);
        const bool is_payload = is_in_payload(file, at);
        flip(fd, (char)(file->bytes[at] ^ (1 << bit)), at);
        const bool is_found = is_noticed(file, file->path, &h);
        const bool is_place = !is_payload || (h.begin <= at && at < h.end);
        if (!is_found || !is_place)
            fail_msg("bit %d of byte %lld of %s: %s", bit, (long long)at, file->path,
                     is_found ? "another block is named" : "not noticed");
        if (i % THOROUGH_EVERY == 0)
            check_all("a flipped bit", file, file->path, file->listed && !is_payload);
        flip(fd, file->bytes[at], at);
        close(fd);
        n_in_payload += is_payload;
        n_beside += !is_payload;
    }
    assert_int_equal(step_taken(), marked_step(NEW_MARK));
    printf(
        "%lld flips noticed: %lld in the payload, %lld in tables and metadata; %lld of them with "
        "a whole verification and a start\n",
        (long long)n_flips, (long long)n_in_payload, (long long)n_beside,
        (long long)(n_flips + THOROUGH_EVERY - 1) / THOROUGH_EVERY);
    assert_true(n_in_payload > n_flips / 4 && n_beside > n_flips / 4);
}

/* coarser */

static void write_range(const stored *file, int64_t at, const void *bytes, size_t n)
{
    const int fd = open(file->path, O_RDWR);

    assert_int_equal(pwrite(fd, bytes, n, (off_t)at), n);
    close(fd);
}

/* 16-bit words of zeros become ones and the other way, which sums modulo 2^16 - 1 do not see. */
static bool turn_words(const stored *file)
{
    const size_t from = (size_t)draw(file->n / 2) * 2;

    for (size_t at = from; at + 2 <= file->n; at += 2) {
        uint16_t word;
        memcpy(&word, file->bytes + at, 2);
        if (word != 0 && word != 0xffff) continue;
        word = (uint16_t)~word;
        write_range(file, (int64_t)at, &word, 2);
        return true;
    }
    return false;
}

/* Two pages change places, of one file or with a shard, which is looked at and put back. */
static bool swap_pages(const stored *file)
{
    const stored *other = &files[draw((uint64_t)n_files)];
    const size_t n = other->n < file->n ? other->n : file->n, size = n < 2 * PAGE ? 64 : PAGE;
    const size_t a = (size_t)draw(file->n / size) * size, b = (size_t)draw(other->n / size) * size;
    heard h;

    if (other != file && !other->listed) return false;
    if (memcmp(file->bytes + a, other->bytes + b, size) == 0) return false;
    write_range(file, (int64_t)a, other->bytes + b, size);
    write_range(other, (int64_t)b, file->bytes + a, size);
    if (other == file) return true;
    assert_true(is_noticed(other, other->path, &h));
    put_back(other);
    return true;
}

static bool clear_page(const stored *file)
{
    static const char nothing[PAGE];
    const size_t n = file->n < PAGE ? 16 : PAGE, at = (size_t)draw(file->n / n) * n;

    if (memcmp(file->bytes + at, nothing, n) == 0) return false;
    write_range(file, (int64_t)at, nothing, n);
    return true;
}

static bool cut_off(const stored *file)
{
    return truncate(file->path, (off_t)draw(file->n)) == 0;
}

static bool add_bytes(const stored *file)
{
    write_range(file, (int64_t)file->n, file->bytes, 1 + (size_t)draw(file->n));
    return true;
}

static bool take_away(const stored *file)
{
    return unlink(file->path) == 0;
}

/* The file of another save in its place: of the older step, of the same size where shapes are. */
static bool put_stale(const stored *file)
{
    char *bytes;
    size_t n;

    assert_ok(fz_disk_read_file(file->old_path, &bytes, &n));
    write_range(file, 0, bytes, n);
    assert_int_equal(truncate(file->path, (off_t)n), 0);
    fz_free(&bytes);
    return true;
}

/* The file of another rank. */
static bool put_double(const stored *file)
{
    const stored *other = &files[draw((uint64_t)n_files)];

    if (other == file || !other->listed || !file->listed) return false;
    write_range(file, 0, other->bytes, other->n);
    return truncate(file->path, (off_t)other->n) == 0;
}

static const struct {
    const char *name;
    bool (*damage)(const stored *file);
} DAMAGES[] = {
    {"turned words", turn_words},    {"swapped pages", swap_pages},
    {"a cleared page", clear_page},  {"a cut", cut_off},
    {"bytes at the end", add_bytes}, {"a missing file", take_away},
    {"a stale file", put_stale},     {"a file of another rank", put_double},
};
enum { N_DAMAGES = sizeof DAMAGES / sizeof *DAMAGES };

/* Whether the payload is as it was, which is all that a load of a shard needs besides its size. */
static bool has_payload(const stored *file)
{
    char *bytes;
    size_t n;
    bool is_same;

    if (!file->listed || !fz_disk_is_there(file->path)) return false;
    assert_ok(fz_disk_read_file(file->path, &bytes, &n));
    is_same = n == file->n;
    for (size_t at = 0; at < n && is_same; at++)
        is_same = bytes[at] == file->bytes[at] || !is_in_payload(file, (int64_t)at);
    fz_free(&bytes);
    return is_same;
}

static void coarse_damage_is_noticed_and_named(void **state)
{
    int counts[N_DAMAGES] = {0};
    heard h;

    (void)state;
    for (int64_t i = 0; i < n_flips / 250; i++) {
        const int d = (int)(i % N_DAMAGES);
        const stored *file = &files[draw((uint64_t)n_files)];
        if (!DAMAGES[d].damage(file)) continue;
        /* A whole MANIFEST of another save: then it is the index that does not fit. */
        const char *named = DAMAGES[d].damage == put_stale && !file->listed ? file->in : file->path;
        if (!is_noticed(file, named, &h))
            fail_msg("%s in %s: not noticed", DAMAGES[d].name, file->path);
        if (i % 3 == 0 || d >= 3) check_all(DAMAGES[d].name, file, named, has_payload(file));
        put_back(file);
        counts[d]++;
    }
    for (int d = 0; d < N_DAMAGES; d++) {
        printf("%s: %d; ", DAMAGES[d].name, counts[d]);
        assert_true(counts[d] >= 3);
    }
    printf("all noticed\n");
    assert_int_equal(step_taken(), marked_step(NEW_MARK));
}

/* Manifest and index of another save, each whole and in agreement with the other. */
static void the_tables_of_another_save_are_noticed(void **state)
{
    heard h = {.path = step_path};
    fz_verify verify = {.say = hear, .context = &h};

    (void)state;
    put_stale(&files[0]);
    put_stale(&files[1]);
    assert_ok(fz_verify_directory(&verify, step_path));
    assert_true(verify.n_faults > 0 && h.is_named);
    assert_int_equal(step_taken(), marked_step(OLD_MARK));
    for (int f = 2; f < n_files && !files[f].is_base; f++)
        put_stale(&files[f]); /* now it is the older step under the wrong name */
    verify.n_faults = 0;
    assert_ok(fz_verify_directory(&verify, step_path));
    assert_true(verify.n_faults > 0);
    assert_int_equal(step_taken(), marked_step(OLD_MARK));
    for (int f = 0; f < n_files; f++)
        put_back(&files[f]);
    assert_int_equal(step_taken(), marked_step(NEW_MARK));
}

/* A base that is whole, under the name of another. */
static void another_base_is_noticed(void **state)
{
    fz_verify verify = {.is_deep = false};

    (void)state;
    for (int f = 0; f < n_files; f++)
        if (files[f].is_base) put_stale(&files[f]);
    assert_ok(fz_verify_directory(&verify, step_path));
    assert_true(verify.n_faults > 0);
    assert_int_equal(step_taken(), marked_step(OLD_MARK));
    for (int f = 0; f < n_files; f++)
        put_back(&files[f]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flipped_bit_is_noticed_and_named),
        cmocka_unit_test(coarse_damage_is_noticed_and_named),
        cmocka_unit_test(the_tables_of_another_save_are_noticed),
        cmocka_unit_test(another_base_is_noticed),
    };

    if (argc > 1) n_flips = atoll(argv[1]);
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    if (fz_ckpt_start() != FZ_OK) return 1;
    fz_log_set_level(FZ_LOG_ERROR);
    world.group = &one;
    return cmocka_run_group_tests(tests, start, stop) != 0;
}
