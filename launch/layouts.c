#include "launch/layouts.h"

#include <stdlib.h>

fz_status fz_layout_weigh(const fz_plan *plan, fz_layout_choice *choice)
{
    const fz_mesh_shape shape = plan->layout.shape;
    *choice = (fz_layout_choice){.shape = shape, .bubble = plan->bubble};
    for (int pp = 0; pp < shape.pp; pp++)
        for (int dp = 0; dp < shape.dp; dp++) {
            /* Tensor ranks hold equally many pieces: the first speaks for all. */
            fz_rank_plan rank;
            const fz_mesh_coord coord = {.pp = pp, .dp = dp};
            FZ_TRY(fz_plan_rank(plan, fz_mesh_rank(shape, coord), &rank));
            const double flops = rank.flops_forward + rank.flops_backward;
            if (rank.bytes.total > choice->bytes) choice->bytes = rank.bytes.total;
            if (flops > choice->flops) choice->flops = flops;
        }
    return FZ_OK;
}

static int better_first(const void *a, const void *b)
{
    const fz_layout_choice *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    if (x->bubble < y->bubble || x->bubble > y->bubble) return x->bubble < y->bubble ? -1 : 1;
    return x->shape.tp - y->shape.tp;
}

static fz_status try_shape(const fz_program *program, const fz_train_config *train,
                           const fz_layout_config *layout, fz_mesh_shape shape, fz_layouts *layouts)
{
    fz_layout_config full = *layout;
    fz_plan *plan = NULL;
    full.shape = shape;
    FZ_TRY(fz_plan_create(program, train, &full, &plan));
    fz_status status = FZ_OK;
    if (layouts->n < FZ_LAYOUTS_MAX) {
        status = fz_layout_weigh(plan, &layouts->choice[layouts->n]);
        if (status == FZ_OK) layouts->n++;
    }
    fz_plan_destroy(&plan);
    return status;
}

fz_status fz_layouts_find(const fz_program *program, const fz_train_config *train,
                          const fz_layout_config *layout, fz_mesh_shape want, int n_ranks,
                          fz_layouts *layouts)
{
    fz_status refused = FZ_OK;
    layouts->n = 0;
    for (int tp = 1; tp <= n_ranks && tp <= layout->n_shards; tp *= 2)
        for (int pp = 1; pp * tp <= n_ranks; pp++) {
            const fz_mesh_shape shape = {.pp = pp, .dp = n_ranks / (tp * pp), .tp = tp};
            if (n_ranks % (tp * pp) != 0 || (want.tp && want.tp != tp) ||
                (want.pp && want.pp != pp) || (want.dp && want.dp != shape.dp))
                continue;
            const fz_status status = try_shape(program, train, layout, shape, layouts);
            if (status != FZ_OK && status != FZ_ERR_USAGE) return status;
            if (status != FZ_OK) refused = status;
        }
    if (layouts->n == 0 && refused != FZ_OK) return refused;
    FZ_CHECK(layouts->n > 0, FZ_ERR_USAGE,
             "layout.tp: no layout of %d ranks with tp %d, pp %d, dp %d (0: auto) fits %lld shards",
             n_ranks, want.tp, want.pp, want.dp, (long long)layout->n_shards);
    qsort(layouts->choice, (size_t)layouts->n, sizeof *layouts->choice, better_first);
    return FZ_OK;
}
