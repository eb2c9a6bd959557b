/* The system refuses: every call that changes the disk, HDF5's too, fails once or from then on,
 * with every error a disk knows; a disk is full at every level; it is read-only; the directory goes
 * away. A save says what was refused and where, what was saved before still loads, and the next
 * save goes well.
 */
#define _GNU_SOURCE
#include "tests/checkpoint/marked_state.h"

#include "tests/checkpoint/disk_calls.h"
#include "tests/support/forked.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "checkpoint/rebuild.h"
#include "checkpoint/verify.h"
#include "core/log.h"

enum { KEEP = 2, STEP_BYTES = 64 << 10 };

static fz_group one = {.rank = 0, .size = 1};
static char dir[FZ_PATH_BYTES], root[FZ_PATH_BYTES];

/* what is refused */

static struct {
    atomic_int n; /* calls so far */
    int from, to; /* calls that are refused; from 0: none */
    int error;
    void (*act)(void); /* instead of a refusal */
} plan;

static int disk_before(disk_call *call)
{
    const int n = atomic_fetch_add(&plan.n, 1) + 1;

    if (plan.from == 0 || n < plan.from || n > plan.to) return 0;
    /* A full disk still gives space back. */
    if ((plan.error == ENOSPC || plan.error == EDQUOT) &&
        (call->verb == DISK_UNLINK || call->verb == DISK_RMDIR))
        return 0;
    if (!plan.act) return plan.error;
    plan.from = 0;
    plan.act();
    return 0;
}

static void disk_after(const disk_call *call)
{
    (void)call;
}

static int n_made; /* calls of the last save */

static void refuse(int from, int to, int error, void (*act)(void))
{
    atomic_store(&plan.n, 0);
    plan.to = to;
    plan.error = error;
    plan.act = act;
    plan.from = from;
}

static fz_status save(int64_t mark)
{
    return marked_save(&one, dir, &TOY_LAYOUTS[3], marked_step(mark), mark, KEEP);
}

static int n_open_files(void)
{
    return count_names("/proc/self/fd", "");
}

static int start(void **state)
{
    (void)state;
    make_quick_folder(root);
    return fz_disk_join(dir, root, "checkpoints") != FZ_OK;
}

static int stop(void **state)
{
    (void)state;
    fz_disk_remove_tree(root);
    return 0;
}

static void tell(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

/* All files of a step are as they were meant, and HDF5 finds every name in its shard. */
static bool is_sound(int64_t mark)
{
    fz_verify verify = {.say = tell, .is_deep = true};
    char name[FZ_STEP_NAME_BYTES], step[FZ_PATH_BYTES];
    fz_rebuilt *rebuilt = NULL;

    fz_step_name(name, marked_step(mark));
    assert_ok(fz_disk_join(step, dir, name));
    assert_ok(fz_verify_directory(&verify, step));
    assert_ok(FZ_NEW(&rebuilt, 1));
    const bool is_whole = fz_rebuild_read(step, NULL, rebuilt) == FZ_OK;
    if (!is_whole) fprintf(stderr, "%s\n", fz_last_error()->text);
    if (is_whole) fz_rebuilt_reset(rebuilt);
    fz_free(&rebuilt);
    return verify.n_faults == 0 && is_whole;
}

/* One save with a refusal: true if it failed, which it says; *mark is the newest that is there. */
static bool fails(int64_t *mark)
{
    const fz_status status = save(*mark + 1);
    const int error = plan.error;

    n_made = atomic_load(&plan.n);
    refuse(0, 0, 0, NULL);
    assert_true(status == FZ_OK || status == FZ_ERR_IO);
    if (status != FZ_OK &&
        (!strstr(fz_last_error()->text, strerror(error)) || !strstr(fz_last_error()->text, root)))
        fail_msg("%s: neither \"%s\" nor the place is told", fz_last_error()->text,
                 strerror(error));
    const int64_t found = marked_find(&one, dir, *mark);
    assert_true(is_sound(found));
    assert_true(found >= *mark && (status != FZ_OK || found == *mark + 1));
    *mark = found;
    return status != FZ_OK;
}

/* Every call in turn; is_lasting: and all after it. */
static int refuse_every_call(int error, bool is_lasting, int64_t *mark)
{
    int n_failed = 0, n_open = n_open_files();

    for (int n = 1;; n++) {
        refuse(n, is_lasting ? 1 << 30 : n, error, NULL);
        const bool has_failed = fails(mark);
        const bool is_last = n_made < n;
        n_failed += has_failed;
        /* A refused close or removal leaves something for the next save, a lasting one anything. */
        if (has_failed && !is_lasting && error == ENOSPC)
            assert_int_equal(count_names(dir, ".s"), 0);
        if (is_last) break;
        assert_int_equal(n_open_files(), n_open);
    }
    assert_ok(save(++*mark));
    assert_int_equal(marked_find(&one, dir, *mark), *mark);
    assert_int_equal(count_names(dir, "."), 0);
    return n_failed;
}

static void any_call_may_be_refused(void **state)
{
    static const int errors[] = {ENOSPC, EIO, EDQUOT, EROFS};
    int64_t mark = 1;

    (void)state;
    assert_ok(save(mark));
    for (int e = 0; e < 4; e++)
        for (int is_lasting = 0; is_lasting < 2; is_lasting++) {
            const int n = refuse_every_call(errors[e], is_lasting, &mark);
            printf("%s%s: %d calls\n", strerror(errors[e]), is_lasting ? " from then on" : "", n);
            assert_true(n > 25);
        }
}

/* the directory goes away */

static void remove_checkpoints(void)
{
    fz_disk_remove_tree(dir);
}

static void a_directory_that_goes_away_is_told(void **state)
{
    int n_failed = 0;

    (void)state;
    for (int n = 2; n < 50; n++) {
        assert_ok(save(1));
        refuse(n, 1 << 30, ENOENT, remove_checkpoints);
        const fz_status status = save(2);
        refuse(0, 0, 0, NULL);
        if (status != FZ_OK && !strstr(fz_last_error()->text, dir))
            fail_msg("%s: the place is not told", fz_last_error()->text);
        n_failed += status != FZ_OK;
        assert_ok(save(3)); /* it is made again */
        assert_true(marked_loads(&one, dir, marked_step(3), 3));
        fz_disk_remove_tree(dir);
    }
    assert_true(n_failed > 25);
    fz_disk_remove_tree(root);
    assert_fails(save(1), FZ_ERR_IO, dir);
    assert_int_equal(mkdir(root, 0755), 0);
}

/* disks of our own, which only root may have */

static bool mount_disk(const char *options)
{
    if (unshare(CLONE_NEWNS) != 0) return false;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return false;
    return mount("tmpfs", root, "tmpfs", 0, options) == 0;
}

/* Takes space until so much is left. */
static void leave_free(int64_t bytes)
{
    char path[FZ_PATH_BYTES];
    struct statvfs space;

    assert_ok(fz_disk_join(path, root, "filler"));
    fz_disk_remove(path);
    assert_int_equal(statvfs(root, &space), 0);
    const int64_t taken = (int64_t)(space.f_bavail * space.f_bsize) - bytes;
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0 && taken > 0);
    assert_int_equal(posix_fallocate(fd, 0, (off_t)taken), 0);
    close(fd);
}

static void a_disk_is_full_at_every_level(void **state)
{
    int64_t mark = 1;
    int n_failed = 0, n_good = 0;

    (void)state;
    if (!mount_disk("size=8m")) skip();
    assert_ok(save(mark));
    for (int64_t n = 0; n_good < 4; n += STEP_BYTES) {
        leave_free(n);
        plan.error = ENOSPC;
        const bool has_failed = fails(&mark);
        n_failed += has_failed;
        n_good += !has_failed;
        if (has_failed) assert_int_equal(count_names(dir, ".s"), 0);
    }
    printf("full at %d levels, then %d saves\n", n_failed, n_good);
    assert_true(n_failed > 4);
    assert_int_equal(umount(root), 0);
}

static void a_disk_without_names_is_full_too(void **state)
{
    int64_t mark = 1;
    int n_failed = 0;

    (void)state;
    if (!mount_disk("size=8m,nr_inodes=12")) skip();
    for (int inodes = 12; inodes < 30; inodes++) {
        char options[64];
        snprintf(options, sizeof options, "size=8m,nr_inodes=%d", inodes);
        assert_int_equal(mount(NULL, root, NULL, MS_REMOUNT, options), 0);
        if (inodes == 12) assert_ok(save(mark));
        plan.error = ENOSPC;
        n_failed += fails(&mark);
    }
    assert_true(n_failed > 3 && mark > 3);
    assert_int_equal(umount(root), 0);
}

static void a_disk_becomes_read_only(void **state)
{
    int64_t mark = 1;

    (void)state;
    if (!mount_disk("size=8m")) skip();
    assert_ok(save(mark));
    assert_int_equal(mount(NULL, root, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    for (int i = 0; i < 3; i++) {
        plan.error = EROFS;
        assert_true(fails(&mark));
    }
    assert_int_equal(mount(NULL, root, NULL, MS_REMOUNT, NULL), 0);
    assert_false(fails(&mark));
    assert_int_equal(umount(root), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(any_call_may_be_refused, start, stop),
        cmocka_unit_test_setup_teardown(a_directory_that_goes_away_is_told, start, stop),
        cmocka_unit_test_setup_teardown(a_disk_is_full_at_every_level, start, stop),
        cmocka_unit_test_setup_teardown(a_disk_without_names_is_full_too, start, stop),
        cmocka_unit_test_setup_teardown(a_disk_becomes_read_only, start, stop),
    };

    if (fz_ckpt_start() != FZ_OK) return 1;
    fz_log_set_level(FZ_LOG_ERROR);
    world.group = &one;
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
