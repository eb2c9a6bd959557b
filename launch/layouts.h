/* All legal layouts of a model on N ranks, best first: least memory on the fullest rank, then the
 * smallest pipeline bubble. Pure arithmetic, Local. */
#ifndef FZ_LAUNCH_LAYOUTS_H
#define FZ_LAUNCH_LAYOUTS_H

#include "parallel/plan.h"

typedef struct fz_layout_choice {
    fz_mesh_shape shape;
    size_t bytes;  /* of the fullest rank */
    double bubble; /* share of the step */
    double flops;  /* of the busiest rank, one step */
} fz_layout_choice;

enum { FZ_LAYOUTS_MAX = 256 };

typedef struct fz_layouts {
    int n;
    fz_layout_choice choice[FZ_LAYOUTS_MAX];
} fz_layouts;

/* want: axes that are given (> 0) or free (0). The rest of the layout is taken as it is.
 * FZ_ERR_USAGE with the reason of the last one refused if none is legal. */
fz_status fz_layouts_find(const fz_program *program, const fz_train_config *train,
                          const fz_layout_config *layout, fz_mesh_shape want, int n_ranks,
                          fz_layouts *layouts);
/* The fullest rank, busiest rank and bubble of one plan. */
fz_status fz_layout_weigh(const fz_plan *plan, fz_layout_choice *choice);

#endif
