/* libFuzzer on what an index says. HDF5 itself is behind the checksum of the manifest and not the
 * target: the input changes the bytes of a good index's tables, which HDF5 hands on as they are.
 * Records of 10 bytes: table, place in it, 8 bytes to put there. What is accepted goes through all
 * that reads an index without payload; a broken promise aborts.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hdf5.h>

#include "checkpoint/compare.h"
#include "checkpoint/coverage.h"
#include "checkpoint/h5.h"
#include "checkpoint/source.h"
#include "checkpoint/stream.h"
#include "core/memory.h"
#include "dist/group.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { N_TENSORS = 3, N_ROWS = 6, RECORD_BYTES = 10 };

typedef struct table { /* where its bytes are in the image */
    const char *name;
    int64_t offset, bytes;
} table;
static table tables[] = {{.name = "fragments"},     {.name = "files"},
                         {.name = "tensors/ndim"},  {.name = "tensors/shape"},
                         {.name = "tensors/name"},  {.name = "tensors/trainable"},
                         {.name = "digest/master"}, {.name = "fragment_digests"},
                         {.name = "digest/weight"}, {.name = "crc"},
                         {.name = "config"}};
enum { N_TABLES = sizeof tables / sizeof *tables };
static char *image, *changed; /* good, and the one that is changed */
static size_t image_bytes;

/* No ranks here; what layout.c and source.c need them for is not reached. */
int fz_group_rank(const fz_group *group)
{
    (void)group;
    return 0;
}
fz_status fz_agree(const fz_group *group, fz_status mine)
{
    (void)group;
    return mine;
}
fz_status fz_broadcast(const fz_group *group, void *data, size_t bytes, int root)
{
    (void)group, (void)data, (void)bytes, (void)root;
    abort();
}
fz_status fz_allreduce_sum_uint(const fz_group *group, uint64_t *data, int64_t n)
{
    (void)group, (void)data, (void)n;
    abort();
}

static void must(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "broken promise: %s: %s\n", what, fz_last_error()->text);
    abort();
}

/* ---- a good index ---- */

static void add_row(fz_index *index, int64_t tensor, int64_t file, int64_t offset, int64_t from,
                    int64_t to)
{
    fz_fragment *row = &index->rows[index->n_rows++];
    const fz_box whole = fz_box_of_tensor(&index->tensors[tensor]);

    *row = (fz_fragment){.tensor = tensor, .kind = 0, .file = file, .offset = offset};
    memcpy(row->lo, whole.lo, sizeof row->lo);
    memcpy(row->hi, whole.hi, sizeof row->hi);
    if (index->tensors[tensor].ndim > 0) {
        row->lo[0] = from;
        row->hi[0] = to;
    }
    const fz_box box = fz_box_of_fragment(row);
    row->b = fz_box_elements(&box);
}

static void write_image(const char *path)
{
    static fz_state_tensor list[N_TENSORS] = {
        {.name = "a", .ndim = 2, .shape = {6, 4}, .trainable = true},
        {.name = "b", .ndim = 3, .shape = {4, 2, 3}, .trainable = true},
        {.name = "c", .ndim = 0, .trainable = true}};
    static fz_fragment rows[N_ROWS];
    static uint64_t row_digests[N_ROWS], sums[FZ_N_STATE_KINDS * N_TENSORS][2];
    static fz_index_file files[2];
    static uint32_t crcs[2] = {1, 2};
    static char config[] = "run: {seed: 1}\n";
    fz_index index = {.n_tensors = N_TENSORS,
                      .tensors = list,
                      .rows = rows,
                      .row_digests = row_digests,
                      .n_files = 2,
                      .files = files,
                      .n_blocks = 2,
                      .crcs = crcs,
                      .sums = sums,
                      .info = {.step = 5, .has_weights_alone = true, .config = config}};
    int64_t size;
    uint32_t crc;

    for (int f = 0; f < 2; f++) {
        files[f] = (fz_index_file){.size = 8192};
        files[f].arena[0] = (fz_arena_place){.offset = 4096, .bytes = 100};
        files[f].first_block[0] = f;
        add_row(&index, 0, f, 4096, 3 * f, 3 * f + 3);
        add_row(&index, 1, f, 4096 + 48, 2 * f, 2 * f + 2);
    }
    add_row(&index, 2, 0, 4096 + 96, 0, 1);
    must(fz_ckpt_index_write(path, &index, &size, &crc) == FZ_OK, "the good index is written");
}

static void find_tables(void)
{
    hid_t file;

    must(fz_h5_open_image(image, image_bytes, "image", &file) == FZ_OK, "it opens");
    for (int i = 0; i < N_TABLES; i++) {
        const hid_t set = H5Dopen2(file, tables[i].name, H5P_DEFAULT);
        must(set >= 0, tables[i].name);
        tables[i].offset = (int64_t)H5Dget_offset(set);
        tables[i].bytes = (int64_t)H5Dget_storage_size(set);
        H5Dclose(set);
        must(tables[i].bytes > 0 && tables[i].offset + tables[i].bytes <= (int64_t)image_bytes,
             "tables lie in the file");
    }
    H5Fclose(file);
}

static void start(void)
{
    char path[64];

    must(fz_ckpt_start() == FZ_OK, "hdf5 starts");
    snprintf(path, sizeof path, "/tmp/fuzz-index-%ld", (long)getpid());
    write_image(path);
    must(fz_disk_read_file(path, &image, &image_bytes) == FZ_OK, "it is read");
    unlink(path);
    find_tables();
    must(fz_alloc((void **)&changed, image_bytes, "image") == FZ_OK, "there is memory");
}

/* ---- what is accepted ---- */

static void check_rows(const fz_index *index)
{
    for (int64_t i = 0; i < index->n_rows; i++) {
        const fz_fragment *row = &index->rows[i];
        must(row->tensor >= 0 && row->tensor < index->n_tensors, "a row has a tensor");
        must(row->file >= 0 && row->file < index->n_files, "a row has a file");
        const fz_index_file *file = &index->files[row->file];
        must(row->offset >= 0 && row->offset <= file->size &&
                 row->b - row->a <= (file->size - row->offset) / 4,
             "a row lies in its file");
        const fz_box whole = fz_box_of_tensor(&index->tensors[row->tensor]);
        fz_box boxes[FZ_FRAGMENT_BOXES];
        const int n = fz_fragment_boxes(row, boxes);
        int64_t elements = 0;
        for (int k = 0; k < n; k++) {
            const fz_box part = fz_box_intersect(&boxes[k], &whole);
            must(memcmp(&part, &boxes[k], sizeof part) == 0, "a row lies in its tensor");
            elements += fz_box_elements(&boxes[k]);
        }
        must(elements == row->b - row->a, "a row has its elements");
    }
}

static fz_status differs(void *context, const fz_difference *difference)
{
    (void)difference;
    ++*(int *)context;
    return FZ_OK;
}

static void use(fz_source *source)
{
    fz_index *index = &source->index;
    const fz_state state = {.n_tensors = index->n_tensors, .tensors = index->tensors};
    char base[FZ_PATH_BYTES];
    int n_differences = 0;
    int64_t n_same;

    check_rows(index);
    strcpy(source->path, "here/step-000000005");
    must(fz_rows_chain(index->n_tensors, index->rows, index->n_rows, &source->head,
                       &source->next) == FZ_OK,
         "rows are chained");
    const bool is_good = fz_state_check(&state) == FZ_OK;
    const fz_status covered = fz_coverage_check(source, false);
    must(covered == FZ_OK || covered == FZ_ERR_FORMAT, "a sweep finds a fault or none");
    fz_coverage_check(source, true);
    must(fz_source_check_model(&state, source) == FZ_OK, "it is its own model");
    fz_source_base(source, base);
    must(fz_compare(index, index, differs, &n_differences, &n_same) == FZ_OK, "it compares");
    must(n_differences == 0 || !is_good, "it is its own equal");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static fz_source source;

    if (!image) start();
    const int64_t n_live = fz_memory_get().n_live;
    memcpy(changed, image, image_bytes);
    for (; n >= RECORD_BYTES; n -= RECORD_BYTES, data += RECORD_BYTES) {
        const table *t = &tables[data[0] % N_TABLES];
        const int64_t at = data[1] * INT64_C(8) % t->bytes;
        const int64_t room = t->bytes - at;
        memcpy(changed + t->offset + at, data + 2, (size_t)(room < 8 ? room : 8));
    }
    memset(&source, 0, sizeof source);
    const fz_status status = fz_index_read(changed, image_bytes, "input", &source.index);
    if (status == FZ_OK)
        use(&source);
    else
        must(status == FZ_ERR_FORMAT, "a bad index is a bad file");
    fz_source_reset(&source);
    must(fz_memory_get().n_live == n_live, "all memory is given back");
    return 0;
}
