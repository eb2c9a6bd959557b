#include "parallel/synthetic.h"

#include "core/memory.h"
#include "core/rng.h"

enum { DRAW_PROMPT = 1, DRAW_OUTPUT = 2, DRAW_PIXELS = 3 }; /* purposes of the generator */
enum { START_ID = 1 };

struct fz_synthetic {
    const fz_program *program; /* borrowed */
    fz_trainer_needs needs;
    uint64_t seed;
    int64_t global_batch, micro_batch, min_prompt, min_output;
    fz_microbatch *micro; /* owned */
    int64_t *sample_n;    /* owned, one slice a micro-batch, as are the others */
    int32_t *enc_start, *dec_start, *enc_ids, *dec_ids, *labels, *class_of;
    float *pixels;
};

static uint32_t draw(const fz_synthetic *s, int purpose, int64_t n, int64_t i)
{
    uint32_t key[2];
    fz_rng_key(key, s->seed, (uint32_t)purpose);
    const fz_philox counter = {
        {(uint32_t)i, (uint32_t)(i >> 32), (uint32_t)n, (uint32_t)((uint64_t)n >> 32)}};
    return fz_philox4x32(counter, key[0], key[1]).v[0];
}

static int64_t between(const fz_synthetic *s, int purpose, int64_t n, int64_t least, int64_t most)
{
    return least + fz_rng_below(draw(s, purpose, n, -1), (uint32_t)(most - least + 1));
}

static fz_status take(fz_synthetic *s)
{
    const fz_model_config *c = &s->program->config;
    const int64_t M = s->needs.n_micro, B = s->micro_batch;
    const int64_t enc = fz_image_tokens(c) + c->max_prompt;
    FZ_TRY(FZ_NEW(&s->micro, M));
    FZ_TRY(FZ_NEW(&s->sample_n, M * B));
    FZ_TRY(FZ_NEW(&s->enc_start, M * (B + 1)));
    FZ_TRY(FZ_NEW(&s->dec_start, M * (B + 1)));
    FZ_TRY(FZ_NEW(&s->enc_ids, M * B * enc));
    FZ_TRY(FZ_NEW(&s->dec_ids, M * B * c->max_output));
    FZ_TRY(FZ_NEW(&s->labels, M * B * c->max_output));
    FZ_TRY(FZ_NEW(&s->class_of, M * B));
    if (s->needs.pixels) FZ_TRY(FZ_NEW(&s->pixels, M * B * c->image_size * c->image_size * 3));
    return FZ_OK;
}

fz_status fz_synthetic_create(const fz_program *program, const fz_train_config *train,
                              const fz_trainer_needs *needs, int64_t min_prompt, int64_t min_output,
                              fz_synthetic **synthetic_p)
{
    fz_synthetic *s = NULL;
    FZ_TRY(FZ_NEW(&s, 1));
    *s = (fz_synthetic){.program = program,
                        .needs = *needs,
                        .seed = train->seed,
                        .global_batch = train->global_batch,
                        .micro_batch = train->micro_batch,
                        .min_prompt = min_prompt,
                        .min_output = min_output};
    const fz_status status = take(s);
    if (status != FZ_OK) {
        fz_synthetic_destroy(&s);
        return status;
    }
    *synthetic_p = s;
    return FZ_OK;
}

void fz_synthetic_destroy(fz_synthetic **synthetic)
{
    fz_synthetic *s = *synthetic;
    if (s == NULL) return;
    fz_free(&s->micro);
    fz_free(&s->sample_n);
    fz_free(&s->enc_start);
    fz_free(&s->dec_start);
    fz_free(&s->enc_ids);
    fz_free(&s->dec_ids);
    fz_free(&s->labels);
    fz_free(&s->class_of);
    fz_free(&s->pixels);
    fz_free(synthetic);
}

/* Low ids come more often: there is something to learn. */
static int32_t skewed(const fz_synthetic *s, int64_t n, int64_t i, uint32_t below)
{
    const uint32_t most = 1 + fz_rng_below(draw(s, DRAW_OUTPUT, n, i + (INT64_C(1) << 40)), below);
    return (int32_t)fz_rng_below(draw(s, DRAW_OUTPUT, n, i), most);
}

/* Ids of sample n behind those already there: enc (-1 for image tokens), dec, labels. */
static void fill_text(const fz_synthetic *s, int64_t n, int32_t *enc, int64_t n_prompt,
                      int32_t *dec, int32_t *labels, int64_t n_output)
{
    const fz_model_config *c = &s->program->config;
    const int64_t images = fz_image_tokens(c);
    for (int64_t i = 0; i < images; i++)
        enc[i] = -1;
    for (int64_t i = 0; i < n_prompt; i++)
        enc[images + i] = (int32_t)fz_rng_below(draw(s, DRAW_PROMPT, n, i), (uint32_t)c->enc_vocab);
    for (int64_t i = 0; i < n_output; i++) {
        labels[i] = skewed(s, n, i, (uint32_t)c->dec_vocab);
        dec[i] = i == 0 ? START_ID : labels[i - 1];
    }
}

/* A coarse pattern: a few draws an image, so that making batches costs nothing. */
static void fill_pixels(const fz_synthetic *s, int64_t n, float *out)
{
    const int64_t P = s->program->config.image_size;
    float level[16];
    for (int64_t i = 0; i < 16; i++)
        level[i] = 4.0f * (fz_rng_unit(draw(s, DRAW_PIXELS, n, i)) - 0.5f);
    for (int64_t y = 0; y < P; y++)
        for (int64_t x = 0; x < P * 3; x++)
            out[y * P * 3 + x] = level[(x / 12 + y / 4 * 5) % 16];
}

static void fill_micro(fz_synthetic *s, int64_t step, int64_t m, fz_microbatch *micro)
{
    const fz_model_config *c = &s->program->config;
    const int64_t B = s->micro_batch, images = fz_image_tokens(c);
    const int64_t first = step * s->global_batch + (s->needs.first_micro + m) * B;
    const int64_t image_lo = fz_image_first(B, s->needs.n_shards, s->needs.first_shard);
    const int64_t image_hi =
        fz_image_first(B, s->needs.n_shards, s->needs.first_shard + s->needs.n_local_shards);
    int32_t *enc_start = s->enc_start + m * (B + 1), *dec_start = s->dec_start + m * (B + 1);
    int32_t *enc = s->enc_ids + m * B * (images + c->max_prompt);
    int32_t *dec = s->dec_ids + m * B * c->max_output, *labels = s->labels + m * B * c->max_output;
    int64_t *sample_n = s->sample_n + m * B, longest_enc = 0, longest_dec = 0;
    float *pixels = s->needs.pixels ? s->pixels + m * B * c->image_size * c->image_size * 3 : NULL;

    enc_start[0] = dec_start[0] = 0;
    for (int64_t i = 0; i < B; i++) {
        const int64_t n = first + i;
        const int64_t n_prompt = between(s, DRAW_PROMPT, n, s->min_prompt, c->max_prompt);
        const int64_t n_output = between(s, DRAW_OUTPUT, n, s->min_output, c->max_output);
        sample_n[i] = n;
        fill_text(s, n, enc + enc_start[i], n_prompt, dec + dec_start[i], labels + dec_start[i],
                  n_output);
        enc_start[i + 1] = enc_start[i] + (int32_t)(images + n_prompt);
        dec_start[i + 1] = dec_start[i] + (int32_t)n_output;
        if (images + n_prompt > longest_enc) longest_enc = images + n_prompt;
        if (n_output > longest_dec) longest_dec = n_output;
        if (pixels != NULL && i >= image_lo && i < image_hi)
            fill_pixels(s, n, pixels + (i - image_lo) * c->image_size * c->image_size * 3);
    }
    *micro = (fz_microbatch){.sizes = {.n_samples = B,
                                       .n_local_images = image_hi - image_lo,
                                       .n_enc = enc_start[B],
                                       .n_dec = dec_start[B],
                                       .max_enc_len = longest_enc,
                                       .max_dec_len = longest_dec},
                             .sample_n = sample_n,
                             .enc_start = enc_start,
                             .enc_ids = enc,
                             .dec_start = dec_start,
                             .dec_ids = dec,
                             .labels = labels,
                             .pixels = pixels,
                             .n_labels = dec_start[B]};
}

void fz_synthetic_step(fz_synthetic *s, int64_t step, fz_step_batch *batch)
{
    for (int64_t m = 0; m < s->needs.n_micro; m++)
        fill_micro(s, step, m, &s->micro[m]);
    *batch = (fz_step_batch){.step = step,
                             .first_micro = s->needs.first_micro,
                             .n_micro = s->needs.n_micro,
                             .micro = s->micro,
                             .class_of = s->class_of};
}
