/* Boxes, fragments and digests: which elements of which tensor lie where. Local unless it says
 * Collective.
 *
 * A fragment is the flat range [a, b) of a box of a tensor, row-major, at a byte offset of a file.
 * What this code writes are whole boxes (a = 0, b = elements); what it reads may be cut.
 */
#ifndef FZ_CHECKPOINT_LAYOUT_H
#define FZ_CHECKPOINT_LAYOUT_H

#include "core/state_view.h"
#include "dist/group.h"

/* One row of /fragments, in its order of columns. Axes beyond ndim are [0, 1). */
typedef struct fz_fragment {
    int64_t tensor, kind, file, offset, a, b;
    int64_t lo[FZ_MAX_AXES], hi[FZ_MAX_AXES];
} fz_fragment;
enum { FZ_FRAGMENT_COLUMNS = 6 + 2 * FZ_MAX_AXES };
_Static_assert(sizeof(fz_fragment) == FZ_FRAGMENT_COLUMNS * 8, "a fragment is a row of int64");

extern const char *const FZ_KIND_NAMES[FZ_N_STATE_KINDS]; /* "master", "exp_avg", ... */

typedef struct fz_box {
    int64_t lo[FZ_MAX_AXES], hi[FZ_MAX_AXES];
} fz_box;

fz_box fz_box_of_tensor(const fz_state_tensor *tensor);
fz_box fz_box_of_view(const fz_state_view *view, int ndim);
fz_box fz_box_of_fragment(const fz_fragment *fragment);
int64_t fz_box_elements(const fz_box *box);                              /* 0 for an empty one */
int64_t fz_box_offset(const fz_box *box, const int64_t at[FZ_MAX_AXES]); /* row-major */
fz_box fz_box_intersect(const fz_box *x, const fz_box *y);

/* Walks the elements of part in row-major order as runs that are contiguous in both of two boxes
 * that contain it. fz_runs_next gives the run's element offsets in the first and second box;
 * offsets in the first only grow. */
typedef struct fz_runs {
    fz_box part, first, second;
    int axis;       /* a run covers part's extent of this axis and all behind it */
    int64_t length; /* of every run, elements */
    int64_t at[FZ_MAX_AXES];
    bool is_done;
} fz_runs;
fz_runs fz_runs_over(const fz_box *part, const fz_box *first, const fz_box *second);
bool fz_runs_next(fz_runs *runs, int64_t *in_first, int64_t *in_second);
/* Goes to the first run that ends behind element `flat` (>= 0) of the first box. */
void fz_runs_seek(fz_runs *runs, int64_t flat);
/* Elements of part, which lies in box, before element `flat` (>= 0) of box. */
int64_t fz_box_count_below(const fz_box *part, const fz_box *box, int64_t flat);

/* The view's part of its tensor's digest (core/checksum.h). */
uint64_t fz_view_digest(const fz_state *state, const fz_state_view *view);

/* Whether a checkpoint holds the view: not empty, and not the copy of a trained weight that its
 * master makes. */
bool fz_view_is_stored(const fz_state *state, const fz_state_view *view);

/* FZ_ERR_ARG for a state that breaks the contract of core/state_view.h. */
fz_status fz_state_check(const fz_state *state);

/* Digests of every tensor and kind, summed over the owners of all ranks: sums[kind][tensor] is
 * {digest, elements counted}. views[i] gets the part of view i, replicas too.
 * FZ_ERR_ARG unless the owners hold every element exactly once. Collective over world. */
fz_status fz_state_digests(const fz_group *world, const fz_state *state, uint64_t (*sums)[2],
                           uint64_t *views);
/* Its last two parts: what this rank's owners add to sums, which are zero before; and the sums over
 * all ranks, checked. */
void fz_sums_add_owned(const fz_state *state, const uint64_t *views, uint64_t (*sums)[2]);
fz_status fz_sums_share(const fz_group *world, const fz_state *state, uint64_t (*sums)[2]);

/* The rows of the boxes that this rank's owners hold, kinds in mask (bit kind), file = rank, with
 * their digests and views (index into state->views); all sized n_views. Returns how many. */
int64_t fz_owned_rows(const fz_state *state, int rank, unsigned mask, const uint64_t *views,
                      fz_fragment *rows, uint64_t *digests, int *view_of);

/* Rows of each kind and tensor as a chain: head[kind * n_tensors + tensor], then next[row]; -1 ends
 * it. Both are the caller's. */
fz_status fz_rows_chain(int n_tensors, const fz_fragment *rows, int64_t n_rows, int64_t **head_p,
                        int64_t **next_p);

/* Compares replicas with their owners. Rows and digests of all ranks' owners; views: of this
 * rank's views. FZ_ERR_DEVICE names the first that differs: memory went wrong, or a sum did. */
fz_status fz_replicas_check(const fz_state *state, unsigned mask, const uint64_t *views,
                            const fz_fragment *rows, const uint64_t *digests, int64_t n_rows);

#endif
