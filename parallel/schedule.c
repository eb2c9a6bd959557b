#include "parallel/schedule.h"

#include <string.h>

#include "core/memory.h"

/* Forward passes ahead of the first backward one. */
static int64_t warm_up(fz_schedule_kind kind, int stage, int n_stages, int64_t n_micro)
{
    const int64_t ahead = kind == FZ_SCHEDULE_AFAB ? n_micro : n_stages - 1 - stage;
    return ahead < n_micro ? ahead : n_micro;
}

void fz_schedule_list(fz_schedule_kind kind, int stage, int n_stages, int64_t n_micro,
                      fz_action *list)
{
    const int64_t ahead = warm_up(kind, stage, n_stages, n_micro);
    int64_t n = 0, backward = 0;

    for (int64_t m = 0; m < ahead; m++)
        list[n++] = (fz_action){.kind = FZ_ACTION_FORWARD, .micro = m};
    for (int64_t m = ahead; m < n_micro; m++) {
        list[n++] = (fz_action){.kind = FZ_ACTION_FORWARD, .micro = m};
        list[n++] = (fz_action){.kind = FZ_ACTION_BACKWARD, .micro = backward++};
    }
    while (backward < n_micro)
        list[n++] = (fz_action){.kind = FZ_ACTION_BACKWARD, .micro = backward++};
}

int64_t fz_schedule_in_flight(fz_schedule_kind kind, int stage, int n_stages, int64_t n_micro)
{
    const int64_t most = warm_up(kind, stage, n_stages, n_micro) + 1;
    return most < n_micro ? most : n_micro;
}

/* The simulator: every stage walks its list; done times of (stage, micro) are what neighbours wait
 * for. */
typedef struct player {
    const fz_action *lists; /* borrowed: n_stages x 2 n_micro */
    int n_stages;
    int64_t n_micro;
    double *forward_end, *backward_end; /* owned: n_stages x n_micro; < 0: not yet */
    int64_t *next;                      /* owned: n_stages, index into the stage's list */
    double *clock;                      /* owned: n_stages */
} player;

static const char *kind_name(fz_action_kind kind)
{
    return kind == FZ_ACTION_FORWARD ? "forward" : "backward";
}

/* Each pass of each micro-batch once, both in micro-batch order, backward after forward. */
static fz_status check_list(const player *p, int stage, int64_t *peak)
{
    const fz_action *list = p->lists + stage * 2 * p->n_micro;
    int64_t n_forward = 0, n_backward = 0;

    for (int64_t i = 0; i < 2 * p->n_micro; i++) {
        int64_t *n = list[i].kind == FZ_ACTION_FORWARD ? &n_forward : &n_backward;
        FZ_CHECK(list[i].micro == *n, FZ_ERR_ARG,
                 "stage %d action %lld: %s of micro-batch %lld where %lld is due", stage,
                 (long long)i, kind_name(list[i].kind), (long long)list[i].micro, (long long)*n);
        (*n)++;
        FZ_CHECK(n_backward <= n_forward && *n <= p->n_micro, FZ_ERR_ARG,
                 "stage %d action %lld: %s of micro-batch %lld comes too early", stage,
                 (long long)i, kind_name(list[i].kind), (long long)list[i].micro);
        if (n_forward - n_backward > *peak) *peak = n_forward - n_backward;
    }
    return FZ_OK;
}

/* When the neighbour's part of this action is there; < 0: not yet. */
static double ready_time(const player *p, int stage, const fz_action *action)
{
    if (action->kind == FZ_ACTION_FORWARD)
        return stage == 0 ? 0.0 : p->forward_end[(stage - 1) * p->n_micro + action->micro];
    return stage == p->n_stages - 1 ? 0.0
                                    : p->backward_end[(stage + 1) * p->n_micro + action->micro];
}

/* Runs the stage as far as it gets; false if not a single action could. */
static bool advance(player *p, int stage)
{
    const fz_action *list = p->lists + stage * 2 * p->n_micro;
    bool moved = false;

    while (p->next[stage] < 2 * p->n_micro) {
        const fz_action *action = &list[p->next[stage]];
        const double ready = ready_time(p, stage, action);
        if (ready < 0) break;
        const double start = ready > p->clock[stage] ? ready : p->clock[stage];
        const bool forward = action->kind == FZ_ACTION_FORWARD;
        p->clock[stage] = start + (forward ? 1.0 : 2.0);
        double *end = forward ? p->forward_end : p->backward_end;
        end[stage * p->n_micro + action->micro] = p->clock[stage];
        p->next[stage]++;
        moved = true;
    }
    return moved;
}

static fz_status play(player *p, fz_schedule_report *report)
{
    double end = 0;
    bool moved = true;

    while (moved) {
        moved = false;
        for (int s = 0; s < p->n_stages; s++)
            moved = advance(p, s) || moved;
    }
    for (int s = 0; s < p->n_stages; s++) {
        const int64_t at = p->next[s];
        if (at < 2 * p->n_micro) {
            const fz_action *stuck = &p->lists[s * 2 * p->n_micro + at];
            return FZ_FAIL(FZ_ERR_ARG,
                           "deadlock: stage %d waits at action %lld, %s of micro-batch %lld", s,
                           (long long)at, kind_name(stuck->kind), (long long)stuck->micro);
        }
        if (p->clock[s] > end) end = p->clock[s];
    }
    report->bubble = end > 0 ? 1.0 - 3.0 * (double)p->n_micro / end : 0.0;
    return FZ_OK;
}

fz_status fz_schedule_play(const fz_action *lists, int n_stages, int64_t n_micro,
                           fz_schedule_report *report)
{
    player p = {.lists = lists, .n_stages = n_stages, .n_micro = n_micro};
    fz_schedule_report result = {0};
    const int64_t n = n_stages * n_micro;

    fz_status status = FZ_OK;
    for (int s = 0; s < n_stages && status == FZ_OK; s++)
        status = check_list(&p, s, &result.peak_in_flight);
    if (status == FZ_OK) status = FZ_NEW(&p.forward_end, n);
    if (status == FZ_OK) status = FZ_NEW(&p.backward_end, n);
    if (status == FZ_OK) status = FZ_NEW(&p.next, n_stages);
    if (status == FZ_OK) status = FZ_NEW(&p.clock, n_stages);
    if (status == FZ_OK) {
        for (int64_t i = 0; i < n; i++)
            p.forward_end[i] = p.backward_end[i] = -1.0;
        status = play(&p, &result);
    }
    fz_free(&p.forward_end);
    fz_free(&p.backward_end);
    fz_free(&p.next);
    fz_free(&p.clock);
    if (status == FZ_OK) *report = result;
    return status;
}

fz_status fz_schedule_simulate(fz_schedule_kind kind, int n_stages, int64_t n_micro,
                               fz_schedule_report *report)
{
    fz_action *lists = NULL;

    FZ_TRY(FZ_NEW(&lists, n_stages * 2 * n_micro));
    for (int s = 0; s < n_stages; s++)
        fz_schedule_list(kind, s, n_stages, n_micro, lists + s * 2 * n_micro);
    const fz_status status = fz_schedule_play(lists, n_stages, n_micro, report);
    fz_free(&lists);
    return status;
}
