#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "checkpoint/disk.h"
#include "checkpoint/index_file.h"
#include "checkpoint/layout.h"
#include "checkpoint/manifest.h"
#include "checkpoint/shard_file.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/rng.h"

enum {
    TRAINED = 1 << FZ_STATE_MASTER | 1 << FZ_STATE_EXP_AVG | 1 << FZ_STATE_EXP_AVG_SQ,
    FROZEN = 1 << FZ_STATE_WEIGHT
};

typedef struct save {
    const fz_group *world; /* borrowed, like all of the caller's */
    const char *dir;
    const fz_state *state;
    const fz_ckpt_info *info;
    int rank, size;
    char base[64];            /* "" where nothing is frozen */
    uint64_t (*sums)[2];      /* owned: digests of all tensors */
    uint64_t *views;          /* owned: and of this rank's views */
    fz_shard_record *records; /* owned: of all ranks, for the directory being written */
    int64_t *counts;          /* owned: [size] bytes for gathers */
    int64_t bytes;            /* written by this rank */
} save;

/* A directory in the making: a step, or a base. */
typedef struct target {
    unsigned mask; /* of kinds */
    const char *kind;
    char name[FZ_STEP_NAME_BYTES]; /* in the end */
    char tmp[128];                 /* until then; both relative to save.dir */
    char path[FZ_PATH_BYTES];      /* of tmp */
    fz_shard shard;
    fz_index index;
} target;

/* making room */

/* Rank 0 makes the directories and everybody learns the name. */
static fz_status make_directories(save *s, target *t)
{
    static int64_t n_saves;
    char path[FZ_PATH_BYTES], part[16];

    snprintf(t->tmp, sizeof t->tmp, ".%s.tmp-%ld-%" PRIu64 "-%" PRId64, t->name, (long)getpid(),
             (uint64_t)(fz_clock_s() * 1e6), n_saves++);
    FZ_TRY(fz_disk_join(t->path, s->dir, t->tmp));
    FZ_TRY(fz_disk_make_directory(s->dir));
    FZ_TRY(fz_disk_make_directory(t->path));
    for (int first = 0; first < s->size; first += 256) {
        snprintf(part, sizeof part, "s%02d", first / 256);
        FZ_TRY(fz_disk_join(path, t->path, part));
        FZ_TRY(fz_disk_make_directory(path));
    }
    return FZ_OK;
}

static fz_status prepare(save *s, target *t)
{
    fz_status status = FZ_OK;

    if (s->rank == 0) status = make_directories(s, t);
    FZ_TRY(fz_agree(s->world, status));
    FZ_TRY(fz_broadcast(s->world, t->path, sizeof t->path, 0));
    return FZ_OK;
}

/* every rank's file */

static fz_status write_own_file(save *s, target *t)
{
    char path[FZ_PATH_BYTES], name[FZ_SHARD_NAME_BYTES];

    FZ_TRY(fz_shard_init(&t->shard, s->state, s->info, s->rank, s->size, t->mask, s->views));
    fz_shard_name(name, s->rank);
    FZ_TRY(fz_disk_join(path, t->path, name));
    FZ_TRY(fz_shard_write(&t->shard, path));
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
        s->bytes += t->shard.record.arena[kind].bytes;
    return FZ_OK;
}

/* the tables */

static fz_status allocate_tables(const save *s, fz_index *index, bool has_rows)
{
    if (has_rows) {
        FZ_TRY(FZ_NEW(&index->rows, index->n_rows));
        FZ_TRY(FZ_NEW(&index->row_digests, index->n_rows));
    }
    if (s->rank != 0) return FZ_OK;
    index->n_tensors = s->state->n_tensors;
    index->n_files = s->size;
    FZ_TRY(FZ_NEW(&index->tensors, index->n_tensors));
    FZ_TRY(FZ_NEW(&index->files, index->n_files));
    FZ_TRY(FZ_NEW(&index->crcs, index->n_blocks));
    return FZ_NEW(&index->sums, FZ_N_STATE_KINDS * index->n_tensors);
}

/* One column of all ranks, to rank 0; n_of gives each rank's elements. */
static fz_status gather(save *s, const void *mine, size_t element, size_t n_offset, void *all)
{
    for (int r = 0; r < s->size; r++) {
        int64_t n;
        memcpy(&n, (const char *)&s->records[r] + n_offset, sizeof n);
        s->counts[r] = n * (int64_t)element;
    }
    return fz_gatherv_bytes(s->world, mine, s->counts[s->rank], all, s->counts, 0);
}

/* Tables of all ranks at rank 0; where there are replicas everybody gets the rows and compares its
 * copies with their owners'. */
static fz_status gather_tables(save *s, target *t)
{
    fz_index *index = &t->index;
    const fz_shard *shard = &t->shard;
    int64_t n_replicas = 0;

    FZ_TRY(fz_allgather(s->world, &shard->record, sizeof shard->record, s->records));
    for (int r = 0; r < s->size; r++) {
        index->n_rows += s->records[r].n_rows;
        index->n_blocks += s->records[r].n_blocks;
        n_replicas += s->records[r].n_replicas;
    }
    FZ_TRY(fz_agree(s->world, allocate_tables(s, index, s->rank == 0 || n_replicas > 0)));
    const size_t rows = offsetof(fz_shard_record, n_rows);
    FZ_TRY(gather(s, shard->rows, sizeof *index->rows, rows, index->rows));
    FZ_TRY(gather(s, shard->digests, sizeof *index->row_digests, rows, index->row_digests));
    FZ_TRY(gather(s, shard->crcs, sizeof *index->crcs, offsetof(fz_shard_record, n_blocks),
                  index->crcs));
    if (n_replicas == 0) return FZ_OK;
    FZ_TRY(fz_broadcast(s->world, index->rows, (size_t)index->n_rows * sizeof *index->rows, 0));
    FZ_TRY(fz_broadcast(s->world, index->row_digests,
                        (size_t)index->n_rows * sizeof *index->row_digests, 0));
    return fz_agree(s->world, fz_replicas_check(s->state, t->mask, s->views, index->rows,
                                                index->row_digests, index->n_rows));
}

/* the commit, rank 0 */

static void fill_index(const save *s, target *t)
{
    fz_index *index = &t->index;
    int64_t block = 0;

    memcpy(index->tensors, s->state->tensors, (size_t)index->n_tensors * sizeof *index->tensors);
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
        if (t->mask != FROZEN || kind == FZ_STATE_WEIGHT)
            memcpy(index->sums[kind * index->n_tensors], s->sums[kind * index->n_tensors],
                   (size_t)index->n_tensors * sizeof *index->sums);
    for (int r = 0; r < s->size; r++) {
        fz_index_file *file = &index->files[r];
        file->size = s->records[r].size;
        for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
            file->arena[kind] = s->records[r].arena[kind];
            file->first_block[kind] = block;
            block += fz_blocks_of(file->arena[kind].bytes);
        }
    }
    index->info = *s->info; /* config stays the caller's: taken out again after writing */
    memcpy(index->info.base, s->base, sizeof s->base);
    if (t->mask == FROZEN) index->info.base[0] = 0;
}

static fz_status write_index(const save *s, target *t, fz_manifest_file *file)
{
    char path[FZ_PATH_BYTES];

    strcpy(file->name, "index.h5");
    FZ_TRY(fz_disk_join(path, t->path, file->name));
    fill_index(s, t);
    const fz_status status = fz_ckpt_index_write(path, &t->index, &file->size, &file->crc);
    t->index.info.config = NULL;
    return status;
}

static fz_status write_manifest(const save *s, target *t)
{
    fz_manifest manifest = {.step = s->info->step};
    char path[FZ_PATH_BYTES];

    strcpy(manifest.kind, t->kind);
    memcpy(manifest.run_id, s->info->run_id, sizeof manifest.run_id);
    if (t->mask != FROZEN) memcpy(manifest.base, s->base, sizeof manifest.base);
    FZ_TRY(FZ_NEW(&manifest.files, s->size + 1));
    fz_status status = write_index(s, t, &manifest.files[0]);
    manifest.n_files = 1;
    for (int r = 0; r < s->size; r++) {
        if (s->records[r].n_rows == 0) continue;
        fz_manifest_file *file = &manifest.files[manifest.n_files++];
        fz_shard_name(file->name, r);
        file->size = s->records[r].size;
        file->crc = s->records[r].crc;
    }
    if (status == FZ_OK) status = fz_disk_join(path, t->path, "MANIFEST");
    if (status == FZ_OK) status = fz_manifest_write(path, &manifest);
    fz_manifest_reset(&manifest);
    return status;
}

static fz_status commit(const save *s, target *t)
{
    char path[FZ_PATH_BYTES], part[16];

    FZ_TRY(write_manifest(s, t));
    for (int first = 0; first < s->size; first += 256) {
        snprintf(part, sizeof part, "s%02d", first / 256);
        FZ_TRY(fz_disk_join(path, t->path, part));
        FZ_TRY(fz_disk_sync_directory(path));
    }
    FZ_TRY(fz_disk_sync_directory(t->path));
    return fz_directory_commit(s->dir, t->tmp, t->name);
}

static fz_status write_target(save *s, target *t)
{
    FZ_TRY(prepare(s, t));
    FZ_TRY(fz_agree(s->world, write_own_file(s, t)));
    FZ_TRY(gather_tables(s, t));
    return fz_agree(s->world, s->rank == 0 ? commit(s, t) : FZ_OK);
}

static fz_status write_directory(save *s, const char *name, const char *kind, unsigned mask)
{
    target *t = NULL;

    fz_status status = fz_agree(s->world, FZ_NEW(&t, 1));
    if (status != FZ_OK) {
        fz_free(&t);
        return status;
    }
    t->mask = mask;
    t->kind = kind;
    snprintf(t->name, sizeof t->name, "%s", name);
    status = write_target(s, t);
    /* Every rank has closed its file: they agreed on the failure. */
    if (status != FZ_OK && status != FZ_ERR_COMM && s->rank == 0 && t->path[0])
        if (fz_disk_is_there(t->path)) fz_disk_remove_tree(t->path);
    fz_shard_reset(&t->shard);
    fz_index_reset(&t->index);
    fz_free(&t);
    return status;
}

/* the base */

/* Names the frozen weights by what they are: names, shapes and bits, at any layout. */
static void name_base(save *s)
{
    uint64_t digest = 0;
    bool is_any = false;

    for (int t = 0; t < s->state->n_tensors; t++) {
        const fz_state_tensor *tensor = &s->state->tensors[t];
        uint64_t hash = fz_hash_text(tensor->name);
        if (tensor->trainable) continue;
        is_any = true;
        for (int axis = 0; axis < tensor->ndim; axis++)
            hash = fz_mix64(hash + (uint64_t)tensor->shape[axis]);
        digest += fz_mix64(hash ^ s->sums[FZ_STATE_WEIGHT * s->state->n_tensors + t][0]);
    }
    if (is_any) snprintf(s->base, sizeof s->base, "base-%016" PRIx64, digest);
}

static fz_status write_base(save *s)
{
    int64_t is_there = 0;

    name_base(s);
    if (!s->base[0]) return FZ_OK;
    if (s->rank == 0) {
        char path[FZ_PATH_BYTES];
        fz_manifest manifest = {.n_files = 0};
        is_there = fz_disk_join(path, s->dir, s->base) == FZ_OK && fz_disk_is_there(path) &&
                   fz_manifest_accept(path, &manifest) == FZ_OK;
        fz_manifest_reset(&manifest);
    }
    FZ_TRY(fz_broadcast(s->world, &is_there, sizeof is_there, 0));
    return is_there ? FZ_OK : write_directory(s, s->base, "base", FROZEN);
}

/* all of it */

static fz_status check_arguments(const fz_state *state, const fz_ckpt_info *info)
{
    FZ_CHECK(info->step >= 0 && info->step < 1000000000, FZ_ERR_ARG,
             "step %lld has no name of nine digits", (long long)info->step);
    FZ_CHECK(memchr(info->run_id, 0, sizeof info->run_id) && !strpbrk(info->run_id, "\n\r"),
             FZ_ERR_ARG, "the run id is not one line");
    return fz_state_check(state);
}

static fz_status allocate(save *s)
{
    FZ_TRY(check_arguments(s->state, s->info));
    FZ_TRY(FZ_NEW(&s->sums, FZ_N_STATE_KINDS * s->state->n_tensors));
    FZ_TRY(FZ_NEW(&s->views, s->state->n_views));
    FZ_TRY(FZ_NEW(&s->records, s->size));
    return FZ_NEW(&s->counts, s->size);
}

static fz_status save_all(save *s, int keep)
{
    char name[FZ_STEP_NAME_BYTES];

    FZ_TRY(fz_agree(s->world, allocate(s)));
    if (s->rank == 0) {
        fz_directory_recover(s->dir);
        fz_directory_clean(s->dir);
    }
    FZ_TRY(fz_state_digests(s->world, s->state, s->sums, s->views));
    FZ_TRY(write_base(s));
    fz_step_name(name, s->info->step);
    FZ_TRY(write_directory(s, name, "step", TRAINED));
    if (s->rank != 0) return FZ_OK;
    /* Committed: what follows is tidying up, and no reason to call the save a failure. */
    if (fz_directory_set_latest(s->dir, name) != FZ_OK) fz_warn("%s", fz_last_error()->text);
    fz_directory_prune(s->dir, s->info->step, keep);
    return FZ_OK;
}

fz_status fz_ckpt_save(const fz_group *world, const char *dir, const fz_state *state,
                       const fz_ckpt_info *info, int keep, fz_ckpt_save_stats *stats)
{
    save s = {.world = world,
              .dir = dir,
              .state = state,
              .info = info,
              .rank = fz_group_rank(world),
              .size = fz_group_size(world)};
    const double start = fz_clock_s();

    fz_span_begin("checkpoint save", FZ_SHARE_CKPT);
    const fz_status status = save_all(&s, keep);
    fz_span_end();
    fz_free(&s.sums);
    fz_free(&s.views);
    fz_free(&s.records);
    fz_free(&s.counts);
    if (status == FZ_OK && stats)
        *stats = (fz_ckpt_save_stats){.bytes = s.bytes, .seconds = fz_clock_s() - start};
    return status;
}
