#include "parallel/tensor_parallel.h"

#include "core/clock.h"
#include "core/memory.h"
#include "parallel/rank_memory.h"

fz_status fz_leaf_sum_create(const fz_group *group, fz_ordered_sum **sum_p)
{
    const int size = fz_group_size(group);
    int *n_nodes = NULL;
    fz_tree_node *nodes = NULL;

    fz_status status = FZ_NEW(&n_nodes, size);
    if (status == FZ_OK) status = FZ_NEW(&nodes, size);
    for (int r = 0; r < size && status == FZ_OK; r++) {
        n_nodes[r] = 1;
        nodes[r] = (fz_tree_node){.level = 0, .index = r, .buffer = 0};
    }
    if (status == FZ_OK)
        status = fz_ordered_sum_create(group, n_nodes, nodes, FZ_COMM_CHUNK, sum_p);
    fz_free(&n_nodes);
    fz_free(&nodes);
    return status;
}

fz_status fz_leaf_sum_run(const fz_ordered_sum *sum, float *x, int64_t n, void *work)
{
    for (int64_t at = 0; at < n; at += FZ_COMM_CHUNK) {
        float *const root = x + at;
        const int64_t rest = n - at;
        FZ_TRY(fz_ordered_sum_run(sum, root, &root, rest < FZ_COMM_CHUNK ? rest : FZ_COMM_CHUNK,
                                  work));
    }
    return FZ_OK;
}

static fz_status sum_start(void *context, float *x, int64_t n)
{
    const fz_tensor_parallel *tp = context;
    fz_span_begin("tensor.sum", FZ_SHARE_COMM);
    const fz_status status = fz_leaf_sum_run(tp->sum, x, n, tp->work);
    fz_span_end();
    return status;
}

static fz_status max_start(void *context, float *x, int64_t n)
{
    const fz_tensor_parallel *tp = context;
    fz_span_begin("tensor.max", FZ_SHARE_COMM);
    const fz_status status = fz_allreduce_max_float(tp->group, x, n);
    fz_span_end();
    return status;
}

static fz_status gather_start(void *context, float *all, const float *mine, const int64_t *first,
                              int64_t per_image)
{
    const fz_tensor_parallel *tp = context;
    const int size = fz_group_size(tp->group);
    const int64_t count = tp->n_shards / size;

    for (int r = 0; r < size; r++)
        tp->counts[r] = (first[(r + 1) * count] - first[r * count]) * per_image;
    fz_span_begin("tensor.gather", FZ_SHARE_COMM);
    const fz_status status = fz_allgatherv_float(tp->group, mine, tp->counts, all);
    fz_span_end();
    return status;
}

static fz_status gather_shards_start(void *context, void *all, const void *mine, size_t bytes)
{
    const fz_tensor_parallel *tp = context;
    fz_span_begin("tensor.gather", FZ_SHARE_COMM);
    const fz_status status = fz_allgather(tp->group, mine, bytes, all);
    fz_span_end();
    return status;
}

/* The collectives above return when they are done. */
static fz_status done_wait(void *context)
{
    (void)context;
    return FZ_OK;
}

fz_status fz_tensor_parallel_init(fz_tensor_parallel *tp, const fz_group *group, int64_t n_shards,
                                  void *work)
{
    *tp = (fz_tensor_parallel){
        .group = group, .n_shards = n_shards, .work = work, .hooks = fz_hooks_local};
    if (fz_group_size(group) == 1) return FZ_OK;
    FZ_TRY(FZ_NEW(&tp->counts, fz_group_size(group)));
    FZ_TRY(fz_leaf_sum_create(group, &tp->sum));
    tp->hooks = (fz_hooks){.context = tp,
                           .sum_shards_start = sum_start,
                           .sum_shards_wait = done_wait,
                           .max_shards_start = max_start,
                           .max_shards_wait = done_wait,
                           .gather_images_start = gather_start,
                           .gather_images_wait = done_wait,
                           .gather_shards_start = gather_shards_start,
                           .gather_shards_wait = done_wait};
    return FZ_OK;
}

void fz_tensor_parallel_reset(fz_tensor_parallel *tp)
{
    fz_ordered_sum_destroy(&tp->sum);
    fz_free(&tp->counts);
}
