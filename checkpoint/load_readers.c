/* Who reads a block: the rule of load_rounds.h, for classes of thousands of ranks.
 *
 * Said over ranks the rule looks at every member of every class that needs the block. Most classes
 * are regular: they have equally many members on each of their hosts, and any two of them share
 * all their hosts or none. Then all members of a class are alike but for what they read already,
 * and a heap for every class knows the one with the least.
 */
#include <string.h>

#include "checkpoint/load_rounds.h"
#include "core/memory.h"

typedef struct choosing {
    const fz_load_plan_args *args;
    const fz_load_plan *plan;
    int64_t *load;   /* owned: [size] bytes that each rank reads already */
    int64_t *host;   /* owned: [size] bytes that each host needs of the block at hand, else 0 */
    int *heap;       /* owned: [size] ranks; those of a class, as its members, the least first */
    int *place;      /* owned: [size] of a rank in heap */
    int *profile_of; /* owned: [n_classes] number of its set of hosts; -1: irregular */
    int *on_host;    /* owned: [n_classes] members on each of its hosts, of a regular class */
    int64_t *need;   /* owned: [n_classes] by profile, bytes that each of its hosts needs, else 0 */
} choosing;

/* heaps */

static bool is_before(const choosing *c, int a, int b)
{
    return c->load[a] != c->load[b] ? c->load[a] < c->load[b] : a < b;
}

/* The rank reads more than it did: it goes down in its class's heap. */
static void sink(choosing *c, int rank)
{
    const fz_wants *wants = c->args->wants;
    const int class_n = wants->class_of[rank], first = wants->first_member[class_n];
    const int n = wants->first_member[class_n + 1] - first;
    int *heap = c->heap + first, at = c->place[rank] - first;

    for (;;) {
        int child = 2 * at + 1;
        if (child >= n) break;
        if (child + 1 < n && is_before(c, heap[child + 1], heap[child])) child++;
        if (!is_before(c, heap[child], rank)) break;
        heap[at] = heap[child];
        c->place[heap[at]] = first + at;
        at = child;
    }
    heap[at] = rank;
    c->place[rank] = first + at;
}

/* regular classes */

/* Members on each host of the class, in c->host; 0 where they are not equally many. */
static int count_on_hosts(const choosing *c, const int *members, int n, int *n_hosts)
{
    const int64_t *hosts = c->args->hosts;
    bool is_even = true;

    *n_hosts = 0;
    for (int i = 0; i < n; i++)
        *n_hosts += c->host[hosts[members[i]]]++ == 0;
    const int64_t on_host = n > 0 ? c->host[hosts[members[0]]] : 0;
    for (int i = 0; i < n; i++)
        is_even &= c->host[hosts[members[i]]] == on_host;
    for (int i = 0; i < n; i++)
        c->host[hosts[members[i]]] = 0;
    return is_even ? (int)on_host : 0;
}

/* first_of, n_of: by host, the profile that has it (-1: none); by profile, how many hosts. */
static void find_profile(choosing *c, int class_n, int *first_of, int *n_of, int *n_profiles)
{
    const fz_wants *wants = c->args->wants;
    const int *members = wants->members + wants->first_member[class_n];
    const int n = wants->first_member[class_n + 1] - wants->first_member[class_n];
    int n_hosts, n_equal = 0, n_free = 0;

    c->profile_of[class_n] = -1;
    c->on_host[class_n] = count_on_hosts(c, members, n, &n_hosts);
    if (c->on_host[class_n] == 0) return;
    const int profile = first_of[c->args->hosts[members[0]]];
    for (int i = 0; i < n; i++) {
        const int other = first_of[c->args->hosts[members[i]]];
        n_free += other < 0;
        n_equal += other >= 0 && other == profile;
    }
    if (n_equal == n && n_of[profile] == n_hosts) c->profile_of[class_n] = profile;
    if (n_free < n) return;
    n_of[*n_profiles] = n_hosts;
    for (int i = 0; i < n; i++)
        first_of[c->args->hosts[members[i]]] = *n_profiles;
    c->profile_of[class_n] = (*n_profiles)++;
}

static fz_status find_profiles(choosing *c)
{
    const int n_classes = c->args->wants->n_classes, size = c->args->wants->size;
    int *first_of = NULL, *n_of = NULL, n_profiles = 0;

    fz_status status = FZ_NEW(&first_of, size);
    if (status == FZ_OK) status = FZ_NEW(&n_of, n_classes);
    for (int i = 0; i < size && status == FZ_OK; i++)
        first_of[i] = -1;
    for (int i = 0; i < n_classes && status == FZ_OK; i++)
        find_profile(c, i, first_of, n_of, &n_profiles);
    fz_free(&first_of);
    fz_free(&n_of);
    return status;
}

/* one block */

/* Calls for every rank that needs something of the block. */
#define EACH_NEED(c, block, p, member)                                                             \
    for (int64_t at_ = (block)->first_cut; fz_load_next_part((c)->plan, (block), &at_, &(p));)     \
        for (int member = (c)->args->wants->first_member[(p).class_n];                             \
             member < (c)->args->wants->first_member[(p).class_n + 1]; member++)

#define EACH_PART(c, block, p)                                                                     \
    for (int64_t at_ = (block)->first_cut; fz_load_next_part((c)->plan, (block), &at_, &(p));)

/* Over ranks: whatever the classes are. */
static int best_of_ranks(const choosing *c, const fz_load_block *block, int64_t most)
{
    const int *members = c->args->wants->members;
    const int64_t *hosts = c->args->hosts;
    int64_t most_on_host = 0;
    int best = -1;
    fz_load_part p;

    EACH_NEED(c, block, p, i) c->host[hosts[members[i]]] += p.bytes;
    EACH_NEED(c, block, p, i)
    {
        const int64_t on_host = c->host[hosts[members[i]]];
        if (2 * p.bytes >= most && on_host > most_on_host) most_on_host = on_host;
    }
    EACH_NEED(c, block, p, i)
    {
        const int rank = members[i];
        if (2 * p.bytes < most || 2 * c->host[hosts[rank]] < most_on_host) continue;
        if (best < 0 || c->load[rank] < c->load[best] ||
            (c->load[rank] == c->load[best] && rank < best))
            best = rank;
    }
    EACH_NEED(c, block, p, i) c->host[hosts[members[i]]] = 0;
    return best;
}

/* Over regular classes. */
static int best_of_classes(const choosing *c, const fz_load_block *block, int64_t most)
{
    const fz_wants *wants = c->args->wants;
    int64_t most_on_host = 0;
    int best = -1;
    fz_load_part p;

    EACH_PART(c, block, p) c->need[c->profile_of[p.class_n]] += c->on_host[p.class_n] * p.bytes;
    EACH_PART(c, block, p)
    {
        const int64_t on_host = c->need[c->profile_of[p.class_n]];
        if (2 * p.bytes >= most && on_host > most_on_host) most_on_host = on_host;
    }
    EACH_PART(c, block, p)
    {
        const int rank = c->heap[wants->first_member[p.class_n]];
        if (2 * p.bytes < most || 2 * c->need[c->profile_of[p.class_n]] < most_on_host) continue;
        if (best < 0 || is_before(c, rank, best)) best = rank;
    }
    EACH_PART(c, block, p) c->need[c->profile_of[p.class_n]] = 0;
    return best;
}

static void choose_reader(choosing *c, fz_load_block *block)
{
    const int *first_member = c->args->wants->first_member;
    int64_t most = 0, n_needing = 0;
    bool is_regular = true;
    fz_load_part p;

    EACH_PART(c, block, p)
    {
        if (p.bytes > most) most = p.bytes;
        n_needing += first_member[p.class_n + 1] - first_member[p.class_n];
        is_regular &= c->profile_of[p.class_n] >= 0;
    }
    block->reader = is_regular ? best_of_classes(c, block, most) : best_of_ranks(c, block, most);
    block->is_shared = n_needing > 1;
    c->load[block->reader] += block->end - block->begin;
    sink(c, block->reader);
}

static fz_status prepare(choosing *c)
{
    const fz_wants *wants = c->args->wants;

    FZ_TRY(FZ_NEW(&c->load, wants->size));
    FZ_TRY(FZ_NEW(&c->host, wants->size));
    FZ_TRY(FZ_NEW(&c->heap, wants->size));
    FZ_TRY(FZ_NEW(&c->place, wants->size));
    FZ_TRY(FZ_NEW(&c->profile_of, wants->n_classes));
    FZ_TRY(FZ_NEW(&c->on_host, wants->n_classes));
    FZ_TRY(FZ_NEW(&c->need, wants->n_classes));
    /* Nobody reads anything yet, and members ascend: they are heaps. */
    memcpy(c->heap, wants->members, (size_t)wants->size * sizeof *c->heap);
    for (int i = 0; i < wants->size; i++)
        c->place[wants->members[i]] = i;
    return find_profiles(c);
}

fz_status fz_load_choose_readers(const fz_load_plan_args *args, fz_load_plan *plan)
{
    choosing c = {.args = args, .plan = plan};

    const fz_status status = prepare(&c);
    for (int64_t i = 0; i < plan->n_blocks && status == FZ_OK; i++)
        choose_reader(&c, &plan->blocks[i]);
    fz_free(&c.load);
    fz_free(&c.host);
    fz_free(&c.heap);
    fz_free(&c.place);
    fz_free(&c.profile_of);
    fz_free(&c.on_host);
    fz_free(&c.need);
    return status;
}
