#include "checkpoint/load_rounds.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

bool fz_load_next_part(const fz_load_plan *plan, const fz_load_block *block, int64_t *at,
                       fz_load_part *part)
{
    const int64_t end = block[1].first_cut;

    if (*at >= end) return false;
    *part = (fz_load_part){.first_cut = *at, .class_n = plan->cuts[*at].class_n};
    for (; *at < end && plan->cuts[*at].class_n == part->class_n; ++*at) {
        part->bytes += 4 * (int64_t)plan->cuts[*at].n;
        part->n_cuts++;
    }
    return true;
}

/* Of one sender, or of one class of receivers: the round it is in, and its bytes and messages
 * there. Members of a class get the same parts, but those they read, so one clock does for all:
 * the work is that of the cuts, however many copies there are. */
typedef struct round_clock {
    int round;
    int64_t bytes, n;
} round_clock;

typedef struct turn { /* a shared block as the n-th of its reader */
    int64_t n, block;
    int reader;
} turn;

typedef struct scheduling {
    const fz_load_plan_args *args;
    fz_load_plan *plan;
    round_clock *senders; /* owned: [size] */
    round_clock *classes; /* owned: [n_classes] */
    turn *turns;          /* owned */
    int64_t n_turns;
} scheduling;

/* All readers' first blocks, then all second ones: so they work side by side. */
static int compare_turns(const void *x, const void *y)
{
    const turn *a = x, *b = y;

    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    return (a->reader > b->reader) - (a->reader < b->reader);
}

static fz_status list_turns(scheduling *s)
{
    const fz_load_plan *plan = s->plan;
    int64_t *n_of = NULL;

    FZ_TRY(FZ_NEW(&s->turns, plan->n_blocks));
    FZ_TRY(FZ_NEW(&n_of, s->args->wants->size));
    for (int64_t i = 0; i < plan->n_blocks; i++) {
        const int reader = plan->blocks[i].reader;
        if (!plan->blocks[i].is_shared) continue;
        s->turns[s->n_turns++] = (turn){.n = n_of[reader]++, .block = i, .reader = reader};
    }
    fz_free(&n_of);
    if (s->n_turns > 0) qsort(s->turns, (size_t)s->n_turns, sizeof *s->turns, compare_turns);
    return FZ_OK;
}

static fz_status keep(fz_load_message **list, int64_t *n, int64_t *room, const fz_load_message *new)
{
    if (*n == *room) {
        *room = 2 * *room + 64;
        FZ_TRY(fz_realloc((void **)list, (size_t)*room * sizeof **list, "messages of a load"));
    }
    (*list)[(*n)++] = *new;
    return FZ_OK;
}

/* The first round in which both have room for the part. */
static int find_round(const scheduling *s, const round_clock *from, const round_clock *to,
                      int64_t bytes)
{
    const int64_t most = s->args->round_bytes;
    int round = from->round > to->round ? from->round : to->round;

    if (round == to->round && to->bytes > 0 && to->bytes + bytes > most) round++;
    if (round == from->round && from->bytes > 0 && from->bytes + bytes > most) round++;
    return round;
}

static void add_to(round_clock *clock, int round, int64_t bytes, int64_t n)
{
    if (round > clock->round) *clock = (round_clock){.round = round};
    clock->bytes += bytes;
    clock->n += n;
}

static void raise_to(int64_t *most, int64_t value)
{
    if (value > *most) *most = value;
}

/* To members from the reader's neighbour on, so that not all readers begin with the same one. */
static fz_status keep_sends(scheduling *s, const fz_load_part *p, fz_load_message message)
{
    const fz_wants *wants = s->args->wants;
    const int *members = wants->members + wants->first_member[p->class_n];
    const int n = wants->first_member[p->class_n + 1] - wants->first_member[p->class_n];
    fz_load_plan *plan = s->plan;
    int start = 0;

    while (start < n && members[start] <= s->args->rank)
        start++;
    for (int i = 0; i < n; i++) {
        message.peer = members[(start + i) % n];
        if (message.peer != s->args->rank)
            FZ_TRY(keep(&plan->sends, &plan->n_sends, &plan->send_room, &message));
    }
    return FZ_OK;
}

/* A part goes to all of its class in one round. */
static fz_status send_part(scheduling *s, const fz_load_block *block, const fz_load_part *p)
{
    const fz_wants *wants = s->args->wants;
    const bool is_own_class = wants->class_of[block->reader] == p->class_n;
    const int64_t n =
        wants->first_member[p->class_n + 1] - wants->first_member[p->class_n] - is_own_class;
    fz_load_plan *plan = s->plan;
    round_clock *from = &s->senders[block->reader], *to = &s->classes[p->class_n];
    fz_load_message message = {.block = block - plan->blocks,
                               .first_cut = p->first_cut,
                               .n_cuts = p->n_cuts,
                               .bytes = p->bytes};

    if (n == 0) return FZ_OK;
    message.round = find_round(s, from, to, p->bytes);
    add_to(from, message.round, p->bytes, n);
    add_to(to, message.round, p->bytes, 1);
    if (message.round >= plan->n_rounds) plan->n_rounds = message.round + 1;
    if (block->reader == s->args->rank) {
        raise_to(&plan->send_bytes, from->bytes);
        raise_to(&plan->n_in_flight, from->n);
        return keep_sends(s, p, message);
    }
    if (wants->class_of[s->args->rank] != p->class_n) return FZ_OK;
    message.peer = block->reader;
    raise_to(&plan->receive_bytes, to->bytes);
    raise_to(&plan->n_in_flight, to->n);
    return keep(&plan->receives, &plan->n_receives, &plan->receive_room, &message);
}

static fz_status schedule(scheduling *s)
{
    FZ_TRY(list_turns(s));
    FZ_TRY(FZ_NEW(&s->senders, s->args->wants->size));
    FZ_TRY(FZ_NEW(&s->classes, s->args->wants->n_classes));
    for (int64_t i = 0; i < s->n_turns; i++) {
        const fz_load_block *block = &s->plan->blocks[s->turns[i].block];
        int64_t at = block->first_cut;
        fz_load_part p;
        while (fz_load_next_part(s->plan, block, &at, &p))
            FZ_TRY(send_part(s, block, &p));
    }
    return FZ_OK;
}

fz_status fz_load_make_rounds(const fz_load_plan_args *args, fz_load_plan *plan)
{
    scheduling s = {.args = args, .plan = plan};

    const fz_status status = schedule(&s);
    fz_free(&s.senders);
    fz_free(&s.classes);
    fz_free(&s.turns);
    return status;
}
