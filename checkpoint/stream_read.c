#include <inttypes.h>
#include <string.h>

#include "checkpoint/blocks.h"
#include "checkpoint/stream.h"
#include "core/checksum.h"
#include "core/memory.h"

/* Pieces of one tensor lie in several files, and many small ones share a block: so many files stay
 * open, each with its last block. */
enum { SLOTS = 8, AHEAD_BLOCKS = 16 };

typedef struct slot {
    fz_blocks blocks;
    int64_t used;  /* when; the oldest makes room */
    int64_t asked; /* the disk was asked for everything up to here, or for what came before */
} slot;

struct fz_ckpt_reader {
    fz_source step, base;
    fz_state state; /* the step's tensors, no views */
    slot slots[SLOTS];
    int64_t now;
};

/* opening */

static fz_status open_sources(fz_ckpt_reader *reader, const char *step_path)
{
    char path[FZ_PATH_BYTES];

    FZ_CHECK(strlen(step_path) < sizeof path, FZ_ERR_ARG, "the path %s is too long", step_path);
    strcpy(path, step_path);
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = 0;
    FZ_TRY(fz_source_open_here(path, "step", &reader->step));
    reader->state.n_tensors = reader->step.index.n_tensors;
    reader->state.tensors = reader->step.index.tensors;
    FZ_TRY(fz_state_check(&reader->state));
    FZ_TRY(fz_source_base(&reader->step, path));
    if (!path[0]) return FZ_OK;
    FZ_TRY(fz_source_open_here(path, "base", &reader->base));
    return fz_source_check_model(&reader->state, &reader->base);
}

fz_status fz_ckpt_reader_open(const char *step_path, fz_ckpt_reader **reader_p)
{
    fz_ckpt_reader *reader = NULL;

    FZ_TRY(FZ_NEW(&reader, 1));
    const fz_status status = open_sources(reader, step_path);
    if (status != FZ_OK)
        fz_ckpt_reader_close(&reader);
    else
        *reader_p = reader;
    return status;
}

void fz_ckpt_reader_close(fz_ckpt_reader **reader)
{
    if (!*reader) return;
    for (int i = 0; i < SLOTS; i++)
        fz_blocks_reset(&(*reader)->slots[i].blocks);
    fz_source_reset(&(*reader)->step);
    fz_source_reset(&(*reader)->base);
    fz_free(reader);
}

const fz_ckpt_info *fz_ckpt_reader_info(const fz_ckpt_reader *reader)
{
    return &reader->step.index.info;
}

int fz_ckpt_reader_count(const fz_ckpt_reader *reader)
{
    return reader->state.n_tensors;
}

const fz_state_tensor *fz_ckpt_reader_tensor(const fz_ckpt_reader *reader, int tensor)
{
    return &reader->state.tensors[tensor];
}

/* reading */

static fz_status open_slot(fz_ckpt_reader *reader, const fz_source *source, int64_t file,
                           fz_blocks **blocks_p, int64_t **asked_p)
{
    slot *oldest = &reader->slots[0], *found = NULL;

    for (int i = 0; i < SLOTS && !found; i++) {
        slot *s = &reader->slots[i];
        if (s->blocks.source == source && s->blocks.file == file) found = s;
        if (s->used < oldest->used) oldest = s;
    }
    if (!found) {
        FZ_TRY(fz_blocks_open(&oldest->blocks, source, file));
        found = oldest;
        found->asked = 0;
    }
    found->used = ++reader->now;
    *blocks_p = &found->blocks;
    *asked_p = &found->asked;
    return FZ_OK;
}

/* Each place once. */
static void ask_ahead(const fz_blocks *blocks, int64_t at, int64_t *asked)
{
    const int64_t step = FZ_BLOCK_BYTES;
    if (*asked < at) *asked = at;
    for (; *asked < at + AHEAD_BLOCKS * step; *asked += step)
        fz_disk_prefetch(blocks->fd, *asked, step);
}

/* A block belongs to one arena, so one that holds the byte is the row's. */
static fz_status read_fragment(fz_ckpt_reader *reader, const fz_source *source,
                               const fz_fragment *row, const fz_box *whole, float *out)
{
    const int64_t end = row->offset + (row->b - row->a) * 4;
    fz_blocks *blocks = NULL;
    int64_t *asked = NULL;

    FZ_TRY(open_slot(reader, source, row->file, &blocks, &asked));
    for (int64_t at = row->offset; at < end; at = blocks->end) {
        if (at < blocks->begin || at >= blocks->end) {
            /* This block and those behind it: of this tensor, or most likely of the ones after. */
            ask_ahead(blocks, at, asked);
            FZ_TRY(fz_blocks_read(blocks, row, at));
        }
        fz_blocks_copy(blocks, row, whole, out);
    }
    return FZ_OK;
}

static fz_status read_fragments(fz_ckpt_reader *reader, const fz_source *source, int tensor,
                                fz_state_kind kind, float *out)
{
    const fz_state_tensor *t = &reader->state.tensors[tensor];
    const fz_box whole = fz_box_of_tensor(t);
    const int64_t n = fz_box_elements(&whole);
    int64_t n_found = 0;

    int64_t row = source->head[(int)kind * reader->state.n_tensors + tensor];
    for (; row >= 0; row = source->next[row]) {
        const fz_fragment *fragment = &source->index.rows[row];
        n_found += fragment->b - fragment->a;
        FZ_TRY(read_fragment(reader, source, fragment, &whole, out));
    }
    FZ_CHECK(n_found == n, FZ_ERR_FORMAT,
             "%s: its fragments hold %lld of %lld elements of %s of tensor %s", source->path,
             (long long)n_found, (long long)n, FZ_KIND_NAMES[kind], t->name);
    const uint64_t digest = fz_digest32(out, 0, n);
    const uint64_t expected =
        reader->step.index.sums[(int)kind * reader->state.n_tensors + tensor][0];
    FZ_CHECK(digest == expected, FZ_ERR_FORMAT,
             "%s: %s of tensor %s has digest %016" PRIx64 " once read, %016" PRIx64
             " when it was saved",
             source->path, FZ_KIND_NAMES[kind], t->name, digest, expected);
    return FZ_OK;
}

fz_status fz_ckpt_reader_read(fz_ckpt_reader *reader, int tensor, fz_state_kind kind, float *out)
{
    const fz_state_tensor *t = &reader->state.tensors[tensor];
    const fz_box whole = fz_box_of_tensor(t);

    if (kind == FZ_STATE_MASTER || kind == FZ_STATE_WEIGHT)
        return t->trainable ? read_fragments(reader, &reader->step, tensor, FZ_STATE_MASTER, out)
                            : read_fragments(reader, &reader->base, tensor, FZ_STATE_WEIGHT, out);
    if (t->trainable && !reader->step.index.info.has_weights_alone)
        return read_fragments(reader, &reader->step, tensor, kind, out);
    memset(out, 0, (size_t)fz_box_elements(&whole) * sizeof *out);
    return FZ_OK;
}

fz_status fz_ckpt_reader_weights(void *reader, int tensor, float *out)
{
    return fz_ckpt_reader_read(reader, tensor, FZ_STATE_MASTER, out);
}
