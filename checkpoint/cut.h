/* A cut: the elements of a wanted box that a range of a file holds of one fragment. Local.
 *
 *   file      ....[ fragment: elements a .. b of a box          ]....
 *   range          [ begin ........ end )      usually a block
 *   cut              x xx x xx x x              what of it lies in the wanted box, row-major
 *
 * Packed, a cut's elements lie one behind the other. Begin and end are bytes of the file and may
 * lie outside the fragment.
 */
#ifndef FZ_CHECKPOINT_CUT_H
#define FZ_CHECKPOINT_CUT_H

#include "checkpoint/layout.h"

/* How many elements the cut has. */
int64_t fz_cut_count(const fz_fragment *row, const fz_box *wanted, int64_t begin, int64_t end);
/* The bytes of the file between its first and its last element; both 0: none. */
void fz_cut_span(const fz_fragment *row, const fz_box *wanted, int64_t *begin_p, int64_t *end_p);

/* bytes: the range, as in the file. data: the wanted box. */
void fz_cut_copy(const fz_fragment *row, const fz_box *wanted, int64_t begin, int64_t end,
                 const char *bytes, float *data);
/* The same in two halves; both return how many elements there were. */
int64_t fz_cut_pack(const fz_fragment *row, const fz_box *wanted, int64_t begin, int64_t end,
                    const char *bytes, float *packed);
int64_t fz_cut_unpack(const fz_fragment *row, const fz_box *wanted, int64_t begin, int64_t end,
                      const float *packed, float *data);

#endif
