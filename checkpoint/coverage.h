/* Whether fragments hold every element of a tensor and kind exactly once: a sweep over their boxes,
 * without data. Local.
 */
#ifndef FZ_CHECKPOINT_COVERAGE_H
#define FZ_CHECKPOINT_COVERAGE_H

#include "checkpoint/source.h"

/* A flat range of a box is a head, a body and a tail for every axis: at most so many boxes. */
enum { FZ_FRAGMENT_BOXES = 2 * FZ_MAX_AXES - 1 };
/* The elements of a fragment as boxes of its tensor. Returns how many. */
int fz_fragment_boxes(const fz_fragment *fragment, fz_box boxes[FZ_FRAGMENT_BOXES]);

/* Whether a directory (a base or a step) with that index stores the tensor's kind. */
bool fz_coverage_expects(const fz_index *index, bool is_base, int tensor, int kind);

typedef struct fz_coverage {
    bool is_sound;
    int64_t n_holders; /* not sound: of the box: 0 is a hole, 2 and more an overlap */
    fz_box box;        /* the first of them */
} fz_coverage;

/* Sweeps the fragments of one tensor and kind. source: with its chains. FZ_ERR_MEMORY. */
fz_status fz_coverage_find(const fz_source *source, int tensor, int kind, fz_coverage *coverage);

/* All tensors and kinds, those too that must have no fragments. FZ_ERR_FORMAT names the first
 * fault: path, tensor, kind and box. */
fz_status fz_coverage_check(const fz_source *source, bool is_base);

/* "[0:4, 3:6]" for a tensor's box. Returns text. */
char *fz_box_text(const fz_box *box, int ndim, char *text, size_t bytes);

#endif
