#include "launch/texts.h"

#include <math.h>
#include <string.h>

#include "core/memory.h"
#include "data/image.h"
#include "launch/files.h"

enum { DEC_EOS = 1, DEC_START = 1, DEC_PAD = 0 };

/* What a data rank tells rank 0 of a sample; max_tokens ids follow. */
typedef struct record {
    double log_prob, score;
    int64_t n;
} record;

struct fz_texts {
    fz_session *session; /* borrowed */
    fz_texts_config c;
    const fz_text_request *requests; /* borrowed (n) */
    int64_t n, first, next;          /* of the last round and of the one to come */
    int64_t most;                    /* samples of a batch */
    int64_t image_tokens;
    fz_trainer_needs needs;
    fz_sample_rules rules;
    fz_sample_reader reader;
    bool has_reader;
    fz_search *search;       /* owned */
    fz_generator *generator; /* owned */
    size_t record_bytes;
    /* owned; of a batch, unless it says otherwise */
    int64_t *sample_n;
    int32_t *prompts, *n_prompt, *labels /* of one sample */;
    int32_t *enc_start, *enc_ids, *prefix, *prefix_start;
    float *pixels;
    uint8_t *rgb; /* of one picture */
    fz_candidate *candidates;
    char *mine, *all; /* records of a batch; of a round, rank 0 */
    int64_t *counts;  /* (world) bytes of a round */
    /* owned; without a cache */
    int32_t *dec_start, *dec_ids, *no_labels, *next_ids;
    bool *is_done;
};

/* ---- create ---- */

static fz_status take_memory(fz_texts *t)
{
    const fz_model_config *m = &t->session->model;
    const fz_search_config *s = &t->c.search;
    const int64_t most = t->most, world = t->session->world.size;
    t->record_bytes =
        sizeof(record) + ((size_t)s->max_tokens * sizeof(int32_t) + 7) / 8 * 8; /* stays aligned */
    FZ_TRY(FZ_NEW(&t->sample_n, most));
    FZ_TRY(FZ_NEW(&t->prompts, most * m->max_prompt));
    FZ_TRY(FZ_NEW(&t->n_prompt, most));
    FZ_TRY(FZ_NEW(&t->labels, m->max_output));
    FZ_TRY(FZ_NEW(&t->enc_start, most + 1));
    FZ_TRY(FZ_NEW(&t->enc_ids, most * (t->image_tokens + m->max_prompt)));
    FZ_TRY(FZ_NEW(&t->prefix, most * s->max_prefix + 1));
    FZ_TRY(FZ_NEW(&t->prefix_start, most + 1));
    FZ_TRY(FZ_NEW(&t->mine, most * (int64_t)t->record_bytes));
    FZ_TRY(FZ_NEW(&t->counts, world));
    if (t->session->world.rank == 0)
        FZ_TRY(FZ_NEW(&t->all, t->session->layout.shape.dp * most * (int64_t)t->record_bytes));
    if (!t->needs.pixels) return FZ_OK;
    FZ_TRY(FZ_NEW(&t->rgb, m->image_size * m->image_size * 3));
    return FZ_NEW(&t->pixels, most * m->image_size * m->image_size * 3);
}

static fz_status create_uncached(fz_texts *t)
{
    const int64_t most = t->most, length = t->session->model.max_output;
    FZ_CHECK(fz_search_positions(&t->c.search) <= length, FZ_ERR_USAGE,
             "%lld tokens and a prefix of %lld: without a cache at most model.max_output, %lld",
             (long long)t->c.search.max_tokens, (long long)t->c.search.max_prefix,
             (long long)length);
    FZ_TRY(FZ_NEW(&t->dec_start, most + 1));
    FZ_TRY(FZ_NEW(&t->dec_ids, most * length));
    FZ_TRY(FZ_NEW(&t->no_labels, most * length));
    FZ_TRY(FZ_NEW(&t->next_ids, most));
    FZ_TRY(FZ_NEW(&t->is_done, most));
    for (int64_t i = 0; i < most * length; i++)
        t->no_labels[i] = FZ_NO_LABEL;
    return FZ_OK;
}

static fz_status create_cached(fz_texts *t)
{
    const fz_search_config *s = &t->c.search;
    const int64_t k = 2 * s->beams, vocab = t->session->model.dec_vocab;
    FZ_CHECK(k <= vocab, FZ_ERR_USAGE,
             "%lld beams: at most %lld, half of the %lld words of the vocabulary",
             (long long)s->beams, (long long)(vocab / 2), (long long)vocab);
    FZ_TRY(fz_search_create(s, &t->search));
    const fz_generator_sizes sizes = {t->most, s->beams, fz_search_positions(s), k};
    FZ_TRY(fz_generator_create(t->session->trainer, &sizes, &t->generator));
    return FZ_NEW(&t->candidates, t->most * s->beams * k);
}

static fz_status create_local(fz_texts *t)
{
    const fz_model_config *m = &t->session->model;
    fz_search_config *s = &t->c.search;
    s->n_samples = t->most;
    s->start = DEC_START;
    s->eos = DEC_EOS;
    s->pad = DEC_PAD;
    for (int64_t i = 0; i < t->n; i++)
        if (t->requests[i].prefix && t->requests[i].prefix->n > s->max_prefix)
            s->max_prefix = t->requests[i].prefix->n;
    FZ_TRY(t->c.no_cache ? create_uncached(t) : create_cached(t));
    FZ_TRY(take_memory(t));
    if (!t->c.index) return FZ_OK;
    FZ_TRY(fz_sample_reader_init(&t->reader, t->c.index, t->needs.pixels ? (int)m->image_size : 0));
    t->has_reader = true;
    return FZ_OK;
}

fz_status fz_texts_create(fz_session *session, const fz_texts_config *config,
                          const fz_text_request *requests, int64_t n, fz_texts **texts_p)
{
    const fz_model_config *m = &session->model;
    fz_texts *t = NULL;
    fz_status status = FZ_NEW(&t, 1);
    if (status == FZ_OK) {
        t->session = session;
        t->c = *config;
        t->requests = requests;
        t->n = n;
        t->most = session->train.micro_batch < n ? session->train.micro_batch : n;
        t->needs = fz_trainer_get_needs(session->trainer);
        t->image_tokens = fz_image_tokens(m);
        t->rules = (fz_sample_rules){.max_prompt = m->max_prompt,
                                     .max_output = m->max_output,
                                     .enc_vocab = m->enc_vocab,
                                     .dec_vocab = m->dec_vocab,
                                     .dec_eos = DEC_EOS,
                                     .enc_tokenizer = session->enc_tokenizer,
                                     .dec_tokenizer = session->dec_tokenizer};
        status = create_local(t);
    }
    status = fz_agree(session->world.group, status);
    if (status != FZ_OK)
        fz_texts_destroy(&t);
    else
        *texts_p = t;
    return status;
}

void fz_texts_destroy(fz_texts **texts)
{
    fz_texts *t = *texts;
    if (!t) return;
    if (t->has_reader) fz_sample_reader_reset(&t->reader);
    fz_generator_destroy(&t->generator);
    fz_search_destroy(&t->search);
    fz_free(&t->sample_n);
    fz_free(&t->prompts);
    fz_free(&t->n_prompt);
    fz_free(&t->labels);
    fz_free(&t->enc_start);
    fz_free(&t->enc_ids);
    fz_free(&t->prefix);
    fz_free(&t->prefix_start);
    fz_free(&t->pixels);
    fz_free(&t->rgb);
    fz_free(&t->candidates);
    fz_free(&t->mine);
    fz_free(&t->all);
    fz_free(&t->counts);
    fz_free(&t->dec_start);
    fz_free(&t->dec_ids);
    fz_free(&t->no_labels);
    fz_free(&t->next_ids);
    fz_free(&t->is_done);
    fz_free(texts);
}

/* ---- a batch ---- */

static fz_status read_prompt(fz_texts *t, const fz_text_request *request, fz_sample_ids *ids)
{
    if (request->annotation >= 0)
        return fz_sample_reader_ids(&t->reader, request->image, request->annotation, &t->rules,
                                    ids);
    memcpy(ids->prompt, t->c.prompt, (size_t)t->c.n_prompt * sizeof *ids->prompt);
    ids->n_prompt = t->c.n_prompt;
    ids->n_labels = 0;
    return FZ_OK;
}

static fz_status decode_file(const char *path, fz_image *image)
{
    char *bytes = NULL;
    size_t n = 0;
    FZ_TRY(fz_file_read(path, &bytes, &n));
    FZ_CHECK(bytes, FZ_ERR_USAGE, "open %s: no such file", path);
    const fz_status status = fz_image_decode(bytes, n, image);
    fz_free(&bytes);
    if (status != FZ_OK) return FZ_FAIL(status, "%s: %s", path, fz_last_error()->text);
    return FZ_OK;
}

static fz_status read_pixels(fz_texts *t, int64_t image, float *out)
{
    const int side = (int)t->session->model.image_size;
    fz_image decoded = {0};
    if (t->c.index) return fz_sample_reader_pixels(&t->reader, image, out);
    FZ_TRY(decode_file(t->c.files[image], &decoded));
    const fz_status status = fz_image_resize(&decoded, side, t->rgb);
    fz_image_reset(&decoded);
    if (status == FZ_OK) fz_image_normalise(t->rgb, side, out);
    return status;
}

/* Prompts and prefixes of all samples, pixels of this process's. */
static fz_status read_batch(fz_texts *t, const fz_text_request *requests, fz_sizes *sizes)
{
    const fz_model_config *m = &t->session->model;
    const fz_trainer_needs *needs = &t->needs;
    const int64_t n = sizes->n_samples, pixels = m->image_size * m->image_size * 3;
    int32_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        const fz_prefix *prefix = requests[i].prefix;
        fz_sample_ids ids = {.prompt = t->prompts + i * m->max_prompt, .labels = t->labels};
        FZ_TRY(read_prompt(t, &requests[i], &ids));
        t->n_prompt[i] = (int32_t)ids.n_prompt;
        t->sample_n[i] = i;
        t->prefix_start[i] = at;
        for (int64_t k = 0; prefix && k < prefix->n; k++)
            t->prefix[at++] = prefix->ids[k];
    }
    t->prefix_start[n] = at;
    const int64_t first = fz_image_first(n, needs->n_shards, needs->first_shard);
    const int64_t end =
        fz_image_first(n, needs->n_shards, needs->first_shard + needs->n_local_shards);
    sizes->n_local_images = end - first;
    for (int64_t i = first; needs->pixels && i < end; i++)
        FZ_TRY(read_pixels(t, requests[i].image, t->pixels + (i - first) * pixels));
    return FZ_OK;
}

static void pack_encoder(fz_texts *t, fz_sizes *sizes)
{
    int32_t at = 0;
    for (int64_t i = 0; i < sizes->n_samples; i++) {
        const int64_t length = t->image_tokens + t->n_prompt[i];
        t->enc_start[i] = at;
        for (int64_t k = 0; k < t->image_tokens; k++)
            t->enc_ids[at++] = -1;
        memcpy(t->enc_ids + at, t->prompts + i * t->session->model.max_prompt,
               (size_t)t->n_prompt[i] * sizeof *t->enc_ids);
        at += t->n_prompt[i];
        if (length > sizes->max_enc_len) sizes->max_enc_len = length;
    }
    t->enc_start[sizes->n_samples] = at;
    sizes->n_enc = at;
}

static record *record_of(char *records, const fz_texts *t, int64_t i)
{
    return (record *)(void *)(records + (size_t)i * t->record_bytes);
}

static int32_t *record_ids(record *r)
{
    return (int32_t *)(void *)(r + 1);
}

fz_status fz_search_run(fz_search *search, fz_generator *generator, const fz_microbatch *batch,
                        int64_t beams, const int32_t *prefix, const int32_t *prefix_start,
                        fz_candidate *candidates)
{
    const fz_generator_step *step;
    FZ_TRY(fz_generator_start(generator, batch, beams));
    fz_search_start(search, batch->sizes.n_samples, prefix, prefix_start);
    while ((step = fz_search_step(search))) {
        FZ_TRY(fz_generator_next(generator, step, candidates));
        fz_search_take(search, candidates);
    }
    return FZ_OK;
}

static fz_status make_cached(fz_texts *t, const fz_microbatch *batch)
{
    FZ_TRY(fz_search_run(t->search, t->generator, batch, t->c.search.beams, t->prefix,
                         t->prefix_start, t->candidates));
    for (int64_t i = 0; i < batch->sizes.n_samples; i++) {
        record *r = record_of(t->mine, t, i);
        fz_search_text text = {.log_prob = (double)NAN, .score = (double)NAN};
        fz_search_get(t->search, i, 0, &text);
        *r = (record){text.log_prob, text.score, text.n};
        if (text.n > 0) memcpy(record_ids(r), text.ids, (size_t)text.n * sizeof *text.ids);
    }
    return FZ_OK;
}

/* Start id, prefix, and what was made so far. */
static void pack_decoder(fz_texts *t, fz_sizes *sizes)
{
    int32_t at = 0;
    sizes->max_dec_len = 0;
    for (int64_t i = 0; i < sizes->n_samples; i++) {
        record *r = record_of(t->mine, t, i);
        const int32_t n_prefix = t->prefix_start[i + 1] - t->prefix_start[i];
        const int64_t length = 1 + n_prefix + r->n;
        t->dec_start[i] = at;
        t->dec_ids[at] = DEC_START;
        memcpy(t->dec_ids + at + 1, t->prefix + t->prefix_start[i],
               (size_t)n_prefix * sizeof *t->prefix);
        memcpy(t->dec_ids + at + 1 + n_prefix, record_ids(r), (size_t)r->n * sizeof *t->dec_ids);
        at += (int32_t)length;
        if (length > sizes->max_dec_len) sizes->max_dec_len = length;
    }
    t->dec_start[sizes->n_samples] = at;
    sizes->n_dec = at;
}

/* Greedy by the training step's forward pass over the whole texts. */
static fz_status make_uncached(fz_texts *t, fz_microbatch *batch)
{
    const int64_t n = batch->sizes.n_samples;
    int64_t n_open = n;
    for (int64_t i = 0; i < n; i++) {
        *record_of(t->mine, t, i) = (record){(double)NAN, (double)NAN, 0};
        t->is_done[i] = false;
    }
    batch->dec_start = t->dec_start;
    batch->dec_ids = t->dec_ids;
    batch->labels = t->no_labels;
    while (n_open > 0) {
        pack_decoder(t, &batch->sizes);
        FZ_TRY(fz_trainer_next_tokens(t->session->trainer, batch, t->next_ids));
        for (int64_t i = 0; i < n; i++) {
            record *r = record_of(t->mine, t, i);
            if (t->is_done[i]) continue;
            record_ids(r)[r->n++] = t->next_ids[i];
            t->is_done[i] = t->next_ids[i] == DEC_EOS || r->n == t->c.search.max_tokens;
            n_open -= t->is_done[i];
        }
    }
    return FZ_OK;
}

/* ---- a round ---- */

/* The records of all data ranks' batches to rank 0, in the order of the requests. */
static fz_status gather(fz_texts *t, int64_t n_mine)
{
    const fz_mesh *mesh = &t->session->mesh;
    const bool speaks = mesh->me.pp == 0 && mesh->me.tp == 0;
    memset(t->counts, 0, (size_t)t->session->world.size * sizeof *t->counts);
    for (int dp = 0; dp < mesh->shape.dp; dp++) {
        const int64_t left = t->n - t->first - dp * t->most;
        const int64_t n = left < 0 ? 0 : left < t->most ? left : t->most;
        t->counts[fz_mesh_rank(mesh->shape, (fz_mesh_coord){.dp = dp})] =
            n * (int64_t)t->record_bytes;
    }
    return fz_gatherv_bytes(t->session->world.group, t->mine,
                            speaks ? n_mine * (int64_t)t->record_bytes : 0, t->all, t->counts, 0);
}

fz_status fz_texts_run(fz_texts *t, fz_status mine, int64_t *first_p, int64_t *end_p)
{
    const fz_group *world = t->session->world.group;
    const fz_mesh *mesh = &t->session->mesh;
    const int64_t round = mesh->shape.dp * t->most, at = t->next + mesh->me.dp * t->most;
    const int64_t left = t->n - at, n = left < 0 ? 0 : left < t->most ? left : t->most;
    fz_sizes sizes = {.n_samples = n};

    fz_status status = mine;
    if (status == FZ_OK && n > 0) status = read_batch(t, t->requests + at, &sizes);
    FZ_TRY(fz_agree(world, status));
    t->first = t->next;
    t->next = t->next + round < t->n ? t->next + round : t->n;
    *first_p = t->first;
    *end_p = t->next;
    if (t->first == t->next) return FZ_OK;
    if (n > 0) {
        pack_encoder(t, &sizes);
        fz_microbatch batch = {.sizes = sizes,
                               .sample_n = t->sample_n,
                               .enc_start = t->enc_start,
                               .enc_ids = t->enc_ids,
                               .pixels = t->pixels};
        status = t->c.no_cache ? make_uncached(t, &batch) : make_cached(t, &batch);
        if (status == FZ_ERR_COMM) return status;
    }
    FZ_TRY(fz_agree(world, status));
    return gather(t, n);
}

fz_status fz_texts_get(fz_texts *t, int64_t request, fz_text *text)
{
    const fz_text_request *wanted = &t->requests[request];
    record *r = record_of(t->all, t, request - t->first);
    fz_sample_ids ids = {.prompt = t->prompts, .labels = t->labels};
    FZ_TRY(read_prompt(t, wanted, &ids));
    *text = (fz_text){.prefix = wanted->prefix,
                      .ids = record_ids(r),
                      .n = r->n,
                      .log_prob = r->log_prob,
                      .score = r->score,
                      .prompt = ids.prompt,
                      .labels = ids.labels,
                      .n_prompt = ids.n_prompt,
                      .n_labels = ids.n_labels};
    return FZ_OK;
}
