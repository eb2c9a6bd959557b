/* What a power cut must not undo: everything is synced before the step gets its name, and the name
 * before the save returns. fsync and rename of this program note down who calls them. */
#include "tests/checkpoint/toy_state.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include "checkpoint/stream.h"

enum { MAX_EVENTS = 256 };
static char events[MAX_EVENTS][FZ_PATH_BYTES + 8];
static int n_events;

int fsync(int fd)
{
    char link[64];

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    char *event = events[n_events++ % MAX_EVENTS];
    strcpy(event, "sync ");
    const ssize_t n = readlink(link, event + 5, FZ_PATH_BYTES - 1);
    event[5 + (n > 0 ? n : 0)] = 0;
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
    snprintf(events[n_events++ % MAX_EVENTS], FZ_PATH_BYTES + 8, "name %.4000s", to);
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

/* First event from `from` on with this verb whose path ends like that; -1. */
static int find_event(int from, const char *verb, const char *end)
{
    for (int i = from; i < n_events; i++) {
        const size_t n = strlen(events[i]), m = strlen(end);
        if (strncmp(events[i], verb, 4) == 0 && n >= m && strcmp(events[i] + n - m, end) == 0)
            return i;
    }
    return -1;
}

/* The directory that gets its name was synced itself, just before. */
static void check_own_sync(int named)
{
    assert_int_equal(strncmp(events[named - 1], "sync ", 5), 0);
    const char *last = strrchr(events[named - 1], '/');
    assert_true(last && last[1] == '.' && strstr(last, ".tmp-"));
}

/* The first event with this verb whose path contains the one and ends in the other; -1. */
static int find_inside(const char *verb, const char *part, const char *end)
{
    for (int i = 0; (i = find_event(i, verb, end)) >= 0; i++)
        if (strstr(events[i], part)) return i;
    return -1;
}

/* All of a directory is synced before it gets its name, in this order, and the name before anything
 * else. Returns when it got its name. */
static int check_directory(const char *tmp, const char *name, const char *dir)
{
    static const char *const files[] = {"/s00/rank-00000.h5", "/index.h5", "/MANIFEST", "/s00"};
    const int named = find_event(0, "name", name);
    int last = -1;

    assert_true(named >= 0);
    for (int i = 0; i < 4; i++) {
        const int synced = find_inside("sync", tmp, files[i]);
        assert_true(synced >= 0 && synced < named);
        assert_true(synced > last);
        last = synced;
    }
    /* The temporary directory itself just before, its parent just after. */
    check_own_sync(named);
    assert_int_equal(find_event(named + 1, "sync", dir), named + 1);
    return named;
}

static void everything_is_synced_before_it_gets_its_name(void **state)
{
    const fz_ckpt_info info = toy_info(6);
    char dir[FZ_PATH_BYTES];
    fz_ckpt_info found_info;
    bool found = false;
    toy t;

    (void)state;
    make_scratch(dir);
    toy_create(&t, world.group, &TOY_LAYOUTS[0], 1);
    n_events = 0;
    assert_int_equal(fz_ckpt_save(world.group, dir, &t.state, &info, 0, NULL), FZ_OK);
    toy_reset(&t);
    assert_true(n_events < MAX_EVENTS);
    assert_int_equal(fz_ckpt_find(world.group, dir, &found, &found_info), FZ_OK);
    assert_true(found);
    /* The base before the step that refers to it. */
    assert_true(check_directory("/.base-new.tmp-", found_info.base, dir) <
                check_directory("/.step-000000006.tmp-", "step-000000006", dir));
    fz_ckpt_info_reset(&found_info);
    remove_scratch(dir);
}

static fz_status give(void *context, int tensor, float *out)
{
    const fz_box box = fz_box_of_tensor(&TOY_TENSORS[tensor]);

    (void)context;
    memset(out, 0, (size_t)fz_box_elements(&box) * sizeof *out);
    return FZ_OK;
}

/* Base and step are both whole before the base has its name, and then the step. */
static void a_stream_is_synced_before_it_gets_its_name(void **state)
{
    static const char *const tmp[] = {"/.base-new.tmp-", "/.step-000000008.tmp-"};
    const fz_ckpt_info info = toy_info(8);
    char dir[FZ_PATH_BYTES];
    fz_ckpt_info found_info;
    bool found = false;
    int named[2];

    (void)state;
    make_scratch(dir);
    n_events = 0;
    assert_int_equal(
        fz_ckpt_save_tensors(world.group, dir, N_TOY_TENSORS, TOY_TENSORS, give, NULL, &info, NULL),
        FZ_OK);
    assert_true(n_events < MAX_EVENTS);
    assert_int_equal(fz_ckpt_find(world.group, dir, &found, &found_info), FZ_OK);
    assert_true(found);
    named[0] = check_directory(tmp[0], found_info.base, dir);
    named[1] = check_directory(tmp[1], "step-000000008", dir);
    fz_ckpt_info_reset(&found_info);
    assert_true(named[0] < named[1]);
    for (int i = 0; i < 2; i++)
        assert_true(find_inside("sync", tmp[i], "/s00/rank-00000.h5") < named[0]);
    remove_scratch(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_synced_before_it_gets_its_name),
        cmocka_unit_test(a_stream_is_synced_before_it_gets_its_name),
    };

    if (fz_ckpt_start() != FZ_OK) return 1;
    run_on_all_ranks(tests);
}
