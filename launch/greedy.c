#include "launch/greedy.h"

#include <string.h>

#include "core/memory.h"

enum { DEC_EOS = 1, DEC_START = 1 };

fz_status fz_greedy_create(fz_session *session, const fz_index *index, fz_greedy *g)
{
    const fz_model_config *m = &session->model;
    memset(g, 0, sizeof *g);
    g->session = session;
    g->needs = fz_trainer_get_needs(session->trainer);
    g->most = session->train.micro_batch;
    g->image_tokens = fz_image_tokens(m);
    g->rules = (fz_sample_rules){.max_prompt = m->max_prompt,
                                 .max_output = m->max_output,
                                 .enc_vocab = m->enc_vocab,
                                 .dec_vocab = m->dec_vocab,
                                 .dec_eos = DEC_EOS,
                                 .enc_tokenizer = session->enc_tokenizer,
                                 .dec_tokenizer = session->dec_tokenizer};
    FZ_TRY(FZ_NEW(&g->sample_n, g->most));
    FZ_TRY(FZ_NEW(&g->prompts, g->most * m->max_prompt));
    FZ_TRY(FZ_NEW(&g->n_prompt, g->most));
    FZ_TRY(FZ_NEW(&g->outputs, g->most * m->max_output));
    FZ_TRY(FZ_NEW(&g->n_output, g->most));
    FZ_TRY(FZ_NEW(&g->labels, g->most * m->max_output));
    FZ_TRY(FZ_NEW(&g->n_labels, g->most));
    FZ_TRY(FZ_NEW(&g->next, g->most));
    FZ_TRY(FZ_NEW(&g->enc_start, g->most + 1));
    FZ_TRY(FZ_NEW(&g->dec_start, g->most + 1));
    FZ_TRY(FZ_NEW(&g->enc_ids, g->most * (g->image_tokens + m->max_prompt)));
    FZ_TRY(FZ_NEW(&g->dec_ids, g->most * m->max_output));
    FZ_TRY(FZ_NEW(&g->no_labels, g->most * m->max_output));
    for (int64_t i = 0; i < g->most * m->max_output; i++)
        g->no_labels[i] = FZ_NO_LABEL;
    if (g->needs.pixels) FZ_TRY(FZ_NEW(&g->pixels, g->most * m->image_size * m->image_size * 3));
    FZ_TRY(fz_sample_reader_init(&g->reader, index, g->needs.pixels ? (int)m->image_size : 0));
    g->has_reader = true;
    return FZ_OK;
}

void fz_greedy_reset(fz_greedy *g)
{
    if (g->has_reader) fz_sample_reader_reset(&g->reader);
    fz_free(&g->sample_n);
    fz_free(&g->prompts);
    fz_free(&g->n_prompt);
    fz_free(&g->outputs);
    fz_free(&g->n_output);
    fz_free(&g->labels);
    fz_free(&g->n_labels);
    fz_free(&g->next);
    fz_free(&g->enc_start);
    fz_free(&g->dec_start);
    fz_free(&g->enc_ids);
    fz_free(&g->dec_ids);
    fz_free(&g->no_labels);
    fz_free(&g->pixels);
}

/* Prompts and references of all samples, pixels of this process's. */
static fz_status read_samples(fz_greedy *g, const fz_greedy_sample *samples, int64_t n,
                              const int32_t *own_prompt, int64_t n_own, fz_sizes *sizes)
{
    const fz_model_config *m = &g->session->model;
    const fz_trainer_needs *needs = &g->needs;
    for (int64_t i = 0; i < n; i++) {
        fz_sample_ids ids = {.prompt = g->prompts + i * m->max_prompt,
                             .labels = g->labels + i * m->max_output};
        if (own_prompt) {
            memcpy(ids.prompt, own_prompt, (size_t)n_own * sizeof *own_prompt);
            ids.n_prompt = n_own;
        } else {
            FZ_TRY(fz_sample_reader_ids(&g->reader, samples[i].image, samples[i].annotation,
                                        &g->rules, &ids));
        }
        g->n_prompt[i] = (int32_t)ids.n_prompt;
        g->n_labels[i] = (int32_t)ids.n_labels;
        g->sample_n[i] = i;
    }
    const int64_t first = fz_image_first(n, needs->n_shards, needs->first_shard);
    const int64_t end =
        fz_image_first(n, needs->n_shards, needs->first_shard + needs->n_local_shards);
    sizes->n_samples = n;
    sizes->n_local_images = end - first;
    for (int64_t i = first; needs->pixels && i < end; i++)
        FZ_TRY(
            fz_sample_reader_pixels(&g->reader, samples[i].image,
                                    g->pixels + (i - first) * m->image_size * m->image_size * 3));
    return FZ_OK;
}

static void pack_encoder(fz_greedy *g, fz_sizes *sizes)
{
    int32_t at = 0;
    for (int64_t i = 0; i < sizes->n_samples; i++) {
        const int64_t length = g->image_tokens + g->n_prompt[i];
        g->enc_start[i] = at;
        for (int64_t k = 0; k < g->image_tokens; k++)
            g->enc_ids[at++] = -1;
        memcpy(g->enc_ids + at, g->prompts + i * g->session->model.max_prompt,
               (size_t)g->n_prompt[i] * sizeof *g->enc_ids);
        at += g->n_prompt[i];
        if (length > sizes->max_enc_len) sizes->max_enc_len = length;
    }
    g->enc_start[sizes->n_samples] = at;
    sizes->n_enc = at;
}

/* Start id, then what was generated so far. */
static void pack_decoder(fz_greedy *g, fz_sizes *sizes)
{
    int32_t at = 0;
    sizes->max_dec_len = 0;
    for (int64_t i = 0; i < sizes->n_samples; i++) {
        const int64_t length = 1 + g->n_output[i];
        g->dec_start[i] = at;
        g->dec_ids[at] = DEC_START;
        memcpy(g->dec_ids + at + 1, g->outputs + i * g->session->model.max_output,
               (size_t)g->n_output[i] * sizeof *g->dec_ids);
        at += (int32_t)length;
        if (length > sizes->max_dec_len) sizes->max_dec_len = length;
    }
    g->dec_start[sizes->n_samples] = at;
    sizes->n_dec = at;
}

/* Appends what is new; true while some sample is not finished. */
static bool append(fz_greedy *g, int64_t n, bool *done)
{
    const int64_t most = g->session->model.max_output;
    bool goes_on = false;
    for (int64_t i = 0; i < n; i++) {
        if (done[i]) continue;
        if (g->next[i] == DEC_EOS)
            done[i] = true;
        else
            g->outputs[i * most + g->n_output[i]++] = g->next[i];
        /* The start id takes one of the decoder's places. */
        if (g->n_output[i] + 1 >= most) done[i] = true;
        goes_on = goes_on || !done[i];
    }
    return goes_on;
}

fz_status fz_greedy_run(fz_greedy *g, const fz_greedy_sample *samples, int64_t n,
                        const int32_t *own_prompt, int64_t n_own)
{
    fz_sizes sizes = {0};
    bool *done = NULL, goes_on = true;
    fz_status status = FZ_NEW(&done, n);
    memset(g->n_output, 0, (size_t)n * sizeof *g->n_output);
    if (status == FZ_OK) status = read_samples(g, samples, n, own_prompt, n_own, &sizes);
    status = fz_agree(g->session->world.group, status);
    if (status == FZ_OK) pack_encoder(g, &sizes);
    while (status == FZ_OK && goes_on) {
        pack_decoder(g, &sizes);
        fz_microbatch batch = {.sizes = sizes,
                               .sample_n = g->sample_n,
                               .enc_start = g->enc_start,
                               .enc_ids = g->enc_ids,
                               .dec_start = g->dec_start,
                               .dec_ids = g->dec_ids,
                               .labels = g->no_labels,
                               .pixels = g->pixels};
        status = fz_trainer_next_tokens(g->session->trainer, &batch, g->next);
        if (status == FZ_OK) goes_on = append(g, n, done);
    }
    fz_free(&done);
    return status;
}
