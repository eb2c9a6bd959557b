#include "checkpoint/wants.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/rng.h"

typedef struct summary { /* of one rank's list; two hashes, as nothing compares the lists */
    uint64_t hash[2];
    int64_t n, rank;
} summary;

fz_box fz_box_of_want(const fz_want *want)
{
    fz_box box;
    memcpy(box.lo, want->lo, sizeof box.lo);
    memcpy(box.hi, want->hi, sizeof box.hi);
    return box;
}

void fz_wants_reset(fz_wants *wants)
{
    fz_free(&wants->class_of);
    fz_free(&wants->first_member);
    fz_free(&wants->members);
    fz_free(&wants->first);
    fz_free(&wants->list);
    *wants = (fz_wants){.size = 0};
}

static summary summary_of(const fz_group *group, const fz_want *list, int64_t n)
{
    summary s = {.hash = {1, 2}, .n = n, .rank = fz_group_rank(group)};

    for (int64_t i = 0; i < n; i++) {
        uint64_t words[sizeof *list / 8];
        memcpy(words, &list[i], sizeof words);
        for (size_t w = 0; w < sizeof words / sizeof *words; w++) {
            s.hash[0] = fz_mix64(s.hash[0] ^ words[w]);
            s.hash[1] = fz_mix64(s.hash[1] + 3 * words[w]);
        }
    }
    return s;
}

/* Equal lists side by side, their lowest rank first. */
static int compare_summaries(const void *x, const void *y)
{
    const summary *a = x, *b = y;
    const int unequal = memcmp(a->hash, b->hash, sizeof a->hash);

    if (unequal) return unequal;
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    return (a->rank > b->rank) - (a->rank < b->rank);
}

static bool is_same_list(const summary *a, const summary *b)
{
    return memcmp(a->hash, b->hash, sizeof a->hash) == 0 && a->n == b->n;
}

/* leader[r]: lowest rank with r's list. all: by rank on entry, in any order afterwards. */
static void find_leaders(summary *all, int size, int *leader)
{
    qsort(all, (size_t)size, sizeof *all, compare_summaries);
    for (int i = 0, first = 0; i < size; i++) {
        if (!is_same_list(&all[i], &all[first])) first = i;
        leader[all[i].rank] = (int)all[first].rank;
    }
}

/* Classes and their members from the leaders; lengths[r] is the length of r's list. */
static void make_classes(fz_wants *w, const int *leader, const int64_t *lengths)
{
    w->n_classes = 0;
    w->first[0] = 0;
    for (int r = 0; r < w->size; r++) {
        if (leader[r] != r) {
            w->class_of[r] = w->class_of[leader[r]];
            continue;
        }
        w->class_of[r] = w->n_classes;
        w->first[w->n_classes + 1] = w->first[w->n_classes] + lengths[r];
        w->n_classes++;
    }
    memset(w->first_member, 0, (size_t)(w->size + 1) * sizeof *w->first_member);
    for (int r = 0; r < w->size; r++)
        w->first_member[w->class_of[r] + 1]++;
    for (int c = 0; c < w->n_classes; c++)
        w->first_member[c + 1] += w->first_member[c];
    for (int r = 0; r < w->size; r++) /* each class's start serves as its cursor */
        w->members[w->first_member[w->class_of[r]]++] = r;
    for (int c = w->n_classes; c > 0; c--)
        w->first_member[c] = w->first_member[c - 1];
    w->first_member[0] = 0;
}

typedef struct gathering {
    summary *all;
    int *leader;
    int64_t *lengths; /* of lists, then bytes that each rank sends */
} gathering;

static fz_status allocate(fz_wants *w, gathering *g)
{
    FZ_TRY(FZ_NEW(&g->all, w->size));
    FZ_TRY(FZ_NEW(&g->leader, w->size));
    FZ_TRY(FZ_NEW(&g->lengths, w->size));
    FZ_TRY(FZ_NEW(&w->class_of, w->size));
    FZ_TRY(FZ_NEW(&w->first_member, w->size + 1));
    FZ_TRY(FZ_NEW(&w->members, w->size));
    return FZ_NEW(&w->first, w->size + 1);
}

static fz_status share_lists(const fz_group *group, const fz_want *mine, fz_wants *w, gathering *g)
{
    const int rank = fz_group_rank(group);
    const int64_t n = w->first[w->n_classes];

    FZ_TRY(fz_agree(group, FZ_NEW(&w->list, n)));
    for (int r = 0; r < w->size; r++)
        g->lengths[r] = g->leader[r] == r ? g->lengths[r] * (int64_t)sizeof *mine : 0;
    FZ_TRY(fz_gatherv_bytes(group, mine, g->lengths[rank], w->list, g->lengths, 0));
    return fz_broadcast(group, w->list, (size_t)n * sizeof *w->list, 0);
}

static fz_status gather(const fz_group *group, const fz_want *mine, int64_t n_mine, fz_wants *w,
                        gathering *g)
{
    const summary s = summary_of(group, mine, n_mine);

    FZ_TRY(fz_agree(group, allocate(w, g)));
    FZ_TRY(fz_allgather(group, &s, sizeof s, g->all));
    for (int r = 0; r < w->size; r++)
        g->lengths[r] = g->all[r].n;
    find_leaders(g->all, w->size, g->leader);
    make_classes(w, g->leader, g->lengths);
    return share_lists(group, mine, w, g);
}

fz_status fz_wants_gather(const fz_group *group, const fz_want *mine, int64_t n_mine,
                          fz_wants *wants)
{
    gathering g = {.all = NULL};

    *wants = (fz_wants){.size = fz_group_size(group)};
    const fz_status status = gather(group, mine, n_mine, wants, &g);
    fz_free(&g.all);
    fz_free(&g.leader);
    fz_free(&g.lengths);
    if (status != FZ_OK) fz_wants_reset(wants);
    return status;
}
