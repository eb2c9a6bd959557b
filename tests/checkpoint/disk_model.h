/* A record of what a program did to a folder, and the disks that a power cut may leave of it.
 * Before a sync of the file (or, for names, of the folder they are in) every change may have
 * reached the disk or not, each for itself; of a write any of its sectors. A rename happens or does
 * not. Include after disk_calls.h.
 */
#ifndef FZ_TESTS_DISK_MODEL_H
#define FZ_TESTS_DISK_MODEL_H

#include <pthread.h>
#include <stdbool.h>

#include "tests/checkpoint/disk_calls.h"
#include "tests/support/unit.h"

#include "checkpoint/disk.h"
#include "core/rng.h"

enum { MODEL_NODES = 4096, MODEL_EVENTS = 16384, MODEL_NAME_BYTES = 96, SECTOR_BYTES = 512 };

typedef enum power_loss {              /* what becomes of changes that were not synced */
                          LOSS_ALL,    /* gone */
                          LOSS_NONE,   /* there */
                          LOSS_DATA,   /* names are there, bytes are not */
                          LOSS_NAMES,  /* bytes are there, names are not */
                          LOSS_LATEST, /* gone from some time on */
                          LOSS_ANY,    /* each is gone or not */
                          LOSS_TORN,   /* each is gone or not, of writes each sector */
                          N_POWER_LOSSES
} power_loss;

typedef struct model_event {
    disk_verb verb;
    int node; /* that is written, synced or named */
    int dir;  /* that names it; of a rename: both, -1 for changes of bytes */
    char name[MODEL_NAME_BYTES], to[MODEL_NAME_BYTES];
    char *data; /* owned */
    int64_t bytes, offset;
} model_event;

typedef struct model_name {
    int dir, node;
    char name[MODEL_NAME_BYTES];
} model_name;

typedef struct model_names { /* who is where */
    model_name names[MODEL_NODES];
    int n;
} model_names;

typedef struct model_file {
    char *data; /* owned */
    int64_t bytes;
    bool is_dir;
} model_file;

static struct model {
    pthread_mutex_t lock;
    bool is_on;
    char root[FZ_PATH_BYTES]; /* node 0 */
    model_event events[MODEL_EVENTS];
    int n_events;
    bool is_dir[MODEL_NODES];
    int n_nodes;
    model_names now;
} model = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* names */

static inline int find_name(const model_names *names, int dir, const char *name)
{
    for (int i = 0; i < names->n; i++)
        if (names->names[i].dir == dir && strcmp(names->names[i].name, name) == 0) return i;
    return -1;
}

static inline void remove_name(model_names *names, int dir, const char *name)
{
    const int i = find_name(names, dir, name);
    if (i >= 0) names->names[i] = names->names[--names->n];
}

static inline void put_name(model_names *names, int dir, const char *name, int node)
{
    remove_name(names, dir, name);
    assert_true(names->n < MODEL_NODES);
    model_name *entry = &names->names[names->n++];
    *entry = (model_name){.dir = dir, .node = node};
    memmove(entry->name, name, strlen(name) + 1);
}

/* The folder of a path and its last part; -1: not below the root. */
static inline int dir_of_path(const char *path, char name[MODEL_NAME_BYTES])
{
    const size_t n = strlen(model.root);
    int dir = 0;

    if (strncmp(path, model.root, n) != 0 || path[n] != '/') return -1;
    for (const char *at = path + n + 1;;) {
        const size_t length = strcspn(at, "/");
        snprintf(name, MODEL_NAME_BYTES, "%.*s", (int)length, at);
        if (!at[length]) return dir;
        const int i = find_name(&model.now, dir, name);
        if (i < 0) return -1;
        dir = model.now.names[i].node;
        at += length + 1;
    }
}

static inline int node_of_fd(int fd)
{
    char path[FZ_PATH_BYTES], name[MODEL_NAME_BYTES];

    disk_path_of(fd, path, sizeof path);
    if (strcmp(path, model.root) == 0) return 0;
    const int dir = dir_of_path(path, name);
    const int i = dir < 0 ? -1 : find_name(&model.now, dir, name);
    return i < 0 ? -1 : model.now.names[i].node;
}

/* the record */

static inline void record_named(const disk_call *call, model_event *e)
{
    e->dir = dir_of_path(call->path, e->name);
    if (e->dir < 0) return;
    const int i = find_name(&model.now, e->dir, e->name);
    e->node = i < 0 ? -1 : model.now.names[i].node;
    if (call->verb == DISK_CREATE && e->node >= 0) { /* it is emptied */
        e->verb = DISK_RESIZE;
        e->dir = -1;
    } else if (call->verb == DISK_CREATE || call->verb == DISK_MKDIR) {
        assert_true(model.n_nodes < MODEL_NODES);
        e->node = model.n_nodes++;
        model.is_dir[e->node] = call->verb == DISK_MKDIR;
        put_name(&model.now, e->dir, e->name, e->node);
    } else {
        remove_name(&model.now, e->dir, e->name);
    }
    if (call->verb != DISK_RENAME) return;
    assert_int_equal(dir_of_path(call->to, e->to), e->dir); /* nothing else is needed here */
    put_name(&model.now, e->dir, e->to, e->node);
}

static inline void model_record(const disk_call *call)
{
    pthread_mutex_lock(&model.lock);
    assert_true(model.n_events < MODEL_EVENTS);
    model_event *e = &model.events[model.n_events];
    *e = (model_event){
        .verb = call->verb, .dir = -1, .bytes = (int64_t)call->bytes, .offset = call->offset};
    if (call->path)
        record_named(call, e);
    else
        e->node = node_of_fd(call->fd);
    if (call->verb == DISK_WRITE && e->node >= 0) {
        e->data = malloc(call->bytes + 1);
        assert_non_null(e->data);
        memcpy(e->data, call->data, call->bytes);
    }
    model.n_events += e->node >= 0;
    pthread_mutex_unlock(&model.lock);
}

static inline void model_start(const char *root)
{
    snprintf(model.root, sizeof model.root, "%s", root);
    model.is_dir[0] = true;
    model.n_nodes = 1;
    model.is_on = true;
}

static inline void model_stop(void)
{
    for (int i = 0; i < model.n_events; i++)
        free(model.events[i].data);
}

/* the disks */

static inline bool is_about_names(const model_event *e)
{
    return e->dir >= 0;
}

static inline bool survives(power_loss loss, const model_event *e, int n, int cut, uint64_t seed)
{
    switch (loss) {
    case LOSS_ALL:
        return false;
    case LOSS_NONE:
        return true;
    case LOSS_DATA:
        return is_about_names(e);
    case LOSS_NAMES:
        return !is_about_names(e);
    case LOSS_LATEST:
        return n < cut;
    case LOSS_TORN:
        if (e->verb == DISK_WRITE) return true; /* by sectors */
        break;
    default:
        break;
    }
    return fz_mix64(seed + (uint64_t)n) & 1;
}

static inline void grow(model_file *file, int64_t bytes)
{
    if (bytes <= file->bytes) return;
    file->data = realloc(file->data, (size_t)bytes);
    assert_non_null(file->data);
    memset(file->data + file->bytes, 0, (size_t)(bytes - file->bytes));
    file->bytes = bytes;
}

static inline void apply_write(model_file *file, const model_event *e, bool is_torn, uint64_t seed)
{
    for (int64_t at = 0, n; at < e->bytes; at += n) {
        n = SECTOR_BYTES - (e->offset + at) % SECTOR_BYTES;
        if (n > e->bytes - at) n = e->bytes - at;
        if (is_torn && (fz_mix64(seed ^ (uint64_t)(e->offset + at)) & 1)) continue;
        grow(file, e->offset + at + n);
        memcpy(file->data + e->offset + at, e->data + at, (size_t)n);
    }
}

static inline void apply(model_names *names, model_file *files, const model_event *e, bool is_torn,
                         uint64_t seed)
{
    model_file *file = &files[e->node];

    switch (e->verb) {
    case DISK_CREATE:
    case DISK_MKDIR:
        put_name(names, e->dir, e->name, e->node);
        break;
    case DISK_RENAME:
        remove_name(names, e->dir, e->name);
        put_name(names, e->dir, e->to, e->node);
        break;
    case DISK_UNLINK:
    case DISK_RMDIR:
        remove_name(names, e->dir, e->name);
        break;
    case DISK_WRITE:
        apply_write(file, e, is_torn, seed);
        break;
    case DISK_RESERVE:
        grow(file, e->offset + e->bytes);
        break;
    case DISK_RESIZE:
        grow(file, e->offset);
        file->bytes = e->offset;
        break;
    default:
        break;
    }
}

static inline void write_out(const model_names *names, const model_file *files, int dir,
                             const char *path)
{
    char child[FZ_PATH_BYTES];

    for (int i = 0; i < names->n; i++) {
        const model_name *entry = &names->names[i];
        if (entry->dir != dir) continue;
        assert_ok(fz_disk_join(child, path, entry->name));
        if (model.is_dir[entry->node]) {
            assert_int_equal(mkdir(child, 0755), 0);
            write_out(names, files, entry->node, child);
            continue;
        }
        const model_file *file = &files[entry->node];
        const int fd = open(child, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, file->data, (size_t)file->bytes, 0), file->bytes);
        assert_int_equal(close(fd), 0);
    }
}

/* Writes what a power cut just before event n may leave into the empty folder path. */
static inline void model_cut_power(int n, power_loss loss, uint64_t seed, const char *path)
{
    static int synced[MODEL_NODES]; /* events before are on the disk */
    static model_names names;
    model_file *files = calloc((size_t)model.n_nodes, sizeof *files);
    const int cut = (int)(fz_mix64(seed + 77) % (uint64_t)(n + 1));

    assert_non_null(files);
    memset(synced, 0, sizeof synced);
    names.n = 0;
    for (int i = 0; i < n; i++)
        if (model.events[i].verb == DISK_SYNC) synced[model.events[i].node] = i;
    for (int i = 0; i < n; i++) {
        const model_event *e = &model.events[i];
        const bool is_safe = i < synced[is_about_names(e) ? e->dir : e->node];
        if (is_safe || survives(loss, e, i, cut, seed))
            apply(&names, files, e, !is_safe && loss == LOSS_TORN, fz_mix64(seed + (uint64_t)i));
    }
    write_out(&names, files, 0, path);
    for (int i = 0; i < model.n_nodes; i++)
        free(files[i].data);
    free(files);
}

#endif
