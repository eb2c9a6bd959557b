#include "checkpoint/target.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/direct.h"
#include "checkpoint/manifest.h"
#include "core/clock.h"
#include "core/memory.h"
#include "core/rng.h"

static bool is_base(const fz_target *t)
{
    return t->mask == FZ_MASK_FROZEN;
}

/* making room */

/* Rank 0 makes the directories and everybody learns the name. */
static fz_status make_directories(fz_target *t, const char *name)
{
    static int64_t n_saves;
    char path[FZ_PATH_BYTES], part[16];
    const int size = fz_group_size(t->world);

    snprintf(t->tmp, sizeof t->tmp, ".%s.tmp-%ld-%" PRIu64 "-%" PRId64, name, (long)getpid(),
             (uint64_t)(fz_clock_s() * 1e6), n_saves++);
    FZ_TRY(fz_disk_join(t->path, t->dir, t->tmp));
    FZ_TRY(fz_disk_make_directory(t->dir));
    FZ_TRY(fz_disk_make_directory(t->path));
    for (int first = 0; first < size; first += 256) {
        snprintf(part, sizeof part, "s%02d", first / 256);
        FZ_TRY(fz_disk_join(path, t->path, part));
        FZ_TRY(fz_disk_make_directory(path));
    }
    return FZ_OK;
}

int64_t fz_target_bytes(const fz_state *state, unsigned mask)
{
    int64_t bytes = 0;

    for (int i = 0; i < state->n_tensors; i++) {
        const fz_box box = fz_box_of_tensor(&state->tensors[i]);
        if (state->tensors[i].trainable == (mask == FZ_MASK_FROZEN)) continue;
        for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
            if (mask >> kind & 1) bytes += fz_box_elements(&box) * 4;
    }
    return bytes;
}

static fz_status allocate(fz_target *t)
{
    FZ_TRY(FZ_NEW(&t->records, fz_group_size(t->world)));
    return FZ_NEW(&t->counts, fz_group_size(t->world));
}

static fz_status prepare(fz_target *t, const char *name)
{
    fz_status status = allocate(t);
    if (status == FZ_OK && fz_group_rank(t->world) == 0) status = make_directories(t, name);
    FZ_TRY(fz_agree(t->world, status));
    FZ_TRY(fz_broadcast(t->world, t->path, sizeof t->path, 0));
    return fz_io_choose(t->world, t->path, fz_target_bytes(t->state, t->mask), &t->is_direct);
}

/* every rank's file */

static fz_status write_own_file(fz_target *t)
{
    const int rank = fz_group_rank(t->world);
    char path[FZ_PATH_BYTES], name[FZ_SHARD_NAME_BYTES];

    FZ_TRY(fz_shard_init(&t->shard, t->state, t->info, rank, fz_group_size(t->world), t->mask,
                         t->views));
    t->shard.read = t->read;
    t->shard.read_context = t->read_context;
    t->shard.is_direct = t->is_direct;
    fz_shard_name(name, rank);
    FZ_TRY(fz_disk_join(path, t->path, name));
    return fz_shard_write(&t->shard, path);
}

/* the tables */

static fz_status allocate_tables(fz_target *t, bool has_rows)
{
    fz_index *index = &t->index;

    if (has_rows) {
        FZ_TRY(FZ_NEW(&index->rows, index->n_rows));
        FZ_TRY(FZ_NEW(&index->row_digests, index->n_rows));
    }
    if (fz_group_rank(t->world) != 0) return FZ_OK;
    index->n_tensors = t->state->n_tensors;
    index->n_files = fz_group_size(t->world);
    FZ_TRY(FZ_NEW(&index->tensors, index->n_tensors));
    FZ_TRY(FZ_NEW(&index->files, index->n_files));
    FZ_TRY(FZ_NEW(&index->crcs, index->n_blocks));
    return FZ_NEW(&index->sums, FZ_N_STATE_KINDS * index->n_tensors);
}

/* One column of all ranks, to rank 0; n_offset is where each rank's record has its elements. */
static fz_status gather(fz_target *t, const void *mine, size_t element, size_t n_offset, void *all)
{
    for (int r = 0; r < fz_group_size(t->world); r++) {
        int64_t n;
        memcpy(&n, (const char *)&t->records[r] + n_offset, sizeof n);
        t->counts[r] = n * (int64_t)element;
    }
    return fz_gatherv_bytes(t->world, mine, t->counts[fz_group_rank(t->world)], all, t->counts, 0);
}

/* Tables of all ranks at rank 0; where there are replicas everybody gets the rows and compares its
 * copies with their owners'. */
fz_status fz_target_gather(fz_target *t)
{
    fz_index *index = &t->index;
    const fz_shard *shard = &t->shard;
    int64_t n_replicas = 0;

    FZ_TRY(fz_allgather(t->world, &shard->record, sizeof shard->record, t->records));
    for (int r = 0; r < fz_group_size(t->world); r++) {
        index->n_rows += t->records[r].n_rows;
        index->n_blocks += t->records[r].n_blocks;
        n_replicas += t->records[r].n_replicas;
    }
    const bool has_rows = fz_group_rank(t->world) == 0 || n_replicas > 0;
    FZ_TRY(fz_agree(t->world, allocate_tables(t, has_rows)));
    const size_t rows = offsetof(fz_shard_record, n_rows);
    FZ_TRY(gather(t, shard->rows, sizeof *index->rows, rows, index->rows));
    FZ_TRY(gather(t, shard->digests, sizeof *index->row_digests, rows, index->row_digests));
    FZ_TRY(gather(t, shard->crcs, sizeof *index->crcs, offsetof(fz_shard_record, n_blocks),
                  index->crcs));
    if (n_replicas == 0) return FZ_OK;
    FZ_TRY(fz_broadcast(t->world, index->rows, (size_t)index->n_rows * sizeof *index->rows, 0));
    FZ_TRY(fz_broadcast(t->world, index->row_digests,
                        (size_t)index->n_rows * sizeof *index->row_digests, 0));
    return fz_agree(t->world, fz_replicas_check(t->state, t->mask, t->views, index->rows,
                                                index->row_digests, index->n_rows));
}

fz_status fz_target_write(fz_target *target, const char *name)
{
    FZ_TRY(prepare(target, name));
    FZ_TRY(fz_agree(target->world, write_own_file(target)));
    return fz_target_gather(target);
}

/* the same in parts */

fz_status fz_target_begin_here(fz_target *target, const char *tmp)
{
    snprintf(target->tmp, sizeof target->tmp, "%s", tmp);
    FZ_TRY(fz_disk_join(target->path, target->dir, target->tmp));
    return allocate(target);
}

/* Every rank makes what it needs, whoever comes first; the commit syncs it all. */
fz_status fz_target_write_here(fz_target *target)
{
    char path[FZ_PATH_BYTES], part[16];

    snprintf(part, sizeof part, "s%02d", fz_group_rank(target->world) / 256);
    FZ_TRY(fz_disk_join(path, target->path, part));
    FZ_TRY(fz_disk_make_directory(target->dir));
    FZ_TRY(fz_disk_make_directory(target->path));
    FZ_TRY(fz_disk_make_directory(path));
    return write_own_file(target);
}

/* the commit, rank 0 */

static void fill_index(fz_target *t, const char *base, uint64_t (*sums)[2])
{
    fz_index *index = &t->index;
    int64_t block = 0;

    memcpy(index->tensors, t->state->tensors, (size_t)index->n_tensors * sizeof *index->tensors);
    for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++)
        if (!is_base(t) || kind == FZ_STATE_WEIGHT)
            memcpy(index->sums[kind * index->n_tensors], sums[kind * index->n_tensors],
                   (size_t)index->n_tensors * sizeof *index->sums);
    for (int64_t r = 0; r < index->n_files; r++) {
        fz_index_file *file = &index->files[r];
        file->size = t->records[r].size;
        for (int kind = 0; kind < FZ_N_STATE_KINDS; kind++) {
            file->arena[kind] = t->records[r].arena[kind];
            file->first_block[kind] = block;
            block += fz_blocks_of(file->arena[kind].bytes);
        }
    }
    index->info = *t->info; /* config stays the caller's: taken out again after writing */
    index->info.has_weights_alone = t->mask == FZ_MASK_WEIGHTS;
    snprintf(index->info.base, sizeof index->info.base, "%s", is_base(t) ? "" : base);
}

static fz_status write_index(fz_target *t, const char *base, uint64_t (*sums)[2],
                             fz_manifest_file *file)
{
    char path[FZ_PATH_BYTES];

    strcpy(file->name, "index.h5");
    FZ_TRY(fz_disk_join(path, t->path, file->name));
    fill_index(t, base, sums);
    const fz_status status = fz_ckpt_index_write(path, &t->index, &file->size, &file->crc);
    t->index.info.config = NULL;
    return status;
}

static fz_status write_manifest(fz_target *t, const char *base, uint64_t (*sums)[2])
{
    fz_manifest manifest = {.step = t->info->step};
    const int size = fz_group_size(t->world);
    char path[FZ_PATH_BYTES];

    strcpy(manifest.kind, is_base(t) ? "base" : "step");
    memcpy(manifest.run_id, t->info->run_id, sizeof manifest.run_id);
    if (!is_base(t)) snprintf(manifest.base, sizeof manifest.base, "%s", base);
    FZ_TRY(FZ_NEW(&manifest.files, size + 1));
    fz_status status = write_index(t, base, sums, &manifest.files[0]);
    manifest.n_files = 1;
    for (int r = 0; r < size; r++) {
        if (t->records[r].n_rows == 0) continue;
        fz_manifest_file *file = &manifest.files[manifest.n_files++];
        fz_shard_name(file->name, r);
        file->size = t->records[r].size;
        file->crc = t->records[r].crc;
    }
    if (status == FZ_OK) status = fz_disk_join(path, t->path, "MANIFEST");
    if (status == FZ_OK) status = fz_manifest_write(path, &manifest);
    fz_manifest_reset(&manifest);
    return status;
}

fz_status fz_target_commit_here(fz_target *t, const char *name, const char *base,
                                uint64_t (*sums)[2])
{
    char path[FZ_PATH_BYTES], part[16];

    FZ_TRY(write_manifest(t, base, sums));
    for (int first = 0; first < fz_group_size(t->world); first += 256) {
        snprintf(part, sizeof part, "s%02d", first / 256);
        FZ_TRY(fz_disk_join(path, t->path, part));
        FZ_TRY(fz_disk_sync_directory(path));
    }
    FZ_TRY(fz_disk_sync_directory(t->path));
    return fz_directory_commit(t->dir, t->tmp, name);
}

fz_status fz_target_commit(fz_target *target, const char *name, const char *base,
                           uint64_t (*sums)[2])
{
    const bool is_first = fz_group_rank(target->world) == 0;
    return fz_agree(target->world,
                    is_first ? fz_target_commit_here(target, name, base, sums) : FZ_OK);
}

void fz_target_reset(fz_target *target, bool keep)
{
    /* Every rank has closed its file: they agreed on the failure. */
    if (!keep && target->path[0] && fz_group_rank(target->world) == 0)
        if (fz_disk_is_there(target->path)) fz_disk_remove_tree(target->path);
    fz_shard_reset(&target->shard);
    fz_index_reset(&target->index);
    fz_free(&target->records);
    fz_free(&target->counts);
}

/* bases */

void fz_base_name(char name[FZ_STEP_NAME_BYTES], const fz_state *state, uint64_t (*sums)[2])
{
    uint64_t digest = 0;
    bool is_any = false;

    for (int t = 0; t < state->n_tensors; t++) {
        const fz_state_tensor *tensor = &state->tensors[t];
        uint64_t hash = fz_hash_text(tensor->name);
        if (tensor->trainable) continue;
        is_any = true;
        for (int axis = 0; axis < tensor->ndim; axis++)
            hash = fz_mix64(hash + (uint64_t)tensor->shape[axis]);
        digest += fz_mix64(hash ^ sums[FZ_STATE_WEIGHT * state->n_tensors + t][0]);
    }
    name[0] = 0;
    if (is_any) snprintf(name, FZ_STEP_NAME_BYTES, "base-%016" PRIx64, digest);
}

bool fz_base_is_there_here(const char *dir, const char *name)
{
    char path[FZ_PATH_BYTES];
    fz_manifest manifest = {.n_files = 0};
    const bool is_there = fz_disk_join(path, dir, name) == FZ_OK && fz_disk_is_there(path) &&
                          fz_manifest_accept(path, &manifest) == FZ_OK;

    fz_manifest_reset(&manifest);
    return is_there;
}

fz_status fz_base_is_there(const fz_group *world, const char *dir, const char *name, bool *is_there)
{
    int64_t answer = 0;

    if (fz_group_rank(world) == 0) answer = fz_base_is_there_here(dir, name);
    FZ_TRY(fz_broadcast(world, &answer, sizeof answer, 0));
    *is_there = answer != 0;
    return FZ_OK;
}

fz_status fz_save_check(const fz_state *state, const fz_ckpt_info *info)
{
    FZ_CHECK(info->step >= 0 && info->step < 1000000000, FZ_ERR_ARG,
             "step %lld has no name of nine digits", (long long)info->step);
    FZ_CHECK(memchr(info->run_id, 0, sizeof info->run_id) && !strpbrk(info->run_id, "\n\r"),
             FZ_ERR_ARG, "the run id is not one line");
    return fz_state_check(state);
}
