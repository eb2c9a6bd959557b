/* Shards are independent: threads take them one by one, and a shard's bytes depend on (seed, split,
 * first picture) alone, so the number of threads changes nothing but the time. */
#include "data/synth.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "data/image.h"
#include "data/index_part.h"
#include "data/shard.h"
#include "data/synth_files.h"
#include "data/synth_render.h"

enum { MIN_EVAL = 32, JPEG_QUALITY = 90, PROGRESS_S = 5, MAX_THREADS = 256, NAME_BYTES = 32 };

typedef struct job {
    const fz_synth_config *config;
    fz_tokenizer *enc, *dec; /* owned */
    int64_t n_eval, n_train_shards, n_shards;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t changed;
    int64_t next_shard, n_done;
    int n_running;
    fz_synth_lengths longest;
    fz_status status;
    char error[sizeof((fz_error *)0)->text];
} job;

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static fz_status check_config(const fz_synth_config *config)
{
    FZ_CHECK(config->n_images >= 1 && config->n_images <= 100000000, FZ_ERR_USAGE,
             "--images %" PRId64 ": must be 1 to 100000000", config->n_images);
    FZ_CHECK(config->image_size >= 32 && config->image_size <= 2048, FZ_ERR_USAGE,
             "--image-size %d: must be 32 to 2048 pixels", config->image_size);
    FZ_CHECK(config->images_per_shard >= 1 && config->images_per_shard <= 1000000, FZ_ERR_USAGE,
             "images per shard %d: must be 1 to 1000000", config->images_per_shard);
    FZ_CHECK(config->n_threads >= 1 && config->n_threads <= MAX_THREADS, FZ_ERR_USAGE,
             "threads %d: must be 1 to %d", config->n_threads, MAX_THREADS);
    return FZ_OK;
}

static fz_status write_image(const job *self, fz_shard_writer *writer, const fz_scene *scene,
                             int64_t key, fz_image *image)
{
    char name[NAME_BYTES];
    void *bytes = NULL;
    size_t n = 0;

    fz_scene_render(scene, self->config->image_size, image->rgb);
    FZ_TRY(fz_image_encode_jpeg(image, JPEG_QUALITY, &bytes, &n));
    snprintf(name, sizeof name, "%08" PRId64 ".jpg", key);
    const fz_status status = fz_shard_writer_add(writer, name, bytes, n);
    fz_free(&bytes);
    return status;
}

static fz_status write_sample(const job *self, fz_shard_writer *writer, fz_split split, int64_t n,
                              fz_image *image, fz_synth_lengths *longest)
{
    const uint64_t seed = self->config->seed;
    const fz_scene scene = fz_scene_draw(seed, split, (uint64_t)n);
    fz_annotation annotations[FZ_MAX_ANNOTATIONS];
    char name[NAME_BYTES], *json = NULL;
    size_t bytes = 0;
    int count = 0;

    FZ_TRY(write_image(self, writer, &scene, n, image));
    FZ_TRY(fz_synth_annotate(&scene, seed, split, (uint64_t)n, annotations, &count));
    FZ_TRY(fz_synth_json(annotations, count, self->enc, self->dec, longest, &json, &bytes));
    snprintf(name, sizeof name, "%08" PRId64 ".json", n);
    const fz_status status = fz_shard_writer_add(writer, name, json, bytes);
    fz_free(&json);
    return status;
}

/* Counts one picture; true if another thread has failed. */
static bool count_image(job *self)
{
    pthread_mutex_lock(&self->lock);
    self->n_done++;
    const bool stop = self->status != FZ_OK;
    pthread_mutex_unlock(&self->lock);
    return stop;
}

static fz_status write_shard(job *self, int64_t shard, fz_image *image, fz_synth_lengths *longest)
{
    const bool train = shard < self->n_train_shards;
    const int64_t number = train ? shard : shard - self->n_train_shards;
    const int64_t first = number * self->config->images_per_shard;
    const int64_t n_split = train ? self->config->n_images : self->n_eval;
    char path[FZ_SYNTH_PATH_BYTES], name[NAME_BYTES];
    fz_shard_writer *writer = NULL;

    snprintf(name, sizeof name, "%s-%05" PRId64 ".tar", train ? "train" : "eval", number);
    FZ_TRY(fz_synth_path(self->config, name, path));
    FZ_TRY(fz_shard_writer_create(path, &writer));

    fz_status status = FZ_OK;
    bool stop = false;
    for (int64_t n = first;
         status == FZ_OK && !stop && n < n_split && n < first + self->config->images_per_shard;
         n++) {
        status =
            write_sample(self, writer, train ? FZ_SPLIT_TRAIN : FZ_SPLIT_EVAL, n, image, longest);
        stop = count_image(self);
    }
    if (status == FZ_OK && !stop) status = fz_shard_writer_finish(writer);
    fz_shard_writer_destroy(&writer);
    /* With its index beside it, a run starts without reading the tar. */
    return status == FZ_OK && !stop ? fz_index_part_write(path) : status;
}

static int64_t take_shard(job *self)
{
    pthread_mutex_lock(&self->lock);
    const bool done = self->status != FZ_OK || self->next_shard == self->n_shards;
    const int64_t shard = done ? -1 : self->next_shard++;
    pthread_mutex_unlock(&self->lock);
    return shard;
}

static void *work(void *argument)
{
    job *self = argument;
    const int side = self->config->image_size;
    fz_image image = {.width = side, .height = side};
    fz_synth_lengths longest = {0};
    fz_status status = fz_alloc((void **)&image.rgb, (size_t)side * (size_t)side * 3, "picture");

    for (int64_t shard; status == FZ_OK && (shard = take_shard(self)) >= 0;)
        status = write_shard(self, shard, &image, &longest);
    fz_free(&image.rgb);

    pthread_mutex_lock(&self->lock);
    if (status > self->status) {
        self->status = status;
        snprintf(self->error, sizeof self->error, "%s", fz_last_error()->text);
    }
    if (longest.prompt > self->longest.prompt) self->longest.prompt = longest.prompt;
    if (longest.output > self->longest.output) self->longest.output = longest.output;
    self->n_running--;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* Says how far it is every PROGRESS_S seconds until all threads are through. */
static void watch(job *self, double start_s)
{
    const int64_t total = self->config->n_images + self->n_eval;

    pthread_mutex_lock(&self->lock);
    while (self->n_running > 0) {
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += PROGRESS_S;
        if (pthread_cond_timedwait(&self->changed, &self->lock, &until) == ETIMEDOUT) {
            const double rate = (double)self->n_done / (fz_clock_s() - start_s);
            fz_info("synth: %" PRId64 " of %" PRId64 " pictures, %.0f a second", self->n_done,
                    total, rate);
        }
    }
    pthread_mutex_unlock(&self->lock);
}

static fz_status write_shards(job *self)
{
    pthread_t threads[MAX_THREADS];
    const double start_s = fz_clock_s();
    int n_started = 0, failure = 0;

    pthread_mutex_lock(&self->lock);
    while (n_started < self->config->n_threads && failure == 0) {
        failure = pthread_create(&threads[n_started], NULL, work, self);
        if (failure == 0) n_started++;
    }
    self->n_running = n_started;
    if (failure != 0) {
        self->status = FZ_ERR_MEMORY;
        snprintf(self->error, sizeof self->error, "start thread %d of %d: %s", n_started + 1,
                 self->config->n_threads, strerror(failure));
    }
    pthread_mutex_unlock(&self->lock);

    watch(self, start_s);
    for (int i = 0; i < n_started; i++)
        pthread_join(threads[i], NULL);
    FZ_CHECK(self->status == FZ_OK, self->status, "%s", self->error);
    fz_info("synth: %" PRId64 " pictures in %" PRId64 " shards, %.1f s", self->n_done,
            self->n_shards, fz_clock_s() - start_s);
    return FZ_OK;
}

static fz_status load_tokenizers(job *self)
{
    char path[FZ_SYNTH_PATH_BYTES];

    FZ_TRY(fz_synth_path(self->config, fz_synth_tokenizer_name(true), path));
    FZ_TRY(fz_tokenizer_load(path, &self->enc));
    FZ_TRY(fz_synth_path(self->config, fz_synth_tokenizer_name(false), path));
    return fz_tokenizer_load(path, &self->dec);
}

static fz_status run(job *self)
{
    const double start_s = fz_clock_s();

    FZ_TRY(check_config(self->config));
    FZ_TRY(fz_synth_folder(self->config));
    FZ_TRY(fz_synth_train_tokenizers(self->config));
    FZ_TRY(load_tokenizers(self));

    self->n_eval = self->config->n_images / 20 > MIN_EVAL ? self->config->n_images / 20 : MIN_EVAL;
    self->n_train_shards = ceil_div(self->config->n_images, self->config->images_per_shard);
    self->n_shards = self->n_train_shards + ceil_div(self->n_eval, self->config->images_per_shard);
    fz_info("synth: tokenizers of %" PRId64 " and %" PRId64 " words in %.1f s; drawing %" PRId64
            " + %" PRId64 " pictures",
            fz_tokenizer_vocab(self->enc), fz_tokenizer_vocab(self->dec), fz_clock_s() - start_s,
            self->config->n_images, self->n_eval);
    FZ_TRY(write_shards(self));

    const fz_synth_summary summary = {self->config->n_images, self->n_eval,
                                      fz_tokenizer_vocab(self->enc), fz_tokenizer_vocab(self->dec),
                                      self->longest};
    return fz_synth_write_notes(self->config, &summary);
}

fz_status fz_synth_run(const fz_synth_config *config)
{
    job all = {.config = config};

    pthread_mutex_init(&all.lock, NULL);
    pthread_cond_init(&all.changed, NULL);
    const fz_status status = run(&all);
    fz_tokenizer_destroy(&all.enc);
    fz_tokenizer_destroy(&all.dec);
    pthread_cond_destroy(&all.changed);
    pthread_mutex_destroy(&all.lock);
    return status;
}
