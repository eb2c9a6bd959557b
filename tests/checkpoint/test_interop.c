/* Other programs read what we write: h5ls, h5dump and h5py. Skipped where none is installed. */
#include "tests/checkpoint/toy_state.h"

static bool has(const char *command)
{
    char line[256];
    snprintf(line, sizeof line, "%s >/dev/null 2>&1", command);
    return system(line) == 0;
}

/* One that has h5py: the first of the path may be another than the system's. */
static const char *python(void)
{
    if (has("python3 -c 'import h5py'")) return "python3";
    return has("/usr/bin/python3 -c 'import h5py'") ? "/usr/bin/python3" : NULL;
}

static void h5ls_shows_tensors_by_name_and_shape(void **state)
{
    char command[FZ_PATH_BYTES + 256];

    if (!has("h5ls --version")) skip();
    snprintf(command, sizeof command,
             "h5ls -r '%s/step-000000042/s00/rank-00000.h5' | "
             "grep -q '^/exp_avg_sq/layer.0.q/2 *Dataset {6, 36}'",
             (const char *)*state);
    assert_int_equal(system(command), 0);
}

static void h5dump_reads_the_index(void **state)
{
    char command[FZ_PATH_BYTES + 256];

    if (!has("h5dump --version")) skip();
    snprintf(command, sizeof command,
             "h5dump -a /state/step '%s/step-000000042/index.h5' | grep -q '(0): 42'",
             (const char *)*state);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command,
             "h5dump -d /config '%s/step-000000042/index.h5' | grep -q 'variant: toy'",
             (const char *)*state);
    assert_int_equal(system(command), 0);
}

/* Every element of one tensor, put together from its pieces by the index alone. */
static void h5py_puts_a_tensor_together(void **state)
{
    static const char script[] =
        "import h5py, numpy, sys\n"
        "step = sys.argv[1] + '/step-000000042/'\n"
        "index = h5py.File(step + 'index.h5', 'r')\n"
        "names = [n.decode() for n in index['tensors/name'][:]]\n"
        "t = names.index('conv.patch')\n"
        "ndim = index['tensors/ndim'][t]\n"
        "whole = numpy.zeros(index['tensors/shape'][t][:ndim], 'f4')\n"
        "for row in index['fragments'][:]:\n"
        "    if row[0] != t or row[1] != 1: continue\n"
        "    lo, hi = row[6:6 + ndim], row[11:11 + ndim]\n"
        "    shape = hi - lo\n"
        "    raw = open(step + 's00/rank-%05d.h5' % row[2], 'rb').read()\n"
        "    part = numpy.frombuffer(raw, '<f4', shape.prod(), row[3]).reshape(shape)\n"
        "    shard = h5py.File(step + 's00/rank-%05d.h5' % row[2], 'r')\n"
        "    same = [p for p in shard['exp_avg/conv.patch'].values()\n"
        "            if p.id.get_offset() == row[3]]\n"
        "    assert len(same) == 1 and same[0].shape == tuple(shape)\n"
        "    assert (same[0][...].view('u4') == part.view('u4')).all()\n"
        "    whole[tuple(slice(a, b) for a, b in zip(lo, hi))] = part\n"
        "open(sys.argv[2], 'wb').write(whole.tobytes())\n";
    const char *dir = *state;
    char path[FZ_PATH_BYTES], out[FZ_PATH_BYTES], command[3 * FZ_PATH_BYTES], *bytes;
    size_t n;

    if (!python()) skip();
    fz_disk_join(path, dir, "read.py");
    fz_disk_join(out, dir, "out");
    assert_int_equal(fz_disk_write_file(path, script, sizeof script - 1), FZ_OK);
    snprintf(command, sizeof command, "%s '%s' '%s' '%s'", python(), path, dir, out);
    assert_int_equal(system(command), 0);
    assert_int_equal(fz_disk_read_file(out, &bytes, &n), FZ_OK);
    assert_int_equal(n, 5 * 3 * 4 * 6 * 4);
    for (int64_t i = 0; i < 360; i++) {
        const uint32_t expected = toy_bits(6, 3, FZ_STATE_EXP_AVG, i);
        assert_memory_equal(bytes + 4 * i, &expected, 4);
    }
    fz_free(&bytes);
}

static char scratch[FZ_PATH_BYTES];

static int start(void **state)
{
    const fz_ckpt_info info = toy_info(42);
    toy t;

    make_scratch(scratch);
    toy_create(&t, world.group, &TOY_LAYOUTS[1], 6);
    assert_int_equal(fz_ckpt_save(world.group, scratch, &t.state, &info, 0, NULL), FZ_OK);
    toy_reset(&t);
    *state = scratch;
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
        cmocka_unit_test(h5ls_shows_tensors_by_name_and_shape),
        cmocka_unit_test(h5dump_reads_the_index),
        cmocka_unit_test(h5py_puts_a_tensor_together),
    };

    if (!has("h5ls --version") && !python()) return 77;
    if (fz_ckpt_start() != FZ_OK) return 1;
    run_on_all_ranks_with(tests, start, stop);
}
