/* Which sample the n-th position of a run sees: a pure function of (seed, n) and the index
 * (design.md 10). Local.
 *
 *   epoch e = n / n_images; shards in the order of a keyed permutation of (seed, e); images
 * permuted by key inside a window of `window` shards; every image once an epoch. class: over each
 * global batch, positions in order take the class of their image's set whose count in this batch is
 * smallest (ties: by keyed hash), so classes are balanced to +-1 where the images allow; then the
 * annotation of that class by hash of (seed, n). attempt a > 0 (a bad sample replaced): a keyed
 * draw of (seed, n, a) over all images, same class if the drawn image has it.
 */
#ifndef FZ_DATA_SAMPLER_H
#define FZ_DATA_SAMPLER_H

#include "data/index.h"

typedef enum fz_balance { FZ_BALANCE_TASK_LANG, FZ_BALANCE_NONE } fz_balance;

typedef struct fz_sampler fz_sampler;

fz_status fz_sampler_create(const fz_index *index, uint64_t seed, int64_t window,
                            int64_t global_batch, fz_balance balance, fz_sampler **sampler_p);
void fz_sampler_destroy(fz_sampler **sampler);

typedef struct fz_draw {
    int64_t image; /* into index->images */
    int32_t
        annotation;   /* number inside the image's list; -1: the image has none that can be used */
    int32_t class_id; /* -1 with it */
} fz_draw;

/* O(global_batch * log shards); steps in any order, those of one epoch together are cheapest.
 * All positions [step*global_batch, (step+1)*global_batch) at attempt 0: out (global_batch). */
void fz_sampler_step(fz_sampler *sampler, int64_t step, fz_draw *out);
/* One position at attempt >= 1. class_id: the class attempt 0 had. */
fz_draw fz_sampler_redraw(const fz_sampler *sampler, int64_t n, int32_t attempt, int32_t class_id);

#endif
