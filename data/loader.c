#include "data/loader.h"

#include <string.h>

#include "core/assert.h"
#include "core/memory.h"
#include "data/loader_ring.h"

/* ---- one sample, on a worker thread ---- */

static void record_failure(fz_loader *loader, fz_ring_slot *slot, int64_t position,
                           fz_status status)
{
    pthread_mutex_lock(&loader->lock);
    if (status == FZ_ERR_MEMORY) {
        /* Says nothing about the sample. */
        slot->worst = status;
        slot->bad_position = -1;
        memcpy(slot->bad_text, fz_last_error()->text, sizeof slot->bad_text);
    } else {
        slot->bad[position] = 1;
        if (position < slot->bad_position) {
            slot->bad_position = position;
            memcpy(slot->bad_text, fz_last_error()->text, sizeof slot->bad_text);
        }
    }
    pthread_mutex_unlock(&loader->lock);
}

static fz_status load_pixels(fz_loader *loader, fz_sample_reader *reader, fz_ring_slot *slot,
                             int64_t item, int64_t image)
{
    const fz_loader_config *c = &loader->config;
    const int64_t m = item / c->micro_batch, i = item % c->micro_batch;
    int64_t first = 0, end = 0;

    if (!c->pixels) return FZ_OK;
    fz_ring_local_images(c, fz_ring_samples(loader, slot->step, m), &first, &end);
    if (i < first || i >= end) return FZ_OK;
    const int64_t place = m * loader->max_images + i - first;
    return fz_sample_reader_pixels(reader, image,
                                   slot->pixels + place * c->image_size * c->image_size * 3);
}

static void load_item(void *context, int thread, int slot_number, int64_t item)
{
    fz_loader *loader = context;
    const fz_loader_config *c = &loader->config;
    fz_ring_slot *slot = &loader->slots[slot_number];
    fz_sample_reader *reader = &loader->readers[thread];
    const int64_t position = c->first_micro * c->micro_batch + item;
    const fz_draw draw = slot->draws[position];
    fz_sample_ids ids = {.prompt = slot->prompts + item * c->max_prompt,
                         .labels = slot->labels + item * c->max_output};

    fz_status status =
        fz_sample_reader_ids(reader, draw.image, draw.annotation, &loader->rules, &ids);
    if (status == FZ_OK) status = load_pixels(loader, reader, slot, item, draw.image);
    slot->n_prompt[item] = (int32_t)ids.n_prompt;
    slot->n_labels[item] = (int32_t)ids.n_labels;
    if (status != FZ_OK) record_failure(loader, slot, position, status);
}

/* ---- create, destroy ---- */

static fz_status check_config(const fz_loader_config *c)
{
    FZ_CHECK(c->micro_batch >= 1 && c->global_batch >= 1 && c->global_batch % c->micro_batch == 0,
             FZ_ERR_ARG, "loader: micro-batch %lld does not divide global batch %lld",
             (long long)c->micro_batch, (long long)c->global_batch);
    FZ_CHECK(c->first_micro >= 0 && c->n_micro >= 0 &&
                 c->first_micro + c->n_micro <= c->global_batch / c->micro_batch,
             FZ_ERR_ARG, "loader: micro-batches %lld + %lld of %lld", (long long)c->first_micro,
             (long long)c->n_micro, (long long)(c->global_batch / c->micro_batch));
    FZ_CHECK(c->n_shards >= 1 && c->first_shard >= 0 && c->n_local_shards >= 0 &&
                 c->first_shard + c->n_local_shards <= c->n_shards,
             FZ_ERR_ARG, "loader: shards %lld + %lld of %lld", (long long)c->first_shard,
             (long long)c->n_local_shards, (long long)c->n_shards);
    FZ_CHECK(c->max_prompt >= 2 && c->max_output >= 1 && c->image_tokens >= 0 &&
                 c->image_size >= 1 && c->image_size <= 16384,
             FZ_ERR_ARG, "loader: prompt %lld, output %lld, image tokens %lld or size %lld",
             (long long)c->max_prompt, (long long)c->max_output, (long long)c->image_tokens,
             (long long)c->image_size);
    FZ_CHECK(c->n_threads >= 0 && c->n_threads <= 1024 && c->n_ahead >= 0 && c->n_ahead <= 1024,
             FZ_ERR_ARG, "loader: %d threads, %d steps ahead", c->n_threads, c->n_ahead);
    return FZ_OK;
}

static int pixels_side(const fz_loader_config *c)
{
    return c->pixels ? (int)c->image_size : 0;
}

static fz_status take_memory(fz_loader *loader)
{
    const fz_loader_config *c = &loader->config;
    fz_arena counting = fz_arena_counting();

    fz_ring_take(loader, &counting);
    FZ_TRY(fz_alloc(&loader->memory, counting.used, "the loader's ring"));
    fz_arena arena = fz_arena_over(loader->memory, counting.used);
    fz_ring_take(loader, &arena);
    FZ_TRY(FZ_NEW(&loader->readers, loader->n_readers));
    for (int r = 0; r < loader->n_readers; r++)
        FZ_TRY(fz_sample_reader_init(&loader->readers[r], c->index, pixels_side(c)));
    if (!c->eval)
        FZ_TRY(fz_sampler_create(c->index, c->seed, c->window, c->global_batch, c->balance,
                                 &loader->sampler));
    return fz_prefetch_create(c->n_threads, loader->n_slots, loader->n_local, load_item, loader,
                              &loader->prefetch);
}

fz_status fz_loader_create(const fz_loader_config *config, fz_loader **loader_p)
{
    fz_loader *loader = NULL;

    FZ_TRY(check_config(config));
    FZ_TRY(FZ_NEW(&loader, 1));
    loader->config = *config;
    loader->rules = (fz_sample_rules){.max_prompt = config->max_prompt,
                                      .max_output = config->max_output,
                                      .enc_vocab = config->enc_vocab,
                                      .dec_vocab = config->dec_vocab,
                                      .dec_eos = config->dec_start_id,
                                      .enc_tokenizer = config->enc_tokenizer,
                                      .dec_tokenizer = config->dec_tokenizer};
    loader->eval_samples = config->eval ? config->index->n_annotations : 0;
    loader->has_lock = pthread_mutex_init(&loader->lock, NULL) == 0;
    fz_ring_measure(loader);
    const fz_status status = take_memory(loader);
    if (status == FZ_OK)
        *loader_p = loader;
    else
        fz_loader_destroy(&loader);
    return status;
}

void fz_loader_destroy(fz_loader **loader)
{
    fz_loader *old = *loader;

    if (old == NULL) return;
    for (int s = 0; old->prefetch != NULL && s < old->n_slots; s++)
        fz_prefetch_cancel(old->prefetch, s);
    fz_prefetch_destroy(&old->prefetch);
    fz_sampler_destroy(&old->sampler);
    for (int r = 0; old->readers != NULL && r < old->n_readers; r++)
        fz_sample_reader_reset(&old->readers[r]);
    fz_free(&old->readers);
    fz_free(&old->memory);
    if (old->has_lock) pthread_mutex_destroy(&old->lock);
    fz_free(loader);
}

size_t fz_loader_bytes(const fz_loader_config *config)
{
    fz_loader loader = {.config = *config};
    fz_arena counting = fz_arena_counting();

    fz_ring_measure(&loader);
    fz_ring_take(&loader, &counting);
    return counting.used +
           (size_t)loader.n_readers * fz_sample_reader_bytes(config->index, pixels_side(config));
}

int64_t fz_loader_n_grown(const fz_loader *loader)
{
    int64_t n = 0;

    for (int r = 0; r < loader->n_readers; r++)
        n += fz_sample_reader_n_grown(&loader->readers[r]);
    return n;
}

/* ---- steps ---- */

/* The pair-th annotation of the index, in index order. */
static fz_draw eval_draw(const fz_index *index, int64_t pair)
{
    int64_t low = 0, high = index->n_images;

    if (pair >= index->n_annotations) return (fz_draw){FZ_DRAW_NONE, -1, -1};
    /* The last image that begins at or before pair: images without annotations come before it. */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (index->images[middle].first_annotation <= pair)
            low = middle;
        else
            high = middle;
    }
    return (fz_draw){low, (int32_t)(pair - index->images[low].first_annotation),
                     index->annotation_class[pair]};
}

static void put_items(fz_loader *loader, fz_ring_slot *slot, int64_t n)
{
    fz_prefetch_put(loader->prefetch, (int)(slot - loader->slots), slot->step, loader->items, n);
}

static void fill_slot(fz_loader *loader, fz_ring_slot *slot, int64_t step)
{
    const fz_loader_config *c = &loader->config;
    int64_t n = 0;

    slot->step = step;
    slot->bad_position = INT64_MAX;
    slot->worst = FZ_OK;
    slot->bad_text[0] = '\0';
    memset(slot->bad, 0, (size_t)c->global_batch);
    memset(slot->attempts, 0, (size_t)c->global_batch * sizeof *slot->attempts);
    if (c->eval)
        for (int64_t p = 0; p < c->global_batch; p++)
            slot->draws[p] = eval_draw(c->index, step * c->global_batch + p);
    else
        fz_sampler_step(loader->sampler, step, slot->draws);
    for (int64_t p = 0; p < c->global_batch; p++)
        slot->classes[p] = slot->draws[p].class_id;
    for (int64_t i = 0; i < loader->n_local; i++)
        if (slot->draws[c->first_micro * c->micro_batch + i].image >= 0)
            loader->items[n++] = (int32_t)i;
    put_items(loader, slot, n);
}

/* The slot of a step; NULL if it is in none. step -1: a free slot. */
static fz_ring_slot *find_slot(fz_loader *loader, int64_t step)
{
    for (int s = 0; s < loader->n_slots; s++)
        if (loader->slots[s].step == step) return &loader->slots[s];
    return NULL;
}

fz_status fz_loader_prepare(fz_loader *loader, int64_t step)
{
    const fz_loader_config *c = &loader->config;
    const int64_t end = c->eval ? fz_loader_eval_steps(loader) : INT64_MAX;

    FZ_CHECK(step >= 0 && step < end, FZ_ERR_ARG, "loader: step %lld of %lld", (long long)step,
             (long long)end);
    for (int s = 0; s < loader->n_slots; s++) {
        fz_ring_slot *slot = &loader->slots[s];
        if (slot->step < 0 || (slot->step >= step && slot->step <= step + c->n_ahead)) continue;
        fz_prefetch_cancel(loader->prefetch, s);
        slot->step = -1;
    }
    for (int64_t ahead = step; ahead <= step + c->n_ahead && ahead < end; ahead++)
        if (find_slot(loader, ahead) == NULL) fill_slot(loader, find_slot(loader, -1), ahead);
    fz_ring_slot *slot = find_slot(loader, step);
    fz_prefetch_wait(loader->prefetch, (int)(slot - loader->slots));
    loader->current = slot;
    FZ_CHECK(slot->worst == FZ_OK, slot->worst, "%s", slot->bad_text);
    return FZ_OK;
}

uint8_t *fz_loader_bad(fz_loader *loader)
{
    FZ_ASSERT(loader->current != NULL);
    return loader->current->bad;
}

const char *fz_loader_bad_text(const fz_loader *loader)
{
    return loader->current != NULL ? loader->current->bad_text : "";
}

/* One position's next attempt. */
static void redraw(fz_loader *loader, fz_ring_slot *slot, int64_t position)
{
    const fz_loader_config *c = &loader->config;

    slot->attempts[position]++;
    slot->bad[position] = 0;
    if (c->eval)
        slot->draws[position] = (fz_draw){FZ_DRAW_BLANK, -1, -1};
    else
        slot->draws[position] =
            fz_sampler_redraw(loader->sampler, slot->step * c->global_batch + position,
                              slot->attempts[position], slot->classes[position]);
}

fz_status fz_loader_replace(fz_loader *loader, const uint8_t *bad)
{
    const fz_loader_config *c = &loader->config;
    fz_ring_slot *slot = loader->current;
    const int64_t first = c->first_micro * c->micro_batch;
    int64_t n = 0;

    FZ_ASSERT(slot != NULL);
    for (int64_t p = 0; p < c->global_batch; p++)
        FZ_CHECK(!bad[p] || slot->attempts[p] < FZ_ATTEMPTS_MAX, FZ_ERR_FORMAT,
                 "position %lld of step %lld: still no good sample after %d attempts%s%.300s",
                 (long long)p, (long long)slot->step, FZ_ATTEMPTS_MAX,
                 slot->bad_text[0] != '\0' ? "; first: " : "", slot->bad_text);
    for (int64_t p = 0; p < c->global_batch; p++) {
        if (!bad[p]) continue;
        redraw(loader, slot, p);
        if (p >= first && p < first + loader->n_local && slot->draws[p].image >= 0)
            loader->items[n++] = (int32_t)(p - first);
    }
    slot->bad_position = INT64_MAX;
    slot->bad_text[0] = '\0';
    put_items(loader, slot, n);
    return FZ_OK;
}

int64_t fz_loader_eval_steps(const fz_loader *loader)
{
    const int64_t G = loader->config.global_batch;
    return (loader->eval_samples + G - 1) / G;
}

int64_t fz_loader_eval_samples(const fz_loader *loader)
{
    return loader->eval_samples;
}
