/* The memory of a loader: a ring of steps and the arrays of the batch that is out. Local. */
#ifndef FZ_DATA_LOADER_RING_H
#define FZ_DATA_LOADER_RING_H

#include <pthread.h>

#include "core/arena.h"
#include "data/loader.h"
#include "data/prefetch.h"
#include "data/sample_reader.h"

enum { FZ_ATTEMPTS_MAX = 16 };
enum { FZ_DRAW_NONE = -1, FZ_DRAW_BLANK = -2 }; /* draw.image: past the end; replaced in eval */

/* One step of the ring. G: global batch, L: this process's samples. */
typedef struct fz_ring_slot {
    int64_t step;                 /* -1: free */
    fz_draw *draws;               /* (G) of the current attempt */
    int32_t *classes;             /* (G) of attempt 0 */
    int32_t *attempts;            /* (G) */
    uint8_t *bad;                 /* (G) */
    int32_t *n_prompt, *n_labels; /* (L) */
    int32_t *prompts;             /* (L, max_prompt) */
    int32_t *labels;              /* (L, max_output) */
    float *pixels;                /* (n_micro, max_images, P, P, 3); NULL without pixels */
    /* Of the failed sample with the lowest position, whoever came first; guarded by the lock. */
    int64_t bad_position; /* INT64_MAX: none */
    fz_status worst;      /* a failure that is not about a sample */
    char bad_text[sizeof((fz_error *)0)->text];
} fz_ring_slot;

struct fz_loader {
    fz_loader_config config;
    fz_sample_rules rules;
    int64_t n_local;    /* L */
    int64_t max_images; /* local images of one micro-batch, at most */
    int64_t eval_samples;
    int n_slots, n_readers;
    fz_sampler *sampler;       /* owned; NULL in eval */
    fz_prefetch *prefetch;     /* owned */
    fz_sample_reader *readers; /* owned (n_readers), one a thread */
    void *memory;              /* owned: what all below lies in */
    fz_ring_slot *slots;       /* (n_slots) */
    fz_ring_slot *current;     /* of the last prepare; NULL: none yet */
    int32_t *items;            /* (L) scratch */
    pthread_mutex_t lock;      /* of the slots' bad texts */
    bool has_lock;
    /* The batch that is out. */
    fz_microbatch *micro;           /* (n_micro) */
    int64_t *sample_n;              /* (L) */
    int32_t *enc_start, *dec_start; /* (n_micro, micro_batch + 1) */
    int32_t *enc_ids;               /* (L, image_tokens + max_prompt) */
    int32_t *dec_ids, *label_ids;   /* (L, max_output) */
    int32_t *class_of;              /* (L) */
};

/* Samples of micro-batch m (of the step) that are there; images [*first_p, *end_p) are local. */
int64_t fz_ring_samples(const fz_loader *loader, int64_t step, int64_t m);
void fz_ring_local_images(const fz_loader_config *config, int64_t n_samples, int64_t *first_p,
                          int64_t *end_p);
/* Takes slots and batch arrays from the arena; with a counting arena only counts. */
void fz_ring_take(fz_loader *loader, fz_arena *arena);
/* Sets n_local, max_images, n_slots, n_readers from config. */
void fz_ring_measure(fz_loader *loader);

#endif
