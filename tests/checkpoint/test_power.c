/* The power is cut at any time of a series of saves: of everything that was not synced, any part
 * may be missing. On every such disk the newest acknowledged step, or the one under way, is found
 * whole.
 *
 *   checkpoint_test_power [STATES [SEED]]     default: 700 1
 */
#define _GNU_SOURCE
#include "tests/checkpoint/marked_state.h"

#include "tests/checkpoint/disk_calls.h"
#include "tests/checkpoint/disk_model.h"
#include "tests/support/forked.h"

#include "checkpoint/direct.h"
#include "core/log.h"

enum { SAVES = 7, KEEP = 2 };

static int64_t n_states = 700;
static uint64_t seed = 1;
static fz_group one = {.rank = 0, .size = 1};
static int acknowledged[SAVES + 1]; /* events before the save with this mark returned */

static int disk_before(disk_call *call)
{
    (void)call;
    return 0;
}

static void disk_after(const disk_call *call)
{
    if (model.is_on) model_record(call);
}

static void record_saves(void)
{
    char root[FZ_PATH_BYTES], dir[FZ_PATH_BYTES];

    make_quick_folder(root);
    model_start(root);
    assert_ok(fz_disk_join(dir, root, "checkpoints"));
    for (int mark = 1; mark <= SAVES; mark++) {
        fz_io_set(mark % 2 ? FZ_IO_DIRECT : FZ_IO_BUFFERED);
        assert_ok(marked_save(&one, dir, &TOY_LAYOUTS[mark % N_TOY_LAYOUTS], marked_step(mark),
                              mark, KEEP));
        acknowledged[mark] = model.n_events;
    }
    model.is_on = false;
    fz_disk_remove_tree(root);
}

static void check_state(int n, power_loss loss, uint64_t state_seed, bool goes_on)
{
    char root[FZ_PATH_BYTES], dir[FZ_PATH_BYTES];
    int64_t last = 0;

    for (int mark = 1; mark <= SAVES; mark++)
        if (acknowledged[mark] <= n) last = mark;
    make_quick_folder(root);
    model_cut_power(n, loss, state_seed, root);
    assert_ok(fz_disk_join(dir, root, "checkpoints"));
    const int64_t found = marked_find(&one, dir, last);
    if (found < 0)
        fail_msg("power cut before event %d of %d, loss %d, seed %llu: %s", n, model.n_events,
                 (int)loss, (unsigned long long)state_seed, root);
    if (goes_on) {
        assert_ok(marked_save(&one, dir, &TOY_LAYOUTS[0], marked_step(found + 1), found + 1, KEEP));
        assert_int_equal(marked_find(&one, dir, found + 1), found + 1);
        assert_int_equal(count_names(dir, "."), 0);
    }
    fz_disk_remove_tree(root);
}

static void no_power_cut_loses_what_was_acknowledged(void **state)
{
    (void)state;
    record_saves();
    for (int64_t i = 0; i < n_states; i++) {
        const uint64_t h = fz_mix64(seed * 1000003 + (uint64_t)i);
        const int n = 1 + (int)(h % (uint64_t)model.n_events);
        check_state(n, (power_loss)(i % N_POWER_LOSSES), h, i % 16 == 0);
    }
    /* The moments just after a save has returned, when nothing of it may be missing. */
    for (int mark = 1; mark <= SAVES; mark++)
        for (int loss = 0; loss < N_POWER_LOSSES; loss++)
            check_state(acknowledged[mark], (power_loss)loss, seed, false);
    printf("%lld disks from %d changes of %d saves\n", (long long)n_states + SAVES * N_POWER_LOSSES,
           model.n_events, SAVES);
    model_stop();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_power_cut_loses_what_was_acknowledged),
    };

    if (argc > 1) n_states = atoll(argv[1]);
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    if (fz_ckpt_start() != FZ_OK) return 1;
    fz_log_set_level(FZ_LOG_ERROR);
    world.group = &one;
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
