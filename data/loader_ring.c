#include "data/loader_ring.h"

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void fz_ring_local_images(const fz_loader_config *config, int64_t n_samples, int64_t *first_p,
                          int64_t *end_p)
{
    const int64_t S = config->n_shards;

    *first_p = config->first_shard * n_samples / S;
    *end_p = (config->first_shard + config->n_local_shards) * n_samples / S;
}

int64_t fz_ring_samples(const fz_loader *loader, int64_t step, int64_t m)
{
    const fz_loader_config *c = &loader->config;

    if (!c->eval) return c->micro_batch;
    const int64_t left =
        loader->eval_samples - step * c->global_batch - (c->first_micro + m) * c->micro_batch;
    return left < 0 ? 0 : least(left, c->micro_batch);
}

void fz_ring_measure(fz_loader *loader)
{
    const fz_loader_config *c = &loader->config;

    loader->n_local = c->n_micro * c->micro_batch;
    loader->n_slots = c->n_ahead + 1;
    loader->n_readers = c->n_threads > 0 ? c->n_threads : 1;
    loader->max_images = 0;
    /* A smaller micro-batch at the end of eval may give these shards one image more. */
    for (int64_t B = c->eval ? 1 : c->micro_batch; B <= c->micro_batch; B++) {
        int64_t first = 0, end = 0;
        fz_ring_local_images(c, B, &first, &end);
        if (end - first > loader->max_images) loader->max_images = end - first;
    }
}

static void take_slot(const fz_loader *loader, fz_ring_slot *slot, fz_arena *arena)
{
    const fz_loader_config *c = &loader->config;
    const int64_t G = c->global_batch, L = loader->n_local;
    fz_ring_slot taken = {.step = -1};

    taken.draws = fz_arena_take(arena, (size_t)G * sizeof *taken.draws);
    taken.classes = fz_arena_ints(arena, G);
    taken.attempts = fz_arena_ints(arena, G);
    taken.bad = fz_arena_take(arena, (size_t)G);
    taken.n_prompt = fz_arena_ints(arena, L);
    taken.n_labels = fz_arena_ints(arena, L);
    taken.prompts = fz_arena_ints(arena, L * c->max_prompt);
    taken.labels = fz_arena_ints(arena, L * c->max_output);
    if (c->pixels)
        taken.pixels = fz_arena_floats(arena, c->n_micro * loader->max_images * c->image_size *
                                                  c->image_size * 3);
    if (slot != NULL) *slot = taken;
}

void fz_ring_take(fz_loader *loader, fz_arena *arena)
{
    const fz_loader_config *c = &loader->config;
    const int64_t L = loader->n_local;

    loader->slots = fz_arena_take(arena, (size_t)loader->n_slots * sizeof *loader->slots);
    for (int s = 0; s < loader->n_slots; s++)
        take_slot(loader, loader->slots != NULL ? &loader->slots[s] : NULL, arena);
    loader->items = fz_arena_ints(arena, L);
    loader->micro = fz_arena_take(arena, (size_t)c->n_micro * sizeof *loader->micro);
    loader->sample_n = fz_arena_take(arena, (size_t)L * sizeof *loader->sample_n);
    loader->enc_start = fz_arena_ints(arena, c->n_micro * (c->micro_batch + 1));
    loader->dec_start = fz_arena_ints(arena, c->n_micro * (c->micro_batch + 1));
    loader->enc_ids = fz_arena_ints(arena, L * (c->image_tokens + c->max_prompt));
    loader->dec_ids = fz_arena_ints(arena, L * c->max_output);
    loader->label_ids = fz_arena_ints(arena, L * c->max_output);
    loader->class_of = fz_arena_ints(arena, L);
}
