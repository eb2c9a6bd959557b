/* Pipeline schedules: lists of actions from pure functions, checked by a simulator. Local. */
#ifndef FZ_PARALLEL_SCHEDULE_H
#define FZ_PARALLEL_SCHEDULE_H

#include "core/status.h"
#include "parallel/config.h"

typedef enum fz_action_kind { FZ_ACTION_FORWARD, FZ_ACTION_BACKWARD } fz_action_kind;

typedef struct fz_action {
    fz_action_kind kind;
    int64_t micro; /* 0 .. n_micro-1 of this data-parallel rank */
} fz_action;

/* The list of stage `stage` of n_stages; 2*n_micro entries into list. Backward passes are always
 * in micro-batch order, whatever the schedule: gradients add up in that order. */
void fz_schedule_list(fz_schedule_kind kind, int stage, int n_stages, int64_t n_micro,
                      fz_action *list);
/* Micro-batches whose forward is saved at once on that stage. */
int64_t fz_schedule_in_flight(fz_schedule_kind kind, int stage, int n_stages, int64_t n_micro);

typedef struct fz_schedule_report {
    double bubble; /* idle share, forward 1 and backward 2 units a stage */
    int64_t peak_in_flight;
} fz_schedule_report;
/* Plays the lists of all stages (n_stages x 2*n_micro) against each other. FZ_ERR_ARG names the
 * stage and action of a deadlock or an incomplete list. */
fz_status fz_schedule_play(const fz_action *lists, int n_stages, int64_t n_micro,
                           fz_schedule_report *report);
/* The same for the lists of a kind. */
fz_status fz_schedule_simulate(fz_schedule_kind kind, int n_stages, int64_t n_micro,
                               fz_schedule_report *report);

#endif
