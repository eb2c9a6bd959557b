/* Who wants what: the boxes that every rank of the job needs from disk.
 *
 * Ranks whose lists are equal, as copies of data parallelism are, form a class; a list is kept once
 * for its class.
 */
#ifndef FZ_CHECKPOINT_WANTS_H
#define FZ_CHECKPOINT_WANTS_H

#include "checkpoint/layout.h"

typedef struct fz_want { /* a box of a tensor; int64 alone, as it is sent in bytes */
    int64_t source;      /* the caller's number of where it lies */
    int64_t tensor, kind;
    int64_t lo[FZ_MAX_AXES], hi[FZ_MAX_AXES]; /* axes beyond ndim are [0, 1) */
} fz_want;

typedef struct fz_wants {
    int size;          /* ranks */
    int n_classes;     /* numbered by their lowest ranks */
    int *class_of;     /* owned: [size] */
    int *first_member; /* owned: [n_classes + 1] into members */
    int *members;      /* owned: [size] ranks, ascending inside a class */
    int64_t *first;    /* owned: [n_classes + 1] into list */
    fz_want *list;     /* owned */
} fz_wants;

fz_box fz_box_of_want(const fz_want *want);

/* The same on every rank. Collective over group. */
fz_status fz_wants_gather(const fz_group *group, const fz_want *mine, int64_t n_mine,
                          fz_wants *wants);
void fz_wants_reset(fz_wants *wants);

#endif
