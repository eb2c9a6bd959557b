/* Handing a prepared step over: ids of the ring packed into ragged micro-batches. */
#include <string.h>

#include "core/assert.h"
#include "data/loader_ring.h"

static int64_t largest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Where the next micro-batch's arrays begin. */
typedef struct packing {
    int64_t enc, dec; /* tokens packed so far */
} packing;

/* A position without a sample in eval still has a prompt and one decoder token, because a sequence
 * of no tokens has no softmax. */
static const int32_t blank_prompt[2] = {FZ_ENC_BOS, FZ_ENC_EOS};
static const int32_t blank_label[1] = {FZ_NO_LABEL};

static fz_sample_ids ids_of(const fz_loader *loader, int64_t item, const fz_draw *draw,
                            const int32_t **prompt, const int32_t **labels)
{
    const fz_loader_config *c = &loader->config;
    const fz_ring_slot *slot = loader->current;

    if (draw->image == FZ_DRAW_BLANK) {
        *prompt = blank_prompt;
        *labels = blank_label;
        return (fz_sample_ids){.n_prompt = 2, .n_labels = 1};
    }
    *prompt = slot->prompts + item * c->max_prompt;
    *labels = slot->labels + item * c->max_output;
    return (fz_sample_ids){.n_prompt = slot->n_prompt[item], .n_labels = slot->n_labels[item]};
}

/* Appends sample i of the micro-batch. */
static void pack_sample(const fz_loader *loader, fz_microbatch *micro, packing *at, int64_t item,
                        int64_t i, int32_t *enc_start, int32_t *dec_start)
{
    const fz_loader_config *c = &loader->config;
    const int64_t position = c->first_micro * c->micro_batch + item;
    const int32_t *prompt = NULL, *labels = NULL;
    const fz_sample_ids n =
        ids_of(loader, item, &loader->current->draws[position], &prompt, &labels);
    int32_t *enc = loader->enc_ids + at->enc, *dec = loader->dec_ids + at->dec;

    for (int64_t k = 0; k < c->image_tokens; k++)
        enc[k] = -1;
    memcpy(enc + c->image_tokens, prompt, (size_t)n.n_prompt * sizeof *enc);
    memcpy(loader->label_ids + at->dec, labels, (size_t)n.n_labels * sizeof *dec);
    dec[0] = c->dec_start_id;
    memcpy(dec + 1, labels, (size_t)(n.n_labels - 1) * sizeof *dec);
    for (int64_t k = 0; k < n.n_labels; k++)
        micro->n_labels += labels[k] != FZ_NO_LABEL;
    const int64_t enc_len = c->image_tokens + n.n_prompt;
    at->enc += enc_len;
    at->dec += n.n_labels;
    micro->sizes.n_enc += enc_len;
    micro->sizes.n_dec += n.n_labels;
    micro->sizes.max_enc_len = largest(micro->sizes.max_enc_len, enc_len);
    micro->sizes.max_dec_len = largest(micro->sizes.max_dec_len, n.n_labels);
    enc_start[i + 1] = (int32_t)micro->sizes.n_enc;
    dec_start[i + 1] = (int32_t)micro->sizes.n_dec;
}

/* A blank's picture is grey in the mean of all pictures: zeros after normalisation. */
static void blank_pixels(const fz_loader *loader, float *pixels, int64_t m, int64_t first,
                         int64_t end)
{
    const fz_loader_config *c = &loader->config;
    const int64_t each = c->image_size * c->image_size * 3;
    const int64_t position = (c->first_micro + m) * c->micro_batch;

    for (int64_t i = first; i < end; i++)
        if (loader->current->draws[position + i].image == FZ_DRAW_BLANK)
            memset(pixels + (i - first) * each, 0, (size_t)each * sizeof *pixels);
}

static void pack_micro(const fz_loader *loader, int64_t m, packing *at)
{
    const fz_loader_config *c = &loader->config;
    const fz_ring_slot *slot = loader->current;
    const int64_t first_item = m * c->micro_batch;
    int32_t *enc_start = loader->enc_start + m * (c->micro_batch + 1);
    int32_t *dec_start = loader->dec_start + m * (c->micro_batch + 1);
    fz_microbatch *micro = &loader->micro[m];
    int64_t first = 0, end = 0;

    *micro = (fz_microbatch){.sample_n = loader->sample_n + first_item,
                             .enc_start = enc_start,
                             .enc_ids = loader->enc_ids + at->enc,
                             .dec_start = dec_start,
                             .dec_ids = loader->dec_ids + at->dec,
                             .labels = loader->label_ids + at->dec};
    micro->sizes.n_samples = fz_ring_samples(loader, slot->step, m);
    fz_ring_local_images(c, micro->sizes.n_samples, &first, &end);
    micro->sizes.n_local_images = end - first;
    enc_start[0] = dec_start[0] = 0;
    for (int64_t i = 0; i < micro->sizes.n_samples; i++) {
        const int64_t position = (c->first_micro + m) * c->micro_batch + i;
        loader->sample_n[first_item + i] = slot->step * c->global_batch + position;
        loader->class_of[first_item + i] = slot->draws[position].class_id;
        pack_sample(loader, micro, at, first_item + i, i, enc_start, dec_start);
    }
    for (int64_t i = micro->sizes.n_samples; i < c->micro_batch; i++)
        loader->class_of[first_item + i] = -1;
    if (!c->pixels) return;
    float *pixels = slot->pixels + m * loader->max_images * c->image_size * c->image_size * 3;
    blank_pixels(loader, pixels, m, first, end);
    micro->pixels = pixels;
}

fz_status fz_loader_get(fz_loader *loader, fz_step_batch *batch)
{
    const fz_loader_config *c = &loader->config;
    const fz_ring_slot *slot = loader->current;
    packing at = {0};

    FZ_ASSERT(slot != NULL);
    for (int64_t p = 0; p < c->global_batch; p++)
        FZ_CHECK(!slot->bad[p], FZ_ERR_FORMAT, "%s",
                 slot->bad_text[0] != '\0' ? slot->bad_text : "a sample is bad on another rank");
    for (int64_t m = 0; m < c->n_micro; m++)
        pack_micro(loader, m, &at);
    *batch = (fz_step_batch){.step = slot->step,
                             .first_micro = c->first_micro,
                             .n_micro = c->n_micro,
                             .micro = loader->micro,
                             .class_of = loader->class_of};
    return FZ_OK;
}
