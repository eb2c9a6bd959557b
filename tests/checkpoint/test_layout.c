/* Boxes, runs, digests and checksums, without files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/crc_combine.h"
#include "checkpoint/layout.h"
#include "checkpoint/manifest.h"
#include "core/checksum.h"
#include "core/rng.h"

static int64_t below(uint64_t *seed, int64_t n)
{
    *seed = fz_mix64(*seed + 1);
    return (int64_t)(*seed % (uint64_t)n);
}

static fz_box random_box_inside(uint64_t *seed, const fz_box *outer)
{
    fz_box box = *outer;
    for (int axis = 0; axis < FZ_MAX_AXES; axis++) {
        const int64_t n = outer->hi[axis] - outer->lo[axis];
        if (below(seed, 2)) continue; /* often the whole axis */
        box.lo[axis] += below(seed, n);
        box.hi[axis] = box.lo[axis] + 1 + below(seed, outer->hi[axis] - box.lo[axis]);
    }
    return box;
}

/* Every run position must be the element-by-element walk's. */
static void runs_visit_every_element_once_and_in_order(void **state)
{
    uint64_t seed = 3;

    (void)state;
    for (int n_case = 0; n_case < 300; n_case++) {
        fz_box whole;
        for (int axis = 0; axis < FZ_MAX_AXES; axis++) {
            whole.lo[axis] = 0;
            whole.hi[axis] = 1 + below(&seed, 5);
        }
        const fz_box a = random_box_inside(&seed, &whole), b = random_box_inside(&seed, &whole);
        const fz_box part = fz_box_intersect(&a, &b);
        fz_runs runs = fz_runs_over(&part, &a, &b);
        int64_t in_a, in_b, n = 0, last = -1;
        int64_t seen[3125] = {0};
        while (fz_runs_next(&runs, &in_a, &in_b)) {
            assert_true(in_a > last);
            last = in_a;
            for (int64_t k = 0; k < runs.length; k++, n++)
                seen[in_a + k] = in_b + k + 1;
        }
        assert_int_equal(n, fz_box_elements(&part));
        int64_t at[FZ_MAX_AXES];
        for (at[0] = part.lo[0]; at[0] < part.hi[0]; at[0]++)
            for (at[1] = part.lo[1]; at[1] < part.hi[1]; at[1]++)
                for (at[2] = part.lo[2]; at[2] < part.hi[2]; at[2]++)
                    for (at[3] = part.lo[3]; at[3] < part.hi[3]; at[3]++)
                        for (at[4] = part.lo[4]; at[4] < part.hi[4]; at[4]++)
                            assert_int_equal(seen[fz_box_offset(&a, at)],
                                             n == 0 ? 0 : fz_box_offset(&b, at) + 1);
    }
}

static void the_digest_does_not_depend_on_the_cut(void **state)
{
    const fz_state_tensor tensor = {.name = "t", .ndim = 3, .shape = {5, 4, 6}};
    const fz_state s = {.n_tensors = 1, .tensors = &tensor};
    float data[120], part[120];
    uint64_t sum = 0;

    (void)state;
    for (int i = 0; i < 120; i++)
        data[i] = (float)i * 0.37f;
    for (int piece = 0; piece < 3; piece++) { /* columns, so that every run is short */
        fz_state_view view = {.lo = {0, 0, 2 * piece}, .hi = {5, 4, 2 * piece + 2}, .data = part};
        for (int i = 0; i < 40; i++)
            part[i] = data[i / 2 * 6 + 2 * piece + i % 2];
        sum += fz_view_digest(&s, &view);
    }
    assert_true(sum == fz_digest32(data, 0, 120));
    data[77] += 1.0f;
    assert_true(sum != fz_digest32(data, 0, 120));
}

static void checksums_of_parts_give_that_of_the_whole(void **state)
{
    static char data[5000];
    uint64_t seed = 11;

    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)below(&seed, 256);
    const uint32_t whole = fz_crc32c(0, data, sizeof data);
    for (int64_t cut = 0; cut <= 5000; cut += 250) {
        const uint32_t left = fz_crc32c(0, data, (size_t)cut);
        const uint32_t right = fz_crc32c(0, data + cut, (size_t)(5000 - cut));
        assert_int_equal(fz_crc32c_combine(left, right, 5000 - cut), whole);
    }
}

/* A manifest with its last line made right again, so that only the parser can object. */
static fz_status parse_with_crc(const char *lines, fz_manifest *manifest)
{
    char text[1024];
    const size_t n = (size_t)snprintf(text, sizeof text, "%s", lines);
    const size_t end = n + (size_t)snprintf(text + n, sizeof text - n, "crc %08x\n",
                                            (unsigned)fz_crc32c(0, text, n));
    return fz_manifest_parse(text, end, "M", manifest);
}

#define HEAD "florenz-checkpoint 1\nkind step\nstep 12\nrun a b\nbase -\n"
#define INDEX "file index.h5 10 0000000a\n"

static void manifests_are_taken_only_as_they_were_written(void **state)
{
    const char *const bad[] = {
        "",
        "florenz-checkpoint 2\nkind step\nstep 12\nrun a\nbase -\n" INDEX,
        HEAD,
        HEAD "file ../index.h5 10 0000000a\n",
        HEAD INDEX "file /etc/passwd 10 0000000a\n",
        HEAD INDEX "file s00/x.h5 -1 0000000a\n",
        HEAD INDEX "file s00/x.h5 1 0000000a more\n",
        HEAD INDEX "\n",
        "florenz-checkpoint 1\nkind step\nstep 1x\nrun a\nbase -\n" INDEX,
        "florenz-checkpoint 1\nkind step\nstep -3\nrun a\nbase -\n" INDEX,
        "florenz-checkpoint 1\nkind step\nstep 99999999999999999999\nrun a\nbase -\n" INDEX,
        "florenz-checkpoint 1\nkind step\nstep 1\nrun a\nbase ../up\n" INDEX,
        "florenz-checkpoint 1\nkind waytoolong\nstep 1\nrun a\nbase -\n" INDEX,
    };
    fz_manifest m;

    (void)state;
    assert_int_equal(parse_with_crc(HEAD INDEX "file s00/rank-00000.h5 77 deadbeef\n", &m), FZ_OK);
    assert_true(m.step == 12 && m.n_files == 2 && m.files[1].size == 77);
    assert_true(m.files[1].crc == 0xdeadbeef && strcmp(m.run_id, "a b") == 0 && !m.base[0]);
    fz_manifest_reset(&m);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(parse_with_crc(bad[i], &m), FZ_ERR_FORMAT);
    assert_int_equal(fz_manifest_parse(HEAD INDEX "crc 00000000\n",
                                       strlen(HEAD INDEX "crc 00000000\n"), "M", &m),
                     FZ_ERR_FORMAT);
    assert_int_equal(fz_manifest_parse("crc", 3, "M", &m), FZ_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_visit_every_element_once_and_in_order),
        cmocka_unit_test(the_digest_does_not_depend_on_the_cut),
        cmocka_unit_test(checksums_of_parts_give_that_of_the_whole),
        cmocka_unit_test(manifests_are_taken_only_as_they_were_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
